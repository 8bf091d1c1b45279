"""An observer of its own for a test: spans in memory, records made on request, nothing shared with other tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from llmspan import _guard
from llmspan.content import ContentPolicy
from llmspan.instrumentation import Observer
from llmspan.instrumentation.anthropic import PROVIDER as ANTHROPIC
from llmspan.instrumentation.finished_call import FinishedCall
from llmspan.instrumentation.google_genai.hooks import PROVIDER as GOOGLE
from llmspan.instrumentation.openai import PROVIDER as OPENAI
from llmspan.sink import PendingRecord
from llmspan.trace import ProviderTrace
from signals import RESOURCE


class Watch:
    """What was seen. Also the sink: finished calls are kept, late ends run when the test asks."""

    def __init__(self, sampler: Sampler | None = None, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(sampler=sampler, resource=RESOURCE, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.pending: list[PendingRecord] = []
        self.hooks: list[Any] = []
        self._late: list[Callable[[], None]] = []
        tracer = self.tracer_provider.get_tracer("llmspan")
        self.observer = Observer(sink=self, tracer=tracer, policy=options.pop("policy", ContentPolicy()), **options)

    def ensure_started(self) -> None:
        """Nothing to start."""

    def submit(self, pending: PendingRecord) -> None:
        self.pending.append(pending)

    def defer(self, function: Callable[[], None]) -> None:
        self._late.append(function)

    @property
    def spans(self) -> list[ReadableSpan]:
        self._run_late()
        return list(self.exporter.get_finished_spans())

    @property
    def records(self) -> list[ProviderTrace]:
        self._run_late()
        return [_built(pending) for pending in self.pending]

    def only(self) -> tuple[ProviderTrace, ReadableSpan]:
        """The one record and the one span."""
        (record,), (span,) = self.records, self.spans
        return record, span

    def clear(self) -> None:
        """Forget what was seen, for the next call of the same test."""
        self._run_late()
        self.exporter.clear()
        self.pending.clear()
        self.observer.background_owners.clear()

    def _run_late(self) -> None:
        while self._late:
            self._late.pop(0)()


def _built(pending: PendingRecord) -> ProviderTrace:
    record = pending.build()
    pending.publish(record)
    # an estimate does not depend on how the response was read, and its failures are counted
    is_comparable = isinstance(pending, FinishedCall) and pending.call.observer.estimator is None
    if is_comparable and pending.call.end_facts is not None:
        assert _read_anew(pending) == record
    return record


def _read_anew(finished: FinishedCall) -> ProviderTrace:
    """The record without what was read for the span: it is the same."""
    call = finished.call
    before = call.reply, call.end_facts, call.credentials, call.span_facts
    call.reply = call.end_facts = call.credentials = None
    try:
        return finished.build()
    finally:
        call.reply, call.end_facts, call.credentials, call.span_facts = before


@contextmanager
def watching(**options: Any) -> Iterator[Watch]:
    """Instrument all SDKs for the length of a block; no defect of ours may have been swallowed in it."""
    watch = Watch(**options)
    hooks = watch.hooks = [provider.instrument(watch.observer) for provider in (OPENAI, ANTHROPIC, GOOGLE)]
    _guard.reset_error_counts()
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()
    assert _guard.failures() == {}
