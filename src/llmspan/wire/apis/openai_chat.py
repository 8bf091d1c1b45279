"""Chat Completions (``POST /chat/completions``), streamed or not.

Source: openai ``ChatCompletion``, ``ChatCompletionChunk``. Chunks are merged as the API reference says: text is
concatenated, choices go by index, tool calls as :mod:`.tool_calls` says; whatever else a vendor adds is merged by the
same rules.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ...usage import Usage
from ..deltas import merge
from ..reply import (
    NO_VALUES,
    JsonObject,
    Reply,
    ReplyError,
    ResponseParser,
    has_error,
    has_value,
    obj,
    objects,
    read_error,
    string,
)
from ..tool_calls import ToolCalls, finish_call

_TOP_LEVEL = frozenset({"choices", "object", "usage", "obfuscation", "error"})
#: what OpenAI's chunks have, their choices, and the deltas of those, less what is more than a text
_USUAL_KEYS = _TOP_LEVEL | {"id", "created", "model", "system_fingerprint", "service_tier"}
_CHOICE_KEYS = frozenset({"index", "delta", "finish_reason", "logprobs"})
_TEXTS = frozenset({"role", "content", "reasoning", "reasoning_content", "refusal"})


class ChatParser(ResponseParser):
    """Reads chat completions; the base of :class:`~llmspan.wire.apis.openai_completions.CompletionsParser`."""

    object_name: ClassVar[str] = "chat.completion"

    def __init__(self) -> None:
        self._top: JsonObject = {}
        self._choices: dict[int, JsonObject] = {}
        self._tool_calls: dict[int, ToolCalls] = {}
        self._usage: JsonObject | None = None
        self._error: ReplyError | None = None
        self._body: JsonObject | None = None
        self._is_another = False

    def event(self, data: JsonObject, name: str | None) -> None:
        """Take one chunk. ``name`` is not used by OpenAI; gateways send ``error``."""
        if data.get("error") and has_error(data):
            self._error = read_error(data)
            if name == "error" or "choices" not in data:
                return
        identifier = data.get("id")
        #: a stream that goes on as another response, behind the end of the first
        self._is_another = identifier != self._top.get("id", identifier) and has_value(identifier)
        self._take_top(data)
        for choice in objects(data.get("choices")):
            self._take_choice(choice)

    def body(self, data: JsonObject) -> None:
        """Take the body of a call that does not stream."""
        self._body = data
        if has_error(data):
            self._error = read_error(data)
        self._top = data
        self._usage = _usage_in(data)
        for position, choice in enumerate(objects(data.get("choices"))):
            self._choices[position] = choice

    def carries_output(self, data: JsonObject) -> bool:
        """A choice whose delta holds more than a role and empty values."""
        for choice in objects(data.get("choices")):
            delta = obj(choice.get("delta"))
            if any(value for key, value in delta.items() if key not in ("role", "channel")):
                return True
        return False

    def appends_text(self, data: JsonObject) -> bool:
        """A chunk with a text of one choice, without tool calls, log-probabilities and what only some servers send."""
        choices = objects(data.get("choices")) if _USUAL_KEYS.issuperset(data) else []
        delta = choices[0].get("delta") if len(choices) == 1 else None
        return (
            isinstance(delta, dict)
            and _TEXTS.issuperset(delta)
            and all(value is None or isinstance(value, str) for value in delta.values())
            and _CHOICE_KEYS.issuperset(choices[0])
            and choices[0].get("logprobs") is None
        )

    def reply(self) -> Reply:
        """What is known by now."""
        value_of, choices = self._top.get, self._choices
        reasons = [_reason(choices[index]) for index in sorted(choices)]
        return Reply(
            response_id=string(value_of("id")),
            response_model=string(value_of("model")),
            finish_reasons=tuple(reasons),
            usage=Usage.from_raw(self._usage),
            service_tier=string(value_of("service_tier")),
            system_fingerprint=string(value_of("system_fingerprint")),
            error=self._error,
            terminal=bool(reasons) and all(reasons),
        )

    def response(self) -> Any:
        """A ``chat.completion`` object."""
        if self._body is not None:
            return self._body
        if not self._top and not self._choices:
            return None
        head = {key: value for key, value in self._top.items() if key not in _TOP_LEVEL}
        response: JsonObject = {"id": head.pop("id", ""), "object": self.object_name, **head}
        response["choices"] = [self._finish_choice(self._choices[index]) for index in sorted(self._choices)]
        if self._usage is not None:
            response["usage"] = self._usage
        return response

    def _take_top(self, data: JsonObject) -> None:
        top = self._top
        for key, value in data.items():
            # the first chunk of some gateways has an empty id and model; later ones may rename them
            if value is not None and value not in NO_VALUES and (key not in ("id", "created") or not top.get(key)):
                top[key] = value
        if data.get("usage") or "x_groq" in data:
            self._usage = _usage_in(data) or self._usage

    def _take_choice(self, choice: JsonObject) -> None:
        index = _index_of(choice)
        merged = self._choices.setdefault(index, {"message": {}})
        for key, value in choice.items():
            if key == "delta":
                if isinstance(value, dict):
                    self._take_delta(index, merged["message"], value)
            elif key == "message":  # Perplexity repeats the message so far beside each delta
                merged["message"] = merged["message"] if choice.get("delta") else obj(value)
            elif key == "logprobs" and value is not None:
                merged[key] = _merge_logprobs(merged.get(key), value)
            elif key not in merged or (value is not None and value not in NO_VALUES):
                merged[key] = None if value == "null" else value

    def _take_delta(self, index: int, message: JsonObject, delta: JsonObject) -> None:
        fragments = delta.get("tool_calls")
        if isinstance(fragments, list):
            calls = self._tool_calls.setdefault(index, ToolCalls())
            if self._is_another and _reason(self._choices[index]):
                calls.add_by_index(objects(fragments))
            else:
                calls.add(objects(fragments))
            message["tool_calls"] = calls
            delta = {key: value for key, value in delta.items() if key != "tool_calls"}
        merge(message, delta)

    def _finish_choice(self, choice: JsonObject) -> JsonObject:
        message: JsonObject = {"role": "assistant", "content": None, **choice["message"]}
        message["role"] = message["role"] if has_value(message["role"]) else "assistant"
        calls = message.get("tool_calls")
        if isinstance(calls, ToolCalls):
            message["tool_calls"] = calls.finished()
        elif objects(calls):
            message["tool_calls"] = [finish_call(call) for call in objects(calls)]
        remaining = {key: value for key, value in choice.items() if key not in ("message", "index")}
        return {
            "index": _index_of(choice),
            "message": message,
            "finish_reason": None,
            "logprobs": None,
            **remaining,
        }


def _reason(choice: JsonObject) -> str | None:
    """The finish reason as it was sent; the text ``null`` is none."""
    reason = string(choice.get("finish_reason"))
    return None if reason == "null" else reason


def _index_of(choice: JsonObject) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _usage_in(data: JsonObject) -> JsonObject | None:
    """The usage object of a chunk or body; Groq's streams have it under ``x_groq``."""
    return obj(data.get("usage")) or obj(obj(data.get("x_groq")).get("usage")) or None


def _merge_logprobs(old: object, new: object) -> Any:
    """``content`` and ``refusal`` token lists are concatenated (they have no index)."""
    if not isinstance(new, dict):
        return old
    merged = dict(obj(old))
    for key, value in obj(new).items():
        before = merged.get(key)
        if isinstance(value, list) and isinstance(before, list):
            merged[key] = [*before, *value]
        elif value is not None or key not in merged:
            merged[key] = value
    return merged
