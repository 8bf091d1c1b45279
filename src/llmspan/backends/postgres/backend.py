"""The Postgres backend: a table partitioned by day, written by COPY, read by SQL.

This module imports no driver: naming the backend costs nothing, and a missing driver is reported when the
backend is opened. ``store`` does the work, ``connection`` connects, ``schema`` keeps the tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from ..._clock import DAY, HOUR
from ...annotation import Annotation
from ...errors import SettingsError
from ...settings import ContentMode, Settings
from ...span_record import SpanRecord
from ...trace import ProviderTrace, datetime_of
from .. import query
from ..annotation_rows import annotation_insert, missing_subject
from ..base import Filters
from ..condition_dialects import POSTGRES_CONDITIONS
from ..deletion import Step, delete_in_steps
from ..json_sql import POSTGRES, JsonDialect
from ..payload_pages import Row
from ..price_bounds import EveryKey
from ..reads import QueryBuilder, SQLQueryMixin
from ..rows import plain_text
from ..span_rows import decode_span, spans_of_traces

if TYPE_CHECKING:
    from .schema import SchemaInfo
    from .store import Store

__all__ = ["PostgresBackend"]

T = TypeVar("T")

_UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_NOW: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint AS now"


class PostgresBackend(SQLQueryMixin):
    """Provider traces in Postgres 14 or later.

    Args:
        dsn: a URI or ``key=value`` words; what it leaves out, libpq takes from ``PGHOST`` and its like.
        payload: ``metadata`` leaves requests and responses out.
        retention_days: older days are dropped; None keeps them.
        auto_migrate: whether to make and update the tables.
        write_timeout: seconds that one statement of a write may take; 0 is no limit.
    """

    name: ClassVar[str] = "postgres"
    readable: ClassVar[bool] = True
    reads_in_parallel: ClassVar[bool] = True
    _json: ClassVar[JsonDialect | None] = POSTGRES
    _price_keys: ClassVar[Container[str] | None] = EveryKey()

    def __init__(
        self, dsn: str | None = None, *, payload: ContentMode = "full", retention_days: int | None = None,
        auto_migrate: bool = True, write_timeout: float = 30.0,
    ) -> None:  # fmt: skip
        self._dsn = dsn
        self._options: dict[str, Any] = {
            "keep_payload": payload == "full",
            "retention_days": retention_days,
            "auto_migrate": auto_migrate,
            "timeout": write_timeout,
        }
        self._made: dict[str, Store] = {}

    @classmethod
    def from_settings(cls, settings: Settings) -> PostgresBackend:
        """The database that the settings name. Does not connect."""
        return cls(
            settings.postgres_dsn,
            payload=settings.postgres_payload,
            retention_days=settings.postgres_retention_days,
            auto_migrate=settings.auto_migrate,
            write_timeout=settings.write_timeout,
        )

    @property
    def location(self) -> str:
        """The DSN as a URI with libpq's defaults, without a password."""
        try:
            from .connection import location, parse_dsn

            return location(parse_dsn(self._dsn))
        except (SettingsError, ImportError):
            return "a Postgres database with an unreadable DSN"

    def open(self) -> None:
        """Find the tables; make or update them where that is wanted and allowed."""
        self._store.open()

    def check(self) -> str:
        """Postgres' version, the schema's, and where it is."""
        return self._store.check()

    def migrate(self) -> Sequence[str]:
        """Bring the tables to the newest version; what was applied. Also makes the partitions of the next month."""
        return self._store.migrate()

    def force_flush(self, timeout: float) -> bool:
        """True: a write is committed when it returns."""
        del timeout
        return True

    def shutdown(self) -> None:
        """Release all connections."""
        for store in self._made.values():
            store.close()

    def cancel(self) -> None:
        """End the query that is running, by a connection of its own."""
        for store in list(self._made.values()):
            store.cancel()

    def limit_reads(self, seconds: float) -> None:
        """Nothing to do: :meth:`cancel` ends every query."""
        del seconds

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        """Store all of ``traces`` or none; known ids stay as they are."""
        self._store.write(traces)

    @property
    def keeps_spans(self) -> bool:
        """Whether this user may write spans, as far as is known."""
        store = self._made.get("store")
        return store is None or store.keeps_spans

    def write_spans(self, spans: Sequence[SpanRecord]) -> None:
        """Store all of ``spans`` or none; known ones stay as they are."""
        self._store.write_spans(spans)

    def spans(self, trace_ids: Sequence[str], limit: int) -> Sequence[SpanRecord]:
        """The spans of these traces, the earliest first."""

        def ask(info: SchemaInfo) -> query.Query:
            return spans_of_traces(replace(_DIALECT, table=info.spans), trace_ids, limit)

        return [decode_span(row) for row in self._store.span_rows(ask)]

    def annotate(self, annotation: Annotation) -> None:
        """Store an annotation, if what it is about is there."""
        if not self._store.change_annotations(lambda info: annotation_insert(_dialect_of(info), annotation), "INSERT"):
            raise missing_subject(annotation, self.location)

    def remove_annotation(self, annotation_id: str) -> bool:
        """Take one out; whether it was there."""

        def statement(info: SchemaInfo) -> query.Query:
            return query.Query(
                f"DELETE FROM {info.annotations} WHERE id = %(id)s",  # noqa: S608 - ours
                {"id": plain_text(annotation_id)},
            )

        return self._store.change_annotations(statement, "DELETE") > 0

    def annotation_obstacle(self) -> str | None:
        """The right that this user lacks to add annotations, or that the server only reads."""
        return self._store.annotation_obstacle()

    def remove(self, ids: Sequence[str]) -> None:
        """Take the records with these ids out; a user who may only insert leaves them there, with a warning."""
        self._store.remove([plain_text(name) for name in ids])

    def delete(
        self, filters: Filters, *, thorough: bool = True, progress: Callable[[int], object] | None = None
    ) -> int:
        """Delete the rows of all records that ``filters`` mean; Postgres clears their space when it vacuums."""
        del thorough

        def step(remaining: Filters) -> Step:
            return self._store.delete_step(lambda info: query.where(_dialect_of(info), remaining))

        deleted = 0
        if filters.until is not None and filters == Filters(until=filters.until):
            deleted = self._store.delete_whole_days(filters.until)
            if progress is not None:
                progress(deleted)
        return deleted + delete_in_steps(filters, step, progress)

    def has_text_index(self) -> bool:
        """Whether requests and responses of all days have a text index."""
        return self._store.has_text_index()

    def index_text(self, progress: Callable[[int], object] | None = None) -> None:
        """Make the text index of each day, one after the other, while others write."""
        self._store.index_text(progress)

    def drop_text_index(self) -> None:
        """Remove the text index."""
        self._store.drop_text_index()

    def suspend_retention(self) -> None:
        """Drop no days from now on."""
        self._store.suspend_retention()

    def now(self) -> int:
        """The time of the server."""
        (row,) = self._store.rows(lambda _: query.Query(_NOW, {}))
        return int(row["now"])

    def get(self, record_id: str, /) -> ProviderTrace | None:
        """The record with this ``id``. A UUIDv7 says when it was made: the days around that are looked at first."""
        near = self._first(lambda dialect: query.by_id(_near(dialect, record_id), record_id))
        return super().get(record_id) if near is None and _UUID7.fullmatch(record_id) else near

    @property
    def _store(self) -> Store:
        if (store := self._made.get("store")) is not None:
            return store
        try:
            from .connection import parse_dsn
            from .store import Store
        except ImportError as error:
            raise SettingsError(
                f"the backend 'postgres' needs psycopg ({error}); install it with: pip install 'llmspan[postgres]'"
            ) from error
        # The first of several threads wins; a store that is not used has not connected.
        return self._made.setdefault("store", Store(parse_dsn(self._dsn), **self._options))

    def _rows(self, ask: QueryBuilder) -> Sequence[Mapping[str, Any]]:
        return self._store.rows(lambda info: ask(_dialect_of(info)))

    def _consume(self, ask: QueryBuilder, consume_rows: Callable[[Iterable[Row]], T]) -> T:
        return self._store.consume(lambda info: ask(_dialect_of(info)), consume_rows)


