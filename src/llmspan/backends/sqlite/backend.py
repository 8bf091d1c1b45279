"""The SQLite backend: one file, no server, several processes at once. What one gets without choosing.

One connection writes, one reads, each behind its lock. A write is one transaction; ``id`` is the primary key, so a
record that comes again changes nothing. Listings never select a payload.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from ..._clock import monotonic, sleep, time_ns
from ..._setting_values import BadValueError, sqlite_path
from ...errors import RetryableError, SettingsError
from ...settings import Settings
from ...trace import KEYS, ProviderTrace
from .. import query
from ..base import Filters
from ..deletion import Step, delete_in_steps
from ..json_sql import SQLITE, JsonDialect
from ..payload_pages import Row
from ..reads import QueryBuilder, SQLQueryMixin
from ..rows import Cell, encode, plain_text
from .connection import SQLiteConnection, transaction, translate_errors
from .deletion import StepSize, can_shrink, delete_step, empty_log, return_free_pages, rewrite
from .retention import Retention

__all__ = ["SQLiteBackend", "default_path"]

T = TypeVar("T")

# Not OR IGNORE: that would also skip, silently, a row that breaks another rule of the table.
_INSERT: Final = (
    f"INSERT INTO provider_traces ({', '.join(KEYS)}) VALUES ({', '.join(f':{key}' for key in KEYS)})"  # noqa: S608 - our names
    " ON CONFLICT (id) DO NOTHING"
)
#: seconds between the steps of a deletion
_STEP_PAUSE: Final = 0.01
#: seconds that a deletion waits for a moment in which nobody uses the log
_LOG_PATIENCE: Final = 30.0
_DIALECT: Final = query.SqlDialect(
    table="provider_traces",
    parameter=lambda name, _: f":{name}",
    # Integer division cuts towards zero; a time before 1970 needs the floor.
    # sum() fails beyond 64 bits; each half of the numbers stays below them for 2**31 records.
    total=lambda column: f"(sum({column} >> 32) || ':' || sum({column} & 4294967295))",
    day="date(started_at / 1000000000 - (started_at % 1000000000 < 0), 'unixepoch')",
)


def default_path() -> Path:
    """``$XDG_DATA_HOME/llmspan/traces.db``, or the same under ``~/.local/share``."""
    # The one place beside settings.py that reads the environment: these variables are the desktop's, not ours, and
    # matter only if LLMSPAN_SQLITE_PATH is not set. The XDG specification says to ignore a relative path.
    data = Path(os.environ.get("XDG_DATA_HOME") or "")
    try:
        base = data if data.is_absolute() else Path.home() / ".local" / "share"
    except RuntimeError:  # nobody's home: opening it will say so
        base = Path("~/.local/share")
    return base / "llmspan" / "traces.db"


class SQLiteBackend(SQLQueryMixin):
    """Provider traces in a SQLite file, at :func:`default_path` unless ``path`` says otherwise."""

    name: ClassVar[str] = "sqlite"
    readable: ClassVar[bool] = True
    _json: ClassVar[JsonDialect | None] = SQLITE

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, busy_timeout: float = 5.0,
        retention_days: int | None = None, max_bytes: int | None = None,
    ) -> None:  # fmt: skip
        """``retention_days`` and ``max_bytes``: what is older or more is deleted after writes; None keeps it."""
        self._path = _settled(default_path() if path is None else _named(path))
        self._writer = SQLiteConnection(self._path, busy_timeout, read_only=False)
        self._reader = SQLiteConnection(self._path, busy_timeout, read_only=True)
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
        with self._writer.use():
            pass

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
        """Release both connections."""
        self._reader.close()
        self._writer.close()

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        """Store all of ``traces`` or none; known ids stay as they are. Then delete some of what may not be kept."""
        rows = [encode(trace) for trace in traces]
        self._retention.before_open()
        with translate_errors(self._path), self._writer.use() as connection, transaction(connection):
            connection.executemany(_INSERT, rows)
        self._retention.after_write(self._writer, self.now())

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

    def suspend_retention(self) -> None:
        """Delete nothing by age or size from now on."""
        self._retention.is_suspended = True

    def now(self) -> int:
        """The time of this machine: a file has no other."""
        return time_ns()

    def _rewrite(self) -> None:
        with self._writer.use() as connection:
            try:
                rewrite(connection)
            except sqlite3.OperationalError as error:
                raise RetryableError(
                    f"SQLite file {self._path}: the records are deleted, but the file could not be rewritten ({error});"
                    " unused parts of it may hold copies of them until somebody runs VACUUM on it"
                ) from error

    def _shrink(self) -> None:
        """Return what is free, and empty the log, in which what was deleted stands before it was."""
        more = True
        while more:
            with self._writer.use() as connection:
                more = return_free_pages(connection)
            sleep(_STEP_PAUSE)
        deadline = monotonic() + _LOG_PATIENCE
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
        asked = ask(_DIALECT)
        if self._reader.is_empty():  # reading makes no file
            return []
        with translate_errors(self._path), self._reader.use() as connection:
            cursor = connection.execute(asked.sql, asked.values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _consume(self, ask: QueryBuilder, consume_rows: Callable[[Iterable[Row]], T]) -> T:
        query_text = ask(_DIALECT)
        if self._reader.is_empty():
            return consume_rows([])
        with (
            translate_errors(self._path),
            self._reader.use() as connection,
            closing(connection.execute(query_text.sql, query_text.values)) as cursor,
        ):
            return consume_rows(cursor)


def _named(path: str | os.PathLike[str]) -> Path:
    try:
        return sqlite_path(path) if isinstance(path, str) else Path(path)
    except BadValueError as error:
        raise SettingsError(f"SQLiteBackend({error.shown or path!r}): {error}") from None


def _settled(path: Path) -> Path:
    """``path`` made independent of the working directory, if there is one; opening it tells if that failed."""
    try:
        return path.expanduser().absolute()
    except (RuntimeError, OSError):
        return path
