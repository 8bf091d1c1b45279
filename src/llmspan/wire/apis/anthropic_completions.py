"""Anthropic's legacy Text Completions (``POST /v1/complete``), streamed or not.

Source: anthropic < 1.0 ``Completion``, the same object streamed and not; it never reports usage.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..reply import (
    JsonObject,
    Reply,
    ReplyError,
    ResponseParser,
    has_error,
    has_value,
    meaningful_text,
    read_error,
    string,
    text,
)


class CompleteParser(ResponseParser):
    """Reads text completions."""

    silent_events: ClassVar = frozenset({"ping"})

    def __init__(self) -> None:
        self._whole: JsonObject = {}
        self._error: ReplyError | None = None

    def event(self, data: JsonObject, name: str | None) -> None:
        """Take one event of a stream: it continues the text and replaces the rest."""
        if has_error(data) or name == "error":
            self._error = read_error(data)
            return
        before = string(self._whole.get("completion")) or ""
        news = {key: value for key, value in data.items() if has_value(value) or key not in self._whole}
        self._whole = {**self._whole, **news, "completion": before + (string(data.get("completion")) or "")}

    def body(self, data: JsonObject) -> None:
        """Take the body of a call that does not stream."""
        if has_error(data):
            self._error = read_error(data)
        self._whole = data

    def carries_output(self, data: JsonObject) -> bool:
        """Text."""
        return bool(data.get("completion"))

    def reply(self) -> Reply:
        """What is known by now."""
        reason = meaningful_text(self._whole.get("stop_reason"))
        return Reply(
            response_id=text(self._whole.get("id")),
            response_model=text(self._whole.get("model")),
            finish_reasons=(reason,) if reason else (None,) if self._whole and self._error is None else (),
            error=self._error,
            terminal=reason is not None,
        )

    def response(self) -> Any:
        """A ``completion`` object."""
        return self._whole or None
