"""Spans that the worker ends: nobody finds one missing, late, or with other values than if its call had ended it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import httpx2
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext

from llmspan import _guard
from llmspan.deferred_spans import DeferredSpans
from llmspan.demo.server import DemoServer
from llmspan.instrumentation import Observer
from llmspan.instrumentation.anthropic import PROVIDER as ANTHROPIC
from llmspan.instrumentation.openai import PROVIDER as OPENAI
from llmspan.sink import PendingRecord
from polling import until
from replay import Pieces, client_for
from scripted import Noting, pipeline_to
from signals import RESOURCE
from streams import ALL, CHAT, Api

#: what differs from call to call
OF_ONE_CALL = {"llmspan.record.id", "gen_ai.response.time_to_first_chunk"}


class Held:
    """A sink that takes finished calls, and makes nothing of them."""

    def __init__(self, error: Exception | None = None) -> None:
        self.pending: list[PendingRecord] = []
        self._error = error

    def ensure_started(self) -> None:
        """Nothing to start."""

    def submit(self, pending: PendingRecord) -> None:
        if self._error is not None:
            raise self._error
        self.pending.append(pending)

    def defer(self, function: Callable[[], None]) -> None:
        function()


class Traced:
    """A program whose spans go to these processors, and its calls to this sink."""

    def __init__(self, processors: Sequence[SpanProcessor], sink: Any) -> None:
        self.provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
        for processor in processors:
            self.provider.add_span_processor(processor)
        self.observer = Observer(sink=sink, tracer=self.provider.get_tracer("llmspan"))

    def call(self, api: Api = CHAT, *, stream: bool = False, status: int = 200) -> None:
        """One call, answered by a mock of its provider."""
        result = api.method(client_for(api.provider, httpx2.MockTransport(_answer(api, status))))(
            **api.arguments, **({"stream": True} if stream else {})
        )
        if stream:
            list(result)


def _answer(api: Api, status: int) -> Callable[[httpx2.Request], httpx2.Response]:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if status != 200:
            return httpx2.Response(status, json={"error": {"message": "no", "type": "invalid"}})
        if b'"stream":true' in request.content.replace(b" ", b""):
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces(list(api.stream)))
        return httpx2.Response(200, json=api.body)

    return answer


@contextmanager
def traced(*processors: SpanProcessor, sink: Any = None, fails: bool = False) -> Generator[Traced]:
    _guard.reset_error_counts()
    program = Traced(processors, Held() if sink is None else sink)
    hooks = [provider.instrument(program.observer) for provider in (OPENAI, ANTHROPIC)]
    try:
        yield program
    finally:
        for hook in hooks:
            hook.remove()
        program.provider.shutdown()
    assert bool(_guard.failures()) is fails


class Seen(InMemorySpanExporter):
    """The spans that were exported."""

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.get_finished_spans())


def batch(seen: Seen) -> BatchSpanProcessor:
    """A processor that exports when it is flushed, and not before."""
    return BatchSpanProcessor(seen, schedule_delay_millis=3_600_000)


def values(span: ReadableSpan) -> dict[str, Any]:
    return {name: value for name, value in (span.attributes or {}).items() if name not in OF_ONE_CALL}


FLUSHES: dict[str, Callable[[TracerProvider, SpanProcessor], object]] = {
    "the provider is flushed": lambda provider, _: provider.force_flush(),
    "the processor is flushed": lambda _, processor: processor.force_flush(1000),
    "the provider is shut down": lambda provider, _: provider.shutdown(),
    "the processor is shut down": lambda _, processor: processor.shutdown(),
}


@pytest.mark.parametrize("flush", FLUSHES.values(), ids=FLUSHES)
def test_a_flush_has_the_spans_of_all_calls_that_are_over(
    flush: Callable[[TracerProvider, SpanProcessor], object],
) -> None:
    """Also of those that the worker has not come to."""
    seen = Seen()
    processor = batch(seen)
    with traced(processor) as program:
        program.call()
        program.call()
        flush(program.provider, processor)
        assert [span.name for span in seen.spans] == ["chat gpt-5-mini"] * 2


@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_span_that_waited_is_as_one_that_did_not(api: Api, stream: bool) -> None:
    """Attributes, status and times: the end is that of the call."""
    late, at_once = Seen(), Seen()
    with traced(batch(late)) as program:
        program.call(api, stream=stream)
        ended_by = time.time_ns()
        program.provider.force_flush()
    with traced(SimpleSpanProcessor(at_once)) as program:
        program.call(api, stream=stream)
    (one,), (other,) = late.spans, at_once.spans
    assert values(one) == values(other)
    assert list(one.attributes or {}) == list(other.attributes or {})
    assert (one.name, one.kind, one.status.status_code) == (other.name, other.kind, other.status.status_code)
    assert (one.start_time or 0) <= (one.end_time or 0) <= ended_by


def test_a_span_of_a_failed_call_that_waited_has_the_error() -> None:
    late = Seen()
    with traced(batch(late)) as program:
        with pytest.raises(Exception, match="no"):
            program.call(status=400)
        program.provider.force_flush()
    (span,) = late.spans
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, "no")
    assert (span.attributes or {})["http.response.status_code"] == 400


class Program(SpanProcessor):
    """A program's own, which looks at spans as they end."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def on_end(self, span: ReadableSpan) -> None:
        self._seen.export([span])


