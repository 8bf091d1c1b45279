"""Attributes that are set without the SDK's check of each are those that the SDK would have set."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Span, SpanLimits, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)

from llmspan.instrumentation.span_attributes import set_attributes, start_span

NAMES = st.sampled_from(["gen_ai.request.model", "b", "c", "d", "e"])
PLAIN = st.text(max_size=9) | st.integers() | st.floats(allow_nan=False) | st.booleans()
VALUES = (
    PLAIN | st.lists(st.text(max_size=3), max_size=3).map(tuple) | st.lists(PLAIN, max_size=2) | st.binary(max_size=3)
)
ATTRIBUTES = st.dictionaries(NAMES, VALUES, max_size=5)
REQUEST: dict[str, Any] = {"gen_ai.request.model": "m", "gen_ai.request.max_tokens": 5, "gen_ai.request.stream": True}


_processors: list[SpanProcessor] = []


@pytest.fixture(autouse=True)
def ended_threads() -> Iterator[None]:
    """The threads of batch processors end with the test that has made them."""
    yield
    while _processors:
        _processors.pop().shutdown()


def _background() -> BatchSpanProcessor:
    processor = BatchSpanProcessor(InMemorySpanExporter())
    _processors.append(processor)
    return processor


def _tracer(limits: SpanLimits | None = None, sampler: Sampler = DEFAULT_ON, *processors: SpanProcessor) -> Tracer:
    provider = TracerProvider(span_limits=limits, sampler=sampler, shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    tracer = provider.get_tracer("test")
    assert isinstance(tracer, Tracer)
    return tracer


def _facts(span: Any) -> tuple[Any, ...]:
    """Names and values in their order, with the types of those, and how many were dropped."""
    values = dict(span.attributes or {})
    return list(values.items()), [type(value) for value in values.values()], span.dropped_attributes


@given(st.lists(ATTRIBUTES, min_size=1, max_size=3), st.sampled_from([None, 2, 4, 128]), st.sampled_from([None, 1, 5]))
@example([{"a": 1, "b": "x"}, {"a": "y"}], None, None)
@example([{"a": ("x", "y")}, {"a": ()}, {"b": ["x"]}], None, None)
@example([{"a": "long text", "b": ("long text",)}], None, 2)
@example([{"a": 1, "b": 2, "c": 3}, {"d": 4, "a": 5}], 2, None)
def test_as_the_sdk_sets_them(calls: list[Mapping[str, Any]], most: int | None, longest: int | None) -> None:
    """Whatever is set, in whatever order, and whichever limits there are."""
    tracer = _tracer(SpanLimits(max_span_attributes=most, max_span_attribute_length=longest))
    ours, theirs = tracer.start_span("ours"), tracer.start_span("theirs")
    for attributes in calls:
        set_attributes(ours, attributes)
        theirs.set_attributes(attributes)
    assert _facts(ours) == _facts(theirs)


def test_plain_ones_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this is for."""
    span = _tracer().start_span("s")
    monkeypatch.setattr(BoundedAttributes, "__setitem__", None)
    monkeypatch.setattr(BoundedAttributes, "_set_items", None, raising=False)
    set_attributes(span, {**REQUEST, "gen_ai.response.finish_reasons": ("stop",)})
    assert isinstance(span, Span)
    assert dict(span.attributes or {}) == {**REQUEST, "gen_ai.response.finish_reasons": ("stop",)}


def test_a_span_that_has_ended_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """The SDK says so, as it does otherwise."""
    span = _tracer().start_span("s", attributes={"a": 1})
    span.end()
    set_attributes(span, {"a": 2})
    assert isinstance(span, Span)
    assert dict(span.attributes or {}) == {"a": 1}
    assert "ended span" in caplog.text


def test_a_method_that_was_replaced_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a subclass, or by a tool that looks at what is set."""
    seen: list[Mapping[str, Any]] = []
    original = Span.set_attributes

    @functools.wraps(original)
    def looking(self: Span, attributes: Mapping[str, Any]) -> None:
        seen.append(attributes)
        original(self, attributes)

    monkeypatch.setattr(Span, "set_attributes", looking)
    set_attributes(_tracer().start_span("s"), REQUEST)
    assert seen == [REQUEST]


@pytest.mark.parametrize("member", ["_lock", "_attributes", "_end_time"])
def test_a_span_of_another_sdk_is_left_to_it(member: str) -> None:
    """A version that names a member otherwise sets the attributes itself: none is lost, and nothing is raised."""

    class Other:
        def __init__(self) -> None:
            self._lock, self._attributes, self._end_time = threading.Lock(), BoundedAttributes(immutable=False), None
            self.seen: list[Any] = []
            delattr(self, member)

        def set_attributes(self, attributes: Mapping[str, Any]) -> None:
            self.seen.append(attributes)

    Other.set_attributes = FunctionType(Other.set_attributes.__code__, vars(sys.modules[Span.__module__]))
    span: Any = Other()
    set_attributes(span, REQUEST)
    assert span.seen == [REQUEST]


@pytest.mark.parametrize("member", ["sampler", "span_processor"])
def test_a_tracer_of_another_sdk_is_left_to_it(member: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise where the tracer has no member of that name."""
    tracer, seen = _tracer(None, DEFAULT_ON, _background()), list[Any]()
    delattr(tracer, member)

    def start(_tracer: Any, _name: str, **options: Any) -> Any:
        seen.append(options["attributes"])

    seen_by = FunctionType(start.__code__, vars(sys.modules[Span.__module__]), closure=start.__closure__)
    monkeypatch.setattr(Tracer, "start_span", seen_by)
    start_span(tracer, "s", REQUEST)
    assert seen == [REQUEST]


