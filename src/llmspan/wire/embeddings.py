"""Embeddings (``POST /embeddings``): one JSON body, never a stream. Source: openai ``CreateEmbeddingResponse``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..usage import Usage
from .reply import JsonObject, Reader, Reply, obj, read_error, text


class EmbeddingsReader(Reader):
    """Reads embeddings. They have neither output tokens nor an id: a vendor's stay in ``usage.raw`` and the body."""

    def __init__(self) -> None:
        self._data: JsonObject | None = None

    def event(self, data: JsonObject, name: str | None) -> None:  # noqa: ARG002
        """An event of a stream that embeddings do not have; the last one is taken for the body."""
        self._data = data

    def body(self, data: JsonObject) -> None:
        """Take the body."""
        self._data = data

    def carries_output(self, data: JsonObject) -> bool:
        """Any data."""
        return bool(data.get("data"))

    def reply(self) -> Reply:
        """What is known."""
        data = self._data or {}
        raw = obj(data.get("usage"))
        known = Usage.from_raw({key: value for key, value in raw.items() if key != "completion_tokens"})
        usage = replace(known, raw=raw or None)
        return Reply(
            response_model=text(data.get("model")),
            usage=usage,
            error=read_error(data) if data.get("error") else None,
            terminal=True,
        )

    def response(self) -> Any:
        """The body."""
        return self._data
