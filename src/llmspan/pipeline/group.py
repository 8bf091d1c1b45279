"""Records that are handed to the backends, or to the spool, together: one transaction and one sync for many.

Bounded in items, bytes and time, and by a share of what the queue may hold. Used by the pipeline's worker alone.
"""

from __future__ import annotations

from typing import Final

from .._clock import monotonic
from ..settings import Settings
from ..span_record import StoredItem
from .backend_worker import BackendWorker
from .queue import size_of

__all__ = ["RecordGroup", "batch_limits", "put_records"]

_MAX_ITEMS: Final = 256
_MAX_BYTES: Final = 1024 * 1024
_MAX_SECONDS: Final = 0.05
#: a group holds no more than this share of what the queue may hold
_SHARE: Final = 4


def batch_limits(settings: Settings, items: int = _MAX_ITEMS) -> tuple[int, int]:
    """The items and the bytes that are worth a batch: so many, or less where the queue is small."""
    return min(items, settings.queue_max_items // _SHARE), min(_MAX_BYTES, settings.queue_max_bytes // _SHARE)


class RecordGroup:
    """Records that are built, each with the workers that it was promised to."""

    def __init__(self) -> None:
        self._records: list[tuple[StoredItem, tuple[BackendWorker, ...]]] = []
        self._bytes = 0
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: StoredItem, workers: tuple[BackendWorker, ...]) -> None:
        """Add a record that is counted as accepted for each of ``workers``."""
        self._since = self._since if self._records else monotonic()
        self._bytes += size_of(record)
        self._records.append((record, workers))

    def is_full(self, limits: tuple[int, int]) -> bool:
        """Whether it is time to hand the records on; ``limits`` are those of :func:`batch_limits`."""
        max_items, max_bytes = limits
        is_large = len(self._records) >= max_items or self._bytes >= max_bytes
        return is_large or monotonic() - self._since >= _MAX_SECONDS

    def take(self) -> list[tuple[StoredItem, tuple[BackendWorker, ...]]]:
        """All records; the group is empty afterwards."""
        records, self._records, self._bytes = self._records, [], 0
        return records


def put_records(records: list[tuple[StoredItem, tuple[BackendWorker, ...]]], reserved_bytes: int) -> None:
    """Queue ``records`` for their workers, each of which is woken once."""
    by_worker: dict[BackendWorker, list[StoredItem]] = {}
    for record, workers in records:
        for worker in workers:
            by_worker.setdefault(worker, []).append(record)
    for worker, batch in by_worker.items():
        worker.put(batch, reserved_bytes)
