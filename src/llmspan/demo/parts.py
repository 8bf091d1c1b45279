"""What replies are made of: the answer and its events, the words the models say, and small tools to say them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..wire.reply import JsonObject, obj, objects

__all__ = ["ANSWER", "THOUGHT", "Answer", "Event", "JsonObject", "new_id", "pieces", "sample", "wants_tool"]

ANSWER: Final = (
    "A trace is a river: every span is a bend where the water paused, turned, and told you how long it had been there."
)
THOUGHT: Final = "They want one sentence about traces. An image from nature would be easy to remember."

_SAMPLES: Final[JsonObject] = {"string": "Oslo", "integer": 3, "number": 3.5, "boolean": True, "array": []}
_RESULTS: Final = ("tool", "function_call_output", "tool_result")
_serial = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One server-sent event; ``data`` is JSON, or text that is sent as it is."""

    data: JsonObject | str
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response: a JSON body, or the events of a stream. ``is_cut``: break the connection half-way."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: JsonObject | None = None
    events: Sequence[Event] = ()
    is_cut: bool = False


def new_id(prefix: str) -> str:
    """An identifier that no other answer of this process has."""
    return f"{prefix}_demo{next(_serial):06d}"


def pieces(text: str) -> list[str]:
    """A text as a model streams it: a word, with the space before it, at a time."""
    return re.findall(r"\s*\S+", text)


def sample(schema: object) -> Any:
    """A value that fits a tool's JSON schema, as far as a demo needs."""
    rules = obj(schema)
    if rules.get("enum"):
        return rules["enum"][0]
    kind = str(rules.get("type", "string")).lower()  # in capitals in the schemas of Gemini
    if kind == "object":
        return {name: sample(member) for name, member in obj(rules.get("properties")).items()}
    return _SAMPLES.get(kind)


def wants_tool(request: JsonObject, turns: Iterable[Any]) -> bool:
    """Whether to answer with a tool call: there are tools, and no result of one has come back yet."""
    choice = request.get("tool_choice")
    refused = choice == "none" or obj(choice).get("type") == "none"
    return bool(objects(request.get("tools"))) and not refused and not any(_is_result(turn) for turn in turns)


def _is_result(turn: Any) -> bool:
    parts = objects(obj(turn).get("content"))
    marks = (obj(turn).get("role"), obj(turn).get("type"), *(part.get("type") for part in parts))
    return any(mark in _RESULTS for mark in marks)
