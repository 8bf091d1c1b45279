"""Embeddings (``POST /embeddings``): one JSON body, never a stream. Source: openai ``CreateEmbeddingResponse``."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from ...usage import Usage
from ..reply import JsonObject, Reply, obj
from .json_body import BodyParser

_VECTOR: Final = re.compile(rb'"embedding":\s*([\["])')


class EmbeddingsParser(BodyParser):
    """Reads embeddings. They have neither output tokens nor an id: a vendor's stay in ``usage.raw`` and the body."""

    def strip_bulk(self, body: bytes) -> bytes:
        """``body`` without its vectors: megabytes, if they are asked for as numbers."""
        parts: list[bytes] = []
        at = 0
        for key in _VECTOR.finditer(body):
            end = body.find(b"]" if key[1] == b"[" else b'"', key.end()) + 1
            if key.start() < at or not end:
                continue
            parts += (body[at : key.start(1)], b"0")
            at = end
        return b"".join([*parts, body[at:]]) if parts else body

    def carries_output(self, data: JsonObject) -> bool:
        """Any data."""
        return bool(data.get("data"))

    def reply(self) -> Reply:
        """What is known."""
        return replace(super().reply(), response_id=None, service_tier=None)

    def _usage(self, data: JsonObject) -> Usage:
        raw = obj(data.get("usage"))
        usage = Usage.from_raw({key: value for key, value in raw.items() if key != "completion_tokens"})
        return replace(usage, raw=raw or None)
