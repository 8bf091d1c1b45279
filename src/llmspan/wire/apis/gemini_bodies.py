"""Google's APIs that answer with one JSON body: embeddings, images by ``:predict``, decisions, caches and batches.

Sources: google-genai ``types.EmbedContentResponse``, ``GenerateImagesResponse``, ``CachedContent`` and ``BatchJob``,
``decisions.CreateDecisionResponse``, and the bodies that those are made of.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from ...usage import Usage
from ..reply import JsonObject, Reply, meaningful_text, obj, objects, text
from .json_body import BodyParser

_VECTOR: Final = re.compile(rb'"values":\s*\[')
_IMAGE: Final = re.compile(rb'"bytesBase64Encoded":\s*"')


class EmbedContentParser(BodyParser):
    """Reads ``:embedContent``, ``:batchEmbedContents``, and embeddings by Vertex AI's ``:predict``.

    The latter have no usage object: a count stands beside each vector, and the characters in the metadata.
    """

    def strip_bulk(self, body: bytes) -> bytes:
        """``body`` without its vectors."""
        return _without(_VECTOR, b"]", b"[]", body)

    def carries_output(self, data: JsonObject) -> bool:
        """Any vector."""
        return any(data.get(key) for key in ("embedding", "embeddings", "predictions"))

    def reply(self) -> Reply:
        """What is known."""
        return replace(super().reply(), response_id=None, service_tier=None)

    def _usage(self, data: JsonObject) -> Usage:
        usage = obj(data.get("usageMetadata"))
        return Usage.from_raw(usage or _statistics(data))


class PredictedImagesParser(BodyParser):
    """Reads images by ``:predict``: Imagen reports no usage."""

    def strip_bulk(self, body: bytes) -> bytes:
        """``body`` without its images."""
        return _without(_IMAGE, b'"', b'""', body)

    def carries_output(self, data: JsonObject) -> bool:
        """Any image."""
        return bool(data.get("predictions"))


class DecisionsParser(BodyParser):
    """Reads answers to questions (``POST /decisions``); an input that was blocked has none."""

    def reply(self) -> Reply:
        """What is known."""
        feedback = obj((self._data or {}).get("prompt_feedback"))
        is_blocked = meaningful_text(feedback.get("block_reason")) is not None
        return replace(super().reply(), normalized_reasons=("content_filter",) if is_blocked else None)


class ResourceParser(BodyParser):
    """Reads a resource that a call has made: a cache or a batch. Its name is its id.

    A cache reports the tokens that it holds, which are neither input nor output of the call: they are in
    ``usage.raw`` only.
    """

    def reply(self) -> Reply:
        """What is known."""
        data = self._data or {}
        return replace(super().reply(), response_id=text(data.get("name")))

    def _usage(self, data: JsonObject) -> Usage:
        return Usage.from_raw(obj(data.get("usageMetadata")))


def _statistics(data: JsonObject) -> JsonObject:
    """The counts beside the vectors as a usage object; empty if there are none."""
    embeddings = (obj(prediction.get("embeddings")) for prediction in objects(data.get("predictions")))
    statistics = [embedding["statistics"] for embedding in embeddings if isinstance(embedding.get("statistics"), dict)]
    if not statistics:
        return {}
    metadata = {"metadata": data["metadata"]} if isinstance(data.get("metadata"), dict) else {}
    return {"statistics": statistics, **metadata}


def _without(start: re.Pattern[bytes], end: bytes, empty: bytes, body: bytes) -> bytes:
    """``body`` with an empty value for each that begins with the last byte of ``start`` and goes to ``end``."""
    parts: list[bytes] = []
    at = 0
    for match in start.finditer(body):
        stop = body.find(end, match.end()) + 1
        if match.start() < at or not stop:
            continue
        parts += (body[at : match.end() - 1], empty)
        at = stop
    return b"".join([*parts, body[at:]]) if parts else body
