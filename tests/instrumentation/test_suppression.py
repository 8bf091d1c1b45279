"""Calls around which instrumentation is suppressed: obeyed, unless an open span stands for this very call."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from opentelemetry import context
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation

from foreign_spans import USAGE, call, inside, span_id
from llmspan.instrumentation import suppressed_calls
from llmspan.instrumentation.suppression import reset_suppressed_calls
from replay import client_for, transport
from streams import CHAT, MESSAGES, RESPONSES, Api
from watching import Watch, watching

#: what Logfire's span says when it calls the SDK
LOGFIRE = {
    "gen_ai.system": "openai", "gen_ai.provider.name": "openai", "gen_ai.operation.name": "chat",
    "request_data": '{"model":"m"}', "logfire.span_type": "span",
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_left_out() -> Iterator[None]:
    reset_suppressed_calls()
    yield
    reset_suppressed_calls()


@pytest.mark.parametrize("api", [CHAT, RESPONSES, MESSAGES], ids=lambda api: api.name)
def test_a_suppressed_call_whose_span_is_open(api: Api, watch: Watch) -> None:
    """Logfire suppresses around the call that its span stands for: one record, with its ids; no span of ours."""
    with inside(watch, "Chat Completion", LOGFIRE) as theirs, suppress_instrumentation():
        call(api)
    (span,) = watch.spans
    (record,) = watch.records
    assert (record.span_id, record.status, record.usage.input_tokens) == (span_id(theirs), "ok", api.input_tokens)
    assert (span.attributes or {})["llmspan.record.id"] == record.id
    assert suppressed_calls() == {}


def test_a_stream_outlives_their_span(watch: Watch) -> None:
    """Logfire's span ends when the SDK has returned the stream, and its log has the usage: ours says nothing twice."""
    mock = transport(200, {"content-type": "text/event-stream"}, list(CHAT.stream))
    with client_for("openai", mock) as client:
        with inside(watch, "Chat Completion", LOGFIRE) as theirs, suppress_instrumentation():
            stream = client.chat.completions.create(**CHAT.arguments, stream=True)
        assert [chunk.id for chunk in stream]
    (span,) = watch.spans
    assert USAGE not in (span.attributes or {})
    assert [(record.span_id, record.usage.input_tokens) for record in watch.records] == [
        (span_id(theirs), CHAT.input_tokens)
    ]


def test_suppressed_calls_below_one_span(watch: Watch) -> None:
    """Every suppressed call below such a span has its record; there is still no span of ours."""
    with inside(watch, "Chat Completion", LOGFIRE) as theirs, suppress_instrumentation():
        call(CHAT)
        call(CHAT)
    assert [span.name for span in watch.spans] == ["Chat Completion"]
    assert [record.span_id for record in watch.records] == [span_id(theirs)] * 2


@pytest.mark.parametrize(
    "attributes",
    [{}, {"my.own": 1}, {"gen_ai.operation.name": "invoke_agent"}, {"gen_ai.operation.name": "embeddings"},
     {"openinference.span.kind": "CHAIN"}],
    ids=["nothing", "own", "agent", "other operation", "chain"],
)  # fmt: skip
def test_suppression_below_any_other_span(attributes: dict[str, Any], watch: Watch) -> None:
    """Below a span that stands for something else, or none at all, the call is left out and counted."""
    with suppress_instrumentation():
        call(CHAT)
        with inside(watch, "around", attributes):
            call(CHAT)
    assert [span.name for span in watch.spans] == ["around"]
    assert watch.records == []
    assert suppressed_calls() == {"openai": 2}


def test_it_is_said_once(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    """The first call that is left out is logged, with what it was; the others are counted by provider."""
    with suppress_instrumentation(), caplog.at_level(logging.WARNING, logger="llmspan"):
        for api in (MESSAGES, CHAT, CHAT):
            call(api)
    (line,) = caplog.messages
    assert "a call to anthropic (chat) is not recorded because instrumentation is suppressed" in line
    assert suppressed_calls() == {"anthropic": 1, "openai": 2}
    assert watch.records == []


def test_suppression_by_the_key_alone(watch: Watch) -> None:
    """Exporters and Logfire set the context's key without the context manager."""
    token = context.attach(context.set_value("suppress_instrumentation", True))
    try:
        call(CHAT)
        with inside(watch, "Chat Completion", LOGFIRE):
            call(CHAT)
    finally:
        context.detach(token)
    assert len(watch.records) == len(watch.spans) == 1


def test_suppressed_http_instrumentation_is_not_ours(watch: Watch) -> None:
    """``suppress_http_instrumentation()`` is about spans of HTTP clients: the call has its span and its record."""
    with suppress_http_instrumentation():
        call(CHAT)
    watch.only()
    assert suppressed_calls() == {}


@pytest.mark.parametrize("how", ["suppress", "adopt"])
def test_the_sdks_own_span_beside_theirs(how: str) -> None:
    """With a span that stands for the call, the one that the anthropic SDK would make is held back, also to adopt."""
    body = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": "end_turn",
            "usage": {"input_tokens": 3, "output_tokens": 1}}  # fmt: skip
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json=body))
    with watching(anthropic_native_spans=how) as watch:
        native = {"open_telemetry": {"tracer_provider": watch.tracer_provider}}
        with client_for("anthropic", mock, **native) as client, inside(watch, "theirs", LOGFIRE) as theirs:
            client.messages.create(**MESSAGES.arguments)
    record, span = watch.only()
    assert (span.name, record.span_id) == ("theirs", span_id(theirs))
