"""What waits in memory for one backend: bounded in bytes and items, oldest first.

Out of bytes, a record gives up its payload; if that is not enough, or out of items, the oldest record goes.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import replace
from typing import Final

from ..span_record import SpanRecord, StoredItem, without_attributes

__all__ = ["BATCH_BYTES", "BATCH_ITEMS", "Queue", "size_of", "without_payload"]

BATCH_ITEMS: Final = 1000
BATCH_BYTES: Final = 8 * 1024 * 1024
_FLAT_SIZE: Final = 2048


def size_of(record: StoredItem) -> int:
    """The bytes of memory that ``record`` holds, roughly: its payloads and a flat sum for the rest."""
    if isinstance(record, SpanRecord):
        return _FLAT_SIZE + sum(map(sys.getsizeof, (*record.attributes.values(), *record.resource_attributes.values())))
    request, response = record.request_json, record.response_json
    request_size = 0 if request is None else sys.getsizeof(request)
    return _FLAT_SIZE + request_size + (0 if response is None else sys.getsizeof(response))


def without_payload(record: StoredItem) -> StoredItem | None:
    """``record`` less its payload, a span less its attributes; None if it has none to give."""
    if isinstance(record, SpanRecord):
        return without_attributes(record)
    if record.request_json is None and record.response_json is None:
        return None
    return replace(record, request_json=None, response_json=None, content="truncated")


class Queue:
    """Not locked: its owner has a lock already. Positions count what was put, from 1."""

    def __init__(self, max_bytes: int, max_items: int) -> None:
        self._max_bytes = max_bytes
        self._max_items = max_items
        self._entries: deque[tuple[StoredItem, int]] = deque()
        self._last = 0
        self._in_flight: int | None = None
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def head(self) -> StoredItem | None:
        """What is written next. Needs no lock."""
        try:
            return self._entries[0][0]
        except IndexError:
            return None

    @property
    def last(self) -> int:
        """The position of what was put last."""
        return self._last

    def is_done(self, position: int) -> bool:
        """Whether nothing up to ``position`` waits or is being written."""
        return (self._last - len(self._entries) + 1 if self._in_flight is None else self._in_flight) > position

    def is_filling(self) -> bool:
        """Whether the queue is so full that the worker stops yielding."""
        return self.bytes > self._max_bytes // 4 or len(self._entries) > self._max_items // 4

    def put(self, record: StoredItem, reserved_bytes: int = 0) -> tuple[bool, int]:
        """Add ``record``; ``reserved_bytes`` of the limit are used elsewhere.

        Returns whether the record lost its payload, and how many older records were evicted.
        """
        limit = max(0, self._max_bytes - reserved_bytes)
        size = size_of(record)
        bare = without_payload(record) if self.bytes + size > limit else None
        if bare is not None:
            record, size = bare, _FLAT_SIZE
        self._entries.append((record, size))
        self._last += 1
        self.bytes += size
        evicted = 0
        while len(self._entries) > self._max_items or (self.bytes > self._max_bytes and len(self._entries) > 1):
            self.bytes -= self._entries.popleft()[1]
            evicted += 1
        return bare is not None, evicted

    def take(self) -> list[StoredItem]:
        """The next batch, to be given back by :meth:`settle`."""
        batch: list[StoredItem] = []
        size = 0
        self._in_flight = self._last - len(self._entries) + 1 if self._entries else None
        while self._entries and len(batch) < BATCH_ITEMS and size < BATCH_BYTES:
            record, record_size = self._entries.popleft()
            self.bytes -= record_size
            size += record_size
            batch.append(record)
        return batch

    def settle(self) -> None:
        """What was taken is written or given up."""
        self._in_flight = None

    def clear(self) -> int:
        """Forget what waits; how many."""
        number = len(self._entries)
        self._entries.clear()
        self.bytes = 0
        return number
