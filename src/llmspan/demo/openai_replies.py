"""The demo's OpenAI: chat completions, Responses and embeddings, streamed or not, with tools or without.

A stream's deltas add up to the body of the call that does not stream, and the usage is the same in both.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import time
from collections.abc import Iterator
from typing import Any, Final

from ..wire.reply import obj
from .parts import ANSWER, THOUGHT, Answer, Event, JsonObject, new_id, pieces, sample, wants_tool

#: a model's name is often an alias: what comes back is the dated one
_DATED: Final = {"gpt-5.4": "gpt-5.4-2026-03-05", "gpt-5.5": "gpt-5.5-2026-04-23"}
_REASONING: Final = 64
_INPUT: Final = 1_482
_CACHED: Final = 1_024
_WRITTEN: Final = 384


def chat(request: JsonObject) -> Answer:
    """``POST /v1/chat/completions``."""
    message, finish = _chat_message(request)
    head = {"id": new_id("chatcmpl"), "created": int(time.time()), **_model(request), "service_tier": "default"}
    usage = _chat_usage(len(pieces(message.get("content") or "")) or 18)
    if request.get("stream"):
        has_usage = obj(request.get("stream_options")).get("include_usage")
        events = _chat_events(head, message, finish, usage if has_usage else None)
        return Answer(headers=_headers(), events=list(events))
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    body = {**head, "object": "chat.completion", "choices": [choice], "usage": usage, "system_fingerprint": None}
    return Answer(headers=_headers(), body=body)


def responses(request: JsonObject) -> Answer:
    """``POST /v1/responses``."""
    items = _response_items(request)
    words = sum(len(pieces(part["text"])) for item in items for part in item.get("content", ())) or 18
    response = _response(request, items, _response_usage(words))
    if request.get("stream"):
        return Answer(headers=_headers(), events=_numbered(_response_events(response)))
    return Answer(headers=_headers(), body=response)


def embeddings(request: JsonObject) -> Answer:
    """``POST /v1/embeddings``: unit vectors, as base64 if asked."""
    texts = _listed(request.get("input"))
    size = min(int(request.get("dimensions") or 8), 64)
    encode = _base64 if request.get("encoding_format") == "base64" else list[float]
    data = [
        {"object": "embedding", "index": index, "embedding": encode(_vector(str(text), size))}
        for index, text in enumerate(texts)
    ]
    tokens = sum(len(pieces(str(text))) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Answer(headers=_headers(), body={"object": "list", "data": data, **_model(request), "usage": usage})


def _headers() -> dict[str, str]:
    return {"x-request-id": new_id("req"), "openai-processing-ms": "12", "openai-version": "2020-10-01"}


def _model(request: JsonObject) -> JsonObject:
    name = str(request.get("model"))
    return {"model": _DATED.get(name, name)}


def _chat_message(request: JsonObject) -> tuple[JsonObject, str]:
    message: JsonObject = {"role": "assistant", "content": ANSWER, "refusal": None, "annotations": []}
    if not wants_tool(request, request.get("messages") or ()):
        return message, "stop"
    tool = obj(obj(request["tools"][0]).get("function"))
    function = {"name": tool.get("name", ""), "arguments": json.dumps(sample(tool.get("parameters")))}
    call = {"id": new_id("call"), "type": "function", "function": function}
    return {**message, "content": None, "tool_calls": [call]}, "tool_calls"


def _chat_usage(words: int) -> JsonObject:
    output = words + _REASONING
    return {
        "prompt_tokens": _INPUT,
        "completion_tokens": output,
        "total_tokens": _INPUT + output,
        "prompt_tokens_details": {"cached_tokens": _CACHED, "cache_write_tokens": _WRITTEN, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": _REASONING,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _chat_events(head: JsonObject, message: JsonObject, finish: str, usage: JsonObject | None) -> Iterator[Event]:
    start: JsonObject = {**head, "object": "chat.completion.chunk", "system_fingerprint": None}
    if usage is not None:
        start["usage"] = None

    def chunk(delta: JsonObject, reason: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return Event(data={**start, "choices": [choice]})

    yield chunk({"role": "assistant", "content": None if message.get("tool_calls") else "", "refusal": None})
    for piece in pieces(message["content"] or ""):
        yield chunk({"content": piece})
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        yield chunk({"tool_calls": [{"index": index, **call, "function": {**function, "arguments": ""}}]})
        for piece in pieces(function["arguments"]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, finish)
    if usage is not None:
        yield Event(data={**start, "choices": [], "usage": usage})
    yield Event(data="[DONE]")


def _response_items(request: JsonObject) -> list[JsonObject]:
    if wants_tool(request, _listed(request.get("input"))):
        tool = obj(request["tools"][0])
        call = {"id": new_id("fc"), "type": "function_call", "status": "completed", "call_id": new_id("call")}
        return [{**call, "name": tool.get("name", ""), "arguments": json.dumps(sample(tool.get("parameters")))}]
    summary = {"type": "summary_text", "text": THOUGHT}
    text: JsonObject = {"type": "output_text", "annotations": [], "logprobs": [], "text": ANSWER}
    return [
        {"id": new_id("rs"), "type": "reasoning", "summary": [summary]},
        {"id": new_id("msg"), "type": "message", "status": "completed", "content": [text], "role": "assistant"},
    ]


def _response_usage(words: int) -> JsonObject:
    return {
        "input_tokens": _INPUT,
        "input_tokens_details": {
            "cache_write_tokens": _WRITTEN,
            "cache_write_tokens_details": {"ttl_30m_tokens": _WRITTEN, "ttl_12h_tokens": 0},
            "cached_tokens": _CACHED,
        },
        "output_tokens": words + _REASONING,
        "output_tokens_details": {"reasoning_tokens": _REASONING},
        "total_tokens": _INPUT + words + _REASONING,
    }


def _response(request: JsonObject, items: list[JsonObject], usage: JsonObject) -> JsonObject:
    now = int(time.time())
    defaults: JsonObject = {
        "id": new_id("resp"),
        "object": "response",
        "created_at": now,
        "status": "completed",
        "background": False,
        "completed_at": now,
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
    }
    settings: JsonObject = {
        "parallel_tool_calls": True,
        "previous_response_id": request.get("previous_response_id"),
        "reasoning": request.get("reasoning") or {"effort": "medium", "summary": None},
        "service_tier": "default",
        "store": request.get("store", True),
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": request.get("tool_choice", "auto"),
        "tools": request.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "metadata": request.get("metadata") or {},
    }
    return {**defaults, **_model(request), "output": items, **settings, "usage": usage}


def _numbered(events: Iterator[JsonObject]) -> list[Event]:
    return [Event(data={**data, "sequence_number": n}, name=data["type"]) for n, data in enumerate(events)]


def _response_events(response: JsonObject) -> Iterator[JsonObject]:
    initial: JsonObject = {**response, "status": "in_progress", "service_tier": "auto", "output": []}
    initial |= {"completed_at": None, "usage": None}
    yield {"type": "response.created", "response": initial}
    yield {"type": "response.in_progress", "response": initial}
    for index, item in enumerate(response["output"]):
        yield from _item_events(index, item)
    yield {"type": "response.completed", "response": response}


def _item_events(index: int, item: JsonObject) -> Iterator[JsonObject]:
    yield {"type": "response.output_item.added", "output_index": index, "item": _opened(item)}
    where: JsonObject = {"output_index": index, "item_id": item["id"]}
    for part in item.get("summary", ()):
        yield from _part_events(where | {"summary_index": 0}, part, "reasoning_summary_part", "reasoning_summary_text")
    for part in item.get("content", ()):
        yield from _part_events(where | {"content_index": 0}, part, "content_part", "output_text")
    if "arguments" in item:
        kind = "response.function_call_arguments"
        for piece in pieces(item["arguments"]):
            yield {"type": f"{kind}.delta", **where, "delta": piece}
        yield {"type": f"{kind}.done", **where, "name": item["name"], "arguments": item["arguments"]}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _opened(item: JsonObject) -> JsonObject:
    """An item as it is announced, before it is filled."""
    empty: JsonObject = {"summary": [], "content": [], "arguments": "", "status": "in_progress"}
    return {key: empty.get(key, value) for key, value in item.items()}


def _part_events(where: JsonObject, part: JsonObject, full_text: str, text: str) -> Iterator[JsonObject]:
    extra: JsonObject = {"logprobs": []} if text == "output_text" else {}
    yield {"type": f"response.{full_text}.added", **where, "part": {**part, "text": ""}}
    for piece in pieces(part["text"]):
        yield {"type": f"response.{text}.delta", **where, **extra, "delta": piece}
    yield {"type": f"response.{text}.done", **where, **extra, "text": part["text"]}
    yield {"type": f"response.{full_text}.done", **where, "part": part}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _vector(text: str, size: int) -> list[float]:
    numbers = [math.sin(1 + index + len(text)) for index in range(size)]
    length = math.hypot(*numbers)
    return [number / length for number in numbers]


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
