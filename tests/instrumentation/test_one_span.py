"""One call, one span that carries usage, one record: with native tracing, other instrumentations, samplers, limits."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor as OfficialAnthropic
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor as OfficialOpenAI
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, TraceIdRatioBased
from opentelemetry.trace import SpanContext

from llmspan.content import ContentPolicy
from llmspan.instrumentation import Observer, is_recorded
from llmspan.instrumentation.peers.recorded_spans import mark_recorded
from replay import client_for, transport
from streams import CHAT, MESSAGES, Api, json
from watching import Watch, watching

SSE = {"content-type": "text/event-stream"}
USAGE = "gen_ai.usage.input_tokens"


def with_usage(spans: list[ReadableSpan]) -> list[ReadableSpan]:
    return [span for span in spans if USAGE in (span.attributes or {})]


def run(api: Api, mock: httpx2.MockTransport | None = None, **options: Any) -> None:
    client = client_for(api.provider, mock or transport(200, SSE, list(api.stream)), **options)
    for _ in api.method(client)(**api.arguments, stream=True):
        pass


def native(watch: Watch) -> dict[str, Any]:
    """Switches the Anthropic SDK's own tracing on, into the same exporter."""
    return {"open_telemetry": {"tracer_provider": watch.tracer_provider}}


@pytest.mark.peer_fault("A5")
def test_native_span_is_suppressed_by_default() -> None:
    """anthropic traces itself; for a call that we record it does not, and sends no ``traceparent``."""
    sent: list[httpx2.Request] = []
    with watching() as watch:
        run(MESSAGES, transport(200, SSE, list(MESSAGES.stream), sent), **native(watch))
    assert [span.name for span in watch.spans] == ["chat claude-sonnet-5"]
    assert len(watch.records) == 1
    assert "traceparent" not in sent[0].headers


BATCH = {
    "id": "msgbatch_1", "type": "message_batch", "processing_status": "ended",
    "results_url": "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results",
}  # fmt: skip
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "count_tokens": ("messages.count_tokens", {"model": "m", "messages": MESSAGES.arguments["messages"]}),
    "create_batch": ("messages.batches.create", {"requests": [{"custom_id": "a", "params": MESSAGES.arguments}]}),
    "fetch_batch_results": ("messages.batches.results", {"message_batch_id": "msgbatch_1"}),
}


@pytest.mark.parametrize("how", ["suppress", "adopt"])
@pytest.mark.parametrize("operation", OTHERS)
def test_native_spans_of_the_other_calls_that_are_recorded(operation: str, how: str) -> None:
    """Counting tokens and batches have one span, too: ours, or the SDK's with our record on it."""
    path, arguments = OTHERS[operation]

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/results"):
            return httpx2.Response(200, text=json.dumps({"custom_id": "a", "result": {"type": "expired"}}))
        return httpx2.Response(200, json={**BATCH, "input_tokens": 7})

    with watching(anthropic_native_spans=how) as watch:
        client = client_for("anthropic", httpx2.MockTransport(answer), **native(watch))
        result = MESSAGES.method(client, path)(**arguments)
        if operation == "fetch_batch_results":
            list(result)
    (span,) = [span for span in watch.spans if "retrieve" not in span.name]
    ours = f"{operation} m" if operation == "count_tokens" else operation
    assert span.name == (f"anthropic.{path}" if how == "adopt" else ours)
    record = watch.records[-1]
    assert (record.operation, record.span_id) == (operation, f"{span.context.span_id:016x}")
    assert (span.attributes or {})["llmspan.record.id"] == record.id


def test_native_span_of_other_calls_stays() -> None:
    """What we do not record, the SDK goes on tracing."""
    with watching() as watch:
        mock = transport(200, {"content-type": "application/json"}, [b'{"id": "m", "type": "model"}'])
        client = client_for("anthropic", mock, **native(watch))
        client.models.retrieve("m")
    assert [span.name for span in watch.spans] == ["anthropic.models.retrieve"]
    assert watch.records == []


