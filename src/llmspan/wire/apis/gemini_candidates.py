"""The candidates of a ``generateContent`` stream: the chunks' parts in, the candidates of the whole response out.

Neighbouring texts of the same kind (thought or not) are one part, as the API would return them; a signature stays on
the part that it came with and ends it. Function calls that arrive in pieces are one part; all others stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..reply import JsonObject, meaningful_text, obj, objects
from .gemini_arguments import PartialArguments

#: members of a part that is text and nothing else
_TEXT_MEMBERS: Final = frozenset({"text", "thought", "thoughtSignature"})
_SIGNATURE: Final = "thoughtSignature"
#: members of a call that are put together from all of its parts
_PIECEWISE: Final = frozenset({"args", "partialArgs", "willContinue"})
#: lists that go on from chunk to chunk, as the tokens do that they are about
_CONTINUED: Final = "logprobsResult"


class Candidate:
    """One candidate, as far as it has arrived."""

    def __init__(self) -> None:
        #: all but its content, the last value of each
        self._members: JsonObject = {}
        self._content: JsonObject | None = None
        self._parts: list[JsonObject] = []
        #: the call whose arguments are still arriving, and those
        self._open_call: JsonObject | None = None
        self._arguments = PartialArguments()
        #: whether no content has followed the latest reason: that one may not have been the last
        self.is_finished = False
        self.has_call = False

    @property
    def reason(self) -> str | None:
        """Why it ended, as the provider wrote it."""
        return meaningful_text(self._members.get("finishReason"))

    def take(self, chunk: JsonObject) -> None:
        """Take what one event says of the candidate."""
        for key, value in chunk.items():
            if key == _CONTINUED:
                self._members[key] = _continued(obj(self._members.get(key)), obj(value))
            elif key != "content" and (value is not None or key not in self._members):
                self._members[key] = value
        content = chunk.get("content")
        if meaningful_text(chunk.get("finishReason")) is not None:
            self.is_finished = True
        elif any(carries_output(part) for part in objects(obj(content).get("parts"))):
            self.is_finished = False
        if isinstance(content, dict):
            members = {key: value for key, value in obj(content).items() if key != "parts"}
            self._content = (self._content or {}) | members
            for part in objects(obj(content).get("parts")):
                self._take_part(part)

    def _take_part(self, part: JsonObject) -> None:
        call = part.get("functionCall")
        if isinstance(call, dict):
            self.has_call = True
            self._take_call(part, obj(call))
        elif part.keys() <= _TEXT_MEMBERS and self._continues_text(part):
            last = self._parts[-1]
            last["text"] = last["text"] + part["text"]
            if _SIGNATURE in part:
                last[_SIGNATURE] = part[_SIGNATURE]
        else:
            self._parts.append(dict(part))

    def _continues_text(self, part: JsonObject) -> bool:
        last = self._parts[-1] if self._parts else {}
        return (
            isinstance(part.get("text"), str)
            and isinstance(last.get("text"), str)
            and last.keys() <= _TEXT_MEMBERS
            and bool(last.get("thought")) == bool(part.get("thought"))
            and not last.get(_SIGNATURE)
        )

    def _take_call(self, part: JsonObject, call: JsonObject) -> None:
        if not (call.keys() & {"partialArgs", "willContinue"} or self._open_call is not None):
            self._parts.append(dict(part))  # as nearly all are: whole
            return
        if self._open_call is None or meaningful_text(call.get("name")):
            self._arguments = PartialArguments()
            self._open_call = {}
            self._parts.append({**part, "functionCall": self._open_call})
        elif _SIGNATURE in part:
            self._parts[-1].setdefault(_SIGNATURE, part[_SIGNATURE])
        self._extend_call(self._open_call, call)
        if not call.get("willContinue"):
            self._open_call = None

    def _extend_call(self, target: JsonObject, call: JsonObject) -> None:
        """Take what one part says of a call that arrives in pieces."""
        self._arguments.arguments |= obj(call.get("args"))
        self._arguments.take(call.get("partialArgs"))
        target.update({key: value for key, value in call.items() if key not in _PIECEWISE})
        if self._arguments.arguments:
            target["args"] = self._arguments.arguments

    def finished(self) -> JsonObject:
        """The candidate as a response that does not stream lists it."""
        if self._content is None:
            return dict(self._members)
        content = dict(self._content)
        parts = [part for part in self._parts if not _is_empty(part)] or self._parts[:1]
        if parts:
            content = {"parts": parts, **content}
        return {"content": content, **self._members}


class Candidates:
    """The candidates of one response, by their index."""

    def __init__(self) -> None:
        self._by_index: dict[int, Candidate] = {}

    def take(self, chunks: Iterable[JsonObject]) -> None:
        """Take the candidates of one event; one without an index has that of its position."""
        for position, chunk in enumerate(chunks):
            index = chunk.get("index")
            number = index if isinstance(index, int) and not isinstance(index, bool) else position
            self._by_index.setdefault(number, Candidate()).take(chunk)

    def in_order(self) -> list[Candidate]:
        """All candidates, by their index."""
        return [self._by_index[index] for index in sorted(self._by_index)]


def carries_output(part: JsonObject) -> bool:
    """Whether a part has something that the model produced: text, a thought, a call, code or data."""
    return any(value for key, value in part.items() if key not in ("thought", _SIGNATURE))


def _is_empty(part: JsonObject) -> bool:
    """Whether a part is an empty text, as streams end with: the whole response has no such part."""
    return part.keys() <= {"text", "thought"} and part.get("text") == ""


def _continued(old: JsonObject, new: JsonObject) -> JsonObject:
    """Log probabilities of a stream: lists grow, unless they begin anew with what was there."""
    merged: dict[str, Any] = {**old, **new}
    for key, before in old.items():
        after = new.get(key)
        if isinstance(before, list) and isinstance(after, list) and after[: len(before)] != before:
            merged[key] = [*before, *after]
    return merged
