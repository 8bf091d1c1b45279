"""What the Postgres backend does over its two connections: settle where the tables are, write, keep the days, ask.

A batch is one COPY in binary form. Only if a record of it is there already is it rolled back and sent again as single
INSERTs that pass over what is there: that is rare, and COPY is the cheapest by far where it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from operator import itemgetter
from typing import Any, Final, TypeVar

import psycopg
from psycopg import capabilities, errors, sql

from ..._clock import DAY, SECOND
from ..._guard import logger
from ..._log import WarningsOnce
from ...errors import LlmspanError, RefusedError
from ...span_record import SpanRecord
from ...trace import KEYS, KINDS, PAYLOAD_KEYS, ProviderTrace, datetime_of
from ..deletion import Step
from ..payload_pages import Row
from ..price_columns import PRICE_COLUMNS, with_price_columns
from ..query import Query
from ..rows import Cell, encode
from ..span_rows import SPAN_COLUMNS, encode_span
from . import schema, text_index
from .connection import Connection, PostgresConnection, location, transaction, with_settings
from .errors import WrongSchemaError
from .partitions import DayPartitions, clock_difference, count_before, drop_day_partitions, may_delete, server_time
from .schema import SchemaInfo

__all__ = ["Store"]

T = TypeVar("T")

_AT: Final = KEYS.index("started_at")
_COLUMNS: Final = (*KEYS[:_AT], "started_at", "started_at_ns", *KEYS[_AT + 1 :], *PRICE_COLUMNS)
_NAMES: Final = ", ".join(_COLUMNS)
_STREAM: Final = _COLUMNS.index("stream")
#: the cells of a row of :func:`~llmspan.backends.rows.encode`
_in_order: Final = itemgetter(*KEYS, *PRICE_COLUMNS)
#: the binary forms: that of json is text, that of a timestamp microseconds
_KINDS: Final = {**KINDS, "price_facts": "text"}
_TYPES: Final = [{"integer": "int8", "boolean": "bool"}.get(_KINDS.get(name, "integer"), "text") for name in _COLUMNS]
#: a deletion waits for those who write annotations, and takes theirs along; taken before the statement that looks for
#: the record, which then holds no lock that the deletion would wait for
_SHARED_WITH_DELETIONS: Final = "SELECT pg_advisory_xact_lock_shared(7812739796155067951)"
_MAY_ANNOTATE: Final = (
    "SELECT has_table_privilege(%s, 'INSERT'), pg_is_in_recovery() OR EXISTS (SELECT FROM pg_settings"
    " WHERE name = 'default_transaction_read_only' AND setting = 'on')"
)
#: 2000-01-01, from where Postgres counts, in microseconds since the epoch
_SERVERS_EPOCH: Final = 946_684_800_000_000
#: rows that the driver fetches together where libpq can: few, as a payload may be long
_ROWS_AT_ONCE: Final = 10
#: Of groups by an expression, such as a day, a planner expects as many as there are rows, and sorts all of these
#: before it adds anything up. There are few: to find them by hashing takes half as long. The memory is for lists of
#: latencies, 16 bytes a record at most; what needs more is kept in files, and who has more keeps it.
_GROUPING: Final = (
    "set_config('enable_sort', 'off', true), set_config('work_mem',"
    " greatest(pg_size_bytes(current_setting('work_mem')) / 1024, 65536) || 'kB', true)"
)

#: The keys are looked up once more by the delete: of two who delete at once, each counts what it has deleted itself.
_DELETE: Final = """
WITH chosen AS MATERIALIZED (
    SELECT id AS chosen_id, started_at AS chosen_at, started_at_ns AS chosen_ns
    FROM {table} WHERE {where} ORDER BY started_at_ns LIMIT 5000
), gone AS (
    DELETE FROM {table} USING chosen WHERE id = chosen_id AND started_at = chosen_at RETURNING 1
)
SELECT (SELECT count(*) FROM chosen), (SELECT count(*) FROM gone), (SELECT max(chosen_ns) FROM chosen)
"""


_SPAN_COLUMNS: Final = (*SPAN_COLUMNS, "started_at_ns")
_INSERT_SPAN: Final = (
    f"INSERT INTO {{table}} ({', '.join(_SPAN_COLUMNS)})"  # noqa: S608 - our names
    f" VALUES ({', '.join(f'%({name})s' for name in _SPAN_COLUMNS)})"
    " ON CONFLICT (trace_id, span_id, started_at) DO NOTHING"
)
_NOTHING: Final = Query("SELECT 1 WHERE false", {})


class Store:
    """Two connections to one database, and what is known of it. Any thread may call."""

    def __init__(
        self, parameters: Mapping[str, str], *, keep_payload: bool, retention_days: int | None, auto_migrate: bool,
        timeout: float,
    ) -> None:  # fmt: skip
        self._writer = PostgresConnection(parameters, timeout, writes=True)
        self._reader = PostgresConnection(parameters, timeout, writes=False)
        #: connects only if two threads read at the same time
        self._second_reader = PostgresConnection(parameters, timeout, writes=False)
        self._location = location(parameters)
        self._keep_payload = keep_payload
        self._auto_migrate = auto_migrate
        self._timeout = timeout
        self._schema_info: SchemaInfo | None = None
        self._warnings = WarningsOnce()
        self._days = DayPartitions(self._location, retention_days)

    def open(self) -> None:
        """Find the tables; make or update them where that is wanted and allowed."""
        if self._schema_info is None:
            self._close_on_error(self._prepare_schema)

    def close(self) -> None:
        """Release all connections."""
        self._reader.close()
        self._second_reader.close()
        self._writer.close()
        self._forget()

    def cancel(self) -> None:
        """End the queries that are running."""
        self._reader.cancel()
        self._second_reader.cancel()

    def check(self) -> str:
        """One line on what answers."""
        self._forget()
        return self._close_on_error(self._describe)

    def migrate(self) -> list[str]:
        """Bring the tables to the newest version, and make the partitions of a month."""

        def work(connection: Connection) -> list[str]:
            self._forget()
            applied = schema.migrate(connection)
            info = schema.require_usable(schema.find(connection))
            self._days.make_ahead(connection, info)
            return applied

        return self._close_on_error(work)

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        """Store all of ``traces`` or none; known ids stay as they are."""

        def work(connection: Connection) -> None:
            info = self._schema_info or self._prepare_schema(connection)
            if not info.may_insert:
                self._forget()  # it may be granted
                raise RefusedError(
                    f"Postgres at {self._location}: the user {info.user!r} may only read provider_traces; GRANT INSERT"
                    f" ON {info.table} to it, or name another user in LLMSPAN_POSTGRES_DSN"
                )
            self._days.keep(connection, info, traces)
            try:
                self._copy(connection, info, traces)
            except errors.UniqueViolation:
                self._insert(connection, info, traces)

        if traces:
            self._with_schema(self._writer, work)

    @property
    def keeps_spans(self) -> bool:
        """Whether this user may write spans; true until the tables were looked at."""
        info = self._schema_info
        if info is None or info.may_insert_spans:
            return True
        self._warnings.warn(
            "llmspan: postgres: the user %r may not write spans at %s, so that trees show calls only; GRANT SELECT,"
            " INSERT ON %s TO %s", info.user, self._location, info.spans, schema._quoted(info.user),
        )  # fmt: skip
        return False

    def write_spans(self, spans: Sequence[SpanRecord]) -> None:
        """Store all of ``spans`` or none; known ones stay as they are. Nothing where they may not be written."""

        def work(connection: Connection) -> None:
            info = self._schema_info or self._prepare_schema(connection)
            if info.may_insert_spans:
                with transaction(connection, self._timeout), connection.cursor() as cursor:
                    cursor.executemany(_INSERT_SPAN.format(table=info.spans), rows)  # pyright: ignore[reportCallIssue, reportArgumentType]

        rows = [_span_cells(span) for span in spans]
        self._with_schema(self._writer, work)

    def span_rows(self, ask: Callable[[SchemaInfo], Query]) -> list[dict[str, Any]]:
        """The spans that answer ``ask``; none where this user may not read them."""
        return self.rows(lambda info: ask(info) if info.may_select_spans else _NOTHING)

    def remove(self, ids: Sequence[str]) -> None:
        """Delete records, where this user may."""

        def work(connection: Connection) -> None:
            info = self._schema_info or self._prepare_schema(connection)
            try:
                with transaction(connection, self._timeout):
                    query = sql.SQL("DELETE FROM {} WHERE id = ANY(%s)")
                    connection.execute(query.format(sql.Identifier(info.schema, "provider_traces")), [[*ids]])
            except errors.InsufficientPrivilege:
                logger.warning(
                    "llmspan: postgres: the user %r may not delete records at %s: they stay there",
                    info.user, self._location,
                )  # fmt: skip

        self._with_schema(self._writer, work)

    def delete_step(self, condition: Callable[[SchemaInfo], Query]) -> Step:
        """Delete the oldest records for which ``condition`` holds, up to a number."""

        def work(connection: Connection) -> Step:
            info = self._schema_info or schema.require_usable(schema.find(connection))
            where = condition(info)
            statement = _DELETE.format(table=info.table, where=where.sql)
            try:
                with transaction(connection, 0):  # a search without an index may take long
                    cursor = connection.execute(statement, where.values)  # pyright: ignore[reportCallIssue, reportArgumentType]
                    chosen, deleted, until = cursor.fetchone() or (0, 0, None)
            except errors.InsufficientPrivilege as error:
                raise RefusedError(
                    f"Postgres at {self._location}: the user {info.user!r} may not delete records; GRANT DELETE ON"
                    f" {info.table} TO {schema._quoted(info.user)}"
                ) from error
            return Step(chosen, deleted, until or 0)

        return self._with_schema(self._writer, work)

    def has_text_index(self) -> bool:
        """Whether there is a text index on all partitions."""

        def work(connection: Connection) -> bool:
            return text_index.exists(connection, self._schema_info or schema.require_usable(schema.find(connection)))

        return self._with_schema(self._reader, work)

    def index_text(self, progress: Callable[[int], object] | None) -> None:
        """Make the text index, or what is missing of it."""

        def work(connection: Connection) -> None:
            info = self._schema_info or schema.require_usable(schema.find(connection))
            text_index.make(connection, info, progress)

        self._with_schema(self._writer, work)

    def drop_text_index(self) -> None:
        """Remove the text index."""

        def work(connection: Connection) -> None:
            text_index.drop(connection, self._schema_info or schema.require_usable(schema.find(connection)))

        self._with_schema(self._writer, work)

    def change_annotations(self, statement: Callable[[SchemaInfo], Query], right: str) -> int:
        """How many rows a statement that changes annotations has changed; ``right``: what it takes, beside SELECT."""

        def work(connection: Connection) -> int:
            info = self._schema_info or schema.require_usable(schema.find(connection))
            query = statement(info)
            try:
                with transaction(connection, self._timeout):
                    connection.execute(_SHARED_WITH_DELETIONS)
                    return connection.execute(query.sql, query.values).rowcount  # pyright: ignore[reportCallIssue, reportArgumentType]
            except errors.InsufficientPrivilege as error:
                raise RefusedError(self._missing_right(info, right)) from error

        return self._with_schema(self._writer, work)

    def annotation_obstacle(self) -> str | None:
        """Why this user cannot add annotations, as far as the server says so."""

        def work(connection: Connection) -> str | None:
            info = self._schema_info or schema.require_usable(schema.find(connection))
            ((may_insert, is_read_only),) = connection.execute(_MAY_ANNOTATE, [info.annotations]).fetchall()
            if is_read_only:
                return f"Postgres at {self._location} only reads now (default_transaction_read_only, or a standby)"
            return None if may_insert else self._missing_right(info, "INSERT")

        return self._with_schema(self._reader, work)

    def _missing_right(self, info: SchemaInfo, right: str) -> str:
        return (
            f"Postgres at {self._location}: the user {info.user!r} may not change annotations; GRANT SELECT,"
            f" {right} ON {info.annotations} TO {schema._quoted(info.user)}"
        )

    def suspend_retention(self) -> None:
        """Drop no days by the setting from now on."""
        self._days.retention_days = None

    def delete_whole_days(self, until: int) -> int:
        """Drop the days that are over before ``until``, if this user may drop days and delete; how many records."""

        def work(connection: Connection) -> int:
            info = self._schema_info or schema.require_usable(schema.find(connection))
            if not (info.may_drop_days and may_delete(connection, info)):
                return 0
            day = min(until // DAY, int(server_time(connection)) * SECOND // DAY)
            before = count_before(connection, info, day)
            try:
                drop_day_partitions(connection, info, day)
            except psycopg.Error as error:  # locks that others hold: rows can be deleted all the same
                if connection.closed:
                    raise
                logger.info("llmspan: postgres: days could not be dropped, their rows are deleted: %s", error)
            return before - count_before(connection, info, day)

        return self._with_schema(self._writer, work)

    def rows(self, ask: Callable[[SchemaInfo], Query]) -> list[dict[str, Any]]:
        """The rows that answer ``ask``."""

        def work(connection: Connection) -> list[dict[str, Any]]:
            info = self._schema_info or schema.require_usable(schema.find(connection))
            query = ask(info)
            with with_settings(connection, _GROUPING if query.is_grouped else None):
                cursor = connection.execute(query.sql, query.values)  # pyright: ignore[reportCallIssue, reportArgumentType]
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        return self._with_schema(self._second_reader if self._reader.is_in_use else self._reader, work)

    def consume(self, ask: Callable[[SchemaInfo], Query], consume_rows: Callable[[Iterable[Row]], T]) -> T:
        """What ``consume_rows`` makes of the rows that answer ``ask``, which come from the server as they are read."""

        def work(connection: Connection) -> T:
            info = self._schema_info or schema.require_usable(schema.find(connection))
            query = ask(info)
            size = _ROWS_AT_ONCE if capabilities.has_stream_chunked() else 1
            rows: Any = connection.cursor().stream(query.sql, query.values, size=size)  # pyright: ignore[reportCallIssue, reportArgumentType]
            with with_settings(connection), closing(rows):  # an end before the last row cancels the query
                return consume_rows(rows)

        return self._with_schema(self._reader, work)

    def _close_on_error(self, work: Callable[[Connection], T]) -> T:
        try:
            return self._writer.run(work)
        except LlmspanError:
            self._writer.close()  # a user who was refused keeps no connection
            raise

    def _with_schema(self, handle: PostgresConnection, work: Callable[[Connection], T]) -> T:
        try:
            return handle.run(work)
        except (WrongSchemaError, RefusedError):
            self._forget()  # the next try begins with a look at it: a table may be gone, or a right
            raise

    def _prepare_schema(self, connection: Connection) -> SchemaInfo:
        info = schema.find(connection)
        if self._auto_migrate and schema.outdated(info):
            for name in schema.migrate(connection):
                logger.info("llmspan: postgres: applied %s at %s", name, self._location)
            info = schema.find(connection)
        self._schema_info = schema.require_usable(info)
        return info

    def _forget(self) -> None:
        self._schema_info = None
        self._days.forget()

    def _describe(self, connection: Connection) -> str:
        info = schema.require_usable(schema.find(connection))
        if not info.may_insert:
            raise RefusedError(
                f"Postgres at {self._location}: the user {info.user!r} may read provider_traces, but not write to it;"
                f" GRANT INSERT ON {info.table} to it"
            )
        version = connection.info.server_version
        return (
            f"Postgres {version // 10000}.{version % 10000}, schema {info.schema} version {info.version},"
            f" {self._location}{self._describe_clock(connection)}"
        )

    def _describe_clock(self, connection: Connection) -> str:
        difference = clock_difference(server_time(connection))
        return f"; this machine's clock is {difference} the server's: set the one that is wrong" if difference else ""

    # -- writing

    def _copy(self, connection: Connection, info: SchemaInfo, traces: Sequence[ProviderTrace]) -> None:
        statement = f"COPY {info.table} ({_NAMES}) FROM STDIN (FORMAT BINARY)"
        with (
            transaction(connection, self._timeout),
            connection.cursor() as cursor,
            cursor.copy(statement) as copy,  # pyright: ignore[reportCallIssue, reportArgumentType]
        ):
            copy.set_types(_TYPES)
            for row in self._encoded(traces):
                row[_AT] = row[_AT] // 1000 - _SERVERS_EPOCH
                copy.write_row(row)

    def _insert(self, connection: Connection, info: SchemaInfo, traces: Sequence[ProviderTrace]) -> None:
        marks = ", ".join(["%s"] * len(_COLUMNS))
        statement = (
            f"INSERT INTO {info.table} ({_NAMES}) VALUES ({marks})"  # noqa: S608 - our names
            " ON CONFLICT (id, started_at) DO NOTHING"
        )
        rows = list(self._encoded(traces))
        for row in rows:
            row[_AT] = datetime_of(row[_AT])
        with transaction(connection, self._timeout), connection.cursor() as cursor:
            cursor.executemany(statement, rows)  # pyright: ignore[reportCallIssue, reportArgumentType]

    def _encoded(self, traces: Sequence[ProviderTrace]) -> Iterator[list[Any]]:
        """The cells of each record, ``started_at`` twice, in nanoseconds."""
        for record in traces:
            cells = with_price_columns(record, encode(record))
            if not self._keep_payload:
                cells |= _NO_PAYLOAD
            row: list[Any] = list(_in_order(cells))
            row.insert(_AT, row[_AT])
            row[_STREAM] = bool(row[_STREAM])
            yield row


_NO_PAYLOAD: Final[Mapping[str, Cell]] = {**dict.fromkeys(PAYLOAD_KEYS), "content": "metadata"}


def _span_cells(span: SpanRecord) -> dict[str, Any]:
    cells: dict[str, Any] = dict(encode_span(span))
    at = span.started_at
    return cells | {"started_at": datetime_of(at), "started_at_ns": at}
