"""Small streams and bodies of our own making, one per API, and the calls that get them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]


def sse(event: Event) -> bytes:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


@dataclass(frozen=True)
class Api:
    """How to get one API's reply: ``path`` leads from a client to the method, ``words`` are in the stream."""

    name: str
    provider: str
    path: str
    arguments: dict[str, Any]
    stream: list[bytes]
    body: dict[str, Any]
    input_tokens: int
    output_tokens: int
    response_id: str
    #: index of the first event that carries output
    first_output: int
    #: events at the end without which the stream is not complete
    tail: int
    #: usage known when the stream is cut before its tail
    early_input_tokens: int | None = None

    @property
    def events(self) -> int:
        """So many events of the stream reach the caller: the SDKs keep pings and ``[DONE]`` to themselves."""
        return sum(b'"ping"' not in piece and b"[DONE]" not in piece for piece in self.stream)

    def method(self, client: Any, name: str = "") -> Any:
        found = client
        for part in (name or self.path).split("."):
            found = getattr(found, part)
        return found


WORDS = ["Hello", ", ", "wörld", "!"]
_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1790000000, "model": "gpt-5-mini-2026"}
_CHAT_USAGE = {
    "prompt_tokens": 1200, "completion_tokens": 350, "total_tokens": 1550,
    "prompt_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 128},
}  # fmt: skip


def _chunk(delta: Event, reason: str | None = None, **more: Any) -> bytes:
    return sse({**_CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more})


CHAT = Api(
    name="chat",
    provider="openai",
    path="chat.completions.create",
    arguments={"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]},
    stream=[
        _chunk({"role": "assistant", "content": ""}),
        *(_chunk({"content": word}) for word in WORDS),
        _chunk({}, "stop"),
        sse({**_CHUNK, "choices": [], "usage": _CHAT_USAGE}),
        b"data: [DONE]\n\n",
    ],
    body={
        **_CHUNK, "object": "chat.completion", "usage": _CHAT_USAGE,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "stop"}],
    },
    input_tokens=1200, output_tokens=350, response_id="chatcmpl-1", first_output=1, tail=3,
)  # fmt: skip

_RESPONSE: Event = {
    "id": "resp_1", "object": "response", "created_at": 1790000000, "status": "in_progress", "model": "gpt-5-mini-2026",
    "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": None,
}  # fmt: skip
_ITEM: Event = {
    "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
    "content": [{"type": "output_text", "text": "".join(WORDS), "annotations": []}],
}  # fmt: skip
_DONE: Event = {
    **_RESPONSE, "status": "completed", "output": [_ITEM],
    "usage": {
        "input_tokens": 1200, "output_tokens": 350, "total_tokens": 1550,
        "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 128},
    },
}  # fmt: skip
_WHERE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
_RESPONSE_EVENTS: list[Event] = [
    {"type": "response.created", "response": _RESPONSE},
    {"type": "response.output_item.added", "output_index": 0, "item": {**_ITEM, "content": []}},
    {"type": "response.content_part.added", **_WHERE, "part": {"type": "output_text", "text": "", "annotations": []}},
    *({"type": "response.output_text.delta", **_WHERE, "delta": word, "logprobs": []} for word in WORDS),
    {"type": "response.output_item.done", "output_index": 0, "item": _ITEM},
    {"type": "response.completed", "response": _DONE},
]
RESPONSES = Api(
    name="responses",
    provider="openai",
    path="responses.create",
    arguments={"model": "gpt-5-mini", "input": "hi"},
    stream=[sse({**event, "sequence_number": n}) for n, event in enumerate(_RESPONSE_EVENTS)],
    body=_DONE, input_tokens=1200, output_tokens=350, response_id="resp_1", first_output=3, tail=1,
)  # fmt: skip

_USAGE = {
    "input_tokens": 12, "cache_read_input_tokens": 30000, "cache_creation_input_tokens": 2000,
    "cache_creation": {"ephemeral_5m_input_tokens": 1500, "ephemeral_1h_input_tokens": 500},
}  # fmt: skip
_MESSAGE: Event = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-2026", "content": [],
    "stop_reason": None, "stop_sequence": None, "usage": {**_USAGE, "output_tokens": 7},
}  # fmt: skip
_FINAL = {**_USAGE, "output_tokens": 250, "output_tokens_details": {"thinking_tokens": 90}}
_MESSAGE_EVENTS: list[Event] = [
    {"type": "message_start", "message": _MESSAGE},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    *(
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
        for word in WORDS
    ),
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": _FINAL},
    {"type": "message_stop"},
]  # fmt: skip
MESSAGES = Api(
    name="messages",
    provider="anthropic",
    path="messages.create",
    arguments={"model": "claude-sonnet-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]},
    stream=[sse(event) for event in _MESSAGE_EVENTS],
    body={
        **_MESSAGE, "content": [{"type": "text", "text": "".join(WORDS)}], "stop_reason": "end_turn", "usage": _FINAL,
    },
    input_tokens=32012, output_tokens=250, response_id="msg_1", first_output=3, tail=2, early_input_tokens=32012,
)  # fmt: skip
BETA_MESSAGES = Api(**{**MESSAGES.__dict__, "name": "beta.messages", "path": "beta.messages.create"})

ALL = [CHAT, RESPONSES, MESSAGES, BETA_MESSAGES]