@pytest.mark.parametrize("sampler", [
    DEFAULT_ON, ALWAYS_ON, ALWAYS_OFF, TraceIdRatioBased(1.0), TraceIdRatioBased(0.0), ParentBased(ALWAYS_OFF),
    ParentBasedTraceIdRatio(1.0),
])  # fmt: skip
def test_a_span_is_started_with_them(sampler: Sampler) -> None:
    """As the SDK would have, if the sampler lets it be recorded."""
    tracer = _tracer(None, sampler, _background())
    ours, theirs = start_span(tracer, "s", REQUEST, start_time=5), tracer.start_span("s", attributes=REQUEST)
    assert ours.is_recording() == theirs.is_recording()
    if ours.is_recording():
        assert _facts(ours) == _facts(theirs)
        assert getattr(ours, "start_time", None) == 5


class _Choosing(Sampler):
    """Decides on an attribute."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        attributes = kwargs.get("attributes") or (args[4] if len(args) > 4 else None) or {}
        is_wanted = attributes.get("gen_ai.request.model") == "m"
        return SamplingResult(Decision.RECORD_AND_SAMPLE if is_wanted else Decision.DROP, attributes)

    def get_description(self) -> str:
        return "choosing"


class _OfClass(TraceIdRatioBased):
    """A subclass may look at what its parent does not."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return _Choosing().should_sample(*args, **kwargs)


@pytest.mark.parametrize("sampler", [_Choosing(), ParentBased(_Choosing()), _OfClass(1.0), ParentBased(_OfClass(1.0))])
def test_a_sampler_sees_them(sampler: Sampler) -> None:
    """One that a program has made decides on what the span is started with."""
    tracer = _tracer(None, sampler, _background())
    assert start_span(tracer, "s", REQUEST).is_recording()
    assert not start_span(tracer, "s", {"gen_ai.request.model": "other"}).is_recording()


class _Looking(SpanProcessor):
    """Looks at a span when it starts."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self.seen.append(dict(span.attributes or {}))


class _LookingBatch(BatchSpanProcessor):
    seen: list[dict[str, Any]]

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self.seen.append(dict(span.attributes or {}))


def _looking_batch() -> _LookingBatch:
    processor = _LookingBatch(InMemorySpanExporter())
    _processors.append(processor)
    processor.seen = []
    return processor


@pytest.mark.parametrize("make", [_Looking, _looking_batch])
@pytest.mark.parametrize("others", [(), (_background,), (lambda: SimpleSpanProcessor(InMemorySpanExporter()),)])
def test_a_processor_sees_them(make: Callable[[], Any], others: tuple[Callable[[], SpanProcessor], ...]) -> None:
    """One that looks at spans when they start finds there what they were started with."""
    looking = make()
    tracer = _tracer(None, DEFAULT_ON, *[other() for other in others], looking)
    start_span(tracer, "s", REQUEST)
    assert looking.seen == [REQUEST]


def test_a_processor_that_is_added_later_sees_them() -> None:
    """A program adds its processors when it likes."""
    provider, looking = TracerProvider(shutdown_on_exit=False), _Looking()
    provider.add_span_processor(_background())
    tracer = provider.get_tracer("test")
    start_span(tracer, "s", REQUEST)
    provider.add_span_processor(looking)
    start_span(tracer, "s", REQUEST)
    assert looking.seen == [REQUEST]


@pytest.mark.parametrize("of_class", [True, False])
def test_a_tool_that_replaces_start_span_sees_them(monkeypatch: pytest.MonkeyPatch, *, of_class: bool) -> None:
    """On the class, or on one tracer."""
    tracer, seen = _tracer(None, DEFAULT_ON, _background()), list[Any]()
    original = Tracer.start_span

    @functools.wraps(original)
    def looking(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["attributes"])
        return original(*args, **kwargs) if of_class else original(tracer, *args, **kwargs)

    monkeypatch.setattr(Tracer if of_class else tracer, "start_span", looking)
    start_span(tracer, "s", REQUEST)
    assert seen == [REQUEST]
