"""The bytes of one response, collected as they pass, and when the first of them came.

The tee adds to it, once per network read; everything that reads the bytes happens after the end.
"""

from __future__ import annotations

import functools
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from .._guard import note

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
        "cut",
        "encoding",
        "limit",
        "lost",
        "pieces",
        "stamps",
    )

    def __init__(self, limit: int, encoding: str = "") -> None:
        self.pieces: list[bytes] = []
        #: of each of the first pieces: up to which byte it went, and when it came (``perf_counter_ns``)
        self.stamps = array("q")
        self.limit = limit
        self.encoding = encoding
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
        return b"".join(_decompress(self.pieces, self.encoding) if self.encoding else self.pieces)

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
        return list(accumulate(map(len, _decompress(self.pieces[: len(ends)], self.encoding))))

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


def _decompress(pieces: list[bytes], encoding: str) -> list[bytes]:
    """The pieces behind their content codings, in the same number; what cannot be decoded ends them."""
    decoded: list[bytes] = []
    try:
        decoded.extend(map(decoding(encoding), pieces))
    except ValueError as error:
        note("body.decompress", error)
    except UNREADABLE:
        pass  # broken on its way: the SDK has told the caller, it is no defect of ours
    return decoded


#: what decoders raise on bytes that are not theirs
UNREADABLE = (zlib.error, ValueError, RuntimeError, OSError, EOFError)


def decoding(encoding: str) -> Callable[[bytes], bytes]:
    """An incremental decoder of a ``content-encoding``, which may name several.

    Raises:
        ValueError: one of them is not known, or the package that knows it is not installed.
    """
    steps = [part.strip().lower() for part in encoding.split(",")]
    feeds = [_decoder(step) for step in reversed(steps) if step not in ("", "identity")]
    return lambda piece: functools.reduce(lambda data, feed: feed(data), feeds, piece)


def _decoder(name: str) -> Callable[[bytes], bytes]:
    """An incremental decoder. Brotli and Zstandard come from the packages that httpx itself uses for them."""
    if name in ("gzip", "x-gzip"):
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress
    if name == "deflate":
        return _Deflate().feed
    if name == "br":
        brotli = _first_module("brotli", "brotlicffi")
        decompressor = brotli.Decompressor()
        return getattr(decompressor, "decompress", None) or decompressor.process
    if name == "zstd":
        try:
            return _first_module("compression.zstd", "backports.zstd").ZstdDecompressor().decompress
        except ValueError:
            return _first_module("zstandard").ZstdDecompressor().decompressobj().decompress
    raise ValueError(f"content-encoding {name!r} is not known")


class _Deflate:
    """``deflate`` is zlib by the standard, and raw from some servers."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj()
        self._fresh = True

    def feed(self, piece: bytes) -> bytes:
        try:
            return self._object.decompress(piece)
        except zlib.error:
            if not self._fresh:
                raise
            self._object = zlib.decompressobj(-zlib.MAX_WBITS)
            return self._object.decompress(piece)
        finally:
            self._fresh = False


def _first_module(*names: str) -> Any:
    from importlib import import_module

    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise ValueError(f"none of {', '.join(names)} is installed")
