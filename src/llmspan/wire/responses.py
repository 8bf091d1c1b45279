"""The Responses API (``POST /responses``, ``GET /responses/{id}``), streamed or not.

Source: openai ``Response`` and ``ResponseStreamEvent``. The terminal event carries the whole response; only for a
stream that was cut is the response put together from items, parts and deltas.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from ..usage import Usage
from .reply import ERROR, JsonObject, Reader, Reply, ReplyError, http_status, obj, objects, read_error, sign, text

_OVER: Final = ("completed", "failed", "incomplete", "cancelled")

#: delta events that grow one string of an item: event type -> the item's key
_ITEM_TEXT: Final = {
    "response.function_call_arguments.delta": "arguments",
    "response.mcp_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
    "response.code_interpreter_call_code.delta": "code",
}
#: delta events that grow one string of an item's part: event type -> (list, index key, part type, key)
_PART_TEXT: Final = {
    "response.output_text.delta": ("content", "content_index", "output_text", "text"),
    "response.refusal.delta": ("content", "content_index", "refusal", "refusal"),
    "response.reasoning_text.delta": ("content", "content_index", "reasoning_text", "text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_index", "summary_text", "text"),
}


class ResponsesReader(Reader):
    """Reads responses."""

    signs: ClassVar = (
        sign("response", "{", settles=lambda data: obj(data.get("response")).get("status") in _OVER),
        ERROR,
    )

    def __init__(self) -> None:
        self._response: JsonObject = {}
        self._items: dict[int, JsonObject] = {}
        self._error: ReplyError | None = None
        self._streamed = False

    def event(self, data: JsonObject, name: str | None) -> None:
        """Take one event of a stream."""
        self._streamed = True
        kind = data.get("type") or name
        response = obj(data.get("response"))
        if response:
            self._take_response(response)
        elif kind == "error" or (kind is None and data.get("error")):
            self._error = _error_in(data)
        elif isinstance(kind, str):
            self._take_item_event(kind, data)

    def body(self, data: JsonObject) -> None:
        """Take the body of a call that does not stream."""
        self._take_response(data)

    def carries_output(self, data: JsonObject) -> bool:
        """Deltas, partial images, and items that arrive whole."""
        kind = data.get("type")
        return isinstance(kind, str) and (
            (kind.endswith(".delta") and bool(data.get("delta")))
            or kind.endswith((".partial_image", "output_item.done"))
            or kind in ("response.completed", "response.incomplete")
        )

    def reply(self) -> Reply:
        """What is known by now."""
        status = text(self._response.get("status"))
        is_over = status in _OVER
        return Reply(
            response_id=text(self._response.get("id")),
            response_model=text(self._response.get("model")),
            finish_reasons=() if status is None else (None,) if self._streamed and not is_over else (status,),
            usage=Usage.from_raw(self._response.get("usage")),
            service_tier=text(self._response.get("service_tier")),
            error=self._error,
            terminal=is_over or (bool(self._response) and not self._streamed),
        )

    def response(self) -> Any:
        """A ``response`` object."""
        if not self._response and not self._items:
            return None
        whole = dict(self._response)
        if self._items and not whole.get("output"):
            whole["output"] = [self._items[index] for index in sorted(self._items)]
        return whole

    def _take_response(self, response: JsonObject) -> None:
        if self._response.get("status") in _OVER and response.get("status") not in _OVER:
            return
        self._response = response
        if response.get("error"):
            self._error = read_error(response["error"])

    def _take_item_event(self, kind: str, data: JsonObject) -> None:
        index = data.get("output_index")
        if not isinstance(index, int):
            return
        if kind in ("response.output_item.added", "response.output_item.done"):
            self._items[index] = dict(obj(data.get("item")))
            return
        item = self._items.setdefault(index, {})
        delta = data.get("delta")
        if kind in _ITEM_TEXT and isinstance(delta, str):
            key = _ITEM_TEXT[kind]
            item[key] = (text(item.get(key)) or "") + delta
        elif kind in _PART_TEXT and isinstance(delta, str):
            where, index_key, part_type, key = _PART_TEXT[kind]
            part = _part(item, where, data.get(index_key), part_type)
            part[key] = (text(part.get(key)) or "") + delta
        elif kind in ("response.content_part.added", "response.content_part.done"):
            part = _part(item, "content", data.get("content_index"), "output_text")
            part.update(obj(data.get("part")))
        elif kind == "response.reasoning_summary_part.added":
            _part(item, "summary", data.get("summary_index"), "summary_text").update(obj(data.get("part")))
        elif kind == "response.output_text.annotation.added":
            part = _part(item, "content", data.get("content_index"), "output_text")
            part["annotations"] = [*objects(part.get("annotations")), data.get("annotation")]


def _error_in(event: JsonObject) -> ReplyError | None:
    """The error of an ``error`` event; those of the WebSocket have the HTTP status beside it."""
    error = read_error(obj(event.get("error")) or {key: value for key, value in event.items() if key != "type"})
    if error is not None and error.status is None:
        error.status = http_status(event.get("status"))
    return error


def _part(item: JsonObject, where: str, index: object, part_type: str) -> JsonObject:
    """The part of an item that an event speaks of; made, empty, if its ``added`` event never came."""
    parts = item.get(where)
    if not isinstance(parts, list):
        parts = item[where] = []
    position = index if isinstance(index, int) and 0 <= index < 10_000 else 0
    while len(parts) <= position:
        parts.append({"type": part_type})
    if not isinstance(parts[position], dict):
        parts[position] = {"type": part_type}
    return parts[position]
