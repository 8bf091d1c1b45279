"""What waits for one backend: its position in every log, oldest log first.

The batch that is taken is written down before it is sent (``Cursor.end``), so that after a failure or a new start the
same records are sent again as the same batch. A batch does not go beyond a segment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..._guard import guarded, logger
from ...errors import RecordError
from ...span_record import StoredItem, item_from_json
from ..queue import BATCH_BYTES, BATCH_ITEMS
from ..statistics import DeliveryStats
from . import cursor as cursors
from . import entries
from .cursor import Cursor
from .log import Log, Segment

__all__ = ["ReadPosition", "SpoolBacklog"]


class ReadPosition:
    """Where one backend is in one log. What moves is moved under the log's lock."""

    def __init__(self, log: Log, cursor: Cursor) -> None:
        self.log = log
        self.cursor = cursor
        #: the end of what was taken, and is neither settled nor given up
        self._in_flight: int | None = None
        #: whether it has moved since it was written down, which is being done
        self._is_unsaved = False
        self._last_entry: tuple[Segment, int, int] | None = None

    @property
    def is_at_end(self) -> bool:
        """Whether all that can be seen is settled."""
        return self.cursor.next >= self.log.end

    @property
    def is_done(self) -> bool:
        """Whether its log is needed for nothing more, not even to write down that it is not."""
        return self.is_at_end and not self._is_unsaved

    @property
    def on_disk(self) -> int:
        """How many records wait here: what is in hand may have lost its file (see :meth:`skip`)."""
        with self.log.lock:
            ends = [(segment.first, min(segment.end, self.log.end)) for segment in self.log.segments]
        return sum(max(0, end - max(first, self.cursor.next)) for first, end in ends)

    def save(self) -> None:
        """Write the cursor down."""
        if not self.log.is_closed:
            cursors.save(self.log.directory, self.cursor, durable=self.log.durable)

    def skip(self, end: int) -> int:
        """Give up what is before ``end`` and not in hand; how many. Called with the lock held."""
        begin = self.cursor.next if self._in_flight is None else self._in_flight
        if end <= begin:
            return 0
        if self._in_flight is None:
            self.cursor = replace(self.cursor, next=end, end=end)
        else:
            self._in_flight = end
        return end - begin

    def take(self) -> tuple[list[bytes], int]:
        """The payloads of the next batch, and how many numbers it takes: more, if some cannot be read."""
        with self.log.lock:
            begin = self.cursor.next
            segment = self.log.segment_of(begin)
            payloads, end = ([], self.log.end) if segment is None else self._read(segment, begin)
            self._in_flight = end
            self.cursor = replace(self.cursor, end=end)
        return payloads, end - begin

    def settle(self) -> None:
        """What was taken is written, or set aside; to be followed by :meth:`save_settled`."""
        with self.log.lock:
            self._is_unsaved = True
            end = max(self.cursor.end, self._in_flight or 0)
            self._in_flight = None
            self.cursor = replace(self.cursor, next=end, end=end)

    def save_settled(self) -> None:
        """Write down what was settled."""
        guarded("spool.cursor", self.save)
        self._is_unsaved = False

    def _read(self, segment: Segment, begin: int) -> tuple[list[bytes], int]:
        """Sound frames from ``begin`` on, and where they end: where the batch was frozen, or full, or the segment."""
        end = min(segment.end, self.log.end)
        frozen = self.cursor.end if begin < self.cursor.end <= end else None
        number, offset = segment.first, len(entries.MARK)
        if self._last_entry is not None and self._last_entry[0] is segment and self._last_entry[1] <= begin:
            _, number, offset = self._last_entry
        payloads: list[bytes] = []
        size = 0
        for entry in entries.read_entries(_bytes_of(segment, offset), number, 0):
            if isinstance(entry, entries.Damage):
                continue
            is_full = len(payloads) >= BATCH_ITEMS or size >= BATCH_BYTES
            if entry.sequence >= end or (entry.sequence >= frozen if frozen is not None else is_full):
                return payloads, min(entry.sequence, end) if frozen is None else frozen
            self._last_entry = (segment, entry.sequence + 1, offset + entry.end)
            if entry.sequence >= begin:
                payloads.append(entry.payload)
                size += len(entry.payload)
        return payloads, frozen or end


@dataclass(slots=True)
class _Batch:
    position: ReadPosition
    records: Sequence[StoredItem]


class SpoolBacklog:
    """The backlog of one worker: used by its worker, but for ``positions``, which is replaced as logs come and go."""

    def __init__(self, backend: str, counts: DeliveryStats, on_settled: Callable[[Log], None]) -> None:
        self.positions: tuple[ReadPosition, ...] = ()
        self.stats = counts
        self._backend = backend
        self._on_settled = on_settled
        self._batch: _Batch | None = None

    @property
    def is_replay(self) -> bool:
        """Whether a process that has died may have begun with what was taken."""
        return self._batch is not None and self._batch.position.log.is_recovered

    def is_empty(self) -> bool:
        """Whether there is nothing to take."""
        return all(position.is_at_end for position in self.positions)

    def end(self) -> object:
        """How far each log goes now."""
        return {position.log: position.log.end for position in self.positions}

    def is_past(self, end: object) -> bool:
        """Whether all before ``end`` is settled."""
        ends = end if isinstance(end, dict) else {}
        return all(position.cursor.next >= ends.get(position.log, 0) for position in self.positions)

    def take(self) -> Sequence[StoredItem]:
        """The next batch, written down as such; the same one until it is settled. Empty if all has gone meanwhile."""
        if self._batch is None:
            position = next((position for position in self.positions if not position.is_at_end), None)
            if position is None:
                return []
            payloads, number = position.take()
            records = [record for payload in payloads if (record := _decode(payload)) is not None]
            self._batch = _Batch(position, records)
            if len(records) < number:
                self._count_lost(number - len(records), position)
            guarded("spool.freeze", position.save)
        return self._batch.records

    def settle(self) -> None:
        """What was taken is written, or set aside."""
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.position.settle()
            batch.position.save_settled()
            guarded("spool.settled", self._on_settled, batch.position.log)

    def _count_lost(self, number: int, position: ReadPosition) -> None:
        self.stats.dropped("corrupt", number, "spooled")
        message = "llmspan: %s: %d records in %s cannot be read any more and are lost"
        guarded("pipeline.log", logger.error, message, self._backend, number, position.log.directory)


def _bytes_of(segment: Segment, offset: int) -> bytes:
    """What a segment has from ``offset`` on; nothing if another process has removed it."""
    try:
        descriptor = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        parts: list[bytes] = []
        while offset < segment.size and (part := os.pread(descriptor, segment.size - offset, offset)):
            parts.append(part)
            offset += len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _decode(payload: bytes) -> StoredItem | None:
    try:
        return item_from_json(payload)
    except RecordError:
        return None
