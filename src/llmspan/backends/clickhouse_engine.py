"""The embedded engine: the same client on a directory, without a server.

One directory belongs to one process, and one process has one directory. The engine's threads do not cross a fork: a
child that used it, or only ended, would hang. So it is closed before a fork, opened again in the parent at its next
use, and refused in the child.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from ..errors import RetryableError, SettingsError
from .clickhouse_client import Client
from .clickhouse_driver import exceptions, open_client
from .clickhouse_dsn import Place
from .clickhouse_errors import refusals

__all__ = ["EngineClient"]

#: How long a fork may wait for a call of the engine that is running, in seconds.
_FORK_PATIENCE: Final = 1.0

#: The process that has started an engine; after a fork it is not this one.
_started_in: int | None = None


class EngineClient(Client):
    """The engine in this process, one call at a time."""

    def __init__(self, place: Place, timeout: float) -> None:
        super().__init__(place, timeout)
        self._turn = threading.Lock()
        self._held_for_fork = False

    def close(self) -> None:
        """Release the directory, once all clients of this process have."""
        with self._turn:
            super().close()

    def before_fork(self) -> None:
        """Wait, not for long, until no call runs, and close the engine."""
        if self._turn.acquire(timeout=_FORK_PATIENCE):
            self._held_for_fork = True
            super().close()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._held_for_fork:
            self._held_for_fork = False
            self._turn.release()

    def after_fork_in_child(self) -> None:
        """Forget the engine."""
        super().after_fork_in_child()
        self._turn = threading.Lock()
        self._held_for_fork = False

    @contextmanager
    def _driven(self) -> Generator[Any]:
        with self._turn, refusals(self.place):
            yield self._connected()

    def _bounded(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _connect(self) -> Any:
        global _started_in
        place, directory = self.place, Path(self.place.path or ".")
        if _started_in not in (None, os.getpid()):
            raise _wrong(place, "this process is a fork of one that had started the engine, which cannot be used here;"
                                " use a ClickHouse server, or make the first call after the fork")  # fmt: skip
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _wrong(place, f"{error.strerror}; name a directory that this user may write to") from error
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            raise _wrong(place, "permission denied; name a directory that this user may write to")
        _started_in = os.getpid()
        try:
            return open_client(place, interface="chdb", path=str(directory))
        except exceptions().ProgrammingError as error:
            raise _refused(place, str(error)) from error


def _refused(place: Place, reason: str) -> Exception:
    if "already initialized" in reason:
        return _wrong(place, "this process has another engine directory open, and can have one at a time;"
                             " use one DSN in all of the process, or a ClickHouse server")  # fmt: skip
    if "Cannot lock file" in reason:
        return RetryableError(
            f"ClickHouse {place.location}: another process has the directory open, and one at a time can; give each"
            " process a directory of its own, or use a ClickHouse server"
        )
    first = reason.partition("\n")[0].partition(", Stack trace")[0]
    return _wrong(place, f"the engine does not start ({first[:300]}); name a directory of its own")


def _wrong(place: Place, reason: str) -> SettingsError:
    return SettingsError(f"LLMSPAN_CLICKHOUSE_DSN={place.location}: {reason}")
