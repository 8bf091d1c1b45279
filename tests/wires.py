"""Bytes as providers send them, and what must hold for whatever is read from them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from interaction import Interaction, wire_ids
from llmspan.wire import Reply, ReplyError, reassemble, summarize


def both(api: str, body: bytes, media_type: str = "") -> tuple[Reply, Any]:
    """What ``reassemble`` says, once it is sure that ``summarize`` says the same."""
    reply, response = reassemble(api, body, media_type)
    assert summarize(api, body, media_type) == replace(reply, chunk_count=None)
    return reply, response


def wire(*events: Any, end: str = "") -> bytes:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + end.encode()


def check_sane(api: str, body: bytes) -> None:
    """Neither reading raises, and what they give has the types that spans and stores rely on."""
    reply, response = reassemble(api, body)
    for read in (reply, summarize(api, body)):
        assert all(reason is None or isinstance(reason, str) for reason in read.finish_reasons)
        facts = (read.response_id, read.response_model, read.service_tier, read.system_fingerprint)
        assert all(fact is None or isinstance(fact, str) for fact in facts)
        assert type(read.terminal) is bool
        error = read.error or ReplyError()
        assert all(part is None or isinstance(part, str) for part in (error.type, error.code, error.message))
        usage = read.usage
        numbers = [usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, *usage.details.values()]
        assert all(number is None or type(number) is int for number in numbers)
    assert response is None or reply.plain or isinstance(response, dict)
    json.dumps(response)


class Plain(NamedTuple):
    """One event of an interaction, read without the package's help."""

    end: int
    name: str | None
    data: dict[str, Any] | None
    done: bool


def plain_events(body: bytes) -> Iterator[Plain]:
    start = 0
    for match in re.finditer(rb"\r?\n\r?\n", body):
        fields = [line.partition(":") for line in body[start : match.start()].decode().splitlines()]
        start = match.end()
        told = {name: [value.removeprefix(" ") for other, _, value in fields if other == name] for name, *_ in fields}
        text = "\n".join(told.get("data", []))
        yield Plain(start, *told.get("event", [None])[-1:], json.loads(text) if text[:1] == "{" else None,
                    text.startswith("[DONE]"))  # fmt: skip


@cache
def load(name: str) -> Interaction:
    return Interaction.load(name)


#: those that are answered by server-sent events
STREAMS = [
    name
    for name in wire_ids()
    if load(name).expect["is_sse"] and load(name).response["headers"]["content-type"].startswith("text/event-stream")
]


def piece(index: Any = 0, finish: Any = None, **delta: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish}


def start(**usage: Any) -> dict[str, Any]:
    return {"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": usage}}  # fmt: skip


def created(**response: Any) -> dict[str, Any]:
    whole = {"id": "resp_1", "object": "response", "model": "gpt", "status": "in_progress", "output": [],
             "usage": None, "error": None, **response}  # fmt: skip
    return {"type": "response.created", "response": whole}


def ended(status: str, **response: Any) -> dict[str, Any]:
    return {"type": f"response.{status}", "response": created(status=status, **response)["response"]}
