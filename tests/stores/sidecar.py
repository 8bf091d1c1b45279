"""A store at the other end of a socket: written through a sidecar, read from what the sidecar writes to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmspan.backends.base import Backend, Filters, GroupBy, Page, PriceClass, StatsRow
from llmspan.backends.socket import SocketBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cost import PriceLimits
from llmspan.settings import Settings
from llmspan.sidecar import RecordStore, Sidecar, bind_socket
from llmspan.trace import ProviderTrace

#: seconds that a process may take to end on a machine under load
PATIENCE = 300.0


class RunningSidecar:
    """A sidecar in a thread of this process; what goes wrong in it is raised by :meth:`stop`."""

    def __init__(self, path: Path, *backends: Backend, settings: Settings | None = None, **options: Any) -> None:
        self.path = path
        self.record_store = RecordStore(backends, settings or Settings())
        self.server = Sidecar(bind_socket(path, {}), self.record_store, **{"allowed": None, **options})
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self, timeout: float = 30) -> bool:
        """Stop as a signal would make it; whether all was written, for which there are ``timeout`` seconds."""
        self.server.stop()
        self._thread.join()
        self.server.close()
        done = self.record_store.close(timeout)
        if self._errors:
            raise self._errors[0]
        return done

    def _serve(self) -> None:
        try:
            self.server.serve()
        except BaseException as error:
            self._errors.append(error)


class SidecarProcess:
    """``llmspan sidecar``: it listens at ``path`` and writes to ``database``."""

    def __init__(self, path: Path, database: Path, *options: str, wait: bool = True, **more: Any) -> None:
        self.path = path
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LLMSPAN_"))}
        words = ["-m", "llmspan.cli", "sidecar", "--listen", str(path), "--db", str(database), *options]
        self.process = subprocess.Popen(
            [sys.executable, *words], stderr=subprocess.PIPE, text=True, env=kept | more.pop("env", {}), **more
        )
        self.told: list[str] = []
        if wait:
            self.until("listening at")

    def until(self, words: str) -> None:
        """Read what it says up to a line with these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told.append(line)
            if words in line:
                return
        raise AssertionError(f"it ended without {words!r}: {self.told}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def remove(self) -> None:
        """Leave nothing of it behind, however a test went."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def wait(self) -> int:
        """The exit code, when it has ended; all that it said is in ``told`` then."""
        _, rest = self.process.communicate(timeout=PATIENCE)
        self.told += rest.splitlines(keepends=True)
        return self.process.returncode


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory for sockets: their paths may have no more than 107 bytes, and pytest's directories are long."""
    with tempfile.TemporaryDirectory(prefix="llmspan-") as name:
        yield Path(name)


class WiredStore(SocketBackend):
    """Writes by a sidecar; reads, and looks after, the SQLite file that the sidecar writes to."""

    readable = True

    knows_conditions = True

    def __init__(self, directory: Path) -> None:
        self._file = directory / "traces.db"
        self._store = SQLiteBackend(self._file)
        self._sidecar: RunningSidecar | None = None
        super().__init__(Path(tempfile.mkdtemp(prefix="llmspan-"), "s.sock"))

    def open(self) -> None:
        if self._sidecar is None:
            self._sidecar = RunningSidecar(self._path, SQLiteBackend(self._file))
            self._store.open()
        super().open()

    def shutdown(self) -> None:
        super().shutdown()
        self._store.shutdown()
        sidecar, self._sidecar = self._sidecar, None
        if sidecar is not None:
            assert sidecar.stop()
            self._path.parent.rmdir()

    def get(self, trace_id: str, /) -> ProviderTrace | None:
        return self._store.get(trace_id)

    def get_by_step_id(self, step_id: str) -> ProviderTrace | None:
        return self._store.get_by_step_id(step_id)

    def list_by_step_id(self, step_id: str) -> Sequence[ProviderTrace]:
        return self._store.list_by_step_id(step_id)

    def list(
        self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None, payload: bool = False
    ) -> Page:
        return self._store.list(filters, limit=limit, cursor=cursor, payload=payload)

    def ids_with_prefix(self, prefix: str, limit: int) -> Sequence[str]:
        return self._store.ids_with_prefix(prefix, limit)

    def price_classes(
        self, group_by: Sequence[GroupBy], filters: Filters | None, limits: PriceLimits
    ) -> Sequence[PriceClass] | None:
        return self._store.price_classes(group_by, filters, limits)

    def detail_sums(
        self, group_by: Sequence[GroupBy], filters: Filters | None, names: Sequence[str]
    ) -> Mapping[tuple[str | None, ...], Mapping[str, int]] | None:
        return self._store.detail_sums(group_by, filters, names)

    def stats(self, group_by: Sequence[GroupBy], filters: Filters | None = None) -> Sequence[StatsRow]:
        return self._store.stats(group_by, filters)

    def count(self, filters: Filters | None = None) -> int:
        return self._store.count(filters)

    def delete(self, filters: Filters, **options: Any) -> int:
        return self._store.delete(filters, **options)

    def now(self) -> int:
        return self._store.now()


@contextmanager
def running_sidecars(path: Path) -> Iterator[Callable[..., RunningSidecar]]:
    """Start sidecars at ``path``, with backends and options; all are stopped at the end."""
    started: list[RunningSidecar] = []

    def start(*backends: Any, **options: Any) -> RunningSidecar:
        started.append(RunningSidecar(path, *backends, **options))
        return started[-1]

    yield start
    for sidecar in started:
        sidecar.stop()
