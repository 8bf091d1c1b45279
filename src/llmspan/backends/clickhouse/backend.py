"""The ClickHouse backend: a server or cluster over HTTP, or the embedded engine in a directory.

A write is one INSERT with a token made of its ids. The table keeps one row an id, the one that came first; reads say
FINAL, so that a row which came twice never shows, merged or not. Listings never select a payload.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final, TypeVar

from ...annotation import Annotation
from ...errors import BackendError, SchemaError, SettingsError
from ...settings import Settings
from ...span_record import SpanRecord
from ...trace import KEYS, ProviderTrace
from .. import query
from ..annotation_rows import ANNOTATION_COLUMNS, annotation_subject, encode_annotation, missing_subject
from ..base import Filters
from ..condition_dialects import CLICKHOUSE_CONDITIONS
from ..conditions import Preselection
from ..json_sql import CLICKHOUSE, JsonDialect
from ..payload_pages import Row
from ..reads import QueryBuilder, SQLQueryMixin
from ..rows import Cell, plain_text
from . import text_index
from .client import Client, parameter, quoted
from .deletion import Deletion
from .dsn import display_dsn, parse_dsn
from .engine import EngineClient
from .errors import MissingError
from .otel import BETWEEN_CALLS, OTEL_COLUMNS, SPAN_SELECTION, otel_rows, span_of, span_rows
from .pages import payload_page
from .rows import as_rows, token
from .schema import ANNOTATIONS, LAST_TIMESTAMP, VERSION, Schema

__all__ = ["ClickHouseBackend"]

T = TypeVar("T")

_OTEL_TABLE: Final = "SELECT name FROM system.tables WHERE database = {database:String} AND name = 'otel_traces'"


def _exact_sum(column: str) -> str:
    """Sums of Int64 overflow silently."""
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
        dsn: ``http://``, ``https://`` or ``chdb://``; a wrong one is an error when the backend is opened.
        cluster: make the tables ``ON CLUSTER`` this one.
        engine: the engine of ``provider_traces``, if not ``ReplacingMergeTree``.
        ttl_days: how many days records are kept; None keeps them.
        otel_traces: whether each call is also written to the Collector's ``otel_traces``.
        auto_migrate: whether to make and update the tables.
        write_timeout: seconds that one write may take; 0 is no limit.
    """

    name: ClassVar[str] = "clickhouse"
    readable: ClassVar[bool] = True
    _json: ClassVar[JsonDialect | None] = CLICKHOUSE

    def __init__(
        self, dsn: str | None = None, *, cluster: str | None = None, engine: str | None = None,
        ttl_days: int | None = 30, otel_traces: bool = False, auto_migrate: bool = True, write_timeout: float = 30.0,
    ) -> None:  # fmt: skip
        self._dsn = dsn
        self._cluster = cluster
        self._engine = engine
        self._ttl_days = ttl_days
        self._otel_traces = otel_traces
        self._auto_migrate = auto_migrate
        self._made: Client | SettingsError
        try:
            parsed = parse_dsn(dsn)
            kind = Client if parsed.path is None else EngineClient
            self._made = kind(parsed, write_timeout)
        except SettingsError as error:
            self._made = error

    @classmethod
    def from_settings(cls, settings: Settings) -> ClickHouseBackend:
        """The database that the settings name. Neither connects nor raises."""
        return cls(
            settings.clickhouse_dsn,
            cluster=settings.clickhouse_cluster,
            engine=settings.clickhouse_engine,
            ttl_days=settings.clickhouse_ttl,
            otel_traces=settings.clickhouse_otel_traces,
            auto_migrate=settings.auto_migrate,
            write_timeout=settings.write_timeout,
        )

    @property
    def location(self) -> str:
        """The DSN without its password and options."""
        if isinstance(self._made, Client):
            return self._made.dsn.location
        return display_dsn(self._dsn or "no LLMSPAN_CLICKHOUSE_DSN")

    def open(self) -> None:
        """Connect, and make the database and its tables if they are not there and that is allowed."""
        with self._client().opening() as opened:
            if opened:
                return
            if self._auto_migrate:
                self._schema().make(self._client(), needs_all=False)
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

    def cancel(self) -> None:
        """End the queries that are running; the embedded engine ends its own by :meth:`limit_reads` only."""
        if isinstance(self._made, Client):
            self._made.cancel()

    def limit_reads(self, seconds: float) -> None:
        """End each query of the embedded engine after ``seconds``."""
        if isinstance(self._made, Client):
            self._made.limit_reads(seconds)

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        """Store all of ``traces``; known ids stay as they are."""
        rows = as_rows(traces)
        spans = otel_rows(traces) if self._otel_traces else []
        if rows:
            name = token(rows)
            self._insert("provider_traces", KEYS, rows, name)
            if spans:
                self._insert("otel_traces", OTEL_COLUMNS, spans, name)

    @property
    def keeps_spans(self) -> bool:
        """Whether ``otel_traces`` is written to."""
        return self._otel_traces

    def write_spans(self, spans: Sequence[SpanRecord]) -> None:
        """Store all of ``spans`` in ``otel_traces``."""
        rows = span_rows(spans)
        self._insert("otel_traces", OTEL_COLUMNS, rows, token([[span.id] for span in spans]))

    def spans(self, trace_ids: Sequence[str], limit: int) -> Sequence[SpanRecord]:
        """The spans of these traces in ``otel_traces``, whoever wrote them, less those of calls."""
        values: dict[str, Cell] = {f"trace_{at}": name for at, name in enumerate(trace_ids)}
        marks = ", ".join(parameter(name, value) for name, value in values.items())
        text = (
            f"SELECT {SPAN_SELECTION} FROM {self._table('otel_traces')} WHERE TraceId IN ({marks}) AND {BETWEEN_CALLS}"  # noqa: S608
            f" ORDER BY Timestamp, SpanId LIMIT 1 BY TraceId, SpanId LIMIT {limit:d}"
        )

        def read() -> Sequence[Mapping[str, Any]]:
            client = self._client()
            return client.rows(text, values) if client.rows(_OTEL_TABLE, {"database": client.dsn.database}) else []

        return [span_of(row) for row in self._with_tables(read)]

    def annotate(self, annotation: Annotation) -> None:
        """Store an annotation, if what it is about is there."""
        column, value = annotation_subject(annotation)
        where = f"{self._dialect().table} WHERE {column} = {parameter('subject', value)}"
        text = f"SELECT count() AS records, max(timestamp) AS newest FROM {where}"  # noqa: S608 - all ours
        (row,) = self._with_tables(lambda: self._client().rows(text, {"subject": value}))
        if not row["records"]:
            raise missing_subject(annotation, self.location)
        cells = [*encode_annotation(annotation).values(), row["newest"]]
        self._insert(ANNOTATIONS, (*ANNOTATION_COLUMNS, "timestamp"), [cells], token([cells]))

    def remove_annotation(self, annotation_id: str) -> bool:
        """Take one out; it returns when the parts are written anew."""
        condition = query.Query(f"id = {parameter('id', '')}", {"id": plain_text(annotation_id)})
        return self._with_tables(lambda: Deletion(self._client(), self._cluster, condition).remove_annotations())

    def annotation_obstacle(self) -> str | None:
        """That this user may only read, or lacks the right to insert."""
        table = self._table(ANNOTATIONS)
        try:
            (row,) = self._client().rows("SELECT toInt64(getSetting('readonly')) AS level")
            answer = [] if row["level"] else self._client().tuples(f"CHECK GRANT INSERT ON {table}")
        except (BackendError, SettingsError):  # a server that does not know the question, or may not be asked
            return None
        if row["level"] or any(str(cell) == "0" for cells in answer for cell in cells[:1]):
            return f"ClickHouse {self.location}: this user may only read; grant INSERT ON {table}"
        return None

    def delete(
        self, filters: Filters, *, thorough: bool = True, progress: Callable[[int], object] | None = None
    ) -> int:
        """Delete all records that ``filters`` mean, and their spans; it returns when the parts are written anew."""
        del thorough
        where = query.where(self._dialect(), filters)
        deleted = self._with_tables(lambda: Deletion(self._client(), self._cluster, where).run())
        if progress is not None:
            progress(deleted)
        return deleted

    def has_text_index(self) -> bool:
        """Whether requests and responses have a text index."""
        return self._cluster is None and self._with_tables(lambda: text_index.exists(self._client()))

    def index_text(self, progress: Callable[[int], object] | None = None) -> None:
        """Add the text index; the server builds that of older parts in the background."""
        del progress
        if self._cluster is not None:
            raise SettingsError("llmspan index makes no index on a cluster; text is searched without one there")
        self._with_tables(lambda: text_index.make(self._client()))

    def drop_text_index(self) -> None:
        """Remove the text index."""
        self._with_tables(lambda: text_index.drop(self._client()))

    def _preselect(self, asked: Preselection) -> str | None:
        return text_index.preselect(self._client(), asked) if self.has_text_index() else None

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
        if self._cluster is not None:
            settings["insert_distributed_sync"] = 1
        self._with_tables(lambda: self._client().insert(self._table(table), columns, rows, settings))

    def _with_tables(self, use: Callable[[], T]) -> T:
        """What ``use`` gives; where a table is missing it is made, if that is allowed, and ``use`` tried once more."""
        try:
            return use()
        except MissingError:
            self._client().reopen()
            if not self._auto_migrate:
                self._demand_annotations()
                raise
        self.open()
        return use()

    def _rows(self, ask: QueryBuilder) -> Sequence[Mapping[str, Any]]:
        query_text = ask(self._searching())
        return self._with_tables(lambda: self._client().rows(query_text.sql, query_text.values))

    def _payload_page(
        self, filters: Filters | None, limit: int, cursor: str | None
    ) -> tuple[Sequence[Row], str | None]:
        def run(page_query: query.Query) -> Sequence[Row]:
            return self._with_tables(lambda: self._client().tuples(page_query.sql, page_query.values))

        return payload_page(run, self._searching(), filters, limit, cursor)

    def _demand_all(self) -> None:
        """Raise unless there are all tables without which records cannot be written."""
        missing = [name for name in self._schema().missing(self._client()) if not name.startswith(ANNOTATIONS)]
        if missing:
            raise self._missing_table(missing[0])

    def _demand_annotations(self) -> None:
        """Raise if it is only their table that is missing, in a database of an earlier version."""
        missing = self._schema().missing(self._client())
        if missing and all(name.startswith(ANNOTATIONS) for name in missing):
            raise self._missing_table(missing[0])

    def _missing_table(self, name: str) -> SchemaError:
        return SchemaError(
            f"ClickHouse {self.location}: there is no table {name}; make it with `llmspan migrate --backend clickhouse`"
        )

    def _schema(self) -> Schema:
        client = self._client()
        return Schema(
            database=client.dsn.database, cluster=self._cluster, engine=self._engine, ttl_days=self._ttl_days,
            otel_traces=self._otel_traces, version=client.version(),
        )  # fmt: skip

    def _client(self) -> Client:
        if isinstance(self._made, SettingsError):
            raise self._made
        return self._made

    def _table(self, name: str) -> str:
        return f"{quoted(self._client().dsn.database)}.{name}"

    def _dialect(self) -> query.SqlDialect:
        return query.SqlDialect(
            table=f"{self._table('provider_traces')} FINAL", annotations=f"{self._table(ANNOTATIONS)} FINAL",
            parameter=parameter,
            conditions=CLICKHOUSE_CONDITIONS, total=_exact_sum, bounds=_partitions, has_arrays=True,
        )  # fmt: skip

    def _searching(self) -> query.SqlDialect:
        return replace(self._dialect(), conditions=replace(CLICKHOUSE_CONDITIONS, preselect=self._preselect))