def test_native_span_is_adopted() -> None:
    """``adopt``: the SDK's span is the one, and the record is attached to it both ways."""
    with watching(anthropic_native_spans="adopt") as watch:
        run(MESSAGES, **native(watch))
    record, span = watch.only()
    assert span.name == "anthropic.messages.create"
    assert record.span_id == f"{span.context.span_id:016x}"
    assert (span.attributes or {})["llmspan.record.id"] == record.id
    assert (record.usage.input_tokens, record.status) == (32012, "ok")


def test_adopt_without_a_native_span_makes_ours() -> None:
    """``adopt`` with native tracing off: there is nothing to adopt, and the call is not left without a span."""
    with watching(anthropic_native_spans="adopt") as watch:
        run(MESSAGES, open_telemetry=False)
    record, span = watch.only()
    assert span.name == "chat claude-sonnet-5"
    assert span.start_time == record.started_at


def test_both() -> None:
    """``both``: two spans, as asked for, the SDK's as it would be without us; still one record."""
    with watching(anthropic_native_spans="both") as watch:
        run(MESSAGES, **native(watch))
    theirs, ours = sorted(watch.spans, key=lambda span: span.name)
    assert (theirs.name, ours.name) == ("anthropic.messages.create", "chat claude-sonnet-5")
    assert not [name for name in theirs.attributes or {} if name.startswith("llmspan.")]
    assert [is_recorded(span.context) for span in (theirs, ours)] == [True, False]
    assert len(watch.records) == 1


def test_only_the_latest_spans_are_remembered() -> None:
    """What is known of others' spans has a bound; a span without an id is not known at all."""
    contexts = [SpanContext(1, number, is_remote=False) for number in range(20_000)]
    for context in contexts:
        mark_recorded(context)
    assert not is_recorded(contexts[0])
    assert [is_recorded(contexts[number]) for number in (5_000, 15_000)] == [False, True]


@pytest.mark.parametrize(("official", "api"), [(OfficialOpenAI, CHAT), (OfficialAnthropic, MESSAGES)])
def test_beside_the_official_instrumentation(official: Any, api: Api) -> None:
    """The official span is open already when the call reaches us: it stays the one, and the record takes its ids."""
    with watching() as watch:
        instrumentor = official()
        instrumentor.instrument(tracer_provider=watch.tracer_provider, skip_dep_check=True)
        try:
            run(api, **({"open_telemetry": False} if api is MESSAGES else {}))
        finally:
            instrumentor.uninstrument()
    (span,) = with_usage(watch.spans)
    (record,) = watch.records
    assert span.instrumentation_scope is not None
    assert "genai" in span.instrumentation_scope.name
    assert record.span_id == f"{span.context.span_id:016x}"
    assert (span.attributes or {})["llmspan.record.id"] == record.id
    assert (record.usage.input_tokens, record.usage.output_tokens) == (api.input_tokens, api.output_tokens)


@pytest.mark.parametrize("attributes", [{"openinference.span.kind": "LLM"}, {"llm.request.type": "chat"}])
def test_inside_the_span_of_another_llm_instrumentation(attributes: dict[str, str]) -> None:
    """OpenInference and OpenLLMetry keep their span current around the call: no second one is opened."""
    with watching() as watch:
        tracer = watch.tracer_provider.get_tracer("other")
        with tracer.start_as_current_span("theirs", attributes=attributes) as theirs:
            run(CHAT)
    assert [span.name for span in watch.spans] == ["theirs"]
    assert watch.records[0].span_id == f"{theirs.get_span_context().span_id:016x}"


@pytest.mark.parametrize("operation", ["invoke_agent", "execute_tool"])
def test_an_agents_span_is_a_parent(operation: str) -> None:
    """A GenAI span of another operation is around the call, not of it: ours becomes its child."""
    with watching() as watch:
        tracer = watch.tracer_provider.get_tracer("agents")
        with tracer.start_as_current_span("agent", attributes={"gen_ai.operation.name": operation}) as agent:
            run(CHAT)
    ours, _ = watch.spans
    assert ours.name == "chat gpt-5-mini"
    assert ours.parent == agent.get_span_context()


