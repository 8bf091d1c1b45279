"""A provider per test, as test suites have it: what is given takes effect, also the second time; ``shutdown``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import llmspan
from llmspan.instrumentors import AnthropicInstrumentor, OpenAIInstrumentor
from replay import client_for, transport
from signals import Logs, Meters
from streams import CHAT, MESSAGES, Api

EVENTS = {"otel_instrumentation_genai_capture_message_content": "EVENT_ONLY"}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    llmspan.shutdown(30)
    yield
    llmspan.shutdown(30)


def tracing() -> tuple[TracerProvider, InMemorySpanExporter]:
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def call(api: Api = CHAT) -> None:
    list(
        api.method(client_for(api.provider, transport(200, {"content-type": "text/event-stream"}, list(api.stream))))(
            **api.arguments, stream=True
        )
    )
    assert llmspan.flush(30)


LEAVING: dict[str, Callable[[], object]] = {
    "uninstrument": llmspan.uninstrument, "shutdown": llmspan.shutdown, "nothing": lambda: None,
}  # fmt: skip


@pytest.mark.parametrize("leaving", LEAVING)
def test_each_provider_takes_effect(leaving: str) -> None:
    """Spans, metrics and events of each call go to the latest providers, and to no earlier ones."""
    for _ in range(3):
        (provider, exporter), meters, logs = tracing(), Meters(), Logs()
        llmspan.instrument(
            tracer_provider=provider, meter_provider=meters.provider, logger_provider=logs.provider,
            backends="memory", **EVENTS,
        )  # fmt: skip
        call()
        assert [span.name for span in exporter.get_finished_spans()] == ["chat gpt-5-mini"]
        assert meters.points()["gen_ai.client.inference.duration"]
        assert "llmspan.records.accepted" in meters.points()
        assert len(logs.events) == 1
        LEAVING[leaving]()


def test_the_classes_take_providers_too() -> None:
    """Each instrumentor reports to the provider that it was given, now and after ``uninstrument``."""
    for _ in range(2):
        (one, openai_spans), (other, anthropic_spans) = tracing(), tracing()
        OpenAIInstrumentor().instrument(tracer_provider=one)
        AnthropicInstrumentor().instrument(tracer_provider=other)
        call(CHAT)
        call(MESSAGES)
        assert [span.name for span in openai_spans.get_finished_spans()] == ["chat gpt-5-mini"]
        assert [span.name for span in anthropic_spans.get_finished_spans()] == ["chat claude-sonnet-5"]
        OpenAIInstrumentor().uninstrument()
        AnthropicInstrumentor().uninstrument()


@pytest.mark.parametrize("leaving", ["uninstrument", "shutdown"])
@pytest.mark.parametrize(("instrumentor", "api"), [(OpenAIInstrumentor, CHAT), (AnthropicInstrumentor, MESSAGES)])
def test_the_classes_notice_what_the_functions_put_back(
    leaving: str, instrumentor: Any, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """After ``llmspan.uninstrument()`` or ``llmspan.shutdown()`` a class instruments anew, and says no word."""
    for _ in range(3):
        provider, exporter = tracing()
        instrumentor().instrument(tracer_provider=provider)
        assert instrumentor().is_instrumented_by_opentelemetry
        call(api)
        assert [span.name for span in exporter.get_finished_spans()] == [f"chat {api.arguments['model']}"]
        LEAVING[leaving]()
        assert not instrumentor().is_instrumented_by_opentelemetry
    assert [line.getMessage() for line in caplog.records] == []


def test_a_class_that_is_instrumented_says_so_the_second_time(caplog: pytest.LogCaptureFixture) -> None:
    """While it records, ``instrument`` again is warned about, as by all instrumentors, and changes nothing."""
    provider, exporter = tracing()
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    OpenAIInstrumentor().instrument()
    assert "while already instrumented" in caplog.text
    call()
    assert len(exporter.get_finished_spans()) == 1


def test_shutdown_is_idempotent() -> None:
    """Before anything is set up, twice, and after a call: True, and other settings are free to follow."""
    assert [llmspan.shutdown(30), llmspan.shutdown(30)] == [True, True]
    llmspan.instrument(backends="memory")
    call()
    assert [llmspan.shutdown(30), llmspan.shutdown(30)] == [True, True]
    settings: dict[str, Any] = {"backends": "memory", "content": "metadata"}
    llmspan.instrument(**settings)
    call()
