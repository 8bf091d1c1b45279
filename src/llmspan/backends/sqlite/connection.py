"""The SQLite file: made private, brought to the newest schema, and opened once more after a fork.

One rule: a file that is not ours is never changed. It is looked at before the first write to it, and every refusal
names the setting, the path and the remedy.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ..._clock import monotonic, sleep
from ..._directories import make_private_directory
from ..._fork import ForkGroup, after_fork_in_child
from ..._native import Lock
from ...errors import PermanentError, RetryableError, SettingsError, WrongFileError
from ...trace import KEYS
from ..migrations import missing_migrations, newest_version
from .groups_index import make_index, make_index_of_small_file
from .read_only import may_write, open_read_only

__all__ = ["SQLiteConnection", "transaction", "translate_errors"]

#: Failures of the machine, not of the place: later it may work.
_PASSING: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM})
#: Seconds that a fork waits for a statement, and that one may have run for a fork to wait for it: a disk that hangs
#: does not hold up each fork. A child that is forked in a transaction has SQLite's memory of its locks, and finds the
#: file locked for as long as it lives. A busy disk takes more than a second for the first write, which makes the file.
_FORK_TIMEOUT: Final = 5.0
#: seconds between two looks at how long a statement runs
_FORK_POLL: Final = 0.05
#: the oldest schema that can be read as it is, if nobody may write to the file: later ones only add what sums can do
#: without (see :meth:`SQLiteBackend.price_bounds`)
_OLDEST_READ: Final = 3
#: pages of the log at which it is copied into the file, 16 MB. A page that several writes changed is copied once: with
#: SQLite's 1,000, writes of twenty records take a tenth more CPU time.
_LOG_PAGES: Final = 4_000
#: whose ``sql`` folder has the migrations
_PACKAGE: Final = "llmspan.backends.sqlite"
#: what a statement, or a value in it, can raise
_STATEMENT_ERRORS: Final = (sqlite3.DatabaseError, sqlite3.InterfaceError, OverflowError)

# Closing any descriptor of a file ends all POSIX locks that the process has on it, SQLite's among them. So a file that
# is there is never opened by us, and no connection is made while a new one is still open here.
_creating = Lock()


class _StatementLock(Lock):
    """Held while a statement runs; knows since when."""

    def __init__(self) -> None:
        super().__init__()
        self.since = 0.0

    def __enter__(self) -> None:
        super().__enter__()
        self.since = monotonic()


class SQLiteConnection:
    """One connection, opened at its first use, and the lock that gives it to one thread at a time."""

    def __init__(self, path: Path, busy_timeout: float, *, read_only: bool) -> None:
        self._path = path
        self._busy_timeout = busy_timeout
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None
        self._is_for_one_use = False
        self._file: tuple[int, int] | None = None
        self._lock = _StatementLock()
        self._held_for_fork = False
        _handles.add(self)

    @contextmanager
    def use(self) -> Generator[sqlite3.Connection]:
        """The open connection, for this thread alone.

        Raises:
            SettingsError: the file cannot be opened or made where it should be.
            WrongFileError: it is not a file of ours, or a newer one.
            RetryableError: it cannot be opened now.
        """
        with self._lock:
            try:
                yield self._opened()
            finally:
                if self._is_for_one_use:
                    self._close()

    def open(self) -> None:
        """Open it, or look whether its file is still there; raises as :meth:`use` does."""
        with self._lock:
            self._opened()

    def write(self, statement: str, rows: Sequence[Sequence[object]] | Sequence[Mapping[str, object]]) -> None:
        """Run ``statement`` for all of ``rows``, or for none. In few calls, as every record is written by this.

        Raises:
            PermanentError: the rows can never be written.
            RetryableError: they cannot be written now; also what :meth:`use` raises.
        """
        try:
            with self._lock:
                connection = self._opened()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    connection.executemany(statement, rows)
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
        except _STATEMENT_ERRORS as error:
            raise _translated(self._path, error) from error

    @property
    def is_in_use(self) -> bool:
        """Whether a thread has it now."""
        return self._lock.locked()

    def is_empty(self) -> bool:
        """Whether there is no file yet, or one in which nothing was ever written; looks without making one."""
        try:
            return self._path.stat().st_size == 0
        except FileNotFoundError:
            return True
        except (OSError, ValueError):
            return False  # opening it says what is wrong

    def is_read_only(self) -> bool:
        """Whether there is a file that can be read, and not written to."""
        try:
            return not self.is_empty() and not may_write(self._path)
        except (OSError, ValueError):
            return False

    def migrate(self) -> list[str]:
        """Bring the file to the newest schema; the names of the migrations that were missing."""
        with self._lock:
            self._close()
            before = _schema_of(self._path)
            index = make_index(self._opened())
            return [*(migration.name for migration in missing_migrations(_PACKAGE, before)), *index]

    def interrupt(self) -> None:
        """End the statement that is running, in whatever thread."""
        connection = self._connection
        if connection is not None:
            with suppress(sqlite3.ProgrammingError):  # it was closed meanwhile
                connection.interrupt()

    def close(self) -> None:
        """Release the connection; the next use opens another."""
        with self._lock:
            self._close()

    def _opened(self) -> sqlite3.Connection:
        # A user may delete the file to start afresh: without this look, all that follows would go to no file.
        if self._connection is not None and _identity(self._path) != self._file:
            self._close()
        if self._connection is None:
            if self._read_only and self.is_read_only():
                self._connection, self._is_for_one_use = _open_unchanged(self._path, self._busy_timeout)
            else:
                self._connection = _open(self._path, self._busy_timeout, read_only=self._read_only)
            self._file = _identity(self._path)
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        self._is_for_one_use = False
        if connection is not None:
            connection.close()

    def before_fork(self) -> None:
        """Wait until no statement runs; not for one that runs for long."""
        deadline = monotonic() + _FORK_TIMEOUT
        while not self._lock.acquire(timeout=min(_FORK_POLL, _FORK_TIMEOUT)):
            now = monotonic()
            if now > deadline or now - self._lock.since > _FORK_TIMEOUT:
                return
        self._held_for_fork = True

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._held_for_fork:
            self._held_for_fork = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget the parent's connection: the next use opens one of our own."""
        self._lock = _StatementLock()
        self._held_for_fork = False
        connection, self._connection = self._connection, None
        if connection is not None:
            _leak(connection)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """All statements of the block or none; the write lock is taken at its start, not halfway."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def translate_errors(path: Path) -> Generator[None]:
    """What SQLite says about a statement, in our errors."""
    try:
        yield
    except _STATEMENT_ERRORS as error:
        raise _translated(path, error) from error


def _translated(path: Path, error: Exception) -> Exception:
    message = f"SQLite file {path}: {error}"
    if isinstance(error, sqlite3.OperationalError) and _code(error) != sqlite3.SQLITE_ERROR:
        return RetryableError(message)
    if isinstance(error, sqlite3.DatabaseError) and _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return RetryableError(f"{message}; move the file away, a new one will be made")
    return PermanentError(message)


def _open(path: Path, busy_timeout: float, *, read_only: bool) -> sqlite3.Connection:
    _make_file(path)
    connection = None
    try:
        connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
        if connection.execute("PRAGMA page_count").fetchone() == (0,):  # it is made now; another one stays as it is
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA secure_delete = ON").fetchall()
        _migrate(connection, path)
        _use_wal(connection, busy_timeout)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        if not read_only:
            make_index_of_small_file(connection)
        connection.execute(f"PRAGMA query_only = {read_only:d}")
        opened, connection = connection, None
        return opened
    except sqlite3.DatabaseError as error:
        raise _open_error(path, error) from error
    finally:
        if connection is not None:
            connection.close()


def _open_unchanged(path: Path, busy_timeout: float) -> tuple[sqlite3.Connection, bool]:
    """A connection to a file that may only be read, and whether it is good for one use only."""
    if not os.access(path, os.R_OK):
        raise _bad_place(path, "it may not be read by this user")
    connection = None
    try:
        connection, is_for_one_use = open_read_only(path, busy_timeout)
        version, newest = _version(connection), newest_version(_PACKAGE)
        if 0 < version < _OLDEST_READ:
            raise WrongFileError(
                f"LLMSPAN_SQLITE_PATH={path}: its schema is version {version}, this llmspan needs {newest};"
                " run `llmspan migrate` as a user who may write to it"
            )
        _check_schema(connection, path)
        opened, connection = connection, None
        return opened, is_for_one_use
    except sqlite3.DatabaseError as error:
        raise _open_error(path, error) from error
    finally:
        if connection is not None:
            connection.close()


def _make_file(path: Path) -> None:
    """Make sure that a file is there which we may read and write, and which, if new, no other user may."""
    try:
        real_path = Path(os.path.realpath(path.expanduser()))
        make_private_directory(real_path.parent)
        with _creating, suppress(FileExistsError):
            os.close(os.open(real_path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if error.errno in _PASSING:
            raise RetryableError(f"SQLite file {path}: {error.strerror}") from error
        raise _bad_place(path, error.strerror or str(error)) from error
    except (RuntimeError, ValueError) as error:  # `~` of a user without a home, NUL in the name
        raise _bad_place(path, str(error)) from error
    if not real_path.is_file() or not os.access(real_path, os.R_OK | os.W_OK):
        raise _bad_place(path, "it is not a file that can be read and written")


def _open_error(path: Path, error: sqlite3.DatabaseError) -> Exception:
    code = _code(error)
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return _not_ours(path, f"{error}")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return _bad_place(path, f"{error}")
    return RetryableError(f"SQLite file {path}: {error}")


def _bad_place(path: Path, reason: str) -> SettingsError:
    return SettingsError(
        f"LLMSPAN_SQLITE_PATH={path}: {reason}; set it to a file in a directory that this user may write to"
    )


def _not_ours(path: Path, reason: str) -> WrongFileError:
    return WrongFileError(
        f"LLMSPAN_SQLITE_PATH={path}: not a file of llmspan ({reason}), and left as it is; set it to a file of its own"
    )


def _code(error: sqlite3.Error) -> int:
    """The primary result code; 0 for errors of the Python module, which have none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - Path.stat takes longer, and each write looks
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Apply the migrations that are missing, each in a transaction; other processes may be doing the same."""
    for version, _, sql in missing_migrations(_PACKAGE, _version(connection)):
        with transaction(connection):
            _apply(connection, path, version, sql)
    _check_schema(connection, path)


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    newest = newest_version(_PACKAGE)
    if _version(connection) > newest:
        raise WrongFileError(
            f"LLMSPAN_SQLITE_PATH={path}: its schema is version {_version(connection)}, this llmspan supports"
            f" {newest}; upgrade llmspan, or set the variable to another file"
        )
    _check_columns(connection, path)


def _check_columns(connection: sqlite3.Connection, path: Path) -> None:
    columns = _columns(connection)
    missing = [key for key in KEYS if key not in columns]
    if missing:
        raise _not_ours(path, f"it has no column {missing[0]} in a table provider_traces")


def _apply(connection: sqlite3.Connection, path: Path, version: int, sql: str) -> None:
    found = _version(connection)
    if found >= version:  # another process was faster
        return
    if found == 0 and (tables := _tables(connection)):
        raise _not_ours(path, f"it holds {', '.join(tables)}")
    if found:
        _check_columns(connection, path)
    for statement in _statements(sql):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version:d}")


def _statements(sql: str) -> Iterator[str]:
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _schema_of(path: Path) -> int:
    """The schema version of a file that may not be there, without making or changing it."""
    try:
        connection = sqlite3.connect(f"{path.expanduser().as_uri()}?mode=ro", uri=True)
    except (sqlite3.Error, ValueError, RuntimeError):
        return 0
    try:
        return _version(connection)
    except sqlite3.Error:
        return 0
    finally:
        connection.close()


def _version(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]


def _tables(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def _columns(connection: sqlite3.Connection) -> set[str]:
    return {row[1] for row in connection.execute("PRAGMA table_info(provider_traces)")}


def _use_wal(connection: sqlite3.Connection, busy_timeout: float) -> None:
    # SQLite does not wait by itself where it changes the mode: another process may be at the same point.
    deadline = monotonic() + busy_timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
        sleep(0.002)


def _leak(connection: sqlite3.Connection) -> None:
    # A connection must not cross a fork, not even to be closed: closing one that was writing would roll the parent's
    # transaction back in the memory that both share. One reference too many keeps it from ever being closed.
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _renew_creating() -> None:
    global _creating
    _creating = Lock()


after_fork_in_child(_renew_creating)
_handles: Final = ForkGroup["SQLiteConnection"]()
