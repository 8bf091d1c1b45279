"""The SQLite backend: one file, no server, several processes at once. What one gets without choosing.

One connection writes, one or two read, each behind its lock. A write is one transaction; ``id`` is the primary key, so
a record that comes again changes nothing. Listings never select a payload.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from ..._clock import monotonic, sleep, time_ns
from ..._setting_values import BadValueError, sqlite_path
from ...annotation import Annotation
from ...errors import BackendError, PermanentError, RetryableError, SettingsError
from ...query.statistics import PERIODS
from ...settings import Settings
from ...span_record import SpanRecord
from ...trace import KEYS, ProviderTrace
from .. import query
from ..annotation_rows import annotation_insert, missing_subject
from ..base import Filters, GroupBy
from ..bounded_classes import BoundedClass
from ..condition_dialects import SQLITE_CONDITIONS, SQLITE_DAY, SQLITE_MODEL
from ..conditions import Preselection
from ..deletion import Step, delete_in_steps
from ..json_sql import SQLITE, JsonDialect
from ..payload_pages import Row
from ..price_columns import PRICE_COLUMNS, with_price_columns
from ..reads import QueryBuilder, SQLQueryMixin
from ..rows import Cell, encode, plain_text
from ..span_rows import SPAN_COLUMNS, decode_span, encode_span, spans_of_traces
from . import text_index
from .connection import SQLiteConnection, transaction, translate_errors
from .deletion import StepSize, can_shrink, delete_step, empty_log, return_free_pages, rewrite, without_patience
from .read_connections import ReadConnections
from .read_only import may_write
from .retention import Retention

__all__ = ["SQLiteBackend", "default_path"]

T = TypeVar("T")

# Not OR IGNORE: that would also skip, silently, a row that breaks another rule of the table.
_COLUMNS: Final = (*KEYS, *PRICE_COLUMNS)
_INSERT: Final = (
    f"INSERT INTO provider_traces ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
    " ON CONFLICT (id) DO NOTHING"
)
#: the cells of a row by their places: sqlite3 looks up each name anew, which takes a tenth of the whole write
_cells: Final = itemgetter(*_COLUMNS)
_INSERT_SPAN: Final = (
    f"INSERT INTO spans ({', '.join(SPAN_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in SPAN_COLUMNS)})"  # noqa: S608
    " ON CONFLICT (trace_id, span_id) DO NOTHING"
)
#: seconds that a search spends on records that are not in the text index yet
_CATCH_UP_SECONDS: Final = 0.3
#: seconds between the steps of a deletion, and of making an index
_STEP_PAUSE: Final = 0.01
#: seconds that a deletion waits for a moment in which no other process uses the log
_LOG_TIMEOUT: Final = 30.0
_DIALECT: Final = query.SqlDialect(
    table="provider_traces",
    parameter=lambda name, _: f":{name}",
    conditions=SQLITE_CONDITIONS,
    has_lists=True,
    group_order={"model": SQLITE_MODEL, "day": SQLITE_DAY},
    # by the index; the columns stand behind the payloads
    narrow=lambda condition: f"rowid IN (SELECT rowid FROM provider_traces WHERE {condition})",  # noqa: S608
)
#: sum() fails beyond 64 bits; each half of the numbers stays below them for 2**31 records, and takes twice as long
_LARGE_SUMS: Final = replace(_DIALECT, total="(sum({0} >> 32) || ':' || sum({0} & 4294967295))".format)
#: what the index provider_traces_groups has: other columns are read from rows, and then JSON is as near
_INDEXED: Final = frozenset({
    "model", *PERIODS, "response_model", "request_model", "provider", "service_tier", "usage_source", "operation",
    "status", "started_at", "duration_ns", "time_to_first_chunk_ns", "attempts", "input_tokens", "output_tokens",
    "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "tokens",
})  # fmt: skip


def default_path() -> Path:
    """``$XDG_DATA_HOME/llmspan/traces.db``, or the same under ``~/.local/share``."""
    # Not a setting of llmspan: the desktop's variable, which matters only if LLMSPAN_SQLITE_PATH is not set. The XDG
    # specification says to ignore a relative path.
    data = Path(os.environ.get("XDG_DATA_HOME") or "")
    try:
        base = data if data.is_absolute() else Path.home() / ".local" / "share"
    except RuntimeError:  # a user without a home: opening it raises
        base = Path("~/.local/share")
    return base / "llmspan" / "traces.db"


class SQLiteBackend(SQLQueryMixin):
    """Provider traces in a SQLite file, at :func:`default_path` unless ``path`` says otherwise."""

    name: ClassVar[str] = "sqlite"
    readable: ClassVar[bool] = True
    reads_in_parallel: ClassVar[bool] = True
    _json: ClassVar[JsonDialect | None] = SQLITE
    _price_keys: ClassVar[Container[str] | None] = _INDEXED

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, busy_timeout: float = 5.0,
        retention_days: int | None = None, max_bytes: int | None = None,
    ) -> None:  # fmt: skip
        """``retention_days`` and ``max_bytes``: what is older or more is deleted after writes; None keeps it."""
        self._path = _absolute(default_path() if path is None else _named(path))
        self._writer = SQLiteConnection(self._path, busy_timeout, read_only=False)
        self._reader = ReadConnections(self._path, busy_timeout)
        self._retention = Retention(self._path, retention_days, max_bytes)

    @classmethod
    def from_settings(cls, settings: Settings) -> SQLiteBackend:
        """The file that the settings name. Neither opens nor makes it."""
        return cls(
            settings.sqlite_path,
            retention_days=settings.sqlite_retention_days,
            max_bytes=settings.sqlite_max_bytes,
        )

    @property
    def location(self) -> str:
        """The absolute path of the file."""
        return str(self._path)

    def open(self) -> None:
        """Make the file if it is not there, and bring it to the newest schema."""
        self._retention.before_open()
        self._writer.open()

    def open_for_reading(self) -> None:
        """As :meth:`open`, but for a file that may only be read, which is then left as it is."""
        if self._reader.is_read_only():
            with translate_errors(self._path), self._reader.use():
                return
        self.open()

    def check(self) -> str:
        """SQLite's version, the schema's, where the file is, and what it keeps."""
        self._retention.before_open()
        with translate_errors(self._path), self._writer.use() as connection:
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            limits = self._retention.describe(connection, self.now())
        return f"SQLite {sqlite3.sqlite_version}, schema {schema}, {self._path}; {limits}"

    def migrate(self) -> Sequence[str]:
        """Bring the file to the newest schema; what was applied."""
        self._reader.close()
        with translate_errors(self._path):
            applied = self._writer.migrate()
        with translate_errors(self._path), self._writer.use() as connection:
            if not can_shrink(connection):  # made by an earlier version
                rewrite(connection)
                applied.append("auto_vacuum")
        return applied

    def force_flush(self, timeout: float) -> bool:
        """True: a write is in the file when it returns."""
        del timeout
        return True

    def shutdown(self) -> None:
        """Release all connections."""
        self._reader.close()
        self._writer.close()

    def cancel(self) -> None:
        """End the query that is running."""
        self._reader.interrupt()

    def limit_reads(self, seconds: float) -> None:
        """Nothing to do: :meth:`cancel` ends every query."""
        del seconds

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        """Store all of ``traces`` or none; known ids stay as they are. Then delete some of what may not be kept."""
        self._write(_INSERT, [_row(record) for record in traces])

    def _write(self, statement: str, rows: Sequence[tuple[Cell, ...]] | Sequence[dict[str, Cell]]) -> None:
        if not self._retention.has_limits:
            self._writer.write(statement, rows)
            return
        self._retention.before_open()
        self._writer.write(statement, rows)
        self._retention.after_write(self._writer, self.now())

    @property
    def keeps_spans(self) -> bool:
        """True: the table is one of the schema."""
        return True

    def write_spans(self, spans: Sequence[SpanRecord]) -> None:
        """Store all of ``spans`` or none; known ones stay as they are."""
        self._write(_INSERT_SPAN, [encode_span(span) for span in spans])

    def spans(self, trace_ids: Sequence[str], limit: int) -> Sequence[SpanRecord]:
        """The spans of these traces, the earliest first."""
        dialect = replace(_DIALECT, table="spans")
        return [decode_span(row) for row in self._rows(lambda _: spans_of_traces(dialect, trace_ids, limit))]

    def annotate(self, annotation: Annotation) -> None:
        """Store an annotation, if what it is about is in the file."""
        statement = annotation_insert(_DIALECT, annotation)
        if self._reader.is_empty():  # no file is made for that
            raise missing_subject(annotation, self.location)
        self._retention.before_open()
        with translate_errors(self._path), self._writer.use() as connection, transaction(connection):
            count = connection.execute(statement.sql, statement.values).rowcount
        if not count:
            raise missing_subject(annotation, self.location)

    def remove_annotation(self, annotation_id: str) -> bool:
        """Take one out; whether it was there."""
        if self._reader.is_empty():
            return False
        with translate_errors(self._path), self._writer.use() as connection, transaction(connection):
            cursor = connection.execute("DELETE FROM annotations WHERE id = ?", [plain_text(annotation_id)])
        return cursor.rowcount > 0

    def price_bounds(
        self, group_by: Sequence[GroupBy], filters: Filters | None, *, by_host: bool
    ) -> Sequence[BoundedClass] | None:
        """As every store; None for a file without price columns, which nobody may write to and so never got them."""
        if self._reader.is_empty():  # reading makes no file
            return []
        with translate_errors(self._path), self._reader.use() as connection:
            columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(provider_traces)")}
        return super().price_bounds(group_by, filters, by_host=by_host) if columns.issuperset(PRICE_COLUMNS) else None

    def annotation_obstacle(self) -> str | None:
        """That the file, or its directory, may not be written to."""
        path = self._path.expanduser()
        if not path.exists() or may_write(path):
            return None
        return f"this process may not write to the SQLite file {self._path}, or not to its directory"

    def remove(self, ids: Sequence[str]) -> None:
        """Take the records with these ids out."""
        with translate_errors(self._path), self._writer.use() as connection, transaction(connection):
            connection.executemany("DELETE FROM provider_traces WHERE id = ?", [(plain_text(name),) for name in ids])

    def delete(
        self, filters: Filters, *, thorough: bool = True, progress: Callable[[int], object] | None = None
    ) -> int:
        """Delete all records that ``filters`` mean from the file and its log; ``thorough`` also rewrites the file."""
        if self._reader.is_empty():
            return 0
        size = StepSize()

        def step(remaining: Filters) -> Step:
            sleep(_STEP_PAUSE)  # others' turn to write
            with translate_errors(self._path), self._writer.use() as connection:
                return delete_step(connection, _DIALECT, remaining, size)

        deleted = delete_in_steps(filters, step, progress)
        with translate_errors(self._path):
            if thorough and deleted:
                self._rewrite()
            self._shrink()
        return deleted

    def has_text_index(self) -> bool:
        """Whether the file has a text index."""
        if self._reader.is_empty():
            return False
        with translate_errors(self._path), self._reader.use() as connection:
            return text_index.exists(connection)

    def index_text(self, progress: Callable[[int], object] | None = None) -> None:
        """Make the text index, and take all records into it, in steps between which others write."""
        with translate_errors(self._path), self._writer.use() as connection:
            try:
                text_index.create(connection)
            except sqlite3.OperationalError as error:
                if "fts5" not in str(error) and "tokenizer" not in str(error):
                    raise
                raise SettingsError(
                    f"this Python's SQLite {sqlite3.sqlite_version} cannot make a text index ({error}); SQLite 3.34"
                    " with FTS5 can"
                ) from error
        while number := self._index_step():
            if progress is not None:
                progress(number)
            sleep(_STEP_PAUSE)

    def drop_text_index(self) -> None:
        """Remove the text index."""
        with translate_errors(self._path), self._writer.use() as connection:
            text_index.drop(connection)

    def _index_step(self, *, waits: bool = True) -> int:
        with (
            translate_errors(self._path),
            self._writer.use() as connection,
            nullcontext() if waits else without_patience(connection),
        ):
            return text_index.index_step(connection)

    def _preselect(self, asked: Preselection) -> str | None:
        """Ask the text index, if there is one; before that, take in some of what was written since."""
        if not self.has_text_index():
            return None
        if not self._reader.is_read_only():
            deadline = monotonic() + _CATCH_UP_SECONDS
            with suppress(BackendError):  # another process writes: what is not in the index is a candidate
                while self._index_step(waits=False) and monotonic() < deadline:
                    pass
        with translate_errors(self._path), self._reader.use() as connection:
            return text_index.preselect(connection, asked)

    def _searching(self, dialect: query.SqlDialect) -> query.SqlDialect:
        return replace(dialect, conditions=replace(SQLITE_CONDITIONS, preselect=self._preselect))

    def suspend_retention(self) -> None:
        """Delete nothing by age or size from now on."""
        self._retention.is_suspended = True

    def now(self) -> int:
        """The time of this machine: a file has no other."""
        return time_ns()

    def _rewrite(self) -> None:
        with self._writer.use() as connection:
            try:
                text_index.optimize(connection)
                rewrite(connection)
            except sqlite3.OperationalError as error:
                raise RetryableError(
                    f"SQLite file {self._path}: the records are deleted, but the file could not be rewritten ({error});"
                    " unused parts of it may hold copies of them until VACUUM is run on it"
                ) from error

    def _shrink(self) -> None:
        """Return what is free, and empty the log, in which what was deleted stands before it was."""
        more = True
        while more:
            with self._writer.use() as connection:
                more = return_free_pages(connection)
            sleep(_STEP_PAUSE)
        deadline = monotonic() + _LOG_TIMEOUT
        while True:
            with self._writer.use() as connection:
                if empty_log(connection):
                    return
            if monotonic() > deadline:
                raise RetryableError(
                    f"SQLite file {self._path}: the records are deleted, but its log still has them, because another"
                    " process reads or writes all the time; delete again"
                )
            sleep(_STEP_PAUSE)

    def _rows(self, ask: QueryBuilder) -> Sequence[Mapping[str, Cell]]:
        try:
            return self._rows_of(ask(self._searching(_DIALECT)))
        except PermanentError as error:
            if "integer overflow" not in str(error):
                raise
            return self._rows_of(ask(self._searching(_LARGE_SUMS)))

    def _rows_of(self, asked: query.Query) -> Sequence[Mapping[str, Cell]]:
        if self._reader.is_empty():  # reading makes no file
            return []
        with translate_errors(self._path), self._reader.use() as connection:
            cursor = connection.execute(asked.sql, asked.values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _consume(self, ask: QueryBuilder, consume_rows: Callable[[Iterable[Row]], T]) -> T:
        query_text = ask(self._searching(_DIALECT))
        if self._reader.is_empty():
            return consume_rows([])
        with (
            translate_errors(self._path),
            self._reader.use() as connection,
            closing(connection.execute(query_text.sql, query_text.values)) as cursor,
        ):
            return consume_rows(cursor)


def _row(record: ProviderTrace) -> tuple[Cell, ...]:
    """The values of :data:`_INSERT`."""
    return _cells(with_price_columns(record, encode(record)))


def _named(path: str | os.PathLike[str]) -> Path:
    try:
        return sqlite_path(path) if isinstance(path, str) else Path(path)
    except BadValueError as error:
        raise SettingsError(f"SQLiteBackend({error.shown or path!r}): {error}") from None


def _absolute(path: Path) -> Path:
    """``path`` made independent of the working directory, if there is one; opening it raises if that failed."""
    try:
        return path.expanduser().absolute()
    except (RuntimeError, OSError):
        return path
