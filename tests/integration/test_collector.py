"""End to end with the real Collector: programs under ``opentelemetry-instrument``, OTLP, the Collector, a file."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace as ot
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from integration.programs import environment, run
from interaction import RECORDINGS, interaction_ids
from llmspan import semconv
from llmspan.demo.server import DemoServer
from llmspan.otlp import OTLPSpanExporter
from llmspan.reader import Reader
from llmspan.trace import ProviderTrace
from otelcol import Collector
from polling import until

pytestmark = pytest.mark.collector

#: known when the record is made, after the span has ended
NOT_ON_SPANS = {"llmspan.response.chunk_count", "llmspan.content"}


def records_in(database: Path) -> dict[str, ProviderTrace]:
    """The records of the direct backend by span id."""
    with Reader.from_env(backends="sqlite", sqlite_path=database) as reader:
        found = [trace for short in reader.iterate() if (trace := reader.get(short.id)) is not None]
    return {str(trace.span_id): trace for trace in found}


def to(collector: Collector, protocol: str, exporter: str = "llmspan_otlp") -> dict[str, str]:
    return {
        "OTEL_TRACES_EXPORTER": exporter,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.grpc if protocol == "grpc" else collector.http,
        "OTEL_SERVICE_NAME": "shop",
    }


def plain(value: Any) -> Any:
    """A value as OTLP's JSON form has it: tuples are lists."""
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def assert_same(span: dict[str, Any], record: ProviderTrace) -> None:
    """The span says what the record says."""
    expected = {k: plain(v) for k, v in semconv.to_attributes(record).items() if k not in NOT_ON_SPANS}
    assert {name: span["attributes"].get(name) for name in expected} == expected
    assert span["traceId"] == record.trace_id
    assert span.get("parentSpanId", "") == (record.parent_span_id or "")
    if record.call_type != "background":  # whose record has the time of the response, and whose span that of the call
        assert int(span["startTimeUnixNano"]) == record.started_at
    assert int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]) == record.duration_ns
    assert (span["status"].get("code") == 2) == (record.status == "error")
    assert span["resource"]["service.name"] == record.source == "shop"


@pytest.mark.parametrize(
    ("protocol", "exporter", "every"),
    [("grpc", "llmspan_otlp", 1), ("http/protobuf", "llmspan_otlp", 3), ("grpc", "otlp_proto_grpc", 10)],
    ids=["grpc", "http", "stock grpc"],
)
def test_every_call_arrives_as_the_span_that_its_record_describes(
    protocol: str, exporter: str, every: int, tmp_path: Path
) -> None:
    """As many spans in the Collector's file as calls were made, each with the attributes of its record."""
    database = tmp_path / "traces.db"
    with DemoServer() as provider, Collector(tmp_path / "collector", "file") as collector:
        env = environment(provider, database, **to(collector, protocol, exporter))
        env["LLMSPAN_TEST_RECORDINGS"] = str(RECORDINGS)
        script = str(Path(__file__).with_name("replaying.py"))
        done = run("opentelemetry-instrument", sys.executable, script, str(every), env=env)
    assert done.returncode == 0, done.stderr
    records = records_in(database)
    spans = collector.spans()
    assert len(spans) == len(records) == int(done.stdout) == len(interaction_ids()[::every])
    assert Counter(span["spanId"] for span in spans).most_common(1)[0][1] == 1
    for span in spans:
        assert_same(span, records[span["spanId"]])


