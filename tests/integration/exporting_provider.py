"""Runs the program that it is given, each of whose tracer providers also exports to a Collector."""

from __future__ import annotations

import runpy
import sys
from typing import Any

from opentelemetry.sdk import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from llmspan.otlp import OTLPSpanExporter


class ExportingProvider(trace.TracerProvider):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))


trace.TracerProvider = ExportingProvider  # type: ignore[misc]
runpy.run_path(sys.argv[1], run_name="__main__")
