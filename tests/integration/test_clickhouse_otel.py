"""``otel_traces`` as the Collector makes it, filled by us, and the records made of what a Collector wrote there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from llmspan import semconv
from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.trace import ProviderTrace
from records import NOON, full_trace, make_trace
from stores import clickhouse, clickhouse_http, shutting_down

#: what `DESCRIBE` says of the table that the exporter of Collector 0.156 makes
COLUMNS = {
    "Timestamp": "DateTime64(9)",
    "TraceId": "String",
    "SpanId": "String",
    "ParentSpanId": "String",
    "TraceState": "String",
    "SpanName": "LowCardinality(String)",
    "SpanKind": "LowCardinality(String)",
    "ServiceName": "LowCardinality(String)",
    "ResourceAttributes": "Map(LowCardinality(String), String)",
    "ScopeName": "String",
    "ScopeVersion": "String",
    "SpanAttributes": "Map(LowCardinality(String), String)",
    "Duration": "UInt64",
    "StatusCode": "LowCardinality(String)",
    "StatusMessage": "String",
    "Events.Timestamp": "Array(DateTime64(9))",
    "Events.Name": "Array(LowCardinality(String))",
    "Events.Attributes": "Array(Map(LowCardinality(String), String))",
    "Links.TraceId": "Array(String)",
    "Links.SpanId": "Array(String)",
    "Links.TraceState": "Array(String)",
    "Links.Attributes": "Array(Map(LowCardinality(String), String))",
    "ResourceAttributeItems": "Array(String)",
    "SpanAttributeItems": "Array(String)",
}
TIMES = {
    "TraceId": "String",
    "Start": "SimpleAggregateFunction(min, DateTime)",
    "End": "SimpleAggregateFunction(max, DateTime)",
}


@pytest.fixture
def backend() -> Iterator[ClickHouseBackend]:
    settings = clickhouse.settings(clickhouse.embedded_dsn(), clickhouse_otel_traces=True)
    with shutting_down(ClickHouseBackend.from_settings(settings)) as backend:
        backend.open()
        yield backend


def rows(backend: ClickHouseBackend, sql: str) -> list[dict[str, Any]]:
    return list(backend._client().rows(sql.replace("FROM ", f"FROM {backend._client().dsn.database}.")))


def as_go_does(value: object) -> str:
    """An attribute's value as the Collector writes it into the map."""
    if isinstance(value, str):
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False, separators=(",", ":"))


def a_span(attributes: Mapping[str, Any], *, trace_id: int = 0x0AF7651916CD43DD8448EB211C80319C) -> ReadableSpan:
    return ReadableSpan(
        "chat", SpanContext(trace_id, 0x00F067AA0BA902B7, is_remote=False, trace_flags=TraceFlags(1)),
        attributes=attributes, start_time=NOON + 123_456_789, end_time=NOON + 2_000_000_000,
    )  # fmt: skip


def through_collector(backend: ClickHouseBackend, span: ReadableSpan, **more: str) -> None:
    """Insert a span as the Collector's exporter would."""
    context = span.get_span_context()
    assert context is not None
    values = {
        "Timestamp": span.start_time, "TraceId": f"{context.trace_id:032x}", "SpanId": f"{context.span_id:016x}",
        "SpanName": span.name, "SpanKind": "Client", "ServiceName": "", "ResourceAttributes": {},
        "SpanAttributes": {name: as_go_does(value) for name, value in (span.attributes or {}).items()},
        "Duration": (span.end_time or 0) - (span.start_time or 0), "StatusCode": "Unset", "StatusMessage": "",
    } | more  # fmt: skip
    client = backend._client()
    client._types.clear()  # these are other columns than those of a write
    client.insert(backend._table("otel_traces"), tuple(values), [list(values.values())], {"async_insert": 0})
    client._types.clear()


# -- what we write


@pytest.mark.parametrize(("table", "columns"), [("otel_traces", COLUMNS), ("otel_traces_trace_id_ts", TIMES)])
def test_columns_are_the_collectors(backend, table, columns):
    """Names, types and order of the columns are those of the Collector's exporter."""
    found = backend._client().rows(f"DESCRIBE {backend._table(table)}")
    assert {row["name"]: row["type"] for row in found} == columns
    assert [row["name"] for row in found] == list(columns)


