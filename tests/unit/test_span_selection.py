"""Which spans are stored: what stands above calls, and agents and tools beside them; once, bounded, without usage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind

import llmspan
from llmspan import Reader, lifecycle, pipeline, semconv
from llmspan.backends.memory import MemoryBackend
from llmspan.content import MASK, ContentPolicy
from llmspan.exporter import SQLiteSpanExporter, submit_ended_span
from llmspan.query.tree import Tree
from llmspan.settings import Settings
from llmspan.span_content import clean_span
from llmspan.span_record import SpanRecord
from llmspan.span_selection import _MOST_BYTES, _MOST_WAITING, SpanSelector, to_span_record
from llmspan.trace import ProviderTrace
from records import make_trace

SECRET = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"


class Calls:
    """A program with a tracer, and the store that its calls and spans go to."""

    def __init__(self, **settings: Any) -> None:
        lifecycle.close(30)
        self.provider = TracerProvider()
        self.tracer = self.provider.get_tracer("test")
        self.store = MemoryBackend()
        pipeline.shared().add(self.store)
        llmspan.instrument(tracer_provider=self.provider, providers=(), **settings)

    def span(self, name: str, **options: Any) -> Any:
        return self.tracer.start_as_current_span(name, **options)

    def call(self) -> str:
        return llmspan.record(provider="openai", model="m", usage={"prompt_tokens": 3, "completion_tokens": 1})

    def tree(self) -> Tree:
        assert llmspan.flush(30)
        (trace_id,) = {record.trace_id for record in self.store.list(limit=1000).traces}
        assert trace_id is not None
        return Reader(self.store).tree(trace_id=trace_id)

    def stored(self) -> list[SpanRecord]:
        assert llmspan.flush(30)
        ids = {span.trace_id for span in self.store._spans.values()}
        return list(self.store.spans(sorted(ids), 10_000))


@pytest.fixture
def program() -> Iterator[Calls]:
    yield Calls()
    lifecycle.close(30)
    pipeline.shared().configure(Settings())


def names(tree: Tree) -> list[tuple[int, str]]:
    return [(node.depth, node.name) for node in tree.nodes]


def test_what_stands_above_and_beside_calls_is_stored(program: Calls) -> None:
    """Every span above a call, whatever its kind; beside calls those of tools and agents, and no others."""
    with program.span("POST /ask", kind=SpanKind.SERVER), program.span("handler"), program.span("SELECT 1"):
        pass
    with program.span("POST /ask", kind=SpanKind.SERVER), program.span("handler"):
        with program.span("invoke_agent", attributes={"gen_ai.operation.name": "invoke_agent"}):
            with program.span("execute_tool early", attributes={"gen_ai.operation.name": "execute_tool"}):
                pass
            program.call()
            with program.span("execute_tool weather", attributes={"openinference.span.kind": "TOOL"}):
                pass
        with program.span("SELECT 1"):
            pass
    assert [name for _, name in names(program.tree())] == [
        "POST /ask", "handler", "invoke_agent", "execute_tool early", "chat m", "execute_tool weather",
    ]  # fmt: skip
    assert len(program.stored()) == 5
    assert program.tree().sums.calls == 1


def test_a_parent_that_ends_before_its_call(program: Calls) -> None:
    """A stream may be read to its end when the span that it was begun in has ended."""
    with program.span("outer"), program.span("inner"):
        context = otel_context.get_current()
    token = otel_context.attach(context)
    program.call()
    otel_context.detach(token)
    assert names(program.tree()) == [(0, "outer"), (1, "inner"), (2, "chat m")]


def test_a_span_is_stored_once(program: Calls) -> None:
    """Two processors and an exporter may bring the same span; instrument() adds one processor, however often."""
    llmspan.instrument(tracer_provider=program.provider, providers=())
    ended: list[Any] = []
    with program.span("agent") as span:
        program.call()
    ended.append(span._readable_span())
    for again in ended * 3:
        submit_ended_span(again)
    assert [found.name for found in program.stored()] == ["agent"]
    (status,) = llmspan.status()
    assert (status.accepted, status.delivered) == (2, 2)


def test_a_stored_span_carries_no_usage(program: Calls) -> None:
    """The sums that frameworks put on agents are not stored a second time; other attributes are, as texts."""
    attributes = {
        "gen_ai.usage.input_tokens": 5, "llm.token_count.prompt": 5, "gen_ai.agent.name": "a", "n": (1, 2),
        "key": SECRET, "flag": True,
    }  # fmt: skip
    with program.span("agent", attributes=attributes):
        program.call()
    (span,) = program.stored()
    assert {**span.attributes, "key": "?"} == {"gen_ai.agent.name": "a", "n": "[1,2]", "key": "?", "flag": "true"}
    assert SECRET not in str(span)


def test_without_payloads_no_content_is_stored() -> None:
    """LLMSPAN_CAPTURE_PAYLOADS=metadata: what tools were given and answered is not kept; redaction holds as well."""
    program = Calls(capture_payloads="metadata", redact_patterns="email")
    attributes = {"gen_ai.tool.call.arguments": "{}", "input.value": "x", "gen_ai.tool.name": "ann@example.com"}
    with program.span("agent", attributes=attributes):
        program.call()
    (span,) = program.stored()
    assert list(span.attributes) == ["gen_ai.tool.name"]
    assert "ann@" not in str(span)
    lifecycle.close(30)


@pytest.mark.parametrize(("mode", "expected"), [("off", []), ("all", ["SELECT 1", "agent"])])
def test_the_setting(mode: str, expected: Sequence[str]) -> None:
    """``off`` stores none, ``all`` also what stands beside calls whatever it is; never a span of a call."""
    program = Calls(spans=mode)
    with program.span("agent"):
        program.call()
        with program.span("SELECT 1"):
            pass
        with program.span("chat x", attributes={"gen_ai.operation.name": "chat"}):
            pass
    assert sorted(span.name for span in program.stored()) == expected
    lifecycle.close(30)


def test_what_waits_is_bounded(program: Calls) -> None:
    """Traces without calls hold on to no more spans than a number, in all."""
    for _ in range(2 * _MOST_WAITING):
        with program.span("request", kind=SpanKind.SERVER):
            pass
    selector = pipeline.shared().span_selector
    assert selector is not None
    assert llmspan.flush(30)
    assert len(selector._ended) + selector._waiting <= _MOST_WAITING + 256
    assert program.stored() == []


def test_after_shutdown_nothing_is_taken(program: Calls) -> None:
    """The processor stays on the provider, and does nothing."""
    lifecycle.close(30)
    with program.span("agent"):
        pass
    assert pipeline.shared().span_selector is None


def test_a_broken_span_harms_nobody(program: Calls, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a span is like, the program and the other spans go on."""

    class Odd(Span):
        def get_span_context(self) -> Any:
            raise ZeroDivisionError

    submit_ended_span(object.__new__(Odd))
    with program.span("agent"):
        program.call()
    assert [span.name for span in program.stored()] == ["agent"]
    assert "ZeroDivisionError" in caplog.text


