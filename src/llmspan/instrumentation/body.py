"""The bytes of one response, collected while the SDK reads them, and the times at which the first chunks came.

Who reads a response appends to ``pieces`` (``tee.py``, ``chunk_collector.py``, ``websocket.py``); everything that
reads the bytes runs after the end of the call.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from .decoding import decompress

#: bytes at the end of a response that stay when its middle is dropped
_TAIL_SIZE: Final = 256 * 1024
#: chunks between two calls of :meth:`Body.trim`; a chunk is seldom larger than 64 KiB
TRIM_INTERVAL: Final = 32
#: so many chunks are joined if they are at most this many bytes together
_MAX_JOINED_SIZE: Final = 128 * 1024
#: and joined to the piece before them if that is smaller than this
_SMALL_PIECE_SIZE: Final = 4 * 1024
#: of a body that was read before, none of whose chunks was seen
_NO_TIMES: Final = array("q")


class Body:
    """Chunks as received, still compressed if the server has compressed them; small plain chunks are joined.

    A body of more than ``limit`` bytes loses its middle and ``is_cut``: the head (which repeats the request) and the
    last 256 KiB (which have the usage) stay.

    Between two chunks this holds: ``pieces[:_counted]`` are ``_counted_size`` bytes; the pieces behind them have been
    appended since the last :meth:`trim`. While not ``is_cut``, ``_head``, ``_head_size`` and ``dropped`` are 0 and
    ``pieces`` is the whole response. Once ``is_cut``, ``pieces[:_head]`` are its first ``_head_size`` bytes, behind
    which ``dropped`` bytes are missing, and ``_head <= _counted``.
    """

    __slots__ = (
        "_counted", "_counted_size", "_head", "_head_size", "arrivals", "client", "dropped", "encoding", "is_cut",
        "limit", "pieces", "stamps",
    )  # fmt: skip

    def __init__(self, limit: int, encoding: str = "", client: str = "httpx2", content: bytes | None = None) -> None:
        self.pieces: list[bytes] = [] if content is None else [content]
        #: two numbers for each of the first chunks: the offset of its end, and its time (``perf_counter_ns``)
        self.stamps = array("q") if content is None else _NO_TIMES
        #: the times of the first of the chunks that are not counted yet, if those before them are all stamped
        self.arrivals = array("q") if content is None else _NO_TIMES
        self.limit = limit
        self.encoding = encoding
        #: ``httpx`` or ``httpx2``: they decode differently
        self.client = client
        self.dropped = 0
        self.is_cut = False
        self._counted = 0
        self._counted_size = 0
        self._head = 0
        self._head_size = 0

    @classmethod
    def from_content(cls, content: bytes) -> Body:
        """A body that was read and decoded before the call's hooks ran."""
        return cls(len(content), content=content)

    def is_of(self, content: bytes) -> bool:
        """Whether it is ``content``, the very object."""
        return len(self.pieces) == 1 and self.pieces[0] is content

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self._counted_size + sum(map(len, self.pieces[self._counted :]))

    @property
    def received_size(self) -> int:
        """Bytes received, whether they are still in memory or were dropped."""
        return self.size + self.dropped

    def decoded(self) -> bytes:
        """All bytes in memory, decompressed."""
        return b"".join(decompress(self.pieces, self.encoding, self.client) if self.encoding else self.pieces)

    @property
    def times(self) -> Sequence[int]:
        """When the first chunks came (``perf_counter_ns``)."""
        return self._all_stamps()[1::2]

    def time_at(self, offset: int) -> int | None:
        """When the decoded byte before ``offset`` had arrived (``perf_counter_ns``); None if that was not stamped."""
        stamps = self._all_stamps()
        if not stamps:
            return None
        ends = stamps[::2]
        decoded_ends = self._decoded_ends(ends) if self.encoding else ends
        index = bisect_left(decoded_ends, offset)
        if index == len(decoded_ends):  # the byte came with the last chunk, if that was stamped
            index = len(ends) - 1
            if ends[index] < self.received_size:
                return None
        return None if self.is_cut and ends[index] > self._head_size else stamps[2 * index + 1]

    def _decoded_ends(self, ends: Sequence[int]) -> Sequence[int]:
        """The offsets in the decoded body at which the stamped chunks end."""
        return list(accumulate(map(len, decompress(self.pieces[: len(ends)], self.encoding, self.client))))

    def _all_stamps(self) -> array[int]:
        """``stamps``, and those of the chunks that are not counted yet."""
        if not self.arrivals:
            return self.stamps
        stamps, end = self.stamps[:], self._counted_size + self.dropped
        for piece, arrival in zip(self.pieces[self._counted :], self.arrivals, strict=False):
            end += len(piece)
            stamps.extend((end, arrival))
        return stamps

    def trim(self) -> None:
        """Count the chunks that came since the last time, join them if they are small, and enforce ``limit``.

        Called once every few chunks. The middle is dropped seldom, and then much of it at once.
        """
        if self.arrivals:
            self.stamps = self._all_stamps()
            del self.arrivals[:]
        new = self.pieces[self._counted :]
        size = sum(map(len, new))
        self._counted_size += size
        # a bytes object has an overhead of 33 bytes and its entry in the list: as much as a small chunk
        if len(new) > 1 and size <= _MAX_JOINED_SIZE and not self.encoding:
            self._join_uncounted()
        self._counted = len(self.pieces)
        if self._counted_size <= self.limit:
            return
        if not self.is_cut:
            self.is_cut = True
            self._head = max(1, len(self.pieces) - (len(new) if self.pieces[-1] is new[-1] else 1))
            self._head_size = sum(map(len, self.pieces[: self._head]))
        if self._counted_size - self._head_size > 2 * _TAIL_SIZE:
            self._drop_middle()

    def _join_uncounted(self) -> None:
        """Make one piece of those that are not counted yet, and of the one before if that is small too."""
        start = self._counted
        if start and len(self.pieces[start - 1]) < _SMALL_PIECE_SIZE and not self.is_cut:
            start -= 1
        self.pieces[start:] = [b"".join(self.pieces[start:])]

    def _drop_middle(self) -> None:
        tail_size, tail = 0, len(self.pieces)
        while tail > self._head and (tail_size := tail_size + len(self.pieces[tail - 1])) <= _TAIL_SIZE:
            tail -= 1
        tail = min(tail, len(self.pieces) - 1)
        dropped_size = sum(map(len, self.pieces[self._head : tail]))
        del self.pieces[self._head : tail]
        self.dropped += dropped_size
        self._counted_size -= dropped_size
        self._counted = len(self.pieces)
