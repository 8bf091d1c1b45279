"""The limits of a SQLite file: records that are too old, or more than it may hold, are deleted after a write.

They go in steps of a twentieth of a second, and only a few steps after each write, so that neither the next batch nor
another process waits for long; what remains goes after the next write. Each step looks anew under the file's write
lock: two processes at once delete no more than one would.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..._clock import DAY, monotonic, sleep
from ..._guard import logger
from ...errors import LlmspanError
from .clock import ClockState, date_of, judge, last_change, read_state, write_state
from .connection import SQLiteConnection, transaction
from .deletion import pragma, return_free_pages

__all__ = ["Retention"]

#: seconds that a step holds the write lock
_STEP_SECONDS: Final = 0.05
#: seconds of deleting after one write
_BUDGET: Final = 0.25
#: seconds between two steps, for others who write
_STEP_PAUSE: Final = 0.005
#: milliseconds that a step waits for others: it may as well be done after the next write
_BUSY_TIMEOUT_MS: Final = 100
#: seconds until a deletion that failed is tried again
_RETRY_SECONDS: Final = 600.0
#: free pages stay in the file for the next records, up to one for so many pages of it
_PAGES_PER_FREE: Final = 8
_OLDEST: Final = "SELECT id FROM provider_traces WHERE {condition} ORDER BY started_at, id LIMIT 1000"
_ANY_OLDER: Final = "SELECT EXISTS (SELECT 1 FROM provider_traces WHERE started_at < ?)"
_DELETE_SPANS: Final = (
    "DELETE FROM spans WHERE rowid IN (SELECT rowid FROM spans WHERE started_at < ? ORDER BY started_at LIMIT 1000)"
)
#: Spans that are older than all records, and whose trace has none: an agent's span that ended after the records of its
#: trace were deleted would stay, and new records would be deleted for it.
_DELETE_ORPHANS: Final = """
DELETE FROM spans WHERE rowid IN (
    SELECT rowid FROM spans
    WHERE started_at < coalesce((SELECT min(started_at) FROM provider_traces), 9223372036854775807)
        AND NOT EXISTS (SELECT 1 FROM provider_traces WHERE provider_traces.trace_id = spans.trace_id)
    ORDER BY started_at LIMIT 1000
)"""
_UNITS: Final = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))
_LEAST: Final = -(2**63)


class Retention:
    """The limits of one file, as one writer keeps them."""

    def __init__(self, path: Path, days: int | None, max_bytes: int | None) -> None:
        self._path = path
        self._days = days
        self._max_bytes = max_bytes
        #: whether there is anything to do before and after a write
        self.has_limits = days is not None or max_bytes is not None
        self._changed_at: int | None = None
        self._has_looked = False
        self.is_suspended = False
        self._is_doubted = False
        self._retry_at = 0.0

    def before_open(self) -> None:
        """Look when the file was changed last, before that is now."""
        if self._days is not None and not self._has_looked:
            self._has_looked = True
            self._changed_at = last_change(self._path)

    def after_write(self, writer: SQLiteConnection, now: int) -> None:
        """Delete some of what is too old or too much. Never fails a write that is done."""
        if self.is_suspended or monotonic() < self._retry_at:
            return
        try:
            self._trim(writer, now)
        except (sqlite3.Error, LlmspanError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                return  # another process writes, or deletes
            self._retry_at = monotonic() + _RETRY_SECONDS
            logger.warning(
                "llmspan: sqlite: old records could not be deleted from %s, which is tried again in %d minutes: %s",
                self._path, _RETRY_SECONDS // 60, error,
            )  # fmt: skip

    def describe(self, connection: sqlite3.Connection, now: int) -> str:
        """The limits and how far they are used, for people."""
        limits = [] if self._days is None else [f"{self._days} day{'' if self._days == 1 else 's'}"]
        if self._max_bytes is not None:
            limits.append(f"at most {_readable(self._max_bytes)}")
        text = f"keeps {' and '.join(limits) or 'everything'}, holds {_readable(_used_bytes(connection))}"
        if self._days is None:
            return text
        state = read_state(connection)
        if judge(state, now, self._changed_at, self._days * DAY).is_believed:
            return text
        return f"{text}; nothing is deleted by age now, as this machine's clock has jumped to {date_of(now)}"

    def _trim(self, writer: SQLiteConnection, now: int) -> None:
        steps: list[Callable[[sqlite3.Connection], bool]] = []
        if self._days is not None and self._believes(writer, now):
            cutoff = max(_LEAST, now - self._days * DAY)
            steps.append(lambda connection: _delete_older(connection, cutoff))
            steps.append(lambda connection: _delete_older_spans(connection, cutoff))
        if (limit := self._max_bytes) is not None:
            steps.append(lambda connection: _delete_beyond(connection, limit, now + DAY))
        steps.append(_shrink)
        deadline = monotonic() + _BUDGET
        for step in steps:
            while _run(writer, step):
                if monotonic() > deadline:
                    return
                sleep(_STEP_PAUSE)

    def _believes(self, writer: SQLiteConnection, now: int) -> bool:
        """Whether records may be deleted by their age at ``now``, by this clock."""
        with writer.use() as connection, _impatient(connection):
            before = read_state(connection)
            state = judge(before, now, self._changed_at, (self._days or 0) * DAY)
            write_state(connection, before, state)
        if not state.is_believed and not self._is_doubted:
            self._warn_of_clock(state, now)
        self._is_doubted = not state.is_believed
        return state.is_believed

    def _warn_of_clock(self, state: ClockState, now: int) -> None:
        logger.warning(
            "llmspan: sqlite: this machine's clock says %s, and said %s when %s was looked at last: records are not"
            " deleted by age until it has stayed there for a day. Set the clock if it is wrong; if it is right,"
            " `llmspan prune --older-than %dd` deletes them now",
            date_of(now), date_of(state.clock), self._path, self._days,
        )  # fmt: skip


def _delete_older(connection: sqlite3.Connection, cutoff: int) -> bool:
    """Delete some records that began before ``cutoff``; whether there may be more."""
    (is_there,) = connection.execute(_ANY_OLDER, [cutoff]).fetchone()
    if not is_there:
        return False
    with transaction(connection):
        return _delete_oldest(connection, "started_at < ?", cutoff)


def _delete_older_spans(connection: sqlite3.Connection, cutoff: int) -> bool:
    """Delete some spans that began before ``cutoff``, also of traces of which no record came."""
    (is_there,) = connection.execute("SELECT EXISTS (SELECT 1 FROM spans WHERE started_at < ?)", [cutoff]).fetchone()
    if is_there:
        with transaction(connection):
            connection.execute(_DELETE_SPANS, [cutoff])
    return bool(is_there)


def _delete_beyond(connection: sqlite3.Connection, max_bytes: int, ahead: int) -> bool:
    """Delete some records if the file holds more than ``max_bytes``; whether there may be more to delete.

    Those that began after ``ahead`` go first: records of a clock that was wrong would outlive all others, until the
    file has nothing else.
    """

    def is_enough() -> bool:
        return _used_bytes(connection) <= max_bytes

    if is_enough():
        return False
    with transaction(connection):
        if is_enough():  # another process was faster
            return False
        if connection.execute(_DELETE_ORPHANS).rowcount:
            return True
        return _delete_oldest(connection, "started_at > ?", ahead, is_enough) or _delete_oldest(
            connection, "started_at >= ?", _LEAST, is_enough
        )


def _delete_oldest(
    connection: sqlite3.Connection, condition: str, value: int, is_enough: Callable[[], bool] = lambda: False
) -> bool:
    """Delete the oldest records one by one until it is enough, or has taken its time; whether there were any."""
    deadline = monotonic() + _STEP_SECONDS
    rows = connection.execute(_OLDEST.format(condition=condition), [value]).fetchall()
    for row in rows:
        connection.execute("DELETE FROM provider_traces WHERE id = ?", row)
        if is_enough() or monotonic() > deadline:
            break
    return bool(rows)


def _run(writer: SQLiteConnection, step: Callable[[sqlite3.Connection], bool]) -> bool:
    with writer.use() as connection, _impatient(connection):
        return step(connection)


def _shrink(connection: sqlite3.Connection) -> bool:
    """Give free pages back to the file system where there are many; whether there are still many."""
    if not _has_many_free(connection):
        return False
    return return_free_pages(connection) and _has_many_free(connection)


def _has_many_free(connection: sqlite3.Connection) -> bool:
    return pragma(connection, "freelist_count") * _PAGES_PER_FREE > pragma(connection, "page_count")


def _used_bytes(connection: sqlite3.Connection) -> int:
    """What the records and their indexes take: pages that are free are not counted, they are used again."""
    pages = pragma(connection, "page_count") - pragma(connection, "freelist_count")
    return pages * pragma(connection, "page_size")


@contextmanager
def _impatient(connection: sqlite3.Connection) -> Generator[None]:
    """Wait for other writers less long than a write does."""
    busy_timeout = pragma(connection, "busy_timeout")
    connection.execute(f"PRAGMA busy_timeout = {min(_BUSY_TIMEOUT_MS, busy_timeout):d}").fetchall()
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {busy_timeout:d}").fetchall()


def _readable(size: int) -> str:
    unit, name = next(((unit, name) for unit, name in _UNITS if size >= unit), _UNITS[-1])
    return f"{size / unit:.1f}".removesuffix(".0") + f" {name}"
