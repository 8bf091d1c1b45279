"""The connections that read a SQLite file: one, and a second one that is opened if two threads read at the same time.

SQLite computes without holding the interpreter, so two sums over many records take the time of one on two cores.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from .connection import SQLiteConnection

__all__ = ["ReadConnections"]


class ReadConnections:
    """Two connections that only read; each is given to one thread at a time."""

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self._first = SQLiteConnection(path, busy_timeout, read_only=True)
        self._second = SQLiteConnection(path, busy_timeout, read_only=True)

    @contextmanager
    def use(self) -> Generator[sqlite3.Connection]:
        """An open connection, for this thread alone; raises as :meth:`SQLiteConnection.use` does."""
        chosen = self._second if self._first.is_in_use else self._first
        with chosen.use() as connection:
            yield connection

    def is_empty(self) -> bool:
        """Whether there is no file yet, or one in which nothing was ever written; looks without making one."""
        return self._first.is_empty()

    def is_read_only(self) -> bool:
        """Whether there is a file that can be read, and not written to."""
        return self._first.is_read_only()

    def interrupt(self) -> None:
        """End the statements that are running, in whatever threads."""
        self._first.interrupt()
        self._second.interrupt()

    def close(self) -> None:
        """Release both; the next use opens another."""
        self._first.close()
        self._second.close()
