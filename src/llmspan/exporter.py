"""Span exporters that name a trace backend: for ``OTEL_TRACES_EXPORTER``, declarative files and any span processor.

Making one adds its backend to the pipeline, so our own records reach it complete, whatever the sampler or attribute
limits do to their spans; those spans are therefore skipped when they come by. GenAI spans of other instrumentations
become records filled from their attributes. Making one neither connects nor raises: an exporter that fails to
construct would switch off all of auto-instrumentation.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar, Final, Unpack

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from . import pipeline, semconv, span_import
from ._bounded import drop_oldest
from ._fork import after_fork_in_child
from ._guard import guarded, logger
from ._native import Lock
from .backends import load_backend
from .content import ContentPolicy
from .errors import SettingsError
from .instrumentation import is_recorded, is_response_recorded
from .settings import ContentMode, Settings, SocketFraming
from .settings_arguments import SettingsArguments
from .span_processor import select_spans, submit_ended_span

__all__ = [
    "BackendSpanExporter",
    "ClickHouseSpanExporter",
    "PostgresSpanExporter",
    "SQLiteSpanExporter",
    "SocketSpanExporter",
]

#: how many spans are remembered, so that none is taken twice
_REMEMBERED: Final = 10_000
_Key = tuple[int, int]


class BackendSpanExporter(SpanExporter):
    """Writes provider traces to the backend of the entry point ``llmspan.backends`` that :attr:`backend` names.

    A package with a backend of its own makes its exporter in two lines: a subclass that names it, and an entry point
    in ``opentelemetry_traces_exporter``.

    Args:
        settings: fields of :class:`llmspan.settings.Settings`; they win over ``LLMSPAN_*`` variables; None: not given.
    """

    #: the backend's name in ``LLMSPAN_BACKENDS``
    backend: ClassVar[str]

    def __init__(self, **settings: Unpack[SettingsArguments]) -> None:
        self._error: SettingsError | None = None
        try:
            own_settings = Settings.from_env(**settings)
            policy = ContentPolicy.from_settings(own_settings)
            backend = load_backend(self.backend, own_settings, named_by=type(self).__name__)
        except SettingsError as error:
            self._error = error
            logger.error("llmspan: %s. This exporter writes nothing.", error)
            return
        shared = pipeline.shared()
        shared.policy = shared.policy or policy
        shared.add(backend)
        select_spans(own_settings, shared.policy)

    @property
    def error(self) -> SettingsError | None:
        """What is wrong with the exporter's settings; None if nothing is."""
        return self._error

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take the GenAI spans that are not ours already."""
        if self._error is not None:
            return SpanExportResult.FAILURE
        for span in spans:
            guarded("exporter.span", _take, span)
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until everything taken so far is written."""
        return pipeline.shared().flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Write what is queued. The backend stays: other parts of the program may still deliver to it."""
        pipeline.shared().flush(5.0)


class SQLiteSpanExporter(BackendSpanExporter):
    """Writes provider traces to SQLite. Entry point ``llmspan_sqlite``.

    Args:
        sqlite_path: the file; ``LLMSPAN_SQLITE_PATH`` or the default place if not given.
        sqlite_retention_days: records that are older are deleted.
        sqlite_max_bytes: how much the file may hold, such as ``4GiB``; what is more is deleted, the oldest first.
    """

    backend = "sqlite"

    def __init__(
        self,
        sqlite_path: str | os.PathLike[str] | None = None,
        *,
        sqlite_retention_days: int | None = None,
        sqlite_max_bytes: int | str | None = None,
    ) -> None:
        super().__init__(
            sqlite_path=sqlite_path, sqlite_retention_days=sqlite_retention_days, sqlite_max_bytes=sqlite_max_bytes
        )


class PostgresSpanExporter(BackendSpanExporter):
    """Writes provider traces to Postgres. Entry point ``llmspan_postgres``.

    Args:
        postgres_dsn: a URI or ``key=value`` words, as libpq takes them; ``LLMSPAN_POSTGRES_DSN`` if not given.
        postgres_payload: ``full`` or ``metadata``, whether requests and responses go there too.
        postgres_retention_days: day partitions older than so many days are dropped.
        auto_migrate: whether tables are made and updated.
        write_timeout: how many seconds one write may take.
    """

    backend = "postgres"

    def __init__(
        self,
        postgres_dsn: str | None = None,
        *,
        postgres_payload: ContentMode | None = None,
        postgres_retention_days: int | None = None,
        auto_migrate: bool | None = None,
        write_timeout: float | None = None,
    ) -> None:
        super().__init__(
            postgres_dsn=postgres_dsn,
            postgres_payload=postgres_payload,
            postgres_retention_days=postgres_retention_days,
            auto_migrate=auto_migrate,
            write_timeout=write_timeout,
        )


class ClickHouseSpanExporter(BackendSpanExporter):
    """Writes provider traces to ClickHouse. Entry point ``llmspan_clickhouse``.

    Args:
        clickhouse_dsn: ``http(s)://...`` or ``chdb://path``; ``LLMSPAN_CLICKHOUSE_DSN`` if not given.
        clickhouse_cluster: the cluster that the tables are made on.
        clickhouse_engine: the engine of ``provider_traces``.
        clickhouse_ttl: how many days records are kept.
        clickhouse_otel_traces: whether each call is also written to ``otel_traces``.
        auto_migrate: whether tables are made and updated.
        write_timeout: how many seconds one write may take.
    """

    backend = "clickhouse"

    def __init__(
        self,
        clickhouse_dsn: str | None = None,
        *,
        clickhouse_cluster: str | None = None,
        clickhouse_engine: str | None = None,
        clickhouse_ttl: int | None = None,
        clickhouse_otel_traces: bool | None = None,
        auto_migrate: bool | None = None,
        write_timeout: float | None = None,
    ) -> None:
        super().__init__(
            clickhouse_dsn=clickhouse_dsn,
            clickhouse_cluster=clickhouse_cluster,
            clickhouse_engine=clickhouse_engine,
            clickhouse_ttl=clickhouse_ttl,
            clickhouse_otel_traces=clickhouse_otel_traces,
            auto_migrate=auto_migrate,
            write_timeout=write_timeout,
        )


class SocketSpanExporter(BackendSpanExporter):
    """Sends provider traces to the sidecar at a Unix socket. Entry point ``llmspan_socket``.

    Args:
        socket: the path of the socket; ``LLMSPAN_SOCKET`` or the default place if not given.
        socket_framing: ``v4`` (framed, acknowledged) or ``v3`` (one JSON line a record).
        write_timeout: how many seconds one write may take.
    """

    backend = "socket"

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        socket_framing: SocketFraming | None = None,
        write_timeout: float | None = None,
    ) -> None:
        super().__init__(socket=socket, socket_framing=socket_framing, write_timeout=write_timeout)


class _SeenSpans:
    """Which spans became records: several exporters meet the same ones, and two spans may stand for one call.

    A model call's span directly within another's (a framework's around the SDK's) is the same call. The one that ends
    first, as a rule the inner one, which has its numbers from nearer by, is the record; the other finds it here.
    """

    def __init__(self) -> None:
        self.forget()

    def take(self, span: ReadableSpan) -> bool:
        """Whether ``span`` is to become a record; it counts as taken from now on."""
        context = span.get_span_context()
        if context is None or not context.is_valid:
            return True
        own = context.trace_id, context.span_id
        parent_key = (context.trace_id, span.parent.span_id) if span.parent is not None else None
        with self._lock:
            if own in self._spans or own in self._around or parent_key in self._spans:
                return False
            _remember(self._spans, own)
            if parent_key is not None:
                _remember(self._around, parent_key)
            return True

    def forget(self) -> None:
        """Start anew. In a forked child, whose lock may have been held by a thread that it does not have."""
        self._spans: OrderedDict[_Key, None] = OrderedDict()
        self._around: OrderedDict[_Key, None] = OrderedDict()
        self._lock = Lock()


def _remember(keys: OrderedDict[_Key, None], key: _Key) -> None:
    keys[key] = None
    drop_oldest(keys, _REMEMBERED)


_seen_spans: Final = _SeenSpans()
after_fork_in_child(_seen_spans.forget)


def _has_record(span: ReadableSpan) -> bool:
    """Whether the call of ``span`` was recorded as it was made."""
    attributes = span.attributes or {}
    if semconv.RECORD_ID in attributes or is_recorded(span.get_span_context()):
        return True
    # Logfire reports a stream in a log, a span of no length, when the span around the call has long ended
    is_log = attributes.get("logfire.span_type") == "log"
    return is_log and is_response_recorded(attributes.get("gen_ai.response.id"))


def _take(span: ReadableSpan) -> None:
    if _has_record(span):
        _seen_spans.take(span)
    elif span_import.is_model_call(span) and _seen_spans.take(span):
        shared = pipeline.shared()
        size = sum(len(value) for value in (span.attributes or {}).values() if isinstance(value, str))
        policy = shared.policy or ContentPolicy()
        shared.submit(pipeline.PrebuiltRecord(lambda: span_import.to_record(span), policy, size))
        return
    submit_ended_span(span)
