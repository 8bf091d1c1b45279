"""The instrumentations that ``whole.py`` compares: what each needs, and how a program sets it up.

Spans go to a ``BatchSpanProcessor`` whose exporter does nothing, so what a peer would send costs nothing here. llmspan
writes the full record to SQLite beside that.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: what every environment has
BASE = ("openai", "anthropic", "opentelemetry-sdk")


@dataclass
class Running:
    """A peer that is set up: how its clients are wrapped, and what waits for all that it does in the background."""

    wrap: Callable[[Any], Any] = lambda client: client
    flush: Callable[[], object] = lambda: None
    #: what must not be collected while it runs
    keeps: tuple[object, ...] = ()


@dataclass(frozen=True)
class Peer:
    """One instrumentation."""

    set_up: Callable[[], Running]
    requirements: tuple[str, ...] = ()
    #: whether it traces this SDK
    sdks: tuple[str, ...] = ("openai", "anthropic")
    #: whether it has async calls and streams, too
    is_whole: bool = True
    #: whether its environment has llmspan
    with_llmspan: bool = False


def _processor() -> Any:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    return BatchSpanProcessor(Nowhere(), max_queue_size=100_000)


def _provider() -> Any:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider()
    provider.add_span_processor(_processor())
    trace.set_tracer_provider(provider)
    return provider


def _meters() -> Any:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    return MeterProvider(metric_readers=[InMemoryMetricReader()])


def _bare() -> Running:
    return Running()


def _native() -> Running:
    return Running(flush=_provider().force_flush)


def _llmspan() -> Running:
    import llmspan

    path = Path(tempfile.mkdtemp()) / "records.db"
    llmspan.instrument(backends="sqlite", sqlite_path=path, tracer_provider=_provider())
    return Running(flush=lambda: llmspan.flush(60))


def _floor() -> Running:
    from floor import Floor

    floor = Floor(_provider(), Path(tempfile.mkdtemp()) / "records.db")
    return Running(floor.wrap, floor.flush)


def _reading_floor() -> Running:
    from floor import ReadingFloor

    floor = ReadingFloor(_provider(), Path(tempfile.mkdtemp()) / "records.db")
    return Running(floor.wrap, floor.flush)


def _official() -> Running:
    from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    provider, meters = _provider(), _meters()
    for instrumentor in (OpenAIInstrumentor(), AnthropicInstrumentor()):
        instrumentor.instrument(tracer_provider=provider, meter_provider=meters)
    return Running(flush=provider.force_flush)


def _official_with_content() -> Running:
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "span_only"
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
    return _official()


def _openinference() -> Running:
    from openinference.instrumentation.anthropic import AnthropicInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor

    provider = _provider()
    for instrumentor in (OpenAIInstrumentor(), AnthropicInstrumentor()):
        instrumentor.instrument(tracer_provider=provider)
    return Running(flush=provider.force_flush)


def _traceloop() -> Running:
    from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    provider, meters = _provider(), _meters()
    for instrumentor in (OpenAIInstrumentor(), AnthropicInstrumentor()):
        instrumentor.instrument(tracer_provider=provider, meter_provider=meters)
    return Running(flush=provider.force_flush)


def _logfire() -> Running:
    import logfire

    logfire.configure(
        send_to_logfire=False, console=False, metrics=False, inspect_arguments=False,
        additional_span_processors=[_processor()],
    )  # fmt: skip
    logfire.instrument_openai()
    logfire.instrument_anthropic()
    return Running(flush=logfire.force_flush)


def _braintrust() -> Running:
    """Its own logger, in memory; what it would send is dropped."""
    logging.disable(logging.ERROR)
    import braintrust
    from braintrust import logger
    from braintrust.test_helpers import init_test_logger

    in_memory = logger._internal_with_memory_background_logger()  # kept: where it ends, a thread tries to log in
    memory = in_memory.__enter__()
    memory.log = lambda *_, **__: None
    init_test_logger("bench")
    wrappers = {"openai": braintrust.wrap_openai, "anthropic": braintrust.wrap_anthropic}
    return Running(lambda client: wrappers[type(client).__module__.partition(".")[0]](client), keeps=(in_memory,))


PEERS = {
    "bare SDK": Peer(_bare),
    "anthropic's own": Peer(_native, sdks=("anthropic",)),
    "braintrust": Peer(_braintrust, ("braintrust", "pytest")),
    "official": Peer(
        _official, ("opentelemetry-instrumentation-genai-openai", "opentelemetry-instrumentation-genai-anthropic")
    ),
    "official, content": Peer(
        _official_with_content,
        ("opentelemetry-instrumentation-genai-openai", "opentelemetry-instrumentation-genai-anthropic"),
    ),
    "openinference": Peer(
        _openinference, ("openinference-instrumentation-openai", "openinference-instrumentation-anthropic")
    ),
    "traceloop": Peer(_traceloop, ("opentelemetry-instrumentation-openai", "opentelemetry-instrumentation-anthropic")),
    "logfire": Peer(_logfire, ("logfire",)),
    "a span and a row by hand": Peer(_floor, is_whole=False, with_llmspan=True),
    "the call read by hand": Peer(_reading_floor, is_whole=False, with_llmspan=True),
    "llmspan": Peer(_llmspan, with_llmspan=True),
}
