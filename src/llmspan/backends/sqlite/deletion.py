"""Deleting from a SQLite file so that the bytes go, too, in steps that hold its write lock for a fraction of a second.

``secure_delete`` overwrites what is deleted, ``incremental_vacuum`` returns free pages, and a checkpoint that truncates
empties the log. One thing is left: where neighbours of deleted rows were moved to another page, the page that they left
has copies of them in bytes that it does not use. Only rewriting the file (VACUUM) clears those.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from ..._clock import monotonic
from .. import query
from ..base import Filters
from ..deletion import Step
from .connection import transaction

__all__ = ["StepSize", "can_shrink", "delete_step", "empty_log", "pragma", "return_free_pages", "rewrite"]

#: pages that one step gives back to the file system
_FREED_PAGES: Final = 500
#: bytes of payloads that one step deletes: each is overwritten, so that it goes through the log
_STEP_BYTES: Final = 8 * 1024 * 1024
#: seconds that a step should hold the write lock
_STEP_SECONDS: Final = 0.05
_MOST_ROWS: Final = 5_000
#: auto_vacuum = INCREMENTAL
_INCREMENTAL: Final = 2
#: what a row takes without its payloads, about
_ROW_BYTES: Final = 1_000
_SIZE: Final = (
    f"{_ROW_BYTES} + CASE WHEN request_json IS NULL THEN 0 ELSE coalesce(request_bytes, 0) END"
    " + CASE WHEN response_json IS NULL THEN 0 ELSE coalesce(response_bytes, 0) END"
)


class StepSize:
    """How many rows a step takes: as many as this machine deletes in its time."""

    def __init__(self) -> None:
        self.rows = 200

    def took(self, seconds: float, rows: int) -> None:
        """Adapt to a step of ``rows``."""
        if seconds > 2 * _STEP_SECONDS:
            self.rows = max(1, min(rows, self.rows) // 2)
        elif seconds < _STEP_SECONDS / 2 and rows == self.rows:
            self.rows = min(_MOST_ROWS, self.rows * 2)


def delete_step(
    connection: sqlite3.Connection, dialect: query.SqlDialect, filters: Filters, size: StepSize,
    max_bytes: int = _STEP_BYTES,
) -> Step:  # fmt: skip
    """Delete the oldest records that ``filters`` mean: at least one, about ``max_bytes`` at most."""
    condition, values, _ = query.where(dialect, filters)
    # The search may be long, and blocks no writer. An id, unlike a rowid, cannot become another record's meanwhile.
    rows = connection.execute(
        f"SELECT id, started_at, {_SIZE} FROM provider_traces WHERE {condition}"  # noqa: S608 - all ours
        f" ORDER BY started_at, id LIMIT {size.rows:d}",
        values,
    ).fetchall()
    chosen = _first_bytes(rows, max_bytes)
    if not chosen:
        return Step(0, 0, 0)
    begun = monotonic()
    with transaction(connection):
        begun = monotonic()
        cursor = connection.executemany("DELETE FROM provider_traces WHERE id = ?", [(row[0],) for row in chosen])
    size.took(monotonic() - begun, len(chosen))
    return Step(len(chosen), cursor.rowcount, chosen[-1][1])


def can_shrink(connection: sqlite3.Connection) -> bool:
    """Whether the file was made so that free pages can be given back."""
    return pragma(connection, "auto_vacuum") != 0


def return_free_pages(connection: sqlite3.Connection) -> bool:
    """Give some free pages back to the file system, if the file was made for that; whether there are more of them."""
    before = pragma(connection, "freelist_count")
    if not before or pragma(connection, "auto_vacuum") != _INCREMENTAL:
        return False
    # It gives a row without columns for each page, after the first of which execute() stops.
    connection.executescript(f"PRAGMA incremental_vacuum({_FREED_PAGES})")
    return 0 < pragma(connection, "freelist_count") < before


@contextmanager
def without_patience(connection: sqlite3.Connection) -> Generator[None]:
    """What is done in the block fails at once if another process writes, and does not wait for it."""
    patience = pragma(connection, "busy_timeout")
    connection.execute("PRAGMA busy_timeout = 0").fetchall()
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience:d}").fetchall()


def empty_log(connection: sqlite3.Connection) -> bool:
    """Write all of the log to the file and cut it to no bytes; False if another connection reads or writes now."""
    with without_patience(connection):  # those who come to write would have to wait as long
        (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not is_busy


def rewrite(connection: sqlite3.Connection) -> None:
    """Write the file anew, without anything that is no longer used; others cannot write meanwhile."""
    connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
    connection.execute("VACUUM")


def _first_bytes(rows: list[tuple[str, int, int]], max_bytes: int) -> list[tuple[str, int, int]]:
    total = 0
    for number, row in enumerate(rows):
        total += row[2]
        if number and total > max_bytes:
            return rows[:number]
    return rows


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """The number that a PRAGMA gives."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]
