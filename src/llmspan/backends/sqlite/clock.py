"""Whether the clock can be trusted when records are to be deleted by their age, for a file that outlives its writers.

A machine may come up in the wrong year, and by such a clock all records are old. So the file remembers the time of the
last look; a clock that has jumped since then is trusted when it has stayed where it is for a day.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from ..._clock import DAY, HOUR
from ...trace import datetime_of
from .connection import transaction

__all__ = ["ClockState", "date_of", "judge", "last_change", "read_state", "write_state"]

_YEAR: Final = 366 * DAY
#: for how long no program may have written to the file without its clock being doubted
_USUAL_PAUSE: Final = 7 * DAY
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS llmspan_retention (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    clock INTEGER NOT NULL,
    doubted_since INTEGER
)
"""
_READ: Final = "SELECT clock, doubted_since FROM llmspan_retention"
_WRITE: Final = """
INSERT INTO llmspan_retention (one, clock, doubted_since) VALUES (1, ?, ?)
ON CONFLICT (one) DO UPDATE SET clock = excluded.clock, doubted_since = excluded.doubted_since
"""


class ClockState(NamedTuple):
    """What the file remembers; nanoseconds since the epoch."""

    #: the time of the last look at which the clock was trusted
    clock: int
    #: the first time that was not trusted, if the clock is in doubt
    doubted_since: int | None = None

    @property
    def is_believed(self) -> bool:
        """Whether records may be deleted by their age."""
        return self.doubted_since is None


def judge(state: ClockState | None, now: int, changed_at: int | None, age: int) -> ClockState:
    """The state after a look at ``now``.

    Args:
        state: after the last look; None if this is the first.
        now: the clock.
        changed_at: when the file was changed last, before this program opened it; None if it was not there.
        age: how old records are deleted: a pause that is longer could make all of them old at once.
    """
    if state is None:
        last, pause = now if changed_at is None else changed_at, _YEAR
    else:
        last, pause = state.clock, max(DAY, min(_USUAL_PAUSE, age))
    if -DAY <= now - last <= pause:
        return ClockState(now)
    since = None if state is None else state.doubted_since
    if since is None or not 0 <= now - since <= _YEAR:  # it has jumped just now, or once more
        return ClockState(last, now)
    return ClockState(now) if now - since >= DAY else ClockState(last, since)


def read_state(connection: sqlite3.Connection) -> ClockState | None:
    """The last look that the file has; None if there was none yet."""
    connection.execute(_TABLE)
    row = connection.execute(_READ).fetchone()
    return None if row is None else ClockState(*row)


def write_state(connection: sqlite3.Connection, old: ClockState | None, new: ClockState) -> None:
    """Remember ``new``, unless it is about the same as what the file has."""
    if old is None or old.doubted_since != new.doubted_since or abs(new.clock - old.clock) > HOUR:
        with transaction(connection):
            connection.execute(_WRITE, new)


def last_change(path: Path) -> int | None:
    """When a file was changed last; None if it is not there. Its log does not count: whoever only reads makes one."""
    try:
        return path.stat().st_mtime_ns
    except (OSError, ValueError):
        return None


def date_of(nanoseconds: int) -> str:
    """The day, for people."""
    return f"{datetime_of(nanoseconds):%Y-%m-%d}"
