"""The record of a stream takes the facts that its span got, as long as they are those of the whole response."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from llmspan.content import ContentPolicy
from llmspan.instrumentation import record
from llmspan.instrumentation.call import Call, Endpoint, Route

FIRST = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'


def finished_call(body: bytes) -> Call:
    observer: Any = SimpleNamespace(policy=ContentPolicy())
    endpoint = Endpoint("openai", "api.openai.com", 443, "openai/2")
    call = Call(id="1", route=Route("chat", "chat_completions"), endpoint=endpoint, observer=observer)
    call.stream = True
    call.new_body("").pieces.append(body)
    call.end = "exhausted"
    return call


def test_the_record_is_the_same_with_and_without_a_span():
    """Facts that were read for the span make the record that is read without one, chunks counted."""
    call, other = finished_call(FIRST + USAGE), finished_call(FIRST + USAGE)
    other.started_at = call.started_at
    call.ended_ns, other.ended_ns = call.started_ns + 5, other.started_ns + 5
    record.facts_for_span(call)
    built = record.build_record(call)
    assert built == record.build_record(other)
    assert (built.chunk_count, built.usage.input_tokens) == (2, 3)


def test_bytes_that_come_after_the_end_are_read():
    """An SDK may read on when its caller has seen the last event: the record has what came then."""
    call = finished_call(FIRST)
    assert record.facts_for_span(call)["usage"].input_tokens is None
    assert call.body is not None
    call.body.pieces.append(USAGE)
    built = record.build_record(call)
    assert (built.usage.input_tokens, built.chunk_count, built.response_bytes) == (3, 2, len(FIRST + USAGE))


def test_the_facts_are_not_read_twice(monkeypatch):
    """The worker reads no facts that the caller's thread has read."""
    call = finished_call(FIRST + USAGE)
    facts = record.facts_for_span(call)
    monkeypatch.setattr(record, "_end_facts", None)
    assert record.build_record(call).usage is facts["usage"]
