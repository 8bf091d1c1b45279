"""The embedded engine: the same client on a directory, without a server.

One directory belongs to one process, and one process has one directory. The engine's threads do not cross a fork: a
child that used it, or only ended, would hang. So it is closed before a fork, opened again in the parent at its next
use, and refused in the child. A process that ended with a thread in the engine would crash: it is closed then, too.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import threading
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from ..._directories import make_private_directory
from ...errors import RetryableError, SettingsError
from .client import Client, clients
from .driver import exceptions, open_client
from .dsn import ClickHouseDsn
from .errors import translate_errors

__all__ = ["EngineClient"]

#: How long a fork, or the end of the process, may wait for a call of the engine that is running, in seconds.
_IDLE_TIMEOUT: Final = 5.0

#: The process that has started an engine; after a fork it is not this one.
_started_in: int | None = None


class EngineClient(Client):
    """The engine in this process, one call at a time."""

    def __init__(self, dsn: ClickHouseDsn, timeout: float) -> None:
        super().__init__(dsn, timeout)
        self._read_limit: float | None = None
        self._start_free()

    def close(self) -> None:
        """Release the directory, once all clients of this process have."""
        if not self._ended:
            with self._turn():
                super().close()

    def end(self) -> None:
        """Close permanently: later calls raise an error."""
        self._ended = True
        self._halt()

    def before_fork(self) -> None:
        """Wait, not for long, until no call runs, let none begin, and close the engine."""
        self._halt()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        with self._changed:
            self._halted = False
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Forget the engine."""
        super().after_fork_in_child()
        self._start_free()

    def _start_free(self) -> None:
        self._changed = threading.Condition()
        self._busy = False
        self._halted = False
        self._ended = False

    def _halt(self) -> None:
        with self._changed:
            self._halted = True
            self._changed.notify_all()
            free = self._changed.wait_for(lambda: not self._busy, _IDLE_TIMEOUT)
        if free:
            super().close()

    @contextmanager
    def _turn(self) -> Generator[None]:
        with self._changed:
            # A plain lock would go to whoever of the callers is quick, and hardly ever to the one who wants to fork.
            self._changed.wait_for(lambda: self._ended or not (self._busy or self._halted))
            if self._ended:
                raise RetryableError(f"ClickHouse {self.dsn.location}: the process is exiting and its engine is closed")
            self._busy = True
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    @contextmanager
    def _driven(self) -> Generator[Any]:
        with self._turn(), translate_errors(self.dsn):
            yield self._connected()

    def limit_reads(self, seconds: float) -> None:
        """End each query by itself after ``seconds``: the engine takes no other call while one runs."""
        self._read_limit = seconds

    @contextmanager
    def _cancellable(self, driver: Any) -> Generator[Mapping[str, Any]]:
        del driver
        yield {} if self._read_limit is None else {"max_execution_time": self._read_limit}

    def _bounded(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _connect(self) -> Any:
        global _started_in
        dsn, directory = self.dsn, Path(self.dsn.path or ".")
        if _started_in not in (None, os.getpid()):
            raise _wrong(dsn, "this process is a fork of one that had started the engine, which cannot be used here;"
                                " use a ClickHouse server, or make the first call after the fork")  # fmt: skip
        try:
            make_private_directory(directory)
        except OSError as error:
            raise _wrong(dsn, f"{error.strerror}; name a directory that this user may write to") from error
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            raise _wrong(dsn, "permission denied; name a directory that this user may write to")
        if _is_held(directory, by_us=False):
            raise _held(dsn)
        _started_in = os.getpid()
        try:
            return open_client(dsn, interface="chdb", path=str(directory))
        except exceptions().ProgrammingError as error:
            raise _refused(dsn, directory, str(error)) from error


def _refused(dsn: ClickHouseDsn, directory: Path, reason: str) -> Exception:
    if "already initialized" in reason:
        return _wrong(dsn, "this process has another engine directory open, and can have one at a time;"
                             " use one DSN in all of the process, or a ClickHouse server")  # fmt: skip
    if _is_held(directory, by_us=True):
        return _held(dsn)
    first = reason.partition("\n")[0].partition(", Stack trace")[0]
    return _wrong(dsn, f"the engine does not start ({first[:300]}); name a directory of its own")


def _is_held(directory: Path, *, by_us: bool) -> bool:
    """Whether a process has the directory: another one, or, with ``by_us``, any. The engine says so on stderr only."""
    owner = b""
    try:
        with (directory / "status").open("rb") as file:
            owner = file.readline()
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return by_us or owner.strip() != b"PID: %d" % os.getpid()
    except OSError:
        pass
    return False


def _held(dsn: ClickHouseDsn) -> RetryableError:
    return RetryableError(
        f"ClickHouse {dsn.location}: another process has the directory open, and one at a time can; give each process"
        " a directory of its own, or use a ClickHouse server"
    )


def _wrong(dsn: ClickHouseDsn, reason: str) -> SettingsError:
    return SettingsError(f"LLMSPAN_CLICKHOUSE_DSN={dsn.location}: {reason}")


def _at_exit() -> None:
    for client in clients:
        if isinstance(client, EngineClient):
            client.end()


# Here, that is before whoever writes what is queued at the end asks for the same: the last to ask is the first to run.
atexit.register(_at_exit)
