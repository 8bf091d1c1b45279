"""Chat Completions (``POST /chat/completions``), streamed or not.

Source: openai ``ChatCompletion``, ``ChatCompletionChunk``. Chunks are merged as the API reference says: text is
concatenated, tool calls go by index, choices by index; whatever else a vendor adds is merged by the same rules.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..usage import Usage
from .reply import ERROR, JsonObject, Reader, Reply, ReplyError, obj, objects, read_error, sign, string

#: strings that identify or classify: a later chunk repeats them, it does not continue them
_WHOLE = frozenset({"role", "type", "format", "name", "index", "finish_reason", "channel", "signature"})
_TOP_LEVEL = frozenset({"choices", "object", "usage", "obfuscation", "error"})


class ChatReader(Reader):
    """Reads chat completions; :class:`~llmspan.wire.completions.CompletionsReader` shares what they have in common."""

    signs: ClassVar = (
        sign("usage", "{", settles=lambda data: _usage_in(data) is not None),
        # with one choice; of several, every one has its own, and then all events are read
        sign("finish_reason", '"', settles=lambda data: any(map(_is_finished, objects(data.get("choices"))))),
        ERROR,
        sign("index", "1", reads_all=lambda data: any(map(_is_further, objects(data.get("choices")))),
             not_behind=(b'"tool_calls":[{', b'"tool_calls": [{')),
    )  # fmt: skip
    object_name: ClassVar[str] = "chat.completion"

    def __init__(self) -> None:
        self._top: JsonObject = {}
        self._choices: dict[int, JsonObject] = {}
        self._usage: JsonObject | None = None
        self._error: ReplyError | None = None
        self._body: JsonObject | None = None

    def event(self, data: JsonObject, name: str | None) -> None:
        """Take one chunk. ``name`` is not used by OpenAI; gateways send ``error``."""
        if data.get("error"):
            self._error = read_error(data)
            if name == "error" or "choices" not in data:
                return
        self._take_top(data)
        for choice in objects(data.get("choices")):
            self._take_choice(choice)

    def body(self, data: JsonObject) -> None:
        """Take the body of a call that does not stream."""
        self._body = data
        if data.get("error"):
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

    def reply(self) -> Reply:
        """What is known by now."""
        known, choices = self._top.get, self._choices
        reasons = [string(choices[index].get("finish_reason")) for index in sorted(choices)]
        return Reply(
            response_id=string(known("id")),
            response_model=string(known("model")),
            finish_reasons=tuple(reasons),
            usage=Usage.from_raw(self._usage),
            service_tier=string(known("service_tier")),
            system_fingerprint=string(known("system_fingerprint")),
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
        whole: JsonObject = {"id": head.pop("id", ""), "object": self.object_name, **head}
        whole["choices"] = [self._finished(self._choices[index]) for index in sorted(self._choices)]
        if self._usage is not None:
            whole["usage"] = self._usage
        return whole

    def _take_top(self, data: JsonObject) -> None:
        for key, value in data.items():
            # the first chunk of some gateways has an empty id and model; later ones may rename them
            if value not in (None, "") and (key not in ("id", "created") or not self._top.get(key)):
                self._top[key] = value
        self._usage = _usage_in(data) or self._usage

    def _take_choice(self, choice: JsonObject) -> None:
        index = choice.get("index")
        kept = self._choices.setdefault(index if isinstance(index, int) else 0, {"message": {}})
        for key, value in choice.items():
            if key == "delta":
                _merge(kept["message"], obj(value))
            elif key == "message":  # Perplexity repeats the message so far beside each delta
                kept["message"] = kept["message"] if choice.get("delta") else obj(value)
            elif key == "logprobs":
                kept[key] = _merged_logprobs(kept.get(key), value)
            elif value not in (None, "") or key not in kept:
                kept[key] = value

    def _finished(self, choice: JsonObject) -> JsonObject:
        message: JsonObject = {"role": "assistant", "content": None, **choice["message"]}
        calls = objects(message.get("tool_calls"))
        if calls:
            message["tool_calls"] = [_finished_call(call) for call in calls]
        rest = {key: value for key, value in choice.items() if key not in ("message", "index")}
        index = choice.get("index")
        return {
            "index": index if isinstance(index, int) else 0,
            "message": message,
            "finish_reason": None,
            "logprobs": None,
            **rest,
        }


def _is_finished(choice: JsonObject) -> bool:
    return bool(string(choice.get("finish_reason")))


def _is_further(choice: JsonObject) -> bool:
    return choice.get("index") not in (None, 0)


def _usage_in(data: JsonObject) -> JsonObject | None:
    """The usage object of a chunk or body; Groq's streams have it under ``x_groq``."""
    return obj(data.get("usage")) or obj(obj(data.get("x_groq")).get("usage")) or None


def _merge(target: JsonObject, delta: JsonObject) -> None:
    """Merge one delta into what has been received: strings grow, lists go by ``index``, the rest is replaced."""
    for key, value in delta.items():
        old = target.get(key)
        if old is None:
            target[key] = _indexed(value) if isinstance(value, list) else value
        elif isinstance(value, str) and isinstance(old, str):
            target[key] = (old or value) if key == "id" else (value or old) if key in _WHOLE else old + value
        elif isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value)
        elif key == "content" and isinstance(value, list | str) and isinstance(old, list | str):
            target[key] = _joined_parts(_parts(old), _parts(value))
        elif isinstance(value, list) and isinstance(old, list):
            _merge_lists(old, value)
        elif value is not None:
            target[key] = value


def _parts(content: list[Any] | str) -> list[Any]:
    """Content as a list of parts: Mistral turns from parts (thinking) to plain strings within one stream."""
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def _joined_parts(old: list[Any], new: list[Any]) -> list[Any]:
    """Two lists of content parts as one; a part that continues its neighbour (text, thinking) is merged into it."""
    joined = list(old)
    for part in new:
        last, more = obj(joined[-1]) if joined else {}, obj(part)
        kind = more.get("type")
        before, after = last.get(str(kind)), more.get(str(kind))
        if kind != last.get("type") or kind not in ("text", "thinking"):
            joined.append(part)
        elif isinstance(before, str) and isinstance(after, str):
            joined[-1] = {**last, kind: before + after}
        elif isinstance(before, list) and isinstance(after, list):
            joined[-1] = {**last, kind: _joined_parts(before, after)}
        else:
            joined.append(part)
    return joined


def _indexed(items: list[Any]) -> list[Any]:
    """A list of its own, several pieces of one index in the same delta already merged."""
    merged: list[Any] = []
    _merge_lists(merged, items)
    return merged


def _merge_lists(old: list[Any], new: list[Any]) -> None:
    for item in new:
        twin = _twin(old, item)
        if twin is None:
            old.append(dict(item) if isinstance(item, dict) else item)
        else:
            _merge(twin, item)


def _twin(old: list[Any], item: Any) -> JsonObject | None:
    """The item that ``item`` continues: the one of the same ``index``; without index (Mistral), it is a new one."""
    index = obj(item).get("index")
    if index is None:
        return None
    return next((other for other in old if obj(other).get("index") == index), None)


def _finished_call(call: JsonObject) -> JsonObject:
    done = {key: value for key, value in call.items() if key != "index"}
    done.setdefault("id", "")
    if not done.get("type"):
        done["type"] = "custom" if "custom" in done else "function"
    inner = done.get("function")
    if isinstance(inner, dict) and done["type"] == "function":
        done["function"] = {"name": "", "arguments": "", **{k: v for k, v in inner.items() if v is not None}}
    return done


def _merged_logprobs(old: object, new: object) -> Any:
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
