"""APIs that answer with one JSON body and never stream: the base of their parsers, and the plain parsers."""

from __future__ import annotations

from typing import Any, ClassVar

from ...usage import Usage
from ..reply import JsonObject, Reply, ResponseParser, has_error, obj, read_error, text


class BodyParser(ResponseParser):
    """Reads an object with ``id``, ``model`` and ``usage``, as far as they are there."""

    repeats: ClassVar = False

    def __init__(self) -> None:
        self._data: JsonObject | None = None

    def event(self, data: JsonObject, name: str | None) -> None:  # noqa: ARG002
        """An event of a stream that this API does not have; the last one is taken for the body."""
        self._data = data

    def body(self, data: JsonObject) -> None:
        """Take the body."""
        self._data = data

    def carries_output(self, data: JsonObject) -> bool:
        """Any event of a stream that should not be there."""
        return bool(data)

    def reply(self) -> Reply:
        """What is known."""
        data = self._data or {}
        return Reply(
            response_id=text(data.get("id")),
            response_model=text(data.get("model")),
            usage=self._usage(data),
            service_tier=text(data.get("service_tier")),
            error=read_error(data) if has_error(data) else None,
            terminal=True,
        )

    def response(self) -> Any:
        """The body."""
        return self._data

    def _usage(self, data: JsonObject) -> Usage:
        return Usage.from_raw(obj(data.get("usage")))


class CountParser(BodyParser):
    """``POST /v1/messages/count_tokens``, ``POST /responses/input_tokens``, ``:countTokens``: the body is the count.

    Source: anthropic ``MessageTokensCount``, openai ``InputTokenCountResponse``, google-genai ``CountTokensResponse``.
    Nothing was spent: the number is what a call would cost, and is in ``usage.raw`` only.
    """

    #: the whole of an event is its usage object, texts too
    skips_repeats: ClassVar[bool] = False

    def _usage(self, data: JsonObject) -> Usage:
        return Usage(raw=data) if data and not has_error(data) else Usage()