def send(collector: Collector, spans: list[dict[str, Any]], *, protocol: str = "grpc", **options: Any) -> None:
    """Send spans with the given attributes (``error``: a failed one), in stock batches, and wait until they are out."""
    endpoint = collector.grpc if protocol == "grpc" else f"{collector.http}/v1/traces"
    exporter = OTLPSpanExporter(protocol, endpoint=endpoint, **options)
    provider = TracerProvider(resource=Resource({"service.name": "shop"}))
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000))
    tracer = provider.get_tracer("test")
    for attributes in spans:
        known = {k: v for k, v in attributes.items() if k != "error"}
        span = tracer.start_span("chat demo", kind=ot.SpanKind.CLIENT, attributes=known)
        if attributes.get("error"):
            span.set_status(ot.StatusCode.ERROR, "overloaded")
        span.end()
    assert provider.force_flush(60_000)
    provider.shutdown()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_512_spans_of_64_kb_arrive(protocol: str, tmp_path: Path) -> None:
    """A whole stock batch of spans with content, 33 MB, arrives at a receiver that takes 4 MiB a request."""
    spans = [{"number": n, "gen_ai.input.messages": "x" * 65_536} for n in range(512)]
    with Collector(tmp_path, "file", OTELCOL_MAX_MESSAGE_MIB="4") as collector:
        send(collector, spans, protocol=protocol)
    found = {span["attributes"]["number"]: span["attributes"]["gen_ai.input.messages"] for span in collector.spans()}
    assert found == dict.fromkeys(range(512), "x" * 65536)


def test_the_stock_exporter_loses_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Why there is an exporter of ours: the stock one sends the batch whole, and it is refused."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Stock

    with Collector(tmp_path, "file", OTELCOL_MAX_MESSAGE_MIB="4") as collector:
        provider = TracerProvider()
        stock = Stock(collector.grpc, timeout=3)
        provider.add_span_processor(BatchSpanProcessor(stock, schedule_delay_millis=3_600_000))
        for _ in range(512):
            provider.get_tracer("test").start_span("chat", attributes={"text": "x" * 65_536}).end()
        provider.force_flush()
        provider.shutdown()
    assert collector.spans() == []


