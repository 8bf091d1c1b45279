"""OTLP export within limits: sizes, batches, cuts, and an exporter that never raises."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from llmspan.otlp import CUT_BYTES, OTLPSpanExporter, SizeLimitedSpanExporter, oversize_warning, size_of, size_of_origin
from llmspan.settings import Settings
from records import examples, patient

RESOURCE = Resource({"service.name": "shop", "host.name": "node-1"}, schema_url="https://example.com/1")
SCOPE = InstrumentationScope("llmspan", "1", "https://example.com/2", {"kind": "scope"})


class Sent(SpanExporter):
    """Keeps what it is given; FAILURE for the batches whose numbers are told."""

    def __init__(self, *failing: int) -> None:
        self.batches: list[list[ReadableSpan]] = []
        self.failing = failing
        self.closed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches.append(list(spans))
        failed = len(self.batches) - 1 in self.failing
        return SpanExportResult.FAILURE if failed else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.closed = True

    @property
    def spans(self) -> list[ReadableSpan]:
        return [span for batch in self.batches for span in batch]


def context(number: int = 1, state: dict[str, str] | None = None) -> SpanContext:
    return SpanContext(
        number, number, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState(list((state or {}).items()))
    )


def make(
    attributes: dict[str, Any] | None = None, *, name: str = "chat demo", number: int = 1, events: Sequence[Event] = ()
) -> ReadableSpan:
    return ReadableSpan(
        name,
        context(number, {"vendor": "x" * 20}),
        parent=context(number + 1),
        resource=RESOURCE,
        attributes=attributes or {},
        events=events,
        links=[Link(context(7), {"why": "retry"})],
        kind=SpanKind.CLIENT,
        status=Status(StatusCode.ERROR, "it broke"),
        start_time=2**60,
        end_time=2**60 + 5,
        instrumentation_scope=SCOPE,
    )


def encoded(spans: Sequence[ReadableSpan]) -> int:
    return encode_spans(spans).ByteSize()


PLAIN = st.text(max_size=300) | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.binary(max_size=300)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=20), inner, max_size=5)
)
ATTRIBUTES = st.dictionaries(st.text(min_size=1, max_size=40), VALUES, max_size=30)


@settings(patient, max_examples=examples(60))
@given(st.lists(st.tuples(ATTRIBUTES, st.text(max_size=50)), min_size=1, max_size=5))
def test_no_span_is_larger_than_it_is_taken_for(given_spans: list[tuple[dict[str, Any], str]]) -> None:
    """The size of spans is never underestimated, whatever their names, attributes and events are."""
    spans = [
        make(attributes, name=name, number=number + 1, events=[Event(name, attributes, 2**60)])
        for number, (attributes, name) in enumerate(given_spans)
    ]
    assert encoded(spans) <= sum(size_of(span) for span in spans) + size_of_origin(spans[0])


@settings(patient, max_examples=examples(40))
@given(st.lists(st.integers(0, 60_000), max_size=60), st.integers(20_000, 200_000))
@pytest.mark.peer_fault("C13")
def test_every_request_fits(lengths: list[int], limit: int) -> None:
    """Whatever sizes come together, no request is above the limit, and every span is sent once, in order."""
    spans = [make({"gen_ai.input.messages": "ü" * length}, number=n + 1) for n, length in enumerate(lengths)]
    sent = Sent()
    assert SizeLimitedSpanExporter(sent, max_bytes=limit).export(spans) is SpanExportResult.SUCCESS
    assert all(encoded(batch) <= limit for batch in sent.batches)
    assert [span.context.trace_id for span in sent.spans] == [span.context.trace_id for span in spans]


def test_small_batches_stay_whole() -> None:
    """A batch that fits is one request, of the very same spans."""
    spans = [make({"gen_ai.usage.input_tokens": 1}, number=n + 1) for n in range(512)]
    sent = Sent()
    SizeLimitedSpanExporter(sent).export(spans)
    (batch,) = sent.batches
    assert all(one is other for one, other in zip(batch, spans, strict=True))


def test_batches_are_nearly_full() -> None:
    """512 spans of 64 KiB make 9 requests at the default limit, not more: the estimate is close."""
    spans = [make({"gen_ai.input.messages": "x" * 65_536}, number=n + 1) for n in range(512)]
    sent = Sent()
    SizeLimitedSpanExporter(sent).export(spans)
    assert [len(batch) for batch in sent.batches] == [60] * 8 + [32]


def test_a_span_that_is_too_large_is_cut_and_stays_json() -> None:
    """The longest attributes are cut until the span fits; JSON stays JSON, the rest of the span stays as it is."""
    messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "long " * 100_000}]}])
    content = {"gen_ai.input.messages": messages, "note": "n" * 5000, "gen_ai.usage.input_tokens": 12}
    events = [Event("gen_ai.choice", {"content": "e" * 400_000}, 2**60)]
    sent = Sent()
    SizeLimitedSpanExporter(sent, max_span_bytes=100_000).export([make(content, events=events)])
    (span,) = sent.spans
    assert encoded([span]) < 101_000
    kept = json.loads(span.attributes["gen_ai.input.messages"])
    assert kept[0]["role"] == "user"
    assert "cut by llmspan" in kept[0]["parts"][0]["content"]
    assert "cut by llmspan" in span.events[0].attributes["content"]
    assert (span.attributes["note"], span.attributes["gen_ai.usage.input_tokens"]) == ("n" * 5000, 12)
    assert span.attributes[CUT_BYTES] > 700_000
    original = make(content, events=events)
    assert (span.context.span_id, span.status.status_code, span.kind, span.start_time, span.end_time) == (
        original.context.span_id,
        original.status.status_code,
        original.kind,
        original.start_time,
        original.end_time,
    )


@settings(patient, max_examples=examples(40))
@given(ATTRIBUTES, st.integers(5_000, 20_000))
def test_any_attributes_can_be_cut(attributes: dict[str, Any], limit: int) -> None:
    """Text, bytes, structures: whatever makes a span too large can be cut, and the result can be encoded."""
    large = {
        **attributes,
        "a": "é" * 20_000,
        "b": b"x" * 20_000,
        "c": [{"text": "y" * 20_000, "n": 1}],
        "d": "{" * 9000,
    }
    sent = Sent()
    SizeLimitedSpanExporter(sent, max_bytes=limit * 4, max_span_bytes=limit).export([make(large)])
    assert encoded(sent.spans) <= max(limit, size_of(make(attributes))) + 2000
    assert isinstance(sent.spans[0].attributes["b"], bytes)


def test_one_warning_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    """However many spans are cut, there is one warning; it names the settings and where the whole content is."""
    exporter = SizeLimitedSpanExporter(Sent(), max_span_bytes=10_000)
    with caplog.at_level(logging.WARNING, "llmspan"):
        for _ in range(3):
            exporter.export([make({"gen_ai.output.messages": "x" * 50_000})] * 5)
    (record,) = caplog.records
    for word in ("LLMSPAN_OTLP_MAX_SPAN_BYTES", "10000", "CAPTURE_MESSAGE_CONTENT=NO_CONTENT", "LLMSPAN_BACKENDS"):
        assert word in record.getMessage()


def test_a_failed_request_does_not_take_the_others_along() -> None:
    """One request of several fails: the others are sent, and the result is FAILURE."""
    sent = Sent(1)
    spans = [make({"x": "y" * 50_000}, number=n + 1) for n in range(6)]
    assert SizeLimitedSpanExporter(sent, max_bytes=110_000).export(spans) is SpanExportResult.FAILURE
    assert [len(batch) for batch in sent.batches] == [2, 2, 2]


def test_shutdown_is_passed_on() -> None:
    """Shutting down shuts the wrapped exporter down."""
    sent = Sent()
    SizeLimitedSpanExporter(sent).shutdown()
    assert sent.closed


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"LLMSPAN_OTLP_MAX_BYTES": "lots"}, "LLMSPAN_OTLP_MAX_BYTES=lots"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL=http/json"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_*"),
    ],
)
def test_a_wrong_setting_is_told_once_and_raises_nothing(
    variables: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Making the exporter never raises; exporting says FAILURE, and the reason is logged once."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    exporter = OTLPSpanExporter()
    for _ in range(3):
        assert exporter.export([make()]) is SpanExportResult.FAILURE
    exporter.shutdown()
    messages = [record.getMessage() for record in caplog.records if told in record.getMessage()]
    assert len(messages) == 1
    assert messages[0].endswith("Spans are not exported over OTLP.")


@pytest.mark.parametrize(
    ("exporter", "capture", "warned"),
    [
        ("otlp", "SPAN_ONLY", True),
        ("console,otlp_proto_http", "SPAN_AND_EVENT", True),
        ("llmspan_otlp", "SPAN_ONLY", False),
        ("otlp", "EVENT_ONLY", False),
        ("otlp", "NO_CONTENT", False),
        (None, "SPAN_ONLY", False),
    ],
)
def test_content_on_spans_and_an_unbounded_exporter_collide(exporter: str, capture: Any, warned: bool) -> None:
    """The warning comes exactly when content goes on spans and the exporter does not bound its requests."""
    given_settings = Settings(otel_traces_exporter=exporter, otel_instrumentation_genai_capture_message_content=capture)
    assert (oversize_warning(given_settings) is not None) == warned
