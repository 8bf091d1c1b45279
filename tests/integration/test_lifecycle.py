"""``llmspan.instrument`` and its siblings in one process: settings, sources, exporters, one record a call."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

import llmspan
from llmspan import lifecycle, semconv
from llmspan.exporter import SQLiteSpanExporter
from llmspan.instrumentors import OpenAIInstrumentor
from replay import client_for, transport
from signals import Logs, Meters
from streams import ALL, CHAT, MESSAGES

SSE = {"content-type": "text/event-stream"}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Each test sets up anew and leaves nothing behind."""
    lifecycle.close(30)
    yield
    lifecycle.close(30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


def call(api: Any = CHAT) -> None:
    client = client_for(api.provider, transport(200, SSE, list(api.stream)))
    for _ in api.method(client)(**api.arguments, stream=True):
        pass


def records(path: Path) -> list[llmspan.ProviderTrace]:
    assert llmspan.flush(30)
    with llmspan.Reader.from_env(backends="sqlite", sqlite_path=path) as reader:
        return list(reader.iterate())


def test_calls_are_stored(path: Path) -> None:
    """One record per call of either SDK, in a file that only its owner can read."""
    llmspan.instrument(backends="sqlite", sqlite_path=path)
    for api in ALL:
        call(api)
    assert sorted(trace.api for trace in records(path)) == ["chat_completions", "messages", "messages", "responses"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (status,) = llmspan.status()
    assert (status.backend, status.accepted, status.delivered) == ("sqlite", 4, 4)


@pytest.mark.parametrize("given", [None, "EVENT_ONLY"])
@pytest.mark.peer_fault("U1")
def test_content_on_spans_by_a_variable_that_changes(
    given: str | None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The capture variable is obeyed when it changes in a running program, unless an argument has said what holds."""
    variable = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.delenv(variable, raising=False)
    llmspan.instrument(
        backends="sqlite", sqlite_path=path, tracer_provider=provider, **{variable.lower(): given} if given else {}
    )
    for mode in (None, "SPAN_ONLY", "NO_CONTENT"):
        if mode is not None:
            monkeypatch.setenv(variable, mode)
        call()
    has_content = ["gen_ai.output.messages" in (span.attributes or {}) for span in exporter.get_finished_spans()]
    assert has_content == [False, given is None, False]


@pytest.mark.parametrize(("variable", "kind"), [(None, str), ("json", str), ("structured", tuple)])
def test_format_of_content_on_spans(
    variable: str | None, kind: type, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content on spans is JSON text unless ``LLMSPAN_SPAN_CONTENT_FORMAT`` asks for structured values."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    if variable is not None:
        monkeypatch.setenv("LLMSPAN_SPAN_CONTENT_FORMAT", variable)
    llmspan.instrument(backends="sqlite", sqlite_path=path, tracer_provider=provider)
    call()
    (span,) = exporter.get_finished_spans()
    assert isinstance((span.attributes or {})["gen_ai.output.messages"], kind)


@pytest.mark.peer_fault("U2")
def test_signals_name_the_version_of_the_conventions(path: Path) -> None:
    """Spans, metrics and events carry the schema URL of the conventions whose names they use."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    logs, meters = Logs(), Meters()
    llmspan.instrument(
        backends="sqlite", sqlite_path=path, tracer_provider=provider, logger_provider=logs.provider,
        meter_provider=meters.provider, otel_instrumentation_genai_capture_message_content="EVENT_ONLY",
    )  # fmt: skip
    call()
    assert llmspan.flush()
    (span,), (event,) = exporter.get_finished_spans(), logs.exporter.get_finished_logs()
    data = meters.reader.get_metrics_data()
    scopes = [found for resource in data.resource_metrics for found in resource.scope_metrics] if data else []
    measured = [found.schema_url for found in scopes if found.metrics[0].name.startswith("gen_ai.")]
    urls = {span.instrumentation_scope.schema_url, event.instrumentation_scope.schema_url, *measured}
    assert (urls, len(measured)) == ({semconv.SCHEMA_URL}, 1)


@pytest.mark.peer_fault("K9")
def test_instrumenting_twice_records_once(path: Path) -> None:
    """By ``instrument``, again, and by the OpenTelemetry instrumentor: a call stays one call."""
    llmspan.instrument(backends="sqlite", sqlite_path=path)
    llmspan.instrument()
    OpenAIInstrumentor().instrument(skip_dep_check=True)
    call()
    OpenAIInstrumentor().uninstrument()
    call()
    assert len(records(path)) == 1


def test_other_settings_need_a_new_start(path: Path) -> None:
    """Settings that would be ignored are an error instead."""
    llmspan.instrument(backends="sqlite", sqlite_path=path)
    llmspan.instrument(backends="sqlite", sqlite_path=path)
    with pytest.raises(llmspan.SettingsError, match="once per process"):
        llmspan.instrument(backends="sqlite", sqlite_path=path, capture_payloads="metadata")


def test_uninstrument_stops_recording(path: Path) -> None:
    """After ``uninstrument`` nothing is recorded; after ``instrument``, again."""
    llmspan.instrument(backends="sqlite", sqlite_path=path)
    llmspan.uninstrument()
    call()
    assert records(path) == []
    llmspan.instrument()
    call()
    assert len(records(path)) == 1


def test_only_the_named_providers(path: Path) -> None:
    """``providers`` picks; an unknown one is an error that lists the known."""
    llmspan.instrument(providers=("anthropic",), backends="sqlite", sqlite_path=path)
    call(CHAT)
    call(MESSAGES)
    assert [trace.provider for trace in records(path)] == ["anthropic"]
    with pytest.raises(
        llmspan.SettingsError, match=r"unknown provider 'gemini'; available: anthropic, google_genai, openai"
    ):
        llmspan.instrument(providers=("gemini",))


def test_the_source_is_the_service(path: Path) -> None:
    """``source`` is the resource's ``service.name``; ``LLMSPAN_SERVICE_NAME`` wins."""
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    llmspan.instrument(tracer_provider=provider, backends="sqlite", sqlite_path=path)
    call()
    lifecycle.close(30)
    llmspan.instrument(tracer_provider=provider, backends="sqlite", sqlite_path=path, service_name="till")
    call()
    assert sorted(str(trace.source) for trace in records(path)) == ["shop", "till"]


def test_the_source_is_the_variable_where_there_is_no_resource(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an SDK of OpenTelemetry, `OTEL_SERVICE_NAME` names the program; a resource that comes later wins."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "kiosk")
    llmspan.instrument(backends="sqlite", sqlite_path=path)
    call()
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    llmspan.instrument(tracer_provider=provider)
    call()
    assert sorted(str(trace.source) for trace in records(path)) == ["kiosk", "shop"]


def test_a_source_that_is_set_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`LLMSPAN_SERVICE_NAME` wins over a resource that comes later, also if `OTEL_SERVICE_NAME` says the same."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "kiosk")
    llmspan.instrument(backends="sqlite", sqlite_path=path, service_name="kiosk")
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    llmspan.instrument(tracer_provider=provider)
    call()
    assert [trace.source for trace in records(path)] == ["kiosk"]


def test_context_reaches_record_and_span(path: Path) -> None:
    """What ``llmspan.context`` says is on the record, nested blocks merged, and its ids are on the span."""
    llmspan.instrument(backends="sqlite", sqlite_path=path)
    with (
        llmspan.context(run_id="r", agent_id="a", agent_tags=["x", "y"], attributes={"k": 1, "outer": True}),
        llmspan.context(
            step_id="s", user_id="u", attributes={"k": 2}, llm_config={"t": 0}, billing_context={"plan": "p"}
        ),
    ):
        call()
    (trace,) = records(path)
    assert (trace.run_id, trace.step_id, trace.agent_id, trace.user_id) == ("r", "s", "a", "u")
    assert trace.agent_tags == ("x", "y")
    assert trace.attributes == {"k": 2, "outer": True}
    assert (trace.llm_config, trace.billing_context) == ({"t": 0}, {"plan": "p"})


@pytest.mark.anyio
async def test_a_hundred_tasks_do_not_mix(path: Path) -> None:
    """Tasks that share one client and run at once keep their own step."""
    llmspan.instrument(backends="sqlite", sqlite_path=path)

    async def step(number: int) -> None:
        with llmspan.context(step_id=f"step-{number}", user_id=f"user-{number}"):
            client = client_for("anthropic", transport(200, SSE, list(MESSAGES.stream)), is_async=True)
            stream = await client.messages.create(**MESSAGES.arguments, stream=True)
            async for _ in stream:
                await asyncio.sleep(0)

    await asyncio.gather(*(step(number) for number in range(100)))
    found = {trace.step_id: trace.user_id for trace in records(path)}
    assert found == {f"step-{number}": f"user-{number}" for number in range(100)}


def test_baggage_by_allow_list(path: Path) -> None:
    """Only the keys that are named are copied from baggage."""
    llmspan.instrument(backends="sqlite", sqlite_path=path, baggage_keys="run_id,tenant")
    carried = baggage.set_baggage(
        "secret", "no", baggage.set_baggage("tenant", "acme", baggage.set_baggage("run_id", "r"))
    )
    token = otel_context.attach(carried)
    try:
        call()
    finally:
        otel_context.detach(token)
    (trace,) = records(path)
    assert (trace.run_id, trace.attributes) == ("r", {"tenant": "acme"})


@pytest.mark.parametrize("processor", [SimpleSpanProcessor, BatchSpanProcessor])
def test_exporter_in_a_span_processor(processor: Any, path: Path) -> None:
    """A store named as exporter of one's own provider gets each of our calls once, and GenAI spans of others."""
    provider = TracerProvider()
    provider.add_span_processor(processor(SQLiteSpanExporter(str(path))))
    llmspan.instrument(tracer_provider=provider)
    call()
    tracer = provider.get_tracer("somebody.else")
    given = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "cohere", "gen_ai.usage.input_tokens": 0}
    with tracer.start_as_current_span("chat command", kind=SpanKind.CLIENT, attributes=given):
        pass
    with tracer.start_as_current_span("not a model's"):
        pass
    provider.force_flush()
    ours, theirs = sorted(records(path), key=lambda trace: trace.provider, reverse=True)
    assert (ours.provider, ours.content) == ("openai", "full")
    assert (theirs.provider, theirs.usage.input_tokens, theirs.usage.output_tokens) == ("cohere", 0, None)
    provider.shutdown()


def test_an_exporter_never_raises_when_made(tmp_path: Path) -> None:
    """A bad place is no exception when the exporter is made (it would switch all instrumentation off), but at start."""
    exporter = SQLiteSpanExporter(str(tmp_path))
    assert exporter.error is None
    with pytest.raises(llmspan.SettingsError, match=str(tmp_path)):
        llmspan.instrument()
    assert SQLiteSpanExporter("  ").error is not None


def test_a_stream_open_at_close_is_recorded(path: Path) -> None:
    """Ending llmspan ends what is still open, as closed early."""
    llmspan.instrument(backends="sqlite", sqlite_path=path)
    client = client_for("openai", transport(200, SSE, list(CHAT.stream)))
    stream = CHAT.method(client)(**CHAT.arguments, stream=True)
    next(stream)
    lifecycle.close(30)
    assert [trace.status for trace in records(path)] == ["closed_early"]
    assert len(list(stream)) > 0  # and the caller reads on as if nothing had been


@pytest.mark.parametrize("keyword", ["capture_payloads", "content"])
def test_metadata_only(path: Path, keyword: str) -> None:
    """``capture_payloads=metadata``: everything but the payload; the keyword's older name means the same."""
    arguments: Any = {keyword: "metadata"}
    llmspan.instrument(backends="sqlite", sqlite_path=path, **arguments)
    llmspan.Reader.from_env(backends="sqlite", sqlite_path=path, **arguments).close()  # takes both names, too
    call(MESSAGES)
    (found,) = records(path)
    with llmspan.Reader.from_env(backends="sqlite", sqlite_path=path) as reader:
        trace = reader.get(found.id)
    assert trace is not None
    assert (trace.content, trace.request_json, trace.response_json) == ("metadata", None, None)
    assert trace.usage.input_tokens == 32012
    assert b"w\xc3\xb6rld" not in path.read_bytes()


def test_a_large_payload_is_cut_and_says_so(path: Path) -> None:
    """Over the limit a payload is cut, stays JSON, and the numbers stay."""
    llmspan.instrument(backends="sqlite", sqlite_path=path, max_payload_bytes=2000)
    client = client_for("anthropic", transport(200, SSE, list(MESSAGES.stream)))
    arguments = {**MESSAGES.arguments, "messages": [{"role": "user", "content": "x" * 100_000}]}
    for _ in client.messages.create(**arguments, stream=True):
        pass
    (found,) = records(path)
    with llmspan.Reader.from_env(backends="sqlite", sqlite_path=path) as reader:
        trace = reader.get(found.id)
    assert trace is not None
    assert trace.content == "truncated"
    assert len(trace.request_json or "") <= 2000
    assert '"claude-sonnet-5"' in (trace.request_json or "")
    assert (trace.request_bytes or 0) > 100_000
    assert trace.usage.output_tokens == 250


def test_what_a_context_says_is_a_snapshot(path: Path) -> None:
    """A dictionary that the program goes on changing does not change what was recorded with it."""
    llmspan.instrument(backends="sqlite", sqlite_path=path)
    config: dict[str, Any] = {"model": "m", "tools": ["a"]}
    with llmspan.context(llm_config=config, attributes={"config": config}):
        config["tools"].append("b")
        call()
    config.clear()
    (trace,) = records(path)
    assert trace.llm_config == {"model": "m", "tools": ["a"]}
    assert trace.attributes == {"config": {"model": "m", "tools": ["a"]}}
