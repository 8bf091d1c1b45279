"""A file that a thread writes and an event loop reads, for exports: a few pieces are in memory, however many there are.

The thread waits while the client is slow; when the client has gone, the next write raises ``BrokenPipeError``.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator
from concurrent.futures import CancelledError as FutureCancelledError
from typing import Any, Final

__all__ = ["Pipe"]

_PIECE: Final = 256 * 1024
_MOST_PIECES: Final = 4


class Pipe(io.RawIOBase):
    """The writing end is a file, and :meth:`pieces` is what was written."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_PIECES)
        self._buffer = bytearray()
        self._has_reader = True
        self._length = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """How much was written: Parquet asks for its position, and never goes to another."""
        if (offset, whence) != (0, io.SEEK_CUR):
            raise io.UnsupportedOperation("seek")
        return self._length

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: Any, /) -> int:
        """Take ``data``; wait while too much has not been read."""
        self._buffer += data
        self._length += len(data)
        if len(self._buffer) >= _PIECE:
            self.flush()
        return len(data)

    def flush(self) -> None:
        """Hand over what was written."""
        if self._buffer:
            piece, self._buffer = bytes(self._buffer), bytearray()
            self._put(piece)

    def finish(self) -> None:
        """No more will be written."""
        try:
            self._put(None)
        except BrokenPipeError:
            return

    async def pieces(self) -> AsyncGenerator[bytes]:
        """What is written, until :meth:`finish`."""
        while (piece := await self._queue.get()) is not None:
            yield piece

    def close(self) -> None:
        """Nothing to do; what was not flushed is lost."""

    def abandon(self) -> None:
        """Nobody reads on: a write that waits, and each later one, raises ``BrokenPipeError``."""
        self._has_reader = False
        while not self._queue.empty():
            self._queue.get_nowait()

    def _put(self, piece: bytes | None) -> None:
        if not self._has_reader:
            raise BrokenPipeError
        try:
            asyncio.run_coroutine_threadsafe(self._queue.put(piece), self._loop).result()
        except (FutureCancelledError, RuntimeError):  # the viewer ends
            raise BrokenPipeError from None