def test_record_as_span(backend):
    """A record is a client span with the record's attributes as text, its time to the nanosecond, and no payload."""
    trace = full_trace()
    backend.write([trace])
    (row,) = rows(backend, "SELECT *, toUnixTimestamp64Nano(Timestamp) AS at FROM otel_traces")
    assert row["at"] == trace.started_at
    assert (row["TraceId"], row["SpanId"], row["ParentSpanId"]) == (trace.trace_id, trace.span_id, trace.parent_span_id)
    assert (row["SpanName"], row["SpanKind"], row["ServiceName"]) == ("chat gpt-5", "Client", "service")
    assert (row["ScopeName"], row["ResourceAttributes"]) == ("llmspan", {"service.name": "service"})
    assert (row["StatusCode"], row["StatusMessage"], row["Duration"]) == ("Error", "slow down", trace.duration_ns)
    attributes = row["SpanAttributes"]
    assert attributes["gen_ai.usage.input_tokens"] == "1"
    assert attributes["gen_ai.response.finish_reasons"] == '["stop","error","length"]'
    assert attributes["gen_ai.request.stream"] == "true"
    assert {
        name: as_go_does(value) for name, value in semconv.to_attributes(trace).items()
    }.items() <= attributes.items()
    assert str(trace.request_json) not in str(row)