def test_a_recorded_call_takes_no_room_among_the_spans(program: Calls) -> None:
    """Its record says where it stands, so its span waits for no worker; another library's span of it does."""
    program.call()
    assert len(_selector()._ended) == 0
    with program.span("chat m", attributes={semconv.RECORD_ID: "1"}):
        pass
    assert len(_selector()._ended) == 1


def _selector() -> SpanSelector:
    selector = pipeline.shared().span_selector
    assert selector is not None
    return selector


class Alone:
    """A selector without a pipeline: ``defer`` runs what it is given, or drops it, as where there is no worker."""

    def __init__(self, defer: Callable[[Callable[[], None]], None]) -> None:
        self.names: list[str] = []
        self.selector = SpanSelector("parents", ContentPolicy(), defer, lambda span: self.names.append(span.name))
        provider = TracerProvider()
        provider.add_span_processor(self._processor())
        self.tracer = provider.get_tracer("test")

    def _processor(self) -> SpanProcessor:
        selector = self.selector

        class Processor(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                selector.on_end(span)

        return Processor()


@pytest.mark.parametrize(
    "content",
    [
        {"attributes": {"document": "a" * 1_000_000}},
        {"attributes": {"vector": (0.5,) * 100_000}},
        {"attributes": {"documents": ("d" * 1000,) * 1000}},
        {"links": ["d" * 1_000_000]},
    ],
)
def test_bytes_are_bounded_before_the_first_call(content: dict[str, Any]) -> None:
    """A program that makes no model call has no worker that reads: large spans are dropped all the same."""
    alone = Alone(lambda _: None)
    linked = alone.tracer.start_span("linked").get_span_context()
    links = [otel_trace.Link(linked, {"text": text}) for text in content.get("links", ())]
    for _ in range(60):
        alone.tracer.start_span("request", links=links, attributes=content.get("attributes")).end()
    assert 1 <= len(alone.selector._ended) <= 17
    assert alone.selector._ended.bytes <= _MOST_BYTES


def test_a_span_that_ends_while_its_call_is_recorded(program: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spans that ended before have been read just now: this one is read before flush() answers."""
    root = program.tracer.start_span("root")
    read = SpanSelector.read

    def read_and_end(selector: SpanSelector) -> None:
        read(selector)
        monkeypatch.setattr(SpanSelector, "read", read)
        root.end()

    monkeypatch.setattr(SpanSelector, "read", read_and_end)
    with otel_trace.use_span(root):
        program.call()
    assert [span.name for span in program.stored()] == ["root"]


def test_flush_reads_what_has_ended(program: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if nothing has asked for it yet."""
    with program.span("root"):
        program.call()
        assert llmspan.flush(30)
        monkeypatch.setattr(_selector(), "_is_requested", True)
    assert [span.name for span in program.stored()] == ["root"]


@pytest.mark.parametrize("is_exporter_first", [True, False])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"spans": "off"}, []),
        ({"capture_payloads": "metadata", "redact_patterns": "email"}, ["agent"]),
        ({"spans": "all"}, ["SELECT 1", "agent"]),
    ],
)
def test_the_settings_of_instrument_win(
    settings: dict[str, Any], expected: list[str], is_exporter_first: bool, tmp_path: Any
) -> None:
    """An exporter, made before or after, stores spans as instrument() says: which ones, and what of them."""
    lifecycle.close(30)
    provider = TracerProvider()

    def export() -> None:
        provider.add_span_processor(SimpleSpanProcessor(SQLiteSpanExporter(tmp_path / "exported.db")))

    if is_exporter_first:
        export()
    llmspan.instrument(
        tracer_provider=provider, providers=(), backends="sqlite", sqlite_path=tmp_path / "exported.db", **settings
    )
    if not is_exporter_first:
        export()
    attributes = {"gen_ai.tool.call.arguments": "content", "gen_ai.tool.name": "ann@example.com"}
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("agent", attributes=attributes) as agent:
        llmspan.record(provider="openai", model="m", usage={"prompt_tokens": 3})
        with tracer.start_as_current_span("SELECT 1"):
            pass
    assert llmspan.flush(30)
    (backend,) = pipeline.shared().backends
    spans = backend.spans([f"{agent.get_span_context().trace_id:032x}"], 100)
    assert sorted(span.name for span in spans) == expected
    is_kept = "content" in str(spans) and "ann@" in str(spans)
    assert is_kept is ("spans" in settings and bool(expected))
    lifecycle.close(30)
    pipeline.shared().configure(Settings())


