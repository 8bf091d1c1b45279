"""Exporters that name a store: any processor, by variable, by declarative file; a call is stored once."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace as otel_trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult

import llmspan
from integration.programs import NO_OTLP, environment, run
from llmspan import exporter, lifecycle, pipeline
from llmspan.backends import backend_names
from llmspan.backends.memory import MemoryBackend
from llmspan.demo.server import DemoServer
from llmspan.exporter import (
    BackendSpanExporter,
    ClickHouseSpanExporter,
    PostgresSpanExporter,
    SocketSpanExporter,
    SQLiteSpanExporter,
)
from llmspan.settings import Settings
from replay import client_for, transport
from streams import CHAT, MESSAGES

SSE = {"content-type": "text/event-stream"}
OURS = {
    "llmspan_clickhouse": ClickHouseSpanExporter,
    "llmspan_postgres": PostgresSpanExporter,
    "llmspan_socket": SocketSpanExporter,
    "llmspan_sqlite": SQLiteSpanExporter,
}
COHERE = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "cohere", "gen_ai.usage.input_tokens": 0}


class MemorySpanExporter(BackendSpanExporter):
    """What another package would write for a backend of its own."""

    backend = "memory"


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Each test sets up anew and leaves nothing behind."""
    lifecycle.close(30)
    exporter._seen_spans.forget()
    yield
    lifecycle.close(30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


@pytest.fixture(scope="module")
def provider() -> Iterator[DemoServer]:
    with DemoServer() as server:
        yield server


def records(path: Path) -> list[llmspan.ProviderTrace]:
    assert llmspan.flush(30)
    with llmspan.Reader.from_env(backends="sqlite", sqlite_path=path) as reader:
        return list(reader.iterate())


def end_span(tracer_provider: TracerProvider, attributes: Mapping[str, Any], **options: Any) -> Any:
    span = tracer_provider.get_tracer("theirs").start_span("theirs", attributes=dict(attributes), **options)
    span.end()
    return span


def test_entry_points_are_exporters() -> None:
    """Each of our names for ``OTEL_TRACES_EXPORTER`` is a class of the SDK's kind."""
    found = {point.name: point.load() for point in entry_points(group="opentelemetry_traces_exporter")}
    assert {name: found[name] for name in OURS} == OURS
    assert all(issubclass(kind, SpanExporter) for kind in OURS.values())


@pytest.mark.parametrize("kind", OURS.values(), ids=lambda kind: kind.__name__)
@pytest.mark.peer_fault("K7")
def test_nothing_happens_when_one_is_made(kind: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Made without arguments, an exporter neither connects nor raises, be its driver or server there or not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    made = kind()
    assert made.error is None or kind.backend in str(made.error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", OURS.values(), ids=lambda kind: kind.__name__)
def test_keywords_are_settings(kind: Any) -> None:
    """The keywords of an exporter are settings by their names, and all of them can be left out."""
    parameters = inspect.signature(kind).parameters
    assert set(parameters) <= {field.name for field in fields(Settings)}
    assert all(parameter.default is None for parameter in parameters.values())


def test_a_backend_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    """An exporter of a backend that nobody provides says so once, with what there is, and refuses spans."""

    class Gone(BackendSpanExporter):
        backend = "gone"

    gone = Gone()
    assert "unknown backend 'gone'" in str(gone.error)
    assert ", ".join(backend_names()) in str(gone.error)
    assert str(gone.error).startswith("Gone: ")
    assert [record.getMessage() for record in caplog.records if "gone" in record.getMessage()] != []
    assert gone.export([]) is SpanExportResult.FAILURE
    assert pipeline.shared().backends == []


def test_a_backend_of_another_package() -> None:
    """A subclass with a name is all that a third party's backend needs to be an exporter."""
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(MemorySpanExporter()))
    (memory,) = pipeline.shared().backends
    assert isinstance(memory, MemoryBackend)
    end_span(tracer_provider, COHERE)
    assert llmspan.flush(30)
    (record,) = memory.list().traces
    assert record.provider == "cohere"


def test_two_exporters_of_one_store(path: Path) -> None:
    """Two exporters, the setting, and a span that comes twice: one row for each call, delivered once."""
    tracer_provider = TracerProvider()
    again = SQLiteSpanExporter(path)
    tracer_provider.add_span_processor(SimpleSpanProcessor(SQLiteSpanExporter(str(path))))
    tracer_provider.add_span_processor(BatchSpanProcessor(again))
    llmspan.instrument(tracer_provider=tracer_provider, backends="sqlite", sqlite_path=path)
    client = client_for(CHAT.provider, transport(200, SSE, list(CHAT.stream)))
    for _ in CHAT.method(client)(**CHAT.arguments, stream=True):
        pass
    span = end_span(tracer_provider, COHERE)
    tracer_provider.force_flush()
    again.export([span])
    assert sorted(trace.provider for trace in records(path)) == ["cohere", "openai"]
    (status,) = llmspan.status()
    assert status.delivered == 2
    exporter._seen_spans.forget()  # as after a restart: the store itself knows the record by its id
    again.export([span])
    assert len(records(path)) == 2
    tracer_provider.shutdown()


def test_spans_of_one_call_are_one_record(path: Path) -> None:
    """A framework's span around the SDK's span, in whichever order they end: one record, so that sums are right."""
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(SQLiteSpanExporter(path)))
    framework = {"openinference.span.kind": "LLM", "llm.token_count.prompt": 0}
    for inner_first in (True, False):
        outer = tracer_provider.get_tracer("framework").start_span("llm", attributes=framework)
        inner = tracer_provider.get_tracer("sdk").start_span(
            "chat", otel_trace.set_span_in_context(outer), attributes=COHERE
        )
        for span in (inner, outer) if inner_first else (outer, inner):
            span.end()
    agent = tracer_provider.get_tracer("framework").start_span("run", attributes={"openinference.span.kind": "AGENT"})
    for _ in range(2):
        end_span(tracer_provider, COHERE, context=otel_trace.set_span_in_context(agent))
    agent.end()
    assert sorted(trace.provider for trace in records(path)) == ["cohere", "cohere", "cohere", "unknown"]
    tracer_provider.shutdown()


def test_the_content_policy_holds_for_spans(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``LLMSPAN_CAPTURE_PAYLOADS=metadata`` the words of other instrumentations' spans are not stored either."""
    monkeypatch.setenv("LLMSPAN_CAPTURE_PAYLOADS", "metadata")
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(SQLiteSpanExporter(path)))
    end_span(tracer_provider, {**COHERE, "gen_ai.input.messages": '[{"role":"user","parts":[{"content":"secret"}]}]'})
    assert [trace.content for trace in records(path)] == ["metadata"]
    assert not any(b"secret" in file.read_bytes() for file in path.parent.iterdir())
    tracer_provider.shutdown()


def test_anthropic_spans_of_its_own_beside_ours(path: Path) -> None:
    """Where both spans of a call are kept (``anthropic_native_spans=both``), an exporter makes no second record."""
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(SQLiteSpanExporter(path)))
    llmspan.instrument(tracer_provider=tracer_provider, anthropic_native_spans="both")
    native = {"tracer_provider": tracer_provider, "traces": {"enabled": True}}
    client = client_for("anthropic", transport(200, SSE, list(MESSAGES.stream)), open_telemetry=native)
    for _ in MESSAGES.method(client)(**MESSAGES.arguments, stream=True):
        pass
    assert [trace.content for trace in records(path)] == ["full"]
    tracer_provider.shutdown()


