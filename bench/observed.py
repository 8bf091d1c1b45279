"""llmspan switched on and off in one process, in each of the ways that are compared with the bare SDK.

A way is a pair: whether spans are recorded (or all are sampled out), and whether there is a backend (SQLite) that
records go to (without one they are made, and go nowhere).
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import SpanKind

import llmspan
from llmspan import lifecycle, pipeline


@dataclass(frozen=True)
class Way:
    """How llmspan is set up."""

    name: str
    title: str
    span: bool
    backend: bool


SAMPLED_OUT = Way("backend", "sampled out, backend", span=False, backend=True)
BOTH = Way("both", "recording span, backend", span=True, backend=True)
WAYS = (
    Way("neither", "sampled out, no backend", span=False, backend=False),
    Way("span", "recording span, no backend", span=True, backend=False),
    SAMPLED_OUT,
    BOTH,
)


class Discard(SpanExporter):
    """Where recorded spans go."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Seen(SpanProcessor):
    """Notes what the last span was given at its start, and what it had at its end."""

    def __init__(self) -> None:
        self.name = ""
        self.start: dict[str, Any] = {}
        self.rest: dict[str, Any] = {}

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.name, self.start = span.name, dict(span.attributes)

    def on_end(self, span: Any) -> None:
        self.rest = {key: value for key, value in span.attributes.items() if key not in self.start}


class Observed:
    """The switch. Off is the bare SDK: every patched attribute is back in its place."""

    def __init__(self) -> None:
        recording, dropping = TracerProvider(sampler=ALWAYS_ON), TracerProvider(sampler=ALWAYS_OFF)
        for provider in (recording, dropping):
            provider.add_span_processor(BatchSpanProcessor(Discard()))
        self._providers = (recording, dropping)
        self._tracers = {True: recording.get_tracer("llmspan"), False: dropping.get_tracer("llmspan")}
        line = pipeline.shared()
        line.ensure_started()  # with its deliveries: they start together
        self._workers = line._workers

    def on(self, way: Way = BOTH) -> None:
        self._deliver(to_backend=way.backend)
        llmspan.instrument()
        self.observer.tracer = self._tracers[way.span]  # not before: what is instrumented anew has the global one

    def off(self, *, backend: bool = True) -> None:
        """``backend``: whether records that come all the same are stored."""
        llmspan.uninstrument()
        self._deliver(to_backend=backend)

    def with_span(self, call: Callable[[], Any]) -> Callable[[], None]:
        """``call`` within nothing but the span that it gets from llmspan, made by hand with OpenTelemetry's SDK."""
        seen, provider, tracer = Seen(), TracerProvider(sampler=ALWAYS_ON), self._tracers[True]
        provider.add_span_processor(seen)
        self.on()
        self.observer.tracer = provider.get_tracer("llmspan")
        call()
        self.off()

        def spanned() -> None:
            span = tracer.start_span(seen.name, kind=SpanKind.CLIENT, attributes=seen.start, start_time=time.time_ns())
            call()
            span.set_attributes(seen.rest)
            span.end()

        return spanned

    def _deliver(self, *, to_backend: bool) -> None:
        llmspan.flush(30)
        pipeline.shared()._workers = self._workers if to_backend else ()

    @property
    def observer(self) -> Any:
        return lifecycle._state.observer

    def export_spans(self) -> None:
        """Let go of the spans that have ended."""
        for provider in self._providers:
            provider.force_flush()

    def close(self) -> None:
        pipeline.shared()._workers = self._workers
        lifecycle.close(30)
        for provider in self._providers:
            provider.shutdown()


@contextmanager
def switch() -> Iterator[Observed]:
    """llmspan set up with a SQLite file of its own, switched off for now."""
    with tempfile.TemporaryDirectory() as folder:
        llmspan.instrument(backends="sqlite", sqlite_path=Path(folder) / "bench.db")
        llmspan.uninstrument()
        observed = Observed()
        gc.collect()
        gc.freeze()  # what is imported need not be looked at by every collection
        try:
            yield observed
        finally:
            observed.close()
