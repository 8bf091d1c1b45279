"""Images (``POST /images/generations``, ``/images/edits``, ``/images/variations``), streamed or not.

Source: openai ``ImagesResponse``, ``ImageGenStreamEvent``, ``ImageEditStreamEvent``. The completed event carries what
the body would; of a stream that was cut, the last partial image of each index is kept.
"""

from __future__ import annotations

from typing import Any

from ...usage import Usage
from ..reply import JsonObject, Reply, ReplyError, ResponseParser, has_error, obj, read_error

_IMAGE_KEYS = ("b64_json", "url", "revised_prompt")
_OF_THE_EVENT = frozenset({"type", "created_at", "usage", "sequence_number", "partial_image_index", *_IMAGE_KEYS})


class ImagesParser(ResponseParser):
    """Reads images."""

    def __init__(self) -> None:
        self._body: JsonObject | None = None
        self._completed: list[JsonObject] = []
        self._partial: JsonObject | None = None
        self._usage: object = None
        self._svg_usage: object = None
        self._error: ReplyError | None = None

    def event(self, data: JsonObject, name: str | None) -> None:
        """Take one event of a stream."""
        kind = str(data.get("type") or name)
        if has_error(data) or kind == "error":
            self._error = read_error(data)
        elif kind.endswith(".completed"):
            self._completed.append(data)
            self._usage = data.get("usage") or self._usage
            self._svg_usage = data.get("svg_usage") or self._svg_usage
        elif kind.endswith(".partial_image"):
            self._partial = data

    def body(self, data: JsonObject) -> None:
        """Take the body of a call that does not stream."""
        self._body = data
        self._usage = data.get("usage")
        self._svg_usage = data.get("svg_usage")
        if has_error(data):
            self._error = read_error(data)

    def carries_output(self, data: JsonObject) -> bool:
        """A partial or whole image."""
        return bool(data.get("b64_json") or data.get("url"))

    def reply(self) -> Reply:
        """What is known by now."""
        return Reply(
            usage=Usage.from_raw(obj(self._usage), beside={"svg_usage": self._svg_usage}),
            error=self._error,
            terminal=self._body is not None or bool(self._completed),
        )

    def response(self) -> Any:
        """An ``ImagesResponse``."""
        if self._body is not None:
            return self._body
        events = self._completed or ([self._partial] if self._partial is not None else [])
        if not events:
            return None
        response: JsonObject = {"created": events[0].get("created_at")}
        response["data"] = [{key: event[key] for key in _IMAGE_KEYS if key in event} for event in events]
        response |= {key: value for key, value in events[-1].items() if key not in _OF_THE_EVENT}
        if self._usage:
            response["usage"] = self._usage
        return response
