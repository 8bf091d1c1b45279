"""The bytes of one response, collected as they pass, and when the first of them came.

The tee adds to it, once per network read; everything that reads the bytes happens after the end.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from ._decoding import decompress

_TAIL = 256 * 1024
#: pieces from one look at the size of all to the next; one is seldom more than 64 KiB
CHECKED_EVERY = 32
#: so many pieces are joined if they are not more bytes than this, and with those before them if they are few
_SMALL = 128 * 1024
_SHORT = 4 * 1024


class Body:
    """Pieces as received, still compressed if the server compressed them; small plain ones are joined now and then.

    A body beyond ``limit`` bytes loses its middle: the head (what was asked, how it began) and the last 256 KiB
    (usage, the end) are kept, and ``cut`` is True.
    """

    __slots__ = (
        "_counted",
        "_head",
        "_head_size",
        "_held",
        "client",
        "cut",
        "encoding",
        "limit",
        "lost",
        "pieces",
        "stamps",
    )

    def __init__(self, limit: int, encoding: str = "", client: str = "httpx2") -> None:
        self.pieces: list[bytes] = []
        #: of each of the first pieces: up to which byte it went, and when it came (``perf_counter_ns``)
        self.stamps = array("q")
        self.limit = limit
        self.encoding = encoding
        #: whose rules of decoding hold: ``httpx`` or ``httpx2``
        self.client = client
        self.lost = 0
        self.cut = False
        #: so many pieces have been counted, and are so many bytes
        self._counted = 0
        self._held = 0
        #: pieces that stay once the middle goes, and their bytes
        self._head = 0
        self._head_size = 0

    @classmethod
    def whole(cls, content: bytes) -> Body:
        """A body that was received and decoded before we saw it."""
        body = cls(len(content))
        body.pieces.append(content)
        return body

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._held + sum(map(len, self.pieces[self._counted :]))

    @property
    def received(self) -> int:
        """Bytes that came, held or not."""
        return self.size + self.lost

    def decoded(self) -> bytes:
        """All bytes, decompressed."""
        return b"".join(decompress(self.pieces, self.encoding, self.client) if self.encoding else self.pieces)

    @property
    def times(self) -> Sequence[int]:
        """When the first pieces came (``perf_counter_ns``)."""
        return self.stamps[1::2]

    def time_at(self, offset: int) -> int | None:
        """When the decoded byte before ``offset`` had arrived (``perf_counter_ns``); None if that was not stamped."""
        if not self.stamps:
            return None
        ends = self.stamps[::2]
        decoded = self._decoded_ends(ends)
        at = bisect_left(decoded, offset)
        if at == len(decoded):  # it came with the last piece, if that was stamped too
            at = len(ends) - 1
            if ends[at] < self.received:
                return None
        return None if self.cut and ends[at] > self._head_size else self.times[at]

    def _decoded_ends(self, ends: Sequence[int]) -> Sequence[int]:
        """Up to which byte of the decoded body the stamped pieces went."""
        if not self.encoding:
            return ends
        return list(accumulate(map(len, decompress(self.pieces[: len(ends)], self.encoding, self.client))))

    def check(self) -> None:
        """Count the pieces that came since the last time and, if there is too much now, make room.

        Called once every few pieces. Cuts rarely, and then much.
        """
        new = self.pieces[self._counted :]
        size = sum(map(len, new))
        self._held += size
        if len(new) > 1 and size <= _SMALL and not self.encoding:  # an object each would be as large as what is in it
            self._join()
        self._counted = len(self.pieces)
        if self._held <= self.limit:
            return
        if not self.cut:
            self.cut = True
            self._head = max(1, len(self.pieces) - (len(new) if self.pieces[-1] is new[-1] else 1))
            self._head_size = sum(map(len, self.pieces[: self._head]))
        if self._held - self._head_size > 2 * _TAIL:
            self._drop_middle()

    def _join(self) -> None:
        """Make one piece of those that are not counted yet, and of the one before if that is small too."""
        first = self._counted
        if first and len(self.pieces[first - 1]) < _SHORT and not self.cut:
            first -= 1
        self.pieces[first:] = [b"".join(self.pieces[first:])]

    def _drop_middle(self) -> None:
        kept, first = 0, len(self.pieces)
        while first > self._head and (kept := kept + len(self.pieces[first - 1])) <= _TAIL:
            first -= 1
        first = min(first, len(self.pieces) - 1)
        gone = sum(map(len, self.pieces[self._head : first]))
        del self.pieces[self._head : first]
        self.lost += gone
        self._held -= gone
        self._counted = len(self.pieces)
