"""One connection of protocol v4, seen from the sending end: many frames in one system call, acks read in between.

A link is used up by the first thing that goes wrong with it: after a timeout it is unknown how much of a frame the
other end has, so the only way on is a new connection. Raises ``OSError`` and :class:`ProtocolError` as they come.
"""

from __future__ import annotations

import socket
import struct
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final

from ..._clock import monotonic
from ..._native import original_module
from ..._version import __version__
from .protocol import ProtocolError, Sender

__all__ = ["SOFTWARE", "Link", "connect", "limit_sends"]

SOFTWARE: Final = f"llmspan/{__version__}"

#: eventlet takes ``poll`` out of the module itself
_select: Final = original_module("select")
#: buffers in one system call; Linux takes 1024
_BUFFERS: Final = 256
#: asked for; the system gives what it allows
_SEND_BUFFER: Final = 4 * 1024 * 1024


def connect(path: Path, deadline: float) -> socket.socket:
    """A connected socket; waits until ``deadline`` (``monotonic``) while the listener's queue is full."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Not settimeout(): a socket that does not block is refused at once where one that blocks would queue.
        limit_sends(opened, max(0.001, deadline - monotonic()))
        opened.connect(str(path))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    except BaseException:
        opened.close()
        raise
    return opened


def limit_sends(opened: socket.socket, seconds: float) -> None:
    """Let the system give up what has to wait longer, by ``BlockingIOError``, on a socket that blocks."""
    whole_seconds, fraction = divmod(seconds, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(whole_seconds), int(fraction * 1e6)))


class Link:
    """A connection that has been greeted."""

    def __init__(self, path: Path, deadline: float, max_frame: int) -> None:
        self._sender = Sender(SOFTWARE, max_frame)
        self._socket = connect(path, deadline)
        self._socket.setblocking(False)
        self._poll = _select.poll()
        self._out: list[bytes | memoryview] = []
        #: of the records last given to :meth:`deliver`, also if that raised: how many are acknowledged, and the
        #: positions of those among them that the other end will never take, with the reason
        self.acked = 0
        self.rejected: dict[int, str] = {}
        try:
            self._greet(deadline)
        except BaseException:
            self.close()
            raise

    @property
    def peer(self) -> str:
        """The software at the other end."""
        return self._sender.peer

    @property
    def takes_spans(self) -> bool:
        """Whether the other end takes spans."""
        return self._sender.takes_spans

    @property
    def max_frame(self) -> int:
        """The bytes that a frame may have on this connection."""
        return self._sender.max_frame

    @property
    def largest_body(self) -> int:
        """The bytes that a record's body may have on this connection."""
        return self._sender.largest_body

    def alive(self) -> bool:
        """Whether the other end has not hung up."""
        try:
            self._read()
        except (OSError, ProtocolError):
            return False
        return True

    def deliver(self, bodies: Sequence[bytes], deadline: float) -> None:
        """Send records and wait until all are acknowledged; then see ``rejected``.

        Raises:
            ProtocolError: the other end ended the conversation; its ``seq`` is turned into a position.
            OSError: the connection is lost, or ``deadline`` (``monotonic``) is over.
        """
        sender = self._sender
        first, last, at = sender.sent + 1, sender.sent + len(bodies), 0
        sender.rejected.clear()
        try:
            while sender.acked < last:
                if at < len(bodies) and len(self._out) < _BUFFERS // 2:
                    pieces = sender.frames(bodies, at, _BUFFERS // 4)
                    self._out += pieces
                    at += len(pieces) // 2
                self._progress(deadline)
        except ProtocolError as error:
            self._locate(error, first)
            raise
        finally:
            self.acked = max(0, sender.acked - first + 1)
            self.rejected = {seq - first: reason for seq, reason in sender.rejected.items()}

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _greet(self, deadline: float) -> None:
        self._out.append(self._sender.greeting())
        while not self._sender.ready:
            self._progress(deadline)

    def _progress(self, deadline: float) -> None:
        """Send and read what the system takes and has now; wait where that is nothing."""
        acked = self._sender.acked
        has_sent = self._send()
        has_received = self._read()
        if not has_sent and not has_received:
            self._wait(deadline)
        elif not has_sent and self._sender.acked == acked and monotonic() >= deadline:
            raise TimeoutError("the other end sent data but acknowledged nothing in time")

    def _locate(self, error: ProtocolError, first: int) -> None:
        """Turn the ``seq`` of ``error`` into a position; into none if it names a record that is not under way."""
        if error.seq is None or self._sender.is_under_way(error.seq):
            error.seq = None if error.seq is None else error.seq - first
            return
        acked, sent_count = self._sender.acked, self._sender.sent
        error.args = (f"{error} (it names record {error.seq}; {acked} was acknowledged, {sent_count} was sent)",)
        error.seq = None

    def _send(self) -> bool:
        if not self._out:
            return False
        try:
            byte_count = self._socket.sendmsg(self._out)
        except BlockingIOError:
            return False
        except OSError:
            self._read()  # a frame sent before the connection closed explains more than "broken pipe"
            raise
        self._forget(byte_count)
        return True

    def _forget(self, byte_count: int) -> None:
        ends = list(accumulate(map(len, self._out)))
        frame_count = bisect_right(ends, byte_count)
        if frame_count < len(ends):
            remainder = byte_count - (ends[frame_count - 1] if frame_count else 0)
            self._out[frame_count] = memoryview(self._out[frame_count])[remainder:]
        del self._out[:frame_count]

    def _read(self) -> bool:
        try:
            data = self._socket.recv(65_536)
        except BlockingIOError:
            return False
        if not data:
            raise ConnectionResetError("the other end closed the connection")
        unsent = (len(self._out) + 1) // 2  # a record is two pieces, of which the first may be gone
        self._sender.feed(data, unsent)
        return True

    def _wait(self, deadline: float) -> None:
        remaining = deadline - monotonic()
        if remaining <= 0:
            raise TimeoutError("the other end took too long")
        self._poll.register(self._socket, _select.POLLIN | (_select.POLLOUT if self._out else 0))
        self._poll.poll(remaining * 1000)
