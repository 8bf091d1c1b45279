"""The connections of senders: how many there may be, and which one is closed when all slots are taken.

A sender keeps its connection between its records. When another one needs the place, the connection that has been idle
for longest is closed: its sender connects again by itself, and loses nothing, as all that it sent is acknowledged. A
connection with a record that is unread, unfinished or not acknowledged is never closed for another sender.
"""

from __future__ import annotations

import resource
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from .._clock import monotonic
from .._guard import logger

__all__ = ["Sender", "Senders", "limit_by_descriptors"]

#: descriptors that stay free for stores, the spool, and connections that are being closed
_RESERVED: Final = 64


class Sender:
    """One connection, and the thread that serves it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.thread: threading.Thread | None = None
        #: since when nothing is unfinished (``monotonic``); None while something is
        self.idle_since: float | None = monotonic()
        #: when the frame began that has not ended
        self.frame_since: float | None = None
        self.is_closing = False

    def has_unread(self) -> bool:
        """Whether there is something that its thread has yet to read."""
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:  # nothing is there, or never will be
            return False


class Senders:
    """The senders that are connected, ``limit`` at a time. Any thread may call."""

    def __init__(self, limit: int) -> None:
        self.most = limit
        self._all: set[Sender] = set()
        self._lock = threading.Lock()

    def admit(self, connection: socket.socket) -> Sender | None:
        """A place for a newcomer; None if all are taken, and none is idle."""
        with self._lock:
            if sum(not sender.is_closing for sender in self._all) >= self.most and self._close_longest_idle() is None:
                return None
            sender = Sender(connection)
            self._all.add(sender)
            return sender

    def close_longest_idle(self) -> Sender | None:
        """Have the sender close that has been idle for longest, if one is."""
        with self._lock:
            return self._close_longest_idle()

    def remove(self, sender: Sender) -> None:
        """Give its place to others; before its connection is closed."""
        with self._lock:
            self._all.discard(sender)

    def begin_idle(self, sender: Sender) -> None:
        """All that was read is done. The answer may be on its way yet: it is sent before the connection is closed."""
        with self._lock:
            sender.idle_since = monotonic()

    def end_idle(self, sender: Sender) -> bool:
        """It is about to read; False if it has to close instead."""
        with self._lock:
            sender.idle_since = None
            return not sender.is_closing

    def threads(self) -> list[threading.Thread]:
        """The threads of all."""
        with self._lock:
            return [sender.thread for sender in self._all if sender.thread is not None]

    def _close_longest_idle(self) -> Sender | None:
        idle = [(sender.idle_since, sender) for sender in self._all if sender.idle_since is not None]
        for _, sender in sorted(idle, key=lambda pair: pair[0]):
            if not sender.is_closing and not sender.has_unread():
                sender.is_closing = True
                with suppress(OSError):  # its other end may be gone
                    sender.connection.shutdown(socket.SHUT_RD)  # this wakes its thread
                return sender
        return None


def limit_by_descriptors(requested: int) -> int:
    """``requested`` connections, or as many as the limit of open files allows; the log says if that is fewer."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return requested
    possible = max(1, limit - _count_open() - min(_RESERVED, limit // 4))
    if possible < requested:
        logger.warning(
            "llmspan: %d senders at a time, not %d: the limit of open files (RLIMIT_NOFILE) is %d; raise it (ulimit -n,"
            " or LimitNOFILE= in a systemd unit), or set --max-clients", possible, requested, limit,
        )  # fmt: skip
    return min(requested, possible)


def _count_open() -> int:
    """The descriptors that are open in this process; a guess where the system does not list them."""
    for directory in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return len(list(Path(directory).iterdir()))
    return 32
