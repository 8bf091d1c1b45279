"""What the providers answer in the benches: streams of a given number of chunks, and whole replies."""

from __future__ import annotations

import base64
import json
from array import array
from typing import Any

CHAT = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1790000000, "model": "gpt-5-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris. " * 50}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1200, "completion_tokens": 350, "total_tokens": 1550},
}  # fmt: skip
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5",
    "content": [{"type": "text", "text": "Paris. " * 50}], "stop_reason": "end_turn", "stop_sequence": None,
    "usage": {
        "input_tokens": 12, "cache_read_input_tokens": 30000, "cache_creation_input_tokens": 0, "output_tokens": 250,
    },
}  # fmt: skip
RESPONSE = {
    "id": "resp_1", "object": "response", "created_at": 1790000000, "status": "completed", "model": "gpt-5-mini",
    "output": [
        {
            "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "Paris. " * 50, "annotations": []}],
        },
    ],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "usage": {
        "input_tokens": 1200, "output_tokens": 350, "total_tokens": 1550,
        "input_tokens_details": {"cached_tokens": 1024}, "output_tokens_details": {"reasoning_tokens": 128},
    },
}  # fmt: skip
EMBEDDINGS = {
    "object": "list", "model": "text-embedding-3-small",
    "data": [
        {"object": "embedding", "index": 0, "embedding": base64.b64encode(array("f", [0.25] * 1536).tobytes()).decode()}
    ],
    "usage": {"prompt_tokens": 320, "total_tokens": 320},
}  # fmt: skip


def sse(event: dict[str, Any], *, named: bool = False) -> bytes:
    name = f"event: {event['type']}\n" if named else ""
    return f"{name}data: {json.dumps(event, separators=(',', ':'))}\n\n".encode()


def chat_chunks(chunks: int) -> list[bytes]:
    base = {"id": "chatcmpl-9fK2", "object": "chat.completion.chunk", "created": 1790000000, "model": "gpt-5-mini"}
    base |= {"service_tier": "default", "system_fingerprint": "fp_44709d6fcb"}

    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return sse({**base, "choices": [choice], "usage": None, "obfuscation": "x7Kq2"})

    usage = {"prompt_tokens": 1200, "completion_tokens": 350, "total_tokens": 1550}
    usage |= {"prompt_tokens_details": {"cached_tokens": 1024}, "completion_tokens_details": {"reasoning_tokens": 128}}
    pieces = [chunk({"role": "assistant", "content": ""})]
    pieces += [chunk({"content": f" word{n}"}) for n in range(chunks - 3)]
    return [*pieces, chunk({}, "stop"), sse({**base, "choices": [], "usage": usage}), b"data: [DONE]\n\n"]


def response_events(chunks: int) -> list[bytes]:
    response: dict[str, Any] = {
        "id": "resp_1", "object": "response", "created_at": 1790000000, "status": "in_progress", "model": "gpt-5-mini",
        "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": None,
    }  # fmt: skip
    usage = {"input_tokens": 1200, "output_tokens": 350, "total_tokens": 1550}
    usage |= {"input_tokens_details": {"cached_tokens": 1024}, "output_tokens_details": {"reasoning_tokens": 128}}
    where = {"item_id": "msg_1", "output_index": 0}
    text = "".join(f" word{n}" for n in range(chunks - 6))
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **where, "content_index": 0, "part": {**part, "text": ""}},
    ]
    delta = {"type": "response.output_text.delta", **where, "content_index": 0, "logprobs": []}
    events += [{**delta, "delta": f" word{n}"} for n in range(chunks - 6)]
    events += [
        {"type": "response.output_text.done", **where, "content_index": 0, "text": text},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {
            "type": "response.completed",
            "response": {**response, "status": "completed", "output": [item], "usage": usage},
        },
    ]
    return [sse({**event, "sequence_number": n}, named=True) for n, event in enumerate(events)]


def message_events(chunks: int) -> list[bytes]:
    usage = {"input_tokens": 12, "cache_read_input_tokens": 30000, "cache_creation_input_tokens": 2000}
    usage |= {"cache_creation": {"ephemeral_5m_input_tokens": 1500, "ephemeral_1h_input_tokens": 500}}
    message: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5"}
    message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 7}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    delta = {"type": "content_block_delta", "index": 0}
    events += [{**delta, "delta": {"type": "text_delta", "text": f" word{n}"}} for n in range(chunks - 5)]
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    events += [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {**usage, "output_tokens": 250}},
        {"type": "message_stop"},
    ]
    return [sse(event, named=True) for event in events]