@dataclass
class Unhashable(otel_trace.TracerProvider):
    """As Logfire's."""

    provider: TracerProvider

    def get_tracer(self, *args: Any, **options: Any) -> Any:
        return self.provider.get_tracer(*args, **options)

    def add_span_processor(self, processor: Any) -> None:
        self.provider.add_span_processor(processor)


class Slotted:
    """No weak reference can be made to it."""

    __slots__ = ("_provider",)

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def get_tracer(self, *args: Any, **options: Any) -> Any:
        return self._provider.get_tracer(*args, **options)

    def add_span_processor(self, processor: Any) -> None:
        self._provider.add_span_processor(processor)


class Failing(Slotted):
    """It takes no processor."""

    __slots__ = ()

    def add_span_processor(self, processor: Any) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize(("kind", "processors"), [(Unhashable, 1), (Slotted, 1), (Failing, 0)])
def test_any_object_may_be_a_provider(kind: Any, processors: int) -> None:
    """It need not be hashable, nor open to weak references; it gets one processor, and instrument() never fails."""
    lifecycle.close(30)
    provider = TracerProvider()
    wrapper = kind(provider)
    for _ in range(2):
        llmspan.instrument(tracer_provider=wrapper, providers=(), backends="memory")
    assert len(provider._active_span_processor._span_processors) == processors
    lifecycle.close(30)


