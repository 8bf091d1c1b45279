"""An end to requests that never end: the time that one may take, however slowly its answer comes.

The driver's own timeout is for one read of a socket, and a server that is busy sends a header now and then. Here a
request has a deadline; when it comes, the connection is shut, which wakes whoever reads from it, and the driver, which
tries again by itself, gets no other one. Imported when a server is first talked to.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import wait

from ...errors import RetryableError

__all__ = ["Reads", "choose_wait", "deadline", "watch"]

_current = threading.local()


def watch(pools: PoolManager) -> None:
    """Let deadlines hold for the connections that ``pools`` makes from now on."""
    classes: dict[str, Any] = {"http": _HTTPPool, "https": _HTTPSPool}
    pools.pool_classes_by_scheme = classes
    pools.clear()


def choose_wait() -> None:
    """Have urllib3 wait by ``select`` where ``poll`` is gone: eventlet may remove it after urllib3 has chosen it."""
    if not hasattr(select, "poll"):
        wait.wait_for_socket = wait.select_wait_for_socket


@contextmanager
def deadline(seconds: float, what: str) -> Generator[None]:
    """The requests of this thread inside the block end after ``seconds``; without a limit if that is 0.

    Raises:
        RetryableError: they were ended.
    """
    if not seconds:
        yield
        return
    call = _Call()
    timer = threading.Timer(seconds, call.expire)
    timer.daemon = True
    _current.call = call
    timer.start()
    try:
        yield
    except RetryableError as error:
        if call.expired:
            raise RetryableError(f"{what}: given up after {seconds:g} s (LLMSPAN_WRITE_TIMEOUT)") from error
        raise
    finally:
        timer.cancel()
        _current.call = None


class Reads:
    """The requests that are running and may be cancelled, by whatever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: set[_Call] = set()

    @contextmanager
    def cancellable(self) -> Generator[Callable[[], bool]]:
        """The requests of this thread inside the block end at :meth:`cancel`; gives what says whether they were."""
        call = _Call()
        with self._lock:
            self._calls.add(call)
        _current.call = call
        try:
            yield lambda: call.expired
        finally:
            _current.call = None
            with self._lock:
                self._calls.discard(call)

    def cancel(self) -> None:
        """Shut the connections of all that are running."""
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.expire()


class _Call:
    """What one thread is doing, and the socket that it uses for it."""

    def __init__(self) -> None:
        self.expired = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def use(self, connected: socket.socket | None) -> None:
        with self._lock:
            if self.expired:
                raise TimeoutError("out of time")
            self._socket = connected

    def expire(self) -> None:
        with self._lock:
            self.expired = True
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)


def _use(connected: Any) -> None:
    call: _Call | None = getattr(_current, "call", None)
    if call is not None:
        call.use(connected)


class _HTTP(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _use(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _use(self.sock)
        super().request(*args, **kwargs)


class _HTTPS(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _use(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _use(self.sock)
        super().request(*args, **kwargs)


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls: Any = _HTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls: Any = _HTTPS
