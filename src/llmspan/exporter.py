"""Span exporters that name a trace backend: for ``OTEL_TRACES_EXPORTER`` and for any span processor.

Making one adds its backend to the pipeline, so our own records reach it complete, whatever the sampler or attribute
limits do to their spans; those spans are therefore skipped when they come by. GenAI spans of other instrumentations
become records with what their attributes tell. Making one neither connects nor raises: an exporter that fails to
construct would switch off all of auto-instrumentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from . import pipeline, semconv
from ._guard import guarded
from .backends.base import Backend
from .backends.socket import SocketBackend
from .backends.sqlite import SQLiteBackend
from .errors import RecordError, SettingsError
from .settings import Settings
from .trace import ProviderTrace

__all__ = ["SQLiteSpanExporter", "SocketSpanExporter"]


#: operations that are one call of a model; the spans of agents and workflows repeat the sums of theirs
_MODEL_CALLS: Final = frozenset({"chat", "text_completion", "generate_content", "embeddings"})


class _Made:
    """A record that came as a span: ready-made."""

    size = 2048

    def __init__(self, trace: ProviderTrace) -> None:
        self._trace = trace

    def build(self) -> ProviderTrace:
        return self._trace

    def shed(self) -> None:
        """There is no payload to let go of."""


class _BackendSpanExporter(SpanExporter):
    backend_class: ClassVar[type[Backend]]

    def __init__(self, **settings: Any) -> None:
        self._error: SettingsError | None = None
        try:
            given = {name: value for name, value in settings.items() if value is not None}
            backend = self.backend_class.from_settings(Settings.from_env(**given))
        except SettingsError as error:
            self._error = error
        else:
            pipeline.shared().add(backend)

    @property
    def error(self) -> SettingsError | None:
        """What is wrong with the exporter's settings; None if nothing is."""
        return self._error

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take the GenAI spans that are not ours already."""
        if self._error is not None:
            return SpanExportResult.FAILURE
        for span in spans:
            attributes = span.attributes or {}
            if attributes.get(semconv.OPERATION) in _MODEL_CALLS and semconv.RECORD_ID not in attributes:
                guarded("exporter.span", _take, span)
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until everything taken so far is written."""
        return pipeline.shared().flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Write what is queued. The backend stays: other parts of the program may still deliver to it."""
        pipeline.shared().flush(5.0)


class SQLiteSpanExporter(_BackendSpanExporter):
    """Writes provider traces to SQLite. Entry point ``llmspan_sqlite``.

    Args:
        sqlite_path: the file; ``LLMSPAN_SQLITE_PATH`` or the default place if not given.
    """

    backend_class = SQLiteBackend

    def __init__(self, sqlite_path: str | None = None) -> None:
        super().__init__(sqlite_path=sqlite_path)


class SocketSpanExporter(_BackendSpanExporter):
    """Sends provider traces to a sidecar. Entry point ``llmspan_socket``.

    Args:
        socket: the path of its socket; ``LLMSPAN_SOCKET`` or the default place if not given.
    """

    backend_class = SocketBackend

    def __init__(self, socket: str | None = None) -> None:
        super().__init__(socket=socket)


def _take(span: ReadableSpan) -> None:
    try:
        pipeline.shared().accept(_Made(semconv.from_span(span)))
    except RecordError as error:
        raise RecordError(f"span {span.name!r}: {error}") from error
