"""Embeddings (``POST /embeddings``): one JSON body, never a stream. Source: openai ``CreateEmbeddingResponse``."""

from __future__ import annotations

from dataclasses import replace

from ..usage import Usage
from .body import BodyReader
from .reply import JsonObject, Reply, obj


class EmbeddingsReader(BodyReader):
    """Reads embeddings. They have neither output tokens nor an id: a vendor's stay in ``usage.raw`` and the body."""

    def carries_output(self, data: JsonObject) -> bool:
        """Any data."""
        return bool(data.get("data"))

    def reply(self) -> Reply:
        """What is known."""
        return replace(super().reply(), response_id=None, service_tier=None)

    def _usage(self, data: JsonObject) -> Usage:
        raw = obj(data.get("usage"))
        known = Usage.from_raw({key: value for key, value in raw.items() if key != "completion_tokens"})
        return replace(known, raw=raw or None)