@pytest.mark.parametrize(("exporter", "warnings"), [("otlp_proto_grpc", 1), ("llmspan_otlp", 0)])
def test_content_on_spans_with_the_stock_exporter_is_warned_of(exporter: str, warnings: int, tmp_path: Path) -> None:
    """One line at start says that the two do not go together, and what does; the program runs."""
    content = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY"}
    with DemoServer() as provider, Collector(tmp_path / "collector", "file") as collector:
        env = environment(provider, tmp_path / "traces.db", **to(collector, "grpc", exporter), **content)
        done = run("opentelemetry-instrument", sys.executable, "examples/openai_stream.py", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("OTEL_TRACES_EXPORTER=llmspan_otlp splits them") == warnings


def test_redaction(tmp_path: Path) -> None:
    """Planted keys, tokens, an e-mail address and a card number do not reach the file; the rest of the text does."""
    planted = [
        "sk-proj-abcdefghijklmnop1234",
        "sk-ant-api03-ABCDEFGHIJKLMNOPQRST",
        "Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "a1B2" * 9,
        "jane.doe+spam@mail.example.co.uk",
        "4111 1111 1111 1111",
    ]
    text = json.dumps([{"role": "user", "content": f"before {secret} after"} for secret in planted])
    spans = [
        {"gen_ai.input.messages": text, "user.id": "jane@example.com", "list": ["x sk-abcdefghijklmnopqrstuvwx y"]},
        {"gen_ai.usage.input_tokens": 4111, "gen_ai.request.model": "gpt-5.4", "long": "z" * 70_000},
    ]
    with Collector(tmp_path, "redaction", "file") as collector:
        send(collector, spans)
    written = (tmp_path / "spans.jsonl").read_text()
    for secret in [*planted, "jane@example.com", "sk-abcdefghijklmnopqrstuvwx"]:
        assert secret not in written
    first, second = collector.spans()
    assert first["attributes"]["gen_ai.input.messages"].count("before ****") == len(planted)
    assert second["attributes"]["gen_ai.usage.input_tokens"] == 4111
    assert second["attributes"]["gen_ai.request.model"] == "gpt-5.4"
    assert len(second["attributes"]["long"]) == 65_536


def call(number: int, **more: Any) -> dict[str, Any]:
    return {
        "number": number,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic" if number % 3 else "openai",
        "gen_ai.request.model": f"model-{number % 2}",
        "gen_ai.usage.input_tokens": number,
        "gen_ai.usage.output_tokens": 2 * number,
        **({"gen_ai.usage.cache_read.input_tokens": number % 5} if number % 4 else {}),
        **more,
    }


def counted_calls(collector: Collector) -> int:
    """``llmspan.calls`` over all series; they are running totals, so the largest value of each counts."""
    series: dict[str, int] = {}
    for name, by, point in collector.metrics():
        if name == "llmspan.calls":
            series[repr(sorted(by.items()))] = max(int(point["asInt"]), series.get(repr(sorted(by.items())), 0))
    return sum(series.values())


def test_sampling_keeps_what_matters_and_metrics_count_everything(tmp_path: Path) -> None:
    """All errors and all expensive calls stay although nearly all else goes; the metrics are the sums of all calls."""
    calls = [
        *(call(n) for n in range(1000)),
        *(call(n, error=True, **{"error.type": "overloaded_error"}) for n in range(1000, 1100)),
        call(2001, **{"gen_ai.usage.input_tokens": 150_000}),
        call(2002, **{"gen_ai.usage.output_tokens": 9_000}),
        call(2003, **{"llmspan.status": "incomplete"}),
    ]
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 10**9, "gen_ai.provider.name": "x"}
    stages = ("redaction", "metrics-from-spans", "tail-sampling", "file")
    sampling = {"OTELCOL_DECISION_WAIT": "1s", "OTELCOL_SAMPLE_PERCENT": "1", "OTELCOL_METRICS_INTERVAL": "200ms"}
    with Collector(tmp_path, *stages, **sampling) as collector:
        send(collector, [*calls, agent])
        until(lambda: counted_calls(collector) == len(calls))
    kept = {span["attributes"].get("number") for span in collector.spans()}
    assert kept >= {*range(1000, 1100), 2001, 2002, 2003}
    assert len(kept) < 300

    expected: Counter[tuple[str, str, str]] = Counter()
    for one in calls:
        for name in ("input_tokens", "output_tokens", "cache_read.input_tokens"):
            if f"gen_ai.usage.{name}" in one:
                by = (one["gen_ai.provider.name"], one["gen_ai.request.model"])
                expected[f"gen_ai.client.inference.usage.{name}", *by] += one[f"gen_ai.usage.{name}"]
    found: Counter[tuple[str, str, str]] = Counter()
    durations = 0
    for name, by, point in collector.metrics():
        if ".usage." in name:
            found[name, by["gen_ai.provider.name"], by["gen_ai.request.model"]] += int(point["asInt"])
        elif name == "gen_ai.client.inference.duration":
            durations += int(point["count"])
    assert +found == +expected
    assert durations == len(calls)


def test_more_traces_than_the_sampler_holds(tmp_path: Path) -> None:
    """With more traces under way than it has room for, the sampler makes senders wait; no error is lost."""
    small = {"OTELCOL_DECISION_WAIT": "1s", "OTELCOL_SAMPLE_PERCENT": "1", "OTELCOL_SAMPLE_TRACES": "100"}
    with Collector(tmp_path, "tail-sampling", "file", **small) as collector:
        send(collector, [call(n, error=True) for n in range(250)])
    assert {span["attributes"]["number"] for span in collector.spans()} == set(range(250))


def test_the_direct_backend_is_complete_when_spans_are_sampled_in_the_program(tmp_path: Path) -> None:
    """With the SDK's sampler off, nothing reaches the Collector, and the record is there all the same."""
    database = tmp_path / "traces.db"
    with DemoServer() as provider, Collector(tmp_path / "collector", "file") as collector:
        env = environment(provider, database, **to(collector, "grpc"), OTEL_TRACES_SAMPLER="always_off")
        run("opentelemetry-instrument", sys.executable, "examples/openai_stream.py", env=env)
    assert collector.spans() == []
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*) FROM provider_traces").fetchone() == (1,)
