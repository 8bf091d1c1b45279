"""The demo's Gemini API: ``generateContent``, streamed or not, with tools or without.

A stream's parts add up to the body of the call that does not stream, and its last usage is the whole usage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ..wire.reply import obj, objects
from .parts import ANSWER, Answer, Event, JsonObject, new_id, pieces, sample

__all__ = ["generate_content", "is_google", "stream_generate_content"]

_INPUT: Final = 1_482
_CACHED: Final = 1_024
_THOUGHTS: Final = 64
_COUNT: Final = len(pieces(ANSWER))


def is_google(path: str) -> bool:
    """Whether ``path`` is one of the Gemini API."""
    return path.startswith(("/v1beta/models/", "/v1/models/")) and ":" in path


def generate_content(request: JsonObject, model: str) -> Answer:
    """``POST /v1beta/models/{model}:generateContent``."""
    parts = _parts(request)
    return Answer(body=_response(new_id("gemini"), model, parts, _COUNT, is_last=True))


def stream_generate_content(request: JsonObject, model: str) -> Answer:
    """``POST /v1beta/models/{model}:streamGenerateContent?alt=sse``: five words an event, or a tool call."""
    return Answer(events=list(_events(_parts(request), model)))


def _parts(request: JsonObject) -> list[JsonObject]:
    """A function call if there are functions, and no result of one has come back yet; else the answer."""
    functions = [
        obj(tool) for group in objects(request.get("tools")) for tool in objects(group.get("functionDeclarations"))
    ]
    turns = objects(request.get("contents"))
    has_result = any("functionResponse" in part for turn in turns for part in objects(turn.get("parts")))
    mode = obj(obj(request.get("toolConfig")).get("functionCallingConfig")).get("mode")
    if not functions or has_result or mode == "NONE":
        return [{"text": ANSWER}]
    schema = functions[0].get("parameters") or functions[0].get("parametersJsonSchema") or {"type": "object"}
    return [{"functionCall": {"name": functions[0].get("name", ""), "args": sample(schema)}}]


def _events(parts: Sequence[JsonObject], model: str) -> Iterator[Event]:
    response_id, words = new_id("gemini"), pieces(parts[0].get("text", ""))
    if not words:
        yield Event(data=_response(response_id, model, parts, _COUNT, is_last=True))
    for start in range(0, len(words), 5):
        text = words[start : start + 5]
        count = start + len(text)
        is_last = count == len(words)
        yield Event(data=_response(response_id, model, [{"text": "".join(text)}], count, is_last=is_last))


def _response(response_id: str, model: str, parts: Sequence[JsonObject], count: int, *, is_last: bool) -> JsonObject:
    content = {"role": "model", "parts": parts}
    candidate: JsonObject = {"content": content, "index": 0, **({"finishReason": "STOP"} if is_last else {})}
    usage = {
        "promptTokenCount": _INPUT, "cachedContentTokenCount": _CACHED, "candidatesTokenCount": count,
        "thoughtsTokenCount": _THOUGHTS, "totalTokenCount": _INPUT + count + _THOUGHTS,
    }  # fmt: skip
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": response_id}
