"""How few events of a long stream the caller's thread reads: those that matter, whatever the stream talks of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmspan.wire import reassemble, sse, summarize
from llmspan.wire.chat import ChatReader

LONG = 300


def wire(*chunks: dict[str, Any], spaced: bool = False) -> bytes:
    separators = (", ", ": ") if spaced else (",", ":")
    return b"".join(f"data: {json.dumps(chunk, separators=separators)}\n\n".encode() for chunk in chunks)


def chunk(delta: dict[str, Any], reason: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"id": "c", "error": None, "choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


def tool(index: int, arguments: str) -> dict[str, Any]:
    return chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})


USAGE = {"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 7}}
DELTAS = {
    "text": [chunk({"content": f" word{n}"}) for n in range(LONG)],
    "text about errors": [chunk({"content": '{"error": "usage", "index": 1}'}) for _ in range(LONG)],
    "parallel tool calls": [tool(n % 3, "x") for n in range(LONG)],
}


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("name", DELTAS)
def test_a_long_stream_is_read_at_its_ends(name: str, spaced: bool) -> None:
    """Of hundreds of chunks a handful are parsed; ``error: null`` and the indices of tool calls are no signs."""
    body = wire(*DELTAS[name], chunk({}, "stop"), USAGE, spaced=spaced)
    few = list(sse.signed_events(body, ChatReader.signs))
    assert len(few) <= 2
    assert summarize("chat_completions", body).finish_reasons == ("stop",)


@pytest.mark.parametrize("late", [False, True])
def test_several_choices_are_all_read(late: bool) -> None:
    """With a second choice every event is read, as every choice has an end of its own."""
    first = [chunk({"content": "a"}) for _ in range(LONG)]
    second = [chunk({"content": "b"}, index=1), chunk({}, "length", index=1)]
    chunks = [*first, chunk({}, "stop"), *second] if late else [*second, *first, chunk({}, "stop")]
    body = wire(*chunks, USAGE)
    assert summarize("chat_completions", body).finish_reasons == ("stop", "length")


def test_an_error_in_another_spelling() -> None:
    """A gateway's own error is found in a stream that it passes on in another spelling."""
    body = wire(*DELTAS["text"][:5]) + wire({"error": {"type": "overloaded", "message": "m"}}, spaced=True)
    for reply in (summarize("chat_completions", body), reassemble("chat_completions", body)[0]):
        assert reply.error is not None
        assert (reply.error.type, reply.error.message) == ("overloaded", "m")


def test_a_reason_that_is_spelled_null() -> None:
    """A vendor's finish reason ``"null"`` is a text like any other: the span says what the record says."""
    body = wire(*DELTAS["text"][:5], chunk({"content": "a"}, "null"), chunk({"content": "b"}, "null"))
    whole, _ = reassemble("chat_completions", body)
    assert summarize("chat_completions", body).finish_reasons == whole.finish_reasons == ("null",)
