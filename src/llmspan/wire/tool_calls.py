"""Tool calls of a chat stream: fragments in, the calls that the non-streaming response would list out.

OpenAI numbers parallel calls by ``index`` and sends ``id`` and name once. Other servers send every call with index 0
(Gemini), no index at all (Mistral), the id on each fragment, or a fresh id on each fragment (vLLM). So a fragment
belongs to the call of its id, else to the latest call of its index, else to the latest call; a name for a call that
has its arguments begins another call.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator

from .deltas import merge
from .reply import JsonObject, meaningful_text, obj, string


class ToolCalls:
    """The tool calls of one choice, as far as they have arrived."""

    def __init__(self) -> None:
        #: in order of arrival; each keeps the ``index`` of its first fragment
        self.calls: list[JsonObject] = []
        self._latest: JsonObject | None = None

    def add(self, fragments: Iterable[JsonObject]) -> None:
        """Take the fragments of one chunk."""
        for fragment in fragments:
            call = self._call_of(fragment)
            if call is None or _starts_new_call(call, fragment):
                call = {}
                self.calls.append(call)
            _extend(call, fragment)
            self._latest = call

    def add_by_index(self, fragments: Iterable[JsonObject]) -> None:
        """Take fragments as the SDK's own accumulator does, by their index alone."""
        for fragment in fragments:
            call = self._at(fragment.get("index"))
            if call is None:
                self.add([fragment])
            else:
                merge(call, fragment)

    def finished(self) -> list[JsonObject]:
        """The calls as a non-streaming response lists them: in the order of their indices, without the indices."""
        calls = _attach_strays(self.calls)
        if all(isinstance(call.get("index"), int) for call in calls):
            calls.sort(key=lambda call: call["index"])
        return [finish_call(call) for call in calls]

    def _call_of(self, fragment: JsonObject) -> JsonObject | None:
        identifier, index = meaningful_text(fragment.get("id")), fragment.get("index")
        if identifier is not None:
            call = next((call for call in self._backwards() if call.get("id") == identifier), None)
            if call is not None:
                return call
        candidate = self._latest if index is None else self._at(index)
        if candidate is not None and identifier is not None and meaningful_text(candidate.get("id")):
            return None
        return candidate

    def _at(self, index: object) -> JsonObject | None:
        """The latest call of an index; where calls came without one, the one at that position."""
        for call in self._backwards():
            if call.get("index") == index:
                return call
        if isinstance(index, int) and 0 <= index < len(self.calls) and self.calls[index].get("index") is None:
            return self.calls[index]
        return None

    def _backwards(self) -> Iterator[JsonObject]:
        return reversed(self.calls)


def finish_call(call: JsonObject) -> JsonObject:
    """A call without its index, and with the keys that every call of a non-streaming response has."""
    finished = {key: value for key, value in call.items() if key != "index"}
    finished.setdefault("id", "")
    if not finished.get("type"):
        finished["type"] = "custom" if "custom" in finished else "function"
    function = finished.get("function")
    if isinstance(function, dict) and finished["type"] == "function":
        finished["function"] = {"name": "", "arguments": "", **{k: v for k, v in function.items() if v is not None}}
    return finished


def _starts_new_call(call: JsonObject, fragment: JsonObject) -> bool:
    """Whether a fragment that seems to continue ``call`` is the start of another one, judged by its name."""
    name, current_name = _name(fragment), _name(call)
    if name is None or current_name is None:
        return False
    same_index = fragment.get("index") is None or fragment.get("index") == call.get("index")
    if meaningful_text(fragment.get("id")) is not None and fragment.get("id") == call.get("id") and same_index:
        return False  # a server that repeats id and name on each fragment
    if name != current_name:
        return bool(_arguments(call)) or fragment.get("index") is None
    return bool(_arguments(fragment)) and _is_complete_json(_arguments(call))


def _extend(call: JsonObject, fragment: JsonObject) -> None:
    """Merge a fragment into its call. Arguments that begin anew behind whole ones replace those.

    Gateways in front of Anthropic send ``{}``, the input with which a block opens, before the real arguments; others
    repeat the whole call in the last chunk.
    """
    arguments, new_arguments = _arguments(call), _arguments(fragment)
    if new_arguments.startswith("{") and (arguments == "null" or _is_complete_json(arguments)):
        call["function"] = {**call["function"], "arguments": ""}
    elif new_arguments == "null" and _is_complete_json(arguments):
        fragment = {**fragment, "function": {**fragment["function"], "arguments": ""}}
    if "index" in call and call["index"] is not None:
        fragment = {key: value for key, value in fragment.items() if key != "index"}
    name, current_name = _name(fragment), _name(call)
    merge(call, fragment)
    if name is not None and current_name is not None:
        key = "function" if "function" in fragment else "custom"
        call[key] = {**obj(call.get(key)), "name": current_name if arguments else _merge_names(current_name, name)}


def _merge_names(old: str, new: str) -> str:
    """A name that came twice, or piece by piece as the SDK's own accumulator puts it together."""
    return new if new.startswith(old) else old + new


def _attach_strays(calls: list[JsonObject]) -> list[JsonObject]:
    """The calls, those that never got a name merged into the one that they continue.

    Some vLLM versions make up a new id for every fragment: an id alone does not make a call.
    """
    remaining: list[JsonObject] = []
    for call in copy.deepcopy(calls) if any(map(_is_stray, calls)) else calls:
        owner = _owner(remaining, call) if _is_stray(call) else None
        if owner is None:
            remaining.append(call)
        else:
            _extend(owner, {key: value for key, value in call.items() if key != "id"})
    return remaining


def _is_stray(call: JsonObject) -> bool:
    return _name(call) is None and call.get("type") in (None, "", "function", "custom")


def _owner(calls: list[JsonObject], stray: JsonObject) -> JsonObject | None:
    """The latest call before ``stray`` that has its index; without an index, the latest."""
    index = stray.get("index")
    return next((call for call in reversed(calls) if index is None or call.get("index") in (None, index)), None)


def _name(call: JsonObject) -> str | None:
    return meaningful_text(obj(call.get("function")).get("name")) or meaningful_text(
        obj(call.get("custom")).get("name")
    )


def _arguments(call: JsonObject) -> str:
    return string(obj(call.get("function")).get("arguments")) or ""


def _is_complete_json(arguments: str) -> bool:
    """Whether arguments are a complete JSON object."""
    if not arguments.startswith("{") or not arguments.rstrip().endswith("}"):
        return False
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return False
    return True
