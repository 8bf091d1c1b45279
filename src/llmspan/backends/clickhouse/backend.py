"""The ClickHouse backend: a server or cluster over HTTP, or the embedded engine in a directory.

A write is one INSERT with a token made of its ids. The table keeps one row an id, the one that came first; reads say
FINAL, so that a row which came twice never shows, merged or not. Listings never select a payload.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

from ...errors import SchemaError, SettingsError
from ...settings import Settings
from ...trace import KEYS, ProviderTrace
from .. import query
from ..base import Filters
from ..json_sql import CLICKHOUSE, JsonDialect
from ..payload_pages import Row
from ..reads import QueryBuilder, SQLQueryMixin
from .client import Client, parameter, quoted
from .deletion import Deletion
from .dsn import display_dsn, parse_dsn
from .engine import EngineClient
from .errors import MissingError
from .otel import OTEL_COLUMNS, otel_rows
from .pages import payload_page
from .rows import as_rows, token
from .schema import LAST_TIMESTAMP, VERSION, Schema

__all__ = ["ClickHouseBackend"]

T = TypeVar("T")

_DAYS: Final = "(intDiv(started_at, 86400000000000) - (started_at % 86400000000000 < 0))"
#: Dates begin in 1900; the calendar repeats itself after 400 years, which are 146097 days.
_DAY: Final = (
    f"if({_DAYS} >= -25567, toString(addDays(toDate32('1970-01-01'), {_DAYS})),"
    f" concat(toString(toYear(addDays(toDate32('1970-01-01'), {_DAYS} + 146097)) - 400),"
    f" substring(toString(addDays(toDate32('1970-01-01'), {_DAYS} + 146097)), 5)))"
)


def _exact_sum(column: str) -> str:
    """Int64 wraps around without a word."""
    return f"sum(toInt128({column}))"


def _partitions(since: int | None, until: int | None) -> Sequence[str]:
    """Conditions on the column of the partitions, whose first and last time stand for those beyond."""
    low = [] if since is None else [f"timestamp >= {_timestamp(since)}"]
    high = [] if until is None else [f"timestamp <= {_timestamp(until - 1)}"]
    return low + high


def _timestamp(nanoseconds: int) -> str:
    return f"fromUnixTimestamp64Nano({max(0, min(nanoseconds, LAST_TIMESTAMP)):d}, 'UTC')"


class ClickHouseBackend(SQLQueryMixin):
    """Provider traces in a ClickHouse database.

    Args:
        settings: those that begin with ``clickhouse_``, ``auto_migrate`` and ``write_timeout`` matter.
    """

    name: ClassVar[str] = "clickhouse"
    readable: ClassVar[bool] = True
    _json: ClassVar[JsonDialect | None] = CLICKHOUSE

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: Client | SettingsError
        try:
            dsn = parse_dsn(settings.clickhouse_dsn)
            kind = Client if dsn.path is None else EngineClient
            self._made = kind(dsn, settings.write_timeout)
        except SettingsError as error:
            self._made = error

    @classmethod
    def from_settings(cls, settings: Settings) -> ClickHouseBackend:
        """The database that the settings name. Neither connects nor raises."""
        return cls(settings)

    @property
    def location(self) -> str:
        """The DSN without its password and options."""
        if isinstance(self._made, Client):
            return self._made.dsn.location
        return display_dsn(self._settings.clickhouse_dsn or "no LLMSPAN_CLICKHOUSE_DSN")

    def open(self) -> None:
        """Connect, and make the database and its tables if they are not there and that is allowed."""
        with self._client().opening() as opened:
            if opened:
                return
            if self._settings.auto_migrate:
                self._schema().make(self._client())
            else:
                self._demand_all()

    def check(self) -> str:
        """ClickHouse's version, the schema's, and where it is."""
        self._demand_all()
        kind = "chDB" if self._client().dsn.path is not None else "ClickHouse"
        return f"{kind} {self._client().version()}, schema {VERSION}, {self.location}"

    def migrate(self) -> Sequence[str]:
        """Make what is missing, and keep records for as long as the settings say; what was done."""
        with self._client().opening():
            schema = self._schema()
            return [*schema.make(self._client()), *schema.keep(self._client())]

    def force_flush(self, timeout: float) -> bool:
        """True: a write is in the table when it returns."""
        del timeout
        return True

    def shutdown(self) -> None:
        """Release connections, and the directory of an embedded engine."""
        if isinstance(self._made, Client):
            self._made.close()

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        """Store all of ``traces``; known ids stay as they are."""
        rows = as_rows(traces)
        spans = otel_rows(traces) if self._settings.clickhouse_otel_traces else []
        if rows:
            name = token(rows)
            self._insert("provider_traces", KEYS, rows, name)
            if spans:
                self._insert("otel_traces", OTEL_COLUMNS, spans, name)

    def delete(
        self, filters: Filters, *, thorough: bool = True, progress: Callable[[int], object] | None = None
    ) -> int:
        """Delete all records that ``filters`` mean, and their spans; it returns when the parts are written anew."""
        del thorough
        where = query.where(self._dialect(), filters)
        deleted = self._with_tables(lambda: Deletion(self._client(), self._settings.clickhouse_cluster, where).run())
        if progress is not None:
            progress(deleted)
        return deleted

    def now(self) -> int:
        """The time of the server."""
        (row,) = self._client().rows("SELECT toUnixTimestamp64Nano(now64(9)) AS now")
        return int(row["now"])

    def _insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], name: str) -> None:
        settings: dict[str, Any] = {
            "async_insert": 0,  # batches are made here
            "insert_deduplicate": 1,
            "insert_deduplication_token": name,
            "max_partitions_per_insert_block": 0,  # an import may hold records of many days
        }
        if self._settings.clickhouse_cluster is not None:
            settings["insert_distributed_sync"] = 1
        self._with_tables(lambda: self._client().insert(self._table(table), columns, rows, settings))

    def _with_tables(self, use: Callable[[], T]) -> T:
        """What ``use`` gives; where a table is missing it is made, if that is allowed, and ``use`` tried once more."""
        try:
            return use()
        except MissingError:
            self._client().reopen()
            if not self._settings.auto_migrate:
                raise
        self.open()
        return use()

    def _rows(self, ask: QueryBuilder) -> Sequence[Mapping[str, Any]]:
        query_text = ask(self._dialect())
        return self._with_tables(lambda: self._client().rows(query_text.sql, query_text.values))

    def _payload_page(
        self, filters: Filters | None, limit: int, cursor: str | None
    ) -> tuple[Sequence[Row], str | None]:
        def run(page_query: query.Query) -> Sequence[Row]:
            return self._with_tables(lambda: self._client().tuples(page_query.sql, page_query.values))

        return payload_page(run, self._dialect(), filters, limit, cursor)

    def _demand_all(self) -> None:
        missing = self._schema().missing(self._client())
        if missing:
            raise SchemaError(
                f"ClickHouse {self.location}: there is no table {missing[0]}; make it with"
                " `llmspan migrate --backend clickhouse`"
            )

    def _schema(self) -> Schema:
        return Schema.of(self._client().dsn.database, self._settings, self._client().version())

    def _client(self) -> Client:
        if isinstance(self._made, SettingsError):
            raise self._made
        return self._made

    def _table(self, name: str) -> str:
        return f"{quoted(self._client().dsn.database)}.{name}"

    def _dialect(self) -> query.SqlDialect:
        return query.SqlDialect(
            table=f"{self._table('provider_traces')} FINAL", parameter=parameter, day=_DAY, total=_exact_sum,
            bounds=_partitions,
        )  # fmt: skip
