"""Anthropic Messages and beta Messages (``POST /v1/messages``), streamed or not.

Source: anthropic ``Message``, ``RawMessageStreamEvent`` and their beta twins. ``message_delta.usage`` is cumulative:
each of its non-null keys replaces the one of ``message_start``, whose ``output_tokens`` is only a placeholder.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from ...usage import Usage, merge_reports
from ..blocks import Blocks
from ..reply import (
    JsonObject,
    Reply,
    ReplyError,
    ResponseParser,
    has_error,
    has_value,
    meaningful_text,
    obj,
    objects,
    read_error,
    text,
)

#: blocks that open empty and are filled by deltas
_FILLED_LATER: Final = ("text", "thinking")
#: the text of each delta that has one which the block's goes on with
_APPENDED: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class MessagesParser(ResponseParser):
    """Reads messages."""

    silent_events: ClassVar = frozenset({"ping"})

    def __init__(self) -> None:
        self._body: JsonObject | None = None
        self._message: JsonObject = {}
        self._blocks = Blocks()
        self._first_usage: JsonObject = {}
        self._later_usages: list[JsonObject] = []
        self._error: ReplyError | None = None
        self._stopped = False

    def event(self, data: JsonObject, name: str | None) -> None:
        """Take one event of a stream."""
        kind = data.get("type") or name
        if kind == "content_block_delta":
            self._blocks.add_delta(data)
        elif kind == "message_start":
            self._start(obj(data.get("message")))
        elif kind == "message_delta":
            changes = {k: v for k, v in data.items() if k not in ("type", "delta", "usage")}
            for change in (obj(data.get("delta")), changes):
                self._message |= {k: v for k, v in change.items() if has_value(v) or k not in self._message}
            self._take_usage(obj(data.get("usage")))
        elif kind == "message_stop":
            self._stopped = True
        elif kind == "error":
            self._error = read_error(data)
        else:
            self._blocks.event(kind, data)
            block = obj(data.get("content_block"))
            if block.get("type") == "fallback":
                self._take_model(block.get("to"))

    def _start(self, message: JsonObject) -> None:
        """Take a ``message_start``: the first, the same once more, or that of another message a gateway turned to.

        Of a message that is given up nothing counts: neither its blocks nor its usage.
        """
        previous, new = text(self._message.get("id")), text(message.get("id"))
        if previous is not None and new in (None, previous):
            return
        if previous is not None:
            self._message, self._blocks, self._later_usages, self._stopped = {}, Blocks(), [], False
        self._message = merge_reports([message, self._message])
        self._first_usage = obj(message.get("usage"))

    def _take_usage(self, usage: JsonObject) -> None:
        self._later_usages.append(usage)
        for iteration in objects(usage.get("iterations"))[-1:]:
            if iteration.get("type") == "fallback_message":
                self._take_model(iteration)

    def _take_model(self, source: object) -> None:
        """Note which model took over from one that declined: the message of a call that does not stream names it."""
        model = text(obj(source).get("model"))
        if model is not None:
            self._message["model"] = model

    def body(self, data: JsonObject) -> None:
        """Take the body of a call that does not stream."""
        if data.get("type") == "error" or has_error(data):
            self._error = read_error(data)
            return
        self._body = self._message = data
        self._later_usages = [obj(data.get("usage"))]
        self._stopped = True

    def carries_output(self, data: JsonObject) -> bool:
        """A delta with content, or a block that opens with content (tool use, redacted thinking, results)."""
        if data.get("type") == "content_block_start":
            return obj(data.get("content_block")).get("type") not in _FILLED_LATER
        delta = obj(data.get("delta"))
        return data.get("type") == "content_block_delta" and any(map(delta.get, delta.keys() - {"type"}))

    def appends_text(self, data: JsonObject) -> bool:
        """A delta of text, thinking or tool input."""
        delta = data.get("delta")
        if data.get("type") != "content_block_delta" or not isinstance(delta, dict) or len(delta) != 2:
            return False
        kind = delta.get("type")
        return isinstance(kind, str) and isinstance(delta.get(_APPENDED.get(kind, "")), str)

    def reply(self) -> Reply:
        """What is known by now."""
        reason = meaningful_text(self._message.get("stop_reason"))
        usage = merge_reports([self._first_usage, *self._later_usages])
        return Reply(
            response_id=text(self._message.get("id")),
            response_model=text(self._message.get("model")),
            finish_reasons=(reason,) if reason else (None,) if self._message else (),
            usage=self._usage(usage),
            service_tier=text(usage.get("service_tier")),
            error=self._error,
            compacted="compaction" in [turn.get("type") for turn in objects(usage.get("iterations"))],
            terminal=self._stopped or reason is not None,
        )

    def response(self) -> Any:
        """A ``message`` object."""
        if self._body is not None:
            return self._body
        if not self._message:
            return None
        response = dict(self._message)
        if self._blocks or not response.get("content"):
            response["content"] = self._blocks.finished()
        usage = merge_reports([self._first_usage, *self._later_usages])
        if usage:
            response["usage"] = usage
        return response

    def _usage(self, merged: JsonObject) -> Usage:
        """The usage less the output of ``message_start`` where nothing was said of it later: that is a placeholder."""
        later = merge_reports(self._later_usages)
        is_final = self._body is not None or any(map(_is_count, later.values()))
        if not _is_count(later.get("output_tokens")):
            merged = {k: v for k, v in merged.items() if k not in ("output_tokens", "output_tokens_details")}
        return Usage.from_raw(merged, final=is_final, stale_split=self._split_is_stale(merged, later))

    def _split_is_stale(self, merged: JsonObject, later: JsonObject) -> bool:
        """Whether the 5m/1h split comes from ``message_start`` and the total was corrected since."""
        restated = later.get("cache_creation") is not None
        total = "cache_creation_input_tokens"
        return bool(self._first_usage) and not restated and merged.get(total) != self._first_usage.get(total)


def _is_count(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
