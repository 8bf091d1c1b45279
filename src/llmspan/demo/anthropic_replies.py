"""The demo's Anthropic: messages, streamed or not, with thinking, tools and a prompt cache.

As the real one: ``message_start`` carries a placeholder for the output tokens, ``message_delta`` the cumulative truth;
``input_tokens`` is what was neither read from the cache nor written to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from ..wire.reply import obj
from .parts import ANSWER, THOUGHT, Answer, Event, JsonObject, new_id, pieces, sample, wants_tool

_THINKING: Final = 31
_PLACEHOLDER: Final = 3
_INPUT: Final[JsonObject] = {
    "input_tokens": 46,
    "cache_creation_input_tokens": 512,
    "cache_read_input_tokens": 2_048,
}
_SPLIT: Final[JsonObject] = {"cache_creation": {"ephemeral_5m_input_tokens": 384, "ephemeral_1h_input_tokens": 128}}
_PLACE: Final[JsonObject] = {"service_tier": "standard", "inference_geo": "global"}
#: what a block holds before its deltas arrive
_EMPTY: Final[dict[str, JsonObject]] = {
    "thinking": {"thinking": "", "signature": ""},
    "text": {"text": ""},
    "tool_use": {"input": {}},
}


def messages(request: JsonObject) -> Answer:
    """``POST /v1/messages``."""
    blocks = _blocks(request)
    message: JsonObject = {
        "model": str(request.get("model")),
        "id": new_id("msg"),
        "type": "message",
        "role": "assistant",
        "content": blocks,
        "stop_reason": "tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {**_INPUT, **_SPLIT, **_output(blocks), **_PLACE},
    }
    headers = {"request-id": new_id("req")}
    if request.get("stream"):
        return Answer(headers=headers, events=[Event(data=d, name=d["type"]) for d in _events(message)])
    return Answer(headers=headers, body=message)


def count_tokens(request: JsonObject) -> Answer:  # noqa: ARG001 - every prompt is as long as that of ``messages``
    """``POST /v1/messages/count_tokens``: what the same request to ``messages`` would report as its whole input."""
    return Answer(headers={"request-id": new_id("req")}, body={"input_tokens": sum(_INPUT.values())})


def _blocks(request: JsonObject) -> list[JsonObject]:
    blocks: list[JsonObject] = []
    if obj(request.get("thinking")).get("type") in ("enabled", "adaptive"):
        blocks.append({"type": "thinking", "thinking": THOUGHT, "signature": "ZGVtbyBzaWduYXR1cmU="})
    if not wants_tool(request, request.get("messages") or ()):
        return [*blocks, {"type": "text", "text": ANSWER}]
    tool = obj(request["tools"][0])
    call = {"type": "tool_use", "id": new_id("toolu"), "name": tool.get("name", ""), "caller": {"type": "direct"}}
    return [*blocks, {**call, "input": sample(tool.get("input_schema"))}]


def _output(blocks: list[JsonObject]) -> JsonObject:
    thought = _THINKING if blocks[0]["type"] == "thinking" else 0
    words = sum(len(pieces(block.get("text", ""))) for block in blocks) or 18
    return {"output_tokens": words + thought, "output_tokens_details": {"thinking_tokens": thought}}


def _events(message: JsonObject) -> Iterator[JsonObject]:
    start = {**_INPUT, **_SPLIT, "output_tokens": _PLACEHOLDER, **_PLACE}
    ends = {"stop_reason": message["stop_reason"], "stop_sequence": None, "stop_details": None}
    opened: JsonObject = {**message, "content": [], **dict.fromkeys(ends), "usage": start}
    yield {"type": "message_start", "message": opened}
    for index, block in enumerate(message["content"]):
        yield {"type": "content_block_start", "index": index, "content_block": {**block, **_EMPTY[block["type"]]}}
        if index == 0:
            yield {"type": "ping"}
        for delta in _deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": ends, "usage": {**_INPUT, **_output(message["content"])}}
    yield {"type": "message_stop"}


def _deltas(block: JsonObject) -> Iterator[JsonObject]:
    if block["type"] == "tool_use":
        for piece in ("", *pieces(json.dumps(block["input"]))):
            yield {"type": "input_json_delta", "partial_json": piece}
        return
    key = block["type"]
    for piece in pieces(block[key]):
        yield {"type": f"{key}_delta", key: piece}
    if "signature" in block:
        yield {"type": "signature_delta", "signature": block["signature"]}
