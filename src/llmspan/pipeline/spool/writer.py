"""Records on their way into the spool, and what happens when it cannot take them: they wait in memory, which is logged.

Used by the pipeline's worker, which alone writes to the spool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ..._clock import monotonic
from ..._guard import exception_of, guarded
from ...errors import SettingsError
from ...settings import Settings
from ...span_record import StoredItem
from ..backend_worker import BackendWorker
from ..rate_limited_log import RateLimitedLog
from .spool import Spool, SpoolConsumer, SpoolFullError

_Group = Sequence[tuple[bytes, StoredItem, Sequence[BackendWorker]]]

__all__ = ["SpoolWriter", "resolve_spool_directory"]

#: seconds before a spool that failed is tried again, and between two looks for logs of dead processes
_RETRY_AFTER: Final = 5.0
_ADOPT_EVERY: Final = 60.0


def resolve_spool_directory(directory: Path) -> Path:
    """The spool's directory, absolute.

    Raises:
        SettingsError: it can never be one. (One that cannot be written now is no error: records wait in memory.)
    """
    try:
        path = directory.expanduser().absolute()
    except (RuntimeError, OSError) as error:
        raise SettingsError(f"LLMSPAN_SPOOL_DIR={directory}: {error}; set it to an absolute path") from error
    above = next((p for p in (path, *path.parents) if p.exists()), path)
    if not above.is_dir():
        raise SettingsError(f"LLMSPAN_SPOOL_DIR={directory}: {above} is not a directory; set it to one")
    return path


class SpoolWriter:
    """The spool of this process, opened when there is a worker to open it; ``wake`` has it look again."""

    def __init__(self, root: Path, settings: Settings, wake: Callable[[], None]) -> None:
        self._spool = Spool(root, settings, adopt_more=wake)
        self._one_by_one = settings.spool_sync == "always"
        self._log = RateLimitedLog()
        self._retry_at = 0.0
        self._adopt_at = 0.0

    @property
    def root(self) -> Path:
        """The directory, absolute."""
        return self._spool.root

    @property
    def has_more(self) -> bool:
        """Whether logs of dead processes wait to be adopted."""
        return self._spool.has_more

    @property
    def adoptions(self) -> int:
        """How many of them were adopted so far."""
        return self._spool.adoptions

    @property
    def bytes(self) -> int:
        """What it takes on the disk."""
        return self._spool.bytes

    def open(self, workers: Sequence[BackendWorker]) -> bool:
        """Give every worker its backlog; whether records can be written."""
        now = monotonic()
        if not workers:
            return False
        if now < self._retry_at:
            if self.has_more:  # delivering them frees space
                guarded("spool.adopt", self._spool.adopt)
                _wake_all(workers)
            return False
        error = exception_of(self._open, workers, now)
        if error is not None:
            self._on_error(error)
        return error is None

    def _open(self, workers: Sequence[BackendWorker], now: float) -> None:
        consumers = [SpoolConsumer(d.backend.name, d.backend.location, d.stats) for d in workers]
        backlogs = self._spool.backlogs(consumers)
        for worker, consumer in zip(workers, consumers, strict=True):
            worker.backlog = backlogs[consumer]
        try:
            self._spool.open(consumers)
            if now >= self._adopt_at or self._spool.has_more:
                self._adopt_at = now + _ADOPT_EVERY
                self._spool.adopt()
        finally:
            _wake_all(workers)

    def store(
        self, batch: Sequence[tuple[StoredItem, Sequence[BackendWorker]]], workers: Sequence[BackendWorker]
    ) -> None:
        """Take records over; each was counted as accepted for the workers beside it."""
        encoded = [(guarded("spool.encode", _encode, record), record, targets) for record, targets in batch]
        for record, owners in [(record, consumers) for data, record, consumers in encoded if data is None]:
            _queue(record, owners)
        good = [(data, record, promised) for data, record, promised in encoded if data is not None]
        size = 1 if self._one_by_one else max(1, len(good))
        for start in range(0, len(good), size):
            self._store(good[start : start + size], workers)

    def _store(self, group: _Group, workers: Sequence[BackendWorker]) -> None:
        if not self.open(workers):
            _queue_all(group)
            return
        error = exception_of(self._spool.commit, [data for data, _, _ in group])
        if error is None:
            self._count(group, workers)
            self._spool.publish()
            _wake_all(workers)
        elif isinstance(error, SpoolFullError):
            self._split_and_store(group, workers)
        else:
            self._on_error(error)
            _queue_all(group)

    def _split_and_store(self, group: _Group, workers: Sequence[BackendWorker]) -> None:
        """There is no room for all of ``group``: some of it may still fit."""
        middle = len(group) // 2
        if middle:
            self._store(group[:middle], workers)
            self._store(group[middle:], workers)
            return
        for worker in group[0][2]:
            worker.stats.dropped("spool_full")

    def _count(self, group: _Group, workers: Sequence[BackendWorker]) -> None:
        for _, _, targets in group:
            for worker in workers:
                if worker not in targets:  # added since the call ended: it gets the record as well
                    worker.stats.accepted()
                worker.stats.spooled(1)
            for worker in targets:
                if worker not in workers:
                    worker.stats.dropped("shutdown")

    def _on_error(self, error: BaseException) -> None:
        self._retry_at = monotonic() + _RETRY_AFTER
        message = "llmspan: LLMSPAN_SPOOL_DIR=%s: %s; records wait in memory until it can be written"
        self._log.warning("spool", message, self._spool.root, getattr(error, "strerror", None) or repr(error))

    def close(self) -> None:
        """Remove what is delivered, leave the rest to the next process."""
        self._spool.close()

    def forget(self) -> None:
        """In a forked child: what is there is the parent's."""
        self._spool.forget()


def _encode(record: StoredItem) -> bytes:
    return record.to_json().encode()


def _wake_all(workers: Sequence[BackendWorker]) -> None:
    for worker in workers:
        worker.wake()


def _queue_all(group: _Group) -> None:
    for _, record, targets in group:
        _queue(record, targets)


def _queue(record: StoredItem, workers: Sequence[BackendWorker]) -> None:
    for worker in workers:
        worker.put([record])
