"""A span of somebody else's stands for one call: what becomes of a second one below it.

Frameworks retry, fall back to another model and go on with tool results below one span of theirs. The first call that
reports usage has their span; every other one has a span of its own, so that no usage is lost or counted twice.
"""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest
from opentelemetry.sdk.trace import ReadableSpan

from foreign_spans import USAGE, call, inside, span_id
from replay import client_for, transport
from streams import CHAT, MESSAGES, Api
from watching import Watch

FRAMEWORK = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}


def ids(spans: list[ReadableSpan]) -> list[str]:
    return [span_id(span) for span in spans]


def failing(status: int) -> None:
    mock = transport(
        status, {"content-type": "application/json"}, [b'{"error": {"message": "no", "type": "server_error"}}']
    )
    with client_for("openai", mock) as client, pytest.raises(openai.APIStatusError):
        client.chat.completions.create(**CHAT.arguments)


@pytest.mark.parametrize("api", [CHAT, MESSAGES], ids=lambda api: api.name)
def test_each_call_below_one_span_has_one_with_usage(api: Api, watch: Watch) -> None:
    """Of three calls, theirs has the usage of the first; the others have spans of ours, its children."""
    with inside(watch, "chat", FRAMEWORK) as theirs:
        for _ in range(3):
            call(api)
    second, third, first = watch.spans
    assert [span.name.split()[0] for span in (first, second, third)] == ["chat"] * 3
    assert [(span.attributes or {})[USAGE] for span in watch.spans] == [api.input_tokens] * 3
    assert [span.parent for span in (second, third)] == [theirs.get_span_context()] * 2
    assert [record.span_id for record in watch.records] == ids([first, second, third])
    assert [record.parent_span_id for record in watch.records[1:]] == ids([first]) * 2


def test_a_call_without_usage_leaves_their_span_to_the_next(watch: Watch) -> None:
    """A framework's retry: two attempts fail, the third is answered, and its usage is on their span."""
    with inside(watch, "chat", FRAMEWORK) as theirs:
        failing(500)
        failing(429)
        call(CHAT)
    (span,) = watch.spans
    assert (span.attributes or {})[USAGE] == CHAT.input_tokens
    assert [record.status for record in watch.records] == ["error", "error", "ok"]
    assert {record.span_id for record in watch.records} == {span_id(theirs)}
    assert (span.attributes or {})["llmspan.record.id"] == watch.records[-1].id


def test_a_failure_after_the_answer_has_a_span_of_its_own(watch: Watch) -> None:
    """A call that fails below a span that stands for another one does not mark that one as failed."""
    with inside(watch, "chat", FRAMEWORK):
        call(CHAT)
        failing(500)
    ours, theirs = watch.spans
    assert "error.type" in (ours.attributes or {})
    assert "error.type" not in (theirs.attributes or {})
    assert [record.span_id for record in watch.records] == ids([theirs, ours])


def test_calls_at_the_same_time_below_one_span(watch: Watch) -> None:
    """A second call that begins while the first one's stream is open does not take the span from it."""
    mock = transport(200, {"content-type": "text/event-stream"}, list(CHAT.stream))
    with inside(watch, "chat", FRAMEWORK), client_for("openai", mock) as client:
        stream = client.chat.completions.create(**CHAT.arguments, stream=True)
        next(stream)
        call(CHAT)
        for _ in stream:
            pass
    ours, theirs = watch.spans
    assert [(span.attributes or {})[USAGE] for span in watch.spans] == [CHAT.input_tokens] * 2
    assert {record.span_id for record in watch.records} == set(ids([ours, theirs]))


def test_a_call_of_another_operation_below_their_span(watch: Watch) -> None:
    """Embeddings below a framework's ``chat`` (a semantic cache) are a child of it, and take nothing from the chat."""
    body: dict[str, Any] = {
        "object": "list", "model": "e", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }  # fmt: skip
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json=body))
    with inside(watch, "chat", FRAMEWORK), client_for("openai", mock) as client:
        client.embeddings.create(model="e", input="x")
        call(CHAT)
    embeddings, theirs = watch.spans
    assert (embeddings.name, (embeddings.attributes or {})[USAGE]) == ("embeddings e", 7)
    assert (theirs.attributes or {})[USAGE] == CHAT.input_tokens