def test_a_log_of_logfire_beside_the_record(path: Path) -> None:
    """Logfire tells of a stream twice, by a span that ends before it begins and a log behind it: one record, ours."""
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(SQLiteSpanExporter(path)))
    llmspan.instrument(tracer_provider=tracer_provider)
    tracer, chat = tracer_provider.get_tracer("logfire.openai"), {"gen_ai.operation.name": "chat"}
    with client_for("openai", transport(200, SSE, list(CHAT.stream))) as client:
        with tracer.start_as_current_span("Chat Completion", attributes=chat), suppress_instrumentation():
            stream = client.chat.completions.create(**CHAT.arguments, stream=True)
        (response_id,) = {chunk.id for chunk in stream}
    for known in (response_id, "another call's"):
        log = {**chat, "logfire.span_type": "log", "gen_ai.response.id": known, "gen_ai.usage.input_tokens": 5}
        tracer.start_span("streaming response", attributes=log).end()
    assert sorted(str(trace.response_id) for trace in records(path)) == sorted([response_id, "another call's"])
    assert [trace.content for trace in records(path)].count("full") == 1
    tracer_provider.shutdown()


FILE = """
file_format: "1.1"
resource:
  attributes:
    - name: service.name
      value: shop
tracer_provider:
  processors:
    - batch:
        exporter:
          llmspan_sqlite:
            sqlite_path: ${LLMSPAN_TEST_DATABASE}
    - simple:
        exporter:
          llmspan_sqlite:
"""


def test_declarative_file(provider: DemoServer, path: Path, tmp_path: Path) -> None:
    """Named in ``OTEL_CONFIG_FILE``, with and without settings of its own, each store gets the call once."""
    file = tmp_path / "otel.yaml"
    file.write_text(FILE)
    other = tmp_path / "other.db"
    env = environment(provider, other, OTEL_CONFIG_FILE=str(file), LLMSPAN_TEST_DATABASE=str(path))
    done = run("opentelemetry-instrument", sys.executable, "examples/openai_stream.py", env=env)
    assert done.returncode == 0
    assert "llmspan" not in done.stderr
    (one,), (two,) = records(path), records(other)
    assert one.id == two.id
    assert (one.content, one.source, one.status) == ("full", "shop", "ok")
    assert one.span_id is not None


def test_by_variable(provider: DemoServer, path: Path) -> None:
    """In ``OTEL_TRACES_EXPORTER`` beside one whose server is away: that is told, and the other one writes."""
    env = environment(provider, path, **NO_OTLP | {"OTEL_TRACES_EXPORTER": "llmspan_postgres,llmspan_sqlite"})
    env |= {"LLMSPAN_POSTGRES_DSN": "postgresql://127.0.0.1:1/gone", "LLMSPAN_EXIT_TIMEOUT": "1"}
    done = run("opentelemetry-instrument", sys.executable, "examples/openai_stream.py", env=env)
    assert done.returncode == 0
    assert "postgres" in done.stderr
    assert [trace.content for trace in records(path)] == ["full"]
