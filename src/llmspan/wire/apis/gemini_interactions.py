"""Google's interactions (``POST /interactions``, ``GET /interactions/{id}``), streamed or not.

Source: google-genai ``interactions.Interaction`` and ``InteractionSSEEvent``. The event of the end carries the whole
interaction but for its steps, which are put together from their starts and deltas.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from ...usage import Usage
from ..reply import (
    Background,
    JsonObject,
    Reply,
    ReplyError,
    ResponseParser,
    has_error,
    has_value,
    iso_time,
    meaningful_text,
    obj,
    objects,
    read_error,
    string,
    text,
)
from .gemini_reasons import interaction_reasons

#: statuses of an interaction that is still at work
_RUNNING: Final = frozenset({"in_progress", "queued"})
#: the key under which the text of a step's arguments grows until the step is whole
_ARGUMENTS_TEXT: Final = "arguments_text"


class InteractionsParser(ResponseParser):
    """Reads interactions."""

    def __init__(self) -> None:
        self._interaction: JsonObject = {}
        self._steps: dict[int, JsonObject] = {}
        self._usage: JsonObject = {}
        self._error: ReplyError | None = None
        self._streamed = False

    def event(self, data: JsonObject, name: str | None) -> None:
        """Take one event of a stream."""
        self._streamed = True
        kind = data.get("event_type") or name
        self._take_usage(obj(data.get("metadata")))
        if has_error(data) or kind == "error":
            self._error = read_error(data)
        elif kind == "interaction.status_update":
            self._take(data | {"id": data.get("interaction_id")})
        elif isinstance(data.get("interaction"), dict):
            self._take(obj(data["interaction"]))
        elif kind == "step.start":
            self._steps[_index(data)] = dict(obj(data.get("step")))
        elif kind == "step.delta":
            delta = obj(data.get("delta"))
            change = _CHANGES.get(str(delta.get("type")), _update)
            change(self._steps.setdefault(_index(data), {}), delta)

    def body(self, data: JsonObject) -> None:
        """Take the body of a call that does not stream."""
        if has_error(data):
            self._error = read_error(data)
        self._interaction = data
        self._take_usage(data)

    def carries_output(self, data: JsonObject) -> bool:
        """A delta with content, or a step that starts with some (a call of a tool)."""
        step, delta = obj(data.get("step")), obj(data.get("delta"))
        if step:
            return any(value for key, value in step.items() if key != "type")
        return any(value for key, value in delta.items() if key not in ("type", "signature"))

    def reply(self) -> Reply:
        """What is known by now."""
        status = meaningful_text(self._interaction.get("status"))
        is_running = status in _RUNNING
        is_cut = self._streamed and (status is None or is_running)
        return Reply(
            response_id=text(self._interaction.get("id")),
            response_model=text(self._interaction.get("model")),
            finish_reasons=() if status is None else (None,) if is_cut else (status,),
            normalized_reasons=None if is_cut or status is None else interaction_reasons(self._interaction),
            usage=Usage.from_raw(self._usage, final=not (is_cut or is_running)),
            service_tier=text(self._interaction.get("service_tier")),
            error=self._error or self._failure(status),
            background=None if status is None or is_running else self._background(),
            is_pending=is_running,
            response_status=status,
            terminal=bool(self._interaction) and not is_cut,
        )

    def _background(self) -> Background:
        """Its times; an interaction does not say whether it is one in the background."""
        created, updated = (iso_time(self._interaction.get(key)) for key in ("created", "updated"))
        return Background(created, updated, is_certain=False, operation="generate_content")

    def _failure(self, status: str | None) -> ReplyError | None:
        """The first of the errors by which the interaction failed."""
        errors = objects(self._interaction.get("errors"))
        return read_error(errors[0]) if errors and status == "failed" else None

    def response(self) -> Any:
        """An ``Interaction``."""
        if not self._interaction and not self._steps:
            return None
        interaction = dict(self._interaction)
        if self._steps and not interaction.get("steps"):
            interaction["steps"] = [_finished(self._steps[index]) for index in sorted(self._steps)]
        if self._streamed and self._usage:
            interaction["usage"] = self._usage
        return interaction

    def _take(self, interaction: JsonObject) -> None:
        """Take what an event says of the interaction as a whole."""
        members = {key: value for key, value in interaction.items() if key not in _OF_THE_EVENT and has_value(value)}
        self._interaction |= members
        self._take_usage(interaction)

    def _take_usage(self, source: JsonObject) -> None:
        """The counts so far; the last object counts as a whole."""
        self._usage = obj(source.get("usage")) or obj(source.get("total_usage")) or self._usage


_OF_THE_EVENT: Final = frozenset({"event_type", "event_id", "interaction_id", "metadata", "usage"})


def _index(data: JsonObject) -> int:
    index = data.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) else 0


def _add_content(step: JsonObject, delta: JsonObject) -> None:
    """Text goes on with the text before it; an image or a sound is an item of its own."""
    _append(step, "content", delta)


def _add_thought(step: JsonObject, delta: JsonObject) -> None:
    _append(step, "summary", obj(delta.get("content")))


def _append(step: JsonObject, key: str, item: JsonObject) -> None:
    items = step.get(key)
    if not isinstance(items, list):
        items = step[key] = []
    last = obj(items[-1]) if items else {}
    before, after = last.get("text"), item.get("text")
    if item.keys() <= {"type", "text"} and isinstance(before, str) and isinstance(after, str):
        last["text"] = before + after
    elif item:
        items.append(dict(item))


def _annotate(step: JsonObject, delta: JsonObject) -> None:
    """The annotations of the text before them."""
    if not any("text" in item for item in objects(step.get("content"))):
        step["content"] = [*objects(step.get("content")), {"type": "text", "text": ""}]
    last = [item for item in objects(step["content"]) if "text" in item][-1]
    last["annotations"] = [*objects(last.get("annotations")), *objects(delta.get("annotations"))]


def _sign(step: JsonObject, delta: JsonObject) -> None:
    if text(delta.get("signature")) or "signature" not in step:
        step["signature"] = delta.get("signature")


def _add_arguments(step: JsonObject, delta: JsonObject) -> None:
    step[_ARGUMENTS_TEXT] = (string(step.get(_ARGUMENTS_TEXT)) or "") + (string(delta.get("arguments")) or "")


def _update(step: JsonObject, delta: JsonObject) -> None:
    """A delta that has members of its step: the call or the result of a tool of the provider's."""
    step.update({key: value for key, value in delta.items() if key != "type" and value is not None})


_CHANGES: Final[dict[str, Callable[[JsonObject, JsonObject], None]]] = {
    "text": _add_content,
    "image": _add_content,
    "audio": _add_content,
    "video": _add_content,
    "document": _add_content,
    "thought_summary": _add_thought,
    "thought_signature": _sign,
    "text_annotation_delta": _annotate,
    "arguments_delta": _add_arguments,
}


def _finished(step: JsonObject) -> JsonObject:
    """A step with its arguments as an object; as the text that they are if the stream was cut within them."""
    if _ARGUMENTS_TEXT not in step:
        return step
    spelled = step[_ARGUMENTS_TEXT]
    try:
        arguments = json.loads(spelled) if spelled else step.get("arguments", {})
    except (ValueError, RecursionError):
        arguments = {"INVALID_JSON": spelled}
    return {**{key: value for key, value in step.items() if key != _ARGUMENTS_TEXT}, "arguments": arguments}
