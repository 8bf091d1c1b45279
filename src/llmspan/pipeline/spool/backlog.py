"""What waits for one backend: its place in every log, oldest log first.

The batch that is taken is written down before it is sent (``Cursor.end``), so that after a failure or a new start the
same records are sent again as the same batch. A batch does not go beyond a segment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..._guard import guarded, logger
from ...errors import RecordError
from ...trace import ProviderTrace
from ..counts import Counts
from ..queue import BATCH_BYTES, BATCH_ITEMS
from . import cursor as cursors
from . import frames
from .cursor import Cursor
from .log import Log, Segment

__all__ = ["Place", "SpoolBacklog"]


class Place:
    """Where one backend is in one log. What moves is moved under the log's lock."""

    def __init__(self, log: Log, cursor: Cursor) -> None:
        self.log = log
        self.cursor = cursor
        #: the end of what was taken, and is neither settled nor given up
        self._in_hand: int | None = None
        #: whether it has moved since it was written down, which is being done
        self._is_moving = False
        self._near: tuple[Segment, int, int] | None = None

    @property
    def is_at_end(self) -> bool:
        """Whether all that can be seen is settled."""
        return self.cursor.next >= self.log.end

    @property
    def is_done(self) -> bool:
        """Whether its log is needed for nothing more, not even to write down that it is not."""
        return self.is_at_end and not self._is_moving

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
        begin = self.cursor.next if self._in_hand is None else self._in_hand
        if end <= begin:
            return 0
        if self._in_hand is None:
            self.cursor = replace(self.cursor, next=end, end=end)
        else:
            self._in_hand = end
        return end - begin

    def take(self) -> tuple[list[bytes], int]:
        """The payloads of the next batch, and how many numbers it takes: more, if some cannot be read."""
        with self.log.lock:
            begin = self.cursor.next
            segment = self.log.segment_of(begin)
            payloads, end = ([], self.log.end) if segment is None else self._read(segment, begin)
            self._in_hand = end
            self.cursor = replace(self.cursor, end=end)
        return payloads, end - begin

    def settle(self) -> None:
        """What was taken is written, or set aside; to be followed by :meth:`save_settled`."""
        with self.log.lock:
            self._is_moving = True
            end = max(self.cursor.end, self._in_hand or 0)
            self._in_hand = None
            self.cursor = replace(self.cursor, next=end, end=end)

    def save_settled(self) -> None:
        """Write down what was settled."""
        guarded("spool.cursor", self.save)
        self._is_moving = False

    def _read(self, segment: Segment, begin: int) -> tuple[list[bytes], int]:
        """Sound frames from ``begin`` on, and where they end: where the batch was frozen, or full, or the segment."""
        end = min(segment.end, self.log.end)
        frozen = self.cursor.end if begin < self.cursor.end <= end else None
        number, offset = segment.first, len(frames.MARK)
        if self._near is not None and self._near[0] is segment and self._near[1] <= begin:
            _, number, offset = self._near
        payloads: list[bytes] = []
        size = 0
        for found in frames.frames(_bytes_of(segment, offset), number, 0):
            if isinstance(found, frames.Damage):
                continue
            is_full = len(payloads) >= BATCH_ITEMS or size >= BATCH_BYTES
            if found.sequence >= end or (found.sequence >= frozen if frozen is not None else is_full):
                return payloads, min(found.sequence, end) if frozen is None else frozen
            self._near = (segment, found.sequence + 1, offset + found.end)
            if found.sequence >= begin:
                payloads.append(found.payload)
                size += len(found.payload)
        return payloads, frozen or end


@dataclass(slots=True)
class _Batch:
    place: Place
    traces: Sequence[ProviderTrace]


class SpoolBacklog:
    """The backlog of one delivery: used by its worker, but for ``places``, which is replaced as logs come and go."""

    def __init__(self, backend: str, counts: Counts, settled: Callable[[Log], None]) -> None:
        self.places: tuple[Place, ...] = ()
        self.counts = counts
        self._backend = backend
        self._settled = settled
        self._batch: _Batch | None = None

    @property
    def is_replay(self) -> bool:
        """Whether a process that has died may have begun with what was taken."""
        return self._batch is not None and self._batch.place.log.is_recovered

    def is_empty(self) -> bool:
        """Whether there is nothing to take."""
        return all(place.is_at_end for place in self.places)

    def end(self) -> object:
        """How far each log goes now."""
        return {place.log: place.log.end for place in self.places}

    def is_past(self, end: object) -> bool:
        """Whether all before ``end`` is settled."""
        ends = end if isinstance(end, dict) else {}
        return all(place.cursor.next >= ends.get(place.log, 0) for place in self.places)

    def take(self) -> Sequence[ProviderTrace]:
        """The next batch, written down as such; the same one until it is settled. Empty if all has gone meanwhile."""
        if self._batch is None:
            place = next((place for place in self.places if not place.is_at_end), None)
            if place is None:
                return []
            payloads, number = place.take()
            traces = [trace for payload in payloads if (trace := _decoded(payload)) is not None]
            self._batch = _Batch(place, traces)
            if len(traces) < number:
                self._count_lost(number - len(traces), place)
            guarded("spool.freeze", place.save)
        return self._batch.traces

    def settle(self) -> None:
        """What was taken is written, or set aside."""
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.place.settle()
            batch.place.save_settled()
            guarded("spool.settled", self._settled, batch.place.log)

    def _count_lost(self, number: int, place: Place) -> None:
        self.counts.dropped("corrupt", number, "spooled")
        line = "llmspan: %s: %d records in %s cannot be read any more and are lost"
        guarded("pipeline.log", logger.error, line, self._backend, number, place.log.directory)


def _bytes_of(segment: Segment, offset: int) -> bytes:
    """What a segment has from ``offset`` on; nothing if somebody has removed it."""
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


def _decoded(payload: bytes) -> ProviderTrace | None:
    try:
        return ProviderTrace.from_json(payload)
    except RecordError:
        return None
