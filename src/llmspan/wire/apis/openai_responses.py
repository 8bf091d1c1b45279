"""The Responses API (``POST /responses``, ``GET /responses/{id}``), streamed or not.

Source: openai ``Response`` and ``ResponseStreamEvent``. The terminal event carries the whole response; only for a
stream that was cut is the response put together from items, parts and deltas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from ...usage import Usage
from ..finish_reasons import response_reason
from ..reply import (
    Background,
    JsonObject,
    Reply,
    ReplyError,
    ResponseParser,
    has_error,
    http_status,
    meaningful_text,
    obj,
    objects,
    read_error,
    seconds,
    text,
)

_TERMINAL_STATES: Final = ("completed", "failed", "incomplete", "cancelled")
#: events that end a response, and the status that it has then, should the event not say
_ENDS: Final = {f"response.{status}": status for status in _TERMINAL_STATES} | {"response.done": "completed"}

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


class ResponsesParser(ResponseParser):
    """Reads responses."""

    def __init__(self) -> None:
        self._response: JsonObject = {}
        self._items = _Items()
        self._error: ReplyError | None = None
        self._streamed = False

    def event(self, data: JsonObject, name: str | None) -> None:
        """Take one event of a stream."""
        self._streamed = True
        kind = data.get("type") or name
        response = obj(data.get("response"))
        end = _ENDS.get(kind) if isinstance(kind, str) else None
        if end is not None:
            status = response.get("status")
            self._take_response(
                {**(response or self._response), "status": status if status in _TERMINAL_STATES else end}
            )
        elif response:
            self._take_response(response)
        elif kind == "error" or (kind is None and has_error(data)):
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
        status = meaningful_text(self._response.get("status"))
        is_over = status in _TERMINAL_STATES
        is_cut = self._streamed and not is_over
        return Reply(
            response_id=text(self._response.get("id")),
            response_model=text(self._response.get("model")),
            finish_reasons=() if status is None else (None,) if is_cut else (status,),
            normalized_reasons=None
            if is_cut or status is None
            else tuple(filter(None, (response_reason(self._response),))),
            usage=Usage.from_raw(self._response.get("usage"), beside=self._tools()),
            service_tier=text(self._response.get("service_tier")),
            error=self._error,
            background=self._background() if is_over else None,
            response_status=status,
            compacted=any(item.get("type") == "compaction" for item in objects(self._response.get("output"))),
            terminal=is_over or (bool(self._response) and not self._streamed),
        )

    def _tools(self) -> JsonObject:
        """What hosted tools spent: in sum, and for SVG in each image that was generated."""
        images = [{"svg_usage": item.get("svg_usage")} for item in objects(self._response.get("output"))]
        return {"tool_usage": self._response.get("tool_usage"), "output": images}

    def _background(self) -> Background | None:
        created, completed = (seconds(self._response.get(key)) for key in ("created_at", "completed_at"))
        return Background(created, completed) if self._response.get("background") is True else None

    def response(self) -> Any:
        """A ``response`` object."""
        if not self._response and not self._items:
            return None
        response = dict(self._response)
        if self._items and not response.get("output"):
            response["output"] = self._items.in_order()
        return response

    def _take_response(self, response: JsonObject) -> None:
        if self._response.get("status") in _TERMINAL_STATES and response.get("status") not in _TERMINAL_STATES:
            return
        self._response = response
        if has_error(response):
            self._error = read_error(response["error"])

    def _take_item_event(self, kind: str, data: JsonObject) -> None:
        if kind in ("response.output_item.added", "response.output_item.done"):
            self._items.set_item(obj(data.get("item")), data.get("output_index"), is_done=kind.endswith(".done"))
            return
        change = _change_of(kind)
        if change is not None:
            change(self._items.item_of_event(data), data)


def _change_of(kind: str) -> Callable[[JsonObject, JsonObject], None] | None:
    """What an event does to its item; None if it is not an event of one."""
    if kind in _ITEM_TEXT:
        return partial(_grow_item, _ITEM_TEXT[kind])
    if kind in _PART_TEXT:
        return partial(_grow_part, *_PART_TEXT[kind])
    return _PART_CHANGES.get(kind)


def _grow_item(key: str, item: JsonObject, data: JsonObject) -> None:
    if isinstance(data.get("delta"), str):
        item[key] = (text(item.get(key)) or "") + data["delta"]


def _grow_part(where: str, index_key: str, part_type: str, key: str, item: JsonObject, data: JsonObject) -> None:
    if isinstance(data.get("delta"), str):
        part = _part(item, where, data.get(index_key), part_type)
        part[key] = (text(part.get(key)) or "") + data["delta"]


def _set_content_part(item: JsonObject, data: JsonObject) -> None:
    _part(item, "content", data.get("content_index"), "output_text").update(obj(data.get("part")))


def _set_summary_part(item: JsonObject, data: JsonObject) -> None:
    _part(item, "summary", data.get("summary_index"), "summary_text").update(obj(data.get("part")))


def _annotate(item: JsonObject, data: JsonObject) -> None:
    part = _part(item, "content", data.get("content_index"), "output_text")
    part["annotations"] = [*objects(part.get("annotations")), data.get("annotation")]


_PART_CHANGES: Final[dict[str, Callable[[JsonObject, JsonObject], None]]] = {
    "response.content_part.added": _set_content_part,
    "response.content_part.done": _set_content_part,
    "response.reasoning_summary_part.added": _set_summary_part,
    "response.output_text.annotation.added": _annotate,
}


class _Items:
    """The output items of a stream, each under the ``output_index`` and the id that its events have.

    An event belongs to the item of its ``item_id``, else to the latest item of its ``output_index``, else to the
    latest item: servers leave the index out, repeat it for all items, or change the id with each event (Copilot).
    """

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._latest: _Entry | None = None

    def __bool__(self) -> bool:
        return bool(self._entries)

    def set_item(self, item: JsonObject, index: object, *, is_done: bool) -> None:
        """Take an item that was added, or that is done."""
        entry = self._by_id(item.get("id"))
        if entry is None:
            twin = self._by_index(index)
            belongs = twin is not None and not twin.is_done and (is_done or not (twin.item and text(item.get("id"))))
            entry = twin if belongs else None
        if entry is None:
            entry = _Entry(index if isinstance(index, int) else None)
            self._entries.append(entry)
        entry.item, entry.is_done = dict(item), is_done
        self._latest = entry

    def item_of_event(self, data: JsonObject) -> JsonObject:
        """The item that an event is about; made, empty, if it was never added."""
        index = data.get("output_index")
        entry = self._by_id(data.get("item_id")) or self._by_index(index)
        if entry is None:
            entry = _Entry(index if isinstance(index, int) else None)
            self._entries.append(entry)
        self._latest = entry
        return entry.item

    def in_order(self) -> list[JsonObject]:
        """The items by their index, as they arrived where one has none."""
        indices = [entry.index for entry in self._entries]
        if None in indices:
            return [entry.item for entry in self._entries]
        return [entry.item for entry in sorted(self._entries, key=lambda entry: entry.index or 0)]

    def _by_id(self, identifier: object) -> _Entry | None:
        if text(identifier) is None:
            return None
        return next((entry for entry in reversed(self._entries) if entry.item.get("id") == identifier), None)

    def _by_index(self, index: object) -> _Entry | None:
        if not isinstance(index, int):
            return self._latest
        return next((entry for entry in reversed(self._entries) if entry.index == index), None)


@dataclass(slots=True)
class _Entry:
    index: int | None
    item: JsonObject = field(default_factory=dict[str, Any])
    is_done: bool = False


def _error_in(event: JsonObject) -> ReplyError | None:
    """The error of an ``error`` event; those of the WebSocket have the HTTP status beside it."""
    error = read_error(obj(event.get("error")) or {key: value for key, value in event.items() if key != "type"})
    if error is not None and error.status is None:
        error.status = http_status(event.get("status"))
    return error


def _part(item: JsonObject, where: str, index: object, part_type: str) -> JsonObject:
    """The part of an item that an event is about; made, empty, if its ``added`` event never came."""
    parts = item.get(where)
    if not isinstance(parts, list):
        parts = item[where] = []
    position = index if isinstance(index, int) and 0 <= index < 10_000 else 0
    while len(parts) <= position:
        parts.append({"type": part_type})
    if not isinstance(parts[position], dict):
        parts[position] = {"type": part_type}
    return parts[position]