@pytest.mark.parametrize("other", [SimpleSpanProcessor, Program], ids=["simple", "program"])
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
def test_who_looks_at_spans_as_they_end_sees_each_before_the_call_returns(
    other: Callable[[Seen], SpanProcessor], is_first: bool
) -> None:
    seen = Seen()
    processors = [other(seen), batch(Seen())]
    with traced(*(processors if is_first else reversed(processors))) as program:
        program.call()
        assert len(seen.spans) == 1


def test_a_subclass_gets_each_span_before_the_call_returns() -> None:
    seen, ended = Seen(), list[str]()

    class Subclass(BatchSpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            ended.append(span.name)
            super().on_end(span)

    with traced(Subclass(seen, schedule_delay_millis=3_600_000)) as program:
        program.call()
        assert ended == ["chat gpt-5-mini"]


def test_a_processor_that_is_added_later_counts_from_then_on() -> None:
    late, at_once = Seen(), Seen()
    with traced(batch(late)) as program:
        program.call()
        assert not late.spans
        program.provider.add_span_processor(SimpleSpanProcessor(at_once))
        program.call()
        assert len(at_once.spans) == 1
        program.provider.force_flush()
        assert len(late.spans) == len(at_once.spans) == 2


def test_the_processors_of_two_providers_are_told_apart() -> None:
    late, at_once = Seen(), Seen()
    with traced(batch(late)) as program:
        other = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
        other.add_span_processor(SimpleSpanProcessor(at_once))
        tracers = [program.observer.tracer, other.get_tracer("llmspan")] * 2
        for tracer in tracers:
            program.observer.tracer = tracer
            program.call()
        assert len(at_once.spans) == 2
        program.provider.force_flush()
        assert len(late.spans) == 2


def test_a_processor_flushes_spans_of_calls_once_however_often_it_is_flushed() -> None:
    seen = Seen()
    with traced(batch(seen)) as program:
        for number in range(1, 4):
            program.call()
            program.provider.force_flush()
            program.provider.force_flush()
            assert len(seen.spans) == number


def test_spans_of_greenlets_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their locks are those of greenlets: no thread may take one."""
    monkeypatch.setattr("llmspan.deferred_spans.cooperative_sleep", lambda: time.sleep)
    seen = Seen()
    processor = batch(seen)
    with traced(processor) as program:
        program.call()
        BatchSpanProcessor.force_flush(processor)
        assert len(seen.spans) == 1


def test_the_worker_ends_spans_and_a_record_has_its_span() -> None:
    seen, store = Seen(), Noting()
    pipeline, processor = pipeline_to(store), batch(seen)
    with traced(processor, sink=pipeline) as program:
        program.call()
        assert pipeline.flush(30)
        BatchSpanProcessor.force_flush(processor)
        (span,) = seen.spans
    pipeline.close(5)
    (record,) = store.list(limit=10).traces
    assert span.context is not None
    assert record.span_id == f"{span.context.span_id:016x}"


@pytest.mark.parametrize("limit", [{"queue_max_items": 1}, {"queue_max_bytes": 1}], ids=lambda limit: next(iter(limit)))
def test_a_call_that_finds_no_room_has_its_span_all_the_same(limit: dict[str, int]) -> None:
    """With the values of its response, which its record may have had to give up."""
    seen, pipeline = Seen(), pipeline_to(Noting(), **limit)
    processor = batch(seen)
    with traced(processor, sink=pipeline) as program:
        for _ in range(20):
            program.call()
        assert pipeline.flush(30)
        BatchSpanProcessor.force_flush(processor)  # which ends no span that waits
        assert len(seen.spans) == 20
        assert all("gen_ai.usage.input_tokens" in values(span) for span in seen.spans)
    pipeline.close(5)


def test_a_call_that_no_sink_takes_has_its_span_all_the_same() -> None:
    seen = Seen()
    processor = batch(seen)
    with traced(processor, sink=Held(RuntimeError("broken")), fails=True) as program:
        program.call()
        BatchSpanProcessor.force_flush(processor)
        assert len(seen.spans) == 1


def test_a_call_after_the_end_of_the_pipeline_has_its_span_with_the_providers_end() -> None:
    seen, pipeline = Seen(), pipeline_to(Noting())
    with traced(batch(seen), sink=pipeline) as program:
        pipeline.close(5)
        program.call()
        program.provider.shutdown()
        assert len(seen.spans) == 1


class Slow:
    """A call whose span takes until it is told to end."""

    def __init__(self) -> None:
        self.has_begun, self.may_end = threading.Event(), threading.Event()
        self.has_ended = False

    def end_span(self) -> None:
        self.has_begun.set()
        assert self.may_end.wait(30)
        self.has_ended = True


@contextmanager
def ending(owner: Slow, spans: DeferredSpans) -> Generator[None]:
    """While another thread is ending the span of ``owner``."""
    span: Any = SimpleNamespace(_span_processor=SimpleNamespace(_span_processors=()))
    assert spans.defer(span, owner)
    thread = threading.Thread(target=spans.end, args=(owner,))
    thread.start()
    assert owner.has_begun.wait(30)
    try:
        yield
    finally:
        owner.may_end.set()
        thread.join(30)


def test_a_flush_waits_for_the_span_that_another_thread_is_ending() -> None:
    spans, owner, seen = DeferredSpans(), Slow(), list[bool]()
    with ending(owner, spans):
        flush = threading.Thread(target=lambda: (spans.end_all(), seen.append(owner.has_ended)))
        flush.start()
        until(lambda: sys._current_frames()[flush.ident or 0].f_code.co_name == "_wait_for_others")
        owner.may_end.set()
        flush.join(30)
    assert seen == [True]


def test_a_caller_does_not_wait_for_the_span_that_another_thread_is_ending() -> None:
    """A caller whose call finds no room ends spans as well; the worker may be busy with a reply of many megabytes."""
    spans, owner, own = DeferredSpans(), Slow(), Slow()
    own.may_end.set()
    span: Any = SimpleNamespace(_span_processor=SimpleNamespace(_span_processors=()))
    with ending(owner, spans):
        assert spans.defer(span, own)
        spans.end(own)
        spans.end(owner)
        assert (own.has_ended, owner.has_ended) == (True, False)


def test_what_ends_a_span_may_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of the program that is called for the span's values, for example: it does not wait for itself."""
    times = iter([0.0])  # there is no second look at the clock, which a wait for a span begins with
    monkeypatch.setattr("llmspan.deferred_spans.monotonic", times.__next__)
    spans, other = DeferredSpans(), Slow()
    other.may_end.set()
    span: Any = SimpleNamespace(_span_processor=SimpleNamespace(_span_processors=()))
    flushed: list[bool] = []
    owner: Any = SimpleNamespace(end_span=lambda: (spans.end_all(), flushed.append(other.has_ended)))
    assert spans.defer(span, owner)
    assert spans.defer(span, other)
    spans.end(owner)
    assert flushed == [True]


def test_a_span_that_says_nothing_of_its_processors_costs_no_record() -> None:
    """It may be of any library."""

    class Odd(NonRecordingSpan):
        @property
        def _span_processor(self) -> Any:
            raise ValueError("no attribute of this name")

    odd = Odd(SpanContext(1, 2, is_remote=False))
    sink = Held()
    with traced(SimpleSpanProcessor(Seen()), sink=sink, fails=True) as program:
        program.observer.tracer = cast("Any", SimpleNamespace(start_span=mock.Mock(return_value=odd)))
        program.call()
    assert len(sink.pending) == 1


def test_a_forked_child_leaves_the_spans_that_wait_to_its_parent() -> None:
    seen = Seen()
    with traced(batch(seen)) as program:
        program.call()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                program.provider.force_flush()
                os.write(writer, str(len(seen.spans)).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 10) == b"0"
        program.provider.force_flush()
        assert len(seen.spans) == 1


PROGRAM = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
import llmspan

def trace_everything():
    provider = TracerProvider()
    exporter = ConsoleSpanExporter(formatter=lambda span: f"{span.name} {span.attributes['llmspan.status']}\\n")
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000))
    trace.set_tracer_provider(provider)

if "first" in sys.argv:
    trace_everything()
llmspan.instrument(backends="sqlite", linger=5.0)
if "first" not in sys.argv:
    trace_everything()
import openai
for _ in range(3):
    openai.OpenAI().chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hello"}])
"""


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_program_that_ends_has_exported_the_spans_of_all_its_calls(order: str, tmp_path: Path) -> None:
    """Whether its tracer provider or llmspan was set up first: the exit hooks of both run in the opposite order."""
    with DemoServer() as server:
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LLMSPAN_"))},
            "OPENAI_BASE_URL": server.openai_base_url,
            "OPENAI_API_KEY": "sk-test",
            "LLMSPAN_SQLITE_PATH": str(tmp_path / "traces.db"),
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, order], env=environ, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["chat gpt-5 ok"] * 3
