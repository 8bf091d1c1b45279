"""Opening a SQLite file that may not be written to, or that is in such a directory, without making anything beside it.

The file is in WAL mode, where also readers write: to the index of the log, ``-shm``. How it can be read without that
depends on which of the two files beside it are there; none of the ways passes over records that are in the log.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import Final
from urllib.parse import quote

__all__ = ["may_write", "open_read_only"]

_WRITABLE: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def may_write(path: Path) -> bool:
    """Whether this process may write to an existing file and beside it; for root, whether anybody may."""
    real_path = Path(os.path.realpath(path))
    return all(os.access(one, os.W_OK) and one.stat().st_mode & _WRITABLE for one in (real_path, real_path.parent))


def open_read_only(path: Path, busy_timeout: float) -> tuple[sqlite3.Connection, bool]:
    """A connection that writes nothing anywhere, and whether it is good for one use only."""
    real_path = Path(os.path.realpath(path))
    log, index = (real_path.with_name(real_path.name + suffix) for suffix in ("-wal", "-shm"))
    if log.exists() and index.exists():  # whoever writes now is seen, too
        return _connect(real_path, "mode=ro", busy_timeout), False
    if not log.exists() or log.stat().st_size == 0:
        # No process has it open. That may change, and SQLite would not detect it.
        return _connect(real_path, "mode=ro&immutable=1", busy_timeout), True
    # A process died, or the index was not copied along. With exclusive access no index is needed; and no other process
    # has it open, or there would be an index, so no lock is needed either.
    connection = _connect(real_path, "mode=ro&vfs=unix-none", busy_timeout)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    return connection, True


def _connect(real_path: Path, options: str, busy_timeout: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(os.fsencode(real_path))}?{options}", uri=True, timeout=busy_timeout, isolation_level=None,
        check_same_thread=False,
    )  # fmt: skip