def _dialect_of(info: SchemaInfo) -> query.SqlDialect:
    return replace(_DIALECT, table=info.table, annotations=info.annotations)


def _bounds(since: int | None, until: int | None) -> Sequence[str]:
    """Conditions on the partitions' own column; the exact ones, on nanoseconds, stand beside them."""
    low = [] if since is None else [f"started_at >= {_timestamp(since)}"]
    high = [] if until is None else [f"started_at <= {_timestamp(until - 1)}"]
    return low + high


def _timestamp(nanoseconds: int) -> str:
    clamped = min(max(nanoseconds, -(2**63)), 2**63 - 1)
    return f"timestamptz '{datetime_of(clamped)}'"


def _near(dialect: query.SqlDialect, record_id: str) -> query.SqlDialect:
    """``dialect`` on the days in which a record with this id may have begun, if the id contains its time."""
    if not _UUID7.fullmatch(record_id):
        return dialect
    created_ns = int(record_id.replace("-", "")[:12], 16) * 1_000_000
    when = " AND ".join(_bounds(created_ns - DAY, created_ns + HOUR))
    return replace(dialect, table=f"(SELECT * FROM {dialect.table} WHERE {when}) AS near")  # noqa: S608 - all ours


_DIALECT: Final = query.SqlDialect(
    table="provider_traces",
    parameter=lambda name, _: f"%({name})s",
    conditions=POSTGRES_CONDITIONS,
    started_at="started_at_ns",
    columns={"started_at": "started_at_ns"},
    bounds=_bounds,
)