def test_any_object_may_be_a_meter_provider() -> None:
    """The same holds there."""

    @dataclass
    class Meters(NoOpMeterProvider):
        name: str = "unhashable"

    class SlottedMeters:
        __slots__ = ()

        def get_meter(self, *args: Any, **options: Any) -> Any:
            return NoOpMeterProvider().get_meter(*args, **options)

    lifecycle.close(30)
    wrappers: list[Any] = [Meters(), SlottedMeters()]
    for wrapper in wrappers * 2:
        provider: MeterProvider = wrapper
        llmspan.instrument(meter_provider=provider, providers=(), backends="memory")
    lifecycle.close(30)


def test_a_trace_with_calls_outlives_what_fills_the_buffer(program: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other traces' spans, and its own, give way; that its root is wanted is not forgotten."""
    root = program.tracer.start_span("root")
    with otel_trace.use_span(root):
        program.call()
        assert llmspan.flush(30)
    monkeypatch.setattr("llmspan.span_selection._MOST_WAITING", 20)
    for _ in range(300):
        with program.span("request"):
            pass
    assert llmspan.flush(30)
    with otel_trace.use_span(root):
        for _ in range(300):
            with program.span("SELECT 1"):
                pass
    assert llmspan.flush(30)
    root.end()
    assert [span.name for span in program.stored()] == ["root"]


def test_traces_without_calls_give_way_first(program: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """A span that waits in a trace with calls stays while others can go."""
    monkeypatch.setattr("llmspan.span_selection._MOST_WAITING", 20)
    with program.span("outer") as outer:
        program.call()
        with program.span("early"):
            context = otel_context.get_current()
        assert llmspan.flush(30)
    for _ in range(300):
        with program.span("request"):
            pass
    assert llmspan.flush(30)
    token = otel_context.attach(context)
    program.call()
    otel_context.detach(token)
    assert sorted(span.name for span in program.stored()) == ["early", "outer"]
    assert outer.get_span_context().is_valid


def test_what_is_known_of_a_trace_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many spans above calls are stored each, also those over the limit; what never ends does not pile up."""
    monkeypatch.setattr("llmspan.span_selection._MOST_WANTED", 20)
    monkeypatch.setattr("llmspan.span_selection._MOST_KNOWN", 200)
    alone = Alone(lambda function: function())
    with alone.tracer.start_as_current_span("job") as job:
        trace_id = job.get_span_context().trace_id
        for number in range(30):
            with alone.tracer.start_as_current_span("page"), alone.tracer.start_as_current_span("item") as item:
                alone.selector.on_record(record(trace_id, number + 1, item.get_span_context().span_id))
    assert [alone.names.count(name) for name in ("item", "page", "job")] == [30, 30, 1]
    for number in range(300):
        alone.selector.on_record(record(trace_id, 2 * number + 1, 2 * number + 2))
    (trace,) = alone.selector._call_traces.values()
    assert (len(trace.wanted), len(trace.known)) == (20, 200)


def record(trace_id: int, span_id: int, parent_id: int) -> ProviderTrace:
    return make_trace(trace_id=f"{trace_id:032x}", span_id=f"{span_id:016x}", parent_span_id=f"{parent_id:016x}")


@pytest.mark.parametrize("keep", ["full", "metadata"])
@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"url.query": "api_key=Zq8vT3mK9xLw2PbN7rYc&a=1"}, {"url.query": f"api_key={MASK}&a=1"}),
        ({"url.query": "a=1&token=Zq8vT3mK9xLw2PbN7rYc"}, {"url.query": f"a=1&token={MASK}"}),
        ({"process.command_args": ("x", "--api-key", "Zq8vT3mK9xLw2PbN7rYc"), "process.pid": 1}, {"process.pid": "1"}),
        ({"process.command_line": "x --api-key Zq8vT3mK9xLw2PbN7rYc", "process.command": "x"}, {}),
    ],
)
def test_queries_and_command_lines_hold_no_key(attributes: Any, expected: dict[str, str], keep: Any) -> None:
    """The first parameter of a query string is masked as the others; command lines are not stored."""
    span = TracerProvider().get_tracer("test").start_span("GET", attributes=attributes)
    span.end()
    policy = ContentPolicy.from_settings(Settings(capture_payloads=keep))
    cleaned = clean_span(to_span_record(span), policy)
    assert cleaned.attributes == expected
    assert clean_span(cleaned, policy) == cleaned
