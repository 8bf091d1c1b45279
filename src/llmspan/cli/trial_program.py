"""The program that ``llmspan doctor`` starts: one call by each SDK to a local server, and what was made of it.

    python -m llmspan.cli.trial_program OUTPUT SDK...

It is started as ``llmspan run`` starts programs, so that every instrumentation that is installed is at work. Its spans
and records stay in memory. OUTPUT becomes a JSON object: SDK -> :class:`Trial`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .._guard import exception_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from ..demo.calls import Call

__all__ = ["Trial", "main"]

#: the modules of SDKs whose distribution has another name
_MODULES: Final = {"google-genai": "google.genai"}
#: seconds in which records that are in memory are there
_FLUSH_TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What was made of one call: ``spans`` are the instrumentation scopes of the spans with usage."""

    records: int = 0
    spans: list[str] = field(default_factory=list[str])
    #: how many calls were left out because instrumentation was suppressed around them
    suppressed: int = 0
    #: why the call itself failed
    error: str | None = None


def main(output: str, *sdks: str) -> None:
    """Make the calls, write the outcome and end the process, whatever else runs in it by now."""
    from ..demo.calls import TRIAL_CALLS
    from ..demo.server import DemoServer

    exporter = _collect_spans()
    with DemoServer() as server:
        trials = {name: _try(name, TRIAL_CALLS[name], server.anthropic_base_url, exporter) for name in sdks}
    Path(output).write_text(json.dumps({name: asdict(trial) for name, trial in trials.items()}))
    os._exit(0)  # exporters of other instrumentations might try for long to reach their services


def _collect_spans() -> InMemorySpanExporter:
    """Have the spans of the global tracer provider in memory; make one if no distribution has set one."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def _try(name: str, call: Call, base_url: str, exporter: InMemorySpanExporter) -> Trial:
    from .. import lifecycle, pipeline
    from ..instrumentation import suppressed_calls

    exporter.clear()
    before, suppressed = _record_count(pipeline.shared().backends), suppressed_calls()
    error = exception_of(lambda: call(import_module(_MODULES.get(name, name)), base_url))
    lifecycle.flush(_FLUSH_TIMEOUT)
    return Trial(
        records=_record_count(pipeline.shared().backends) - before,
        spans=[_scope(span) for span in exporter.get_finished_spans() if _has_usage(span)],
        suppressed=sum(suppressed_calls().values()) - sum(suppressed.values()),
        error=None if error is None else f"{type(error).__name__}: {error}",
    )


def _record_count(backends: Sequence[object]) -> int:
    from ..backends.memory import MemoryBackend

    return sum(len(backend.list().traces) for backend in backends if isinstance(backend, MemoryBackend))


def _has_usage(span: ReadableSpan) -> bool:
    from .. import span_import

    if not span_import.is_model_call(span):
        return False
    usage = span_import.to_record(span).usage
    return usage.input_tokens is not None or usage.output_tokens is not None


def _scope(span: ReadableSpan) -> str:
    scope = span.instrumentation_scope
    return scope.name if scope is not None else "a tracer without a name"


if __name__ == "__main__":
    main(*sys.argv[1:])