def test_suppressed_instrumentation_is_obeyed() -> None:
    """``suppress_instrumentation()`` means nothing at all."""
    with watching() as watch, suppress_instrumentation():
        run(CHAT)
    assert (watch.spans, watch.records) == ([], [])


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, TraceIdRatioBased(0.0)])
@pytest.mark.parametrize("api", [CHAT, MESSAGES], ids=lambda api: api.name)
@pytest.mark.peer_fault("K5")
def test_records_do_not_depend_on_the_sampler(sampler: Any, api: Api) -> None:
    """With every trace sampled away, every record is complete, and knows its trace."""
    with watching(sampler=sampler) as watch:
        for _ in range(5):
            run(api)
    assert watch.spans == []
    assert len(watch.records) == 5
    for record in watch.records:
        assert record.usage.input_tokens == api.input_tokens
        assert record.trace_id is not None
        assert record.response_json is not None


@pytest.mark.peer_fault("K6")
def test_records_do_not_depend_on_attribute_limits() -> None:
    """Attributes may be cut to ten characters and five a span; the record is whole."""
    provider = TracerProvider(span_limits=SpanLimits(max_attributes=5, max_attribute_length=10))
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with watching() as watch:
        watch.observer.tracer = provider.get_tracer("llmspan")
        run(MESSAGES)
    (record,) = watch.records
    assert record.usage.cache_read_tokens == 30000
    assert "Hello, wörld!" in json.loads(record.response_json or "")["content"][0]["text"]
    assert len(exporter.get_finished_spans()[0].attributes or {}) == 5


def test_without_a_tracer_provider() -> None:
    """No OpenTelemetry SDK set up: no span, no ids, and the same record."""
    with watching() as watch:
        watch.observer.tracer = trace.NoOpTracer()
        run(MESSAGES)
    (record,) = watch.records
    assert (record.trace_id, record.span_id, record.usage.output_tokens) == (None, None, 250)


def test_without_a_tracer_provider_inside_a_remote_trace() -> None:
    """A propagated trace without an SDK: the record belongs to the trace, and does not pose as its caller's span."""
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=True)
    with watching() as watch:
        watch.observer.tracer = trace.NoOpTracer()
        with trace.use_span(trace.NonRecordingSpan(context)):
            run(CHAT)
    (record,) = watch.records
    assert (record.trace_id, record.parent_span_id, record.span_id) == (f"{0xABC:032x}", f"{0xDEF:016x}", None)


def test_payload_stays_off_the_span() -> None:
    """No attribute holds what was asked or answered; the record does, by default."""
    with watching() as watch:
        run(MESSAGES)
    record, span = watch.only()
    assert "wörld" not in span.to_json()
    assert '"hi"' not in span.to_json()
    assert record.content == "full"
    with watching(policy=ContentPolicy(keep=False)) as watch:
        run(MESSAGES)
    (record,) = watch.records
    assert (record.content, record.request_json, record.response_json) == ("metadata", None, None)
    assert record.usage.output_tokens == 250
    assert record.request_bytes


def test_a_defect_of_ours_is_the_callers_nothing(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """Whatever raises inside us: the call is unharmed, one line is logged, the record is made if at all possible."""
    from llmspan import _guard

    def explode(*_: Any, **__: Any) -> Any:
        raise RuntimeError("ours")

    with watching() as watch:
        monkeypatch.setattr(Observer, "_set_end_attributes", explode)
        run(CHAT)
        run(CHAT)
        assert _guard.failures() == {"observer.set_end_attributes": 2}
        assert sum("internal error in observer.set_end_attributes" in line for line in caplog.messages) == 1
        _guard.reset_error_counts()
    assert len(watch.records) == 2
    assert all(span.end_time for span in watch.spans)
