"""A pytest plugin that runs another project's tests with llmspan active: ``pytest -p llmspan_active``.

Everything that users get is at work: hooks, spans of a recording tracer provider, the pipeline, a backend. The tracer
provider is not made the global one, which would switch on the tracing of the anthropic SDK itself; and where a test
switches that on, its spans are left alone, as they are what it tests.

Each process leaves a JSON file in the folder ``LLMSPAN_SUITE_REPORT``: how many spans ended, where hooks failed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from llmspan import _guard
from llmspan.backends.memory import MemoryBackend
from llmspan.instrumentation import Observer
from llmspan.instrumentation.anthropic import PROVIDER as ANTHROPIC
from llmspan.instrumentation.google_genai.hooks import PROVIDER as GOOGLE
from llmspan.instrumentation.openai import PROVIDER as OPENAI
from llmspan.pipeline import Pipeline


class _Count(SpanProcessor):
    ended = 0

    def on_end(self, span: ReadableSpan) -> None:
        self.ended += 1


_spans = _Count()
_pipeline = Pipeline()
_pipeline.add(MemoryBackend())
_failed_in: dict[str, dict[str, int]] = {}


def _instrument() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(_spans)
    observer = Observer(sink=_pipeline, tracer=provider.get_tracer("llmspan"), anthropic_native_spans="both")
    for sdk in (OPENAI, ANTHROPIC, GOOGLE):
        sdk.instrument(observer)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Note which of our hooks fail in this test."""
    _guard.reset_error_counts()
    done = yield
    if _guard.failures():
        _failed_in[item.nodeid] = _guard.failures()
    return done


def pytest_sessionfinish() -> None:
    """Say what this process saw."""
    folder = os.environ.get("LLMSPAN_SUITE_REPORT")
    if folder is not None:
        _pipeline.flush(30)
        report = {"spans": _spans.ended, "failures": _failed_in}
        Path(folder, f"{os.getpid()}.json").write_text(json.dumps(report))


_instrument()
