"""The Postgres backend: a table partitioned by day, written by COPY, read by SQL.

This module imports no driver: naming the backend costs nothing, and a driver that is not installed is told of when the
backend is opened. ``store`` does the work, ``connection`` connects, ``schema`` keeps the tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from ...errors import SettingsError
from ...settings import ContentMode, Settings
from ...trace import ProviderTrace
from .. import query
from ..base import Filters
from ..deletion import Step, delete_in_steps
from ..json_sql import POSTGRES, JsonDialect
from ..payload_pages import Row
from ..reads import QueryBuilder, SQLQueryMixin
from ..rows import plain_text

if TYPE_CHECKING:
    from .store import Store

__all__ = ["PostgresBackend"]

T = TypeVar("T")

_HOUR: Final = 3_600_000_000_000
_UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
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
    _json: ClassVar[JsonDialect | None] = POSTGRES

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
            return "a Postgres database that cannot be told: opening it says why"

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
        """Release both connections."""
        for store in self._made.values():
            store.close()

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        """Store all of ``traces`` or none; known ids stay as they are."""
        self._store.write(traces)

    def remove(self, ids: Sequence[str]) -> None:
        """Take the records with these ids out; a user who may only insert leaves them there, with a warning."""
        self._store.remove([plain_text(name) for name in ids])

    def delete(
        self, filters: Filters, *, thorough: bool = True, progress: Callable[[int], object] | None = None
    ) -> int:
        """Delete the rows of all records that ``filters`` mean; Postgres clears their space when it vacuums."""
        del thorough

        def step(remaining: Filters) -> Step:
            return self._store.delete_step(lambda info: query.where(replace(_DIALECT, table=info.table), remaining))

        deleted = 0
        if filters.until is not None and filters == Filters(until=filters.until):
            deleted = self._store.drop_days(filters.until)
            if progress is not None:
                progress(deleted)
        return deleted + delete_in_steps(filters, step, progress)

    def suspend_retention(self) -> None:
        """Drop no days from now on."""
        self._store.suspend_retention()

    def now(self) -> int:
        """The time of the server."""
        (row,) = self._store.rows(lambda _: query.Query(_NOW, {}))
        return int(row["now"])

    def get(self, trace_id: str, /) -> ProviderTrace | None:
        """The record with this ``id``. A UUIDv7 says when it was made: the days around that are looked at first."""
        near = self._first(lambda dialect: query.by_id(_near(dialect, trace_id), trace_id))
        return super().get(trace_id) if near is None and _UUID7.fullmatch(trace_id) else near

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
        return self._store.rows(lambda info: ask(replace(_DIALECT, table=info.table)))

    def _consume(self, ask: QueryBuilder, consume_rows: Callable[[Iterable[Row]], T]) -> T:
        return self._store.consume(lambda info: ask(replace(_DIALECT, table=info.table)), consume_rows)


def _bounds(since: int | None, until: int | None) -> Sequence[str]:
    """Conditions on the partitions' own column; the exact ones, on nanoseconds, stand beside them."""
    low = [] if since is None else [f"started_at >= {_timestamp(since)}"]
    high = [] if until is None else [f"started_at <= {_timestamp(until - 1)}"]
    return low + high


def _timestamp(nanoseconds: int) -> str:
    clamped = min(max(nanoseconds, -(2**63)), 2**63 - 1)
    return f"timestamptz '{_EPOCH + timedelta(microseconds=clamped // 1000)}'"


def _near(dialect: query.SqlDialect, record_id: str) -> query.SqlDialect:
    """``dialect`` on the days in which a record with this id may have begun, if the id says so."""
    if not _UUID7.fullmatch(record_id):
        return dialect
    created_ns = int(record_id.replace("-", "")[:12], 16) * 1_000_000
    when = " AND ".join(_bounds(created_ns - 24 * _HOUR, created_ns + _HOUR))
    return replace(dialect, table=f"(SELECT * FROM {dialect.table} WHERE {when}) AS near")  # noqa: S608 - all ours


_DIALECT: Final = query.SqlDialect(
    table="provider_traces",
    parameter=lambda name, _: f"%({name})s",
    day="to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') COLLATE \"C\"",
    started_at="started_at_ns",
    columns={"started_at": "started_at_ns"},
    bounds=_bounds,
)