def test_time_of_a_trace(backend):
    """Grafana finds a trace's spans by the times that are kept for it."""
    backend.write([full_trace(), full_trace(started_at=NOON + 7_000_000_000), make_trace()])
    found = rows(
        backend,
        "SELECT TraceId, toUnixTimestamp(min(Start)) AS start, toUnixTimestamp(max(End)) AS end"
        " FROM otel_traces_trace_id_ts GROUP BY TraceId",
    )
    assert found == [{"TraceId": full_trace().trace_id, "start": NOON // 10**9, "end": NOON // 10**9 + 7}]


def test_written_twice_is_one_span(backend):
    """The same batch again is no second span; a record twice in a batch is one."""
    records = [make_trace(id=f"{at}") for at in range(5)]
    for _ in range(3):
        backend.write([*records, records[0]])
    assert rows(backend, "SELECT count() AS n FROM otel_traces") == [{"n": 5}]
    assert rows(backend, "SELECT count() AS n FROM provider_traces") == [{"n": 5}]


@pytest.mark.skipif(clickhouse.SERVER is not None, reason="faults are those of the front for the engine")
def test_reset_between_the_tables():
    """A connection that is lost at either table, answer or all, leaves each call once in both."""
    front = clickhouse.front()
    settings = clickhouse.settings(clickhouse.server_dsn(), clickhouse_otel_traces=True)
    with shutting_down(ClickHouseBackend.from_settings(settings)) as backend:
        backend.open()
        for at, table in enumerate(("PROVIDER_TRACES", "OTEL_TRACES")):
            where = f"INSERT INTO {backend._table(table)}".upper()
            with front.failing(clickhouse_http.drop, where=where) as fault:
                backend.write([make_trace(id=f"{at}-{n}") for n in range(5)])
            assert fault.met == 1
        assert rows(backend, "SELECT count() AS n FROM otel_traces") == [{"n": 10}]
        assert rows(backend, "SELECT count() AS n FROM provider_traces") == [{"n": 10}]


# -- what a Collector wrote

SPANS: dict[str, dict[str, Any]] = {
    "ours": semconv.to_attributes(full_trace(id="ours")),
    "least": {"gen_ai.operation.name": "chat"},
    "zeros": {
        "gen_ai.operation.name": "embeddings", "gen_ai.provider.name": "openai", "gen_ai.usage.input_tokens": 0,
        "gen_ai.usage.cache_read.input_tokens": 0,
    },
    "older names": {
        "gen_ai.operation.name": "text_completion", "gen_ai.system": "cohere", "gen_ai.usage.prompt_tokens": 3,
        "gen_ai.usage.completion_tokens": 4, "gen_ai.usage.cache_creation.input_tokens": 5,
    },
    "failed": {"gen_ai.operation.name": "generate_content", "error.type": "timeout", "http.response.status_code": 504},
    "cancelled": {
        "gen_ai.operation.name": "chat", "llmspan.status": "cancelled",
        "llmspan.cancelled_by": "asyncio.exceptions.CancelledError",
    },
    "raw finish reasons": {
        "gen_ai.operation.name": "chat", "gen_ai.response.finish_reasons": ("tool_call", "error"),
        "llmspan.response.finish_reasons": ("tool_use", "error"),
    },
    "no finish reason yet": {"gen_ai.operation.name": "chat", "llmspan.response.finish_reasons": ("queued",)},
    "details": {
        "gen_ai.operation.name": "chat", "gen_ai.usage.audio.input_tokens": 7, 'llmspan.usage.odd "name"': 8,
        "llmspan.usage.text": "no number", "openai.api.type": "responses", "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.response.finish_reasons": ("stop", "error"), "llmspan.attributes.tenant": 'ac"me',
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SPANS)
def test_record_of_a_span(backend, name):
    """The view reads a span as the exporters of this package do, down to the id."""
    span = a_span(SPANS[name])
    through_collector(backend, span)
    (found,) = backend.list().traces
    expected = semconv.from_span(span)
    attributes = {key: as_go_does(value) for key, value in expected.attributes.items()}
    assert found == dataclasses.replace(expected, content="metadata", attributes=attributes)


def test_what_else_a_row_says(backend):
    """The service and the status message of a span fill what its attributes leave open."""
    through_collector(
        backend, a_span({"gen_ai.operation.name": "chat", "error.type": "x"}), ServiceName="shop", StatusMessage="oh no"
    )
    (found,) = backend.list().traces
    assert (found.source, found.error_message, found.status) == ("shop", "oh no", "error")


@pytest.mark.parametrize("attributes", [{}, {"gen_ai.operation.name": "invoke_agent"}, {"http.request.method": "GET"}])
def test_other_spans_are_no_records(backend, attributes):
    """Spans that are no call of a model make no record, and stay where they are."""
    through_collector(backend, a_span(attributes))
    assert backend.list().traces == []
    assert rows(backend, "SELECT count() AS n FROM otel_traces") == [{"n": 1}]


def test_odd_words_do_not_spoil_a_listing(backend):
    """A status that nobody knows is not taken over."""
    through_collector(
        backend, a_span({"gen_ai.operation.name": "chat", "llmspan.status": "fine", "llmspan.usage_source": "guess"})
    )
    (found,) = backend.list().traces
    assert (found.status, found.usage.source) == ("ok", "none")


def as_span(trace: ProviderTrace) -> ReadableSpan:
    return a_span(semconv.to_attributes(trace))


@pytest.mark.parametrize("collector_first", [True, False])
def test_both_ways_are_one_call(backend, collector_first):
    """A call that was written here and came through a Collector is one call, and the record is the one with payload."""
    trace = make_trace(id="both", started_at=NOON + 123_456_789)
    steps = [lambda: backend.write([trace]), lambda: through_collector(backend, as_span(trace))]
    for step in steps[::-1] if collector_first else steps:
        step()
    assert rows(backend, "SELECT count() AS n FROM provider_traces") == [{"n": 2}]
    assert backend.get("both") == trace
    assert [(row.calls, row.input_tokens) for row in backend.stats([])] == [(1, 10)]
    backend._client().command(f"OPTIMIZE TABLE {backend._table('provider_traces')} FINAL")
    assert backend.get("both") == trace


def test_collector_that_sends_twice(backend):
    """A span that the Collector delivered twice is one record."""
    for _ in range(2):
        through_collector(backend, a_span({"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 5}))
    assert [(row.calls, row.input_tokens) for row in backend.stats([])] == [(1, 5)]


def test_what_we_wrote_makes_no_record_twice(backend):
    """The spans that we write beside the records do not come back as records."""
    backend.write([full_trace()])
    assert rows(backend, "SELECT count() AS n FROM provider_traces") == [{"n": 1}]
