"""The store that the pages read: a few readers, each used by one request at a time, and a limit of time for each.

A query that takes too long, or whose page has been left, is cancelled in the database, so that its reader is free for
others. A reader that failed is closed, and the next request opens another. So a database that was away is read again
when it is back, without a restart of the viewer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Lock
from typing import BinaryIO, Final, TypeVar, cast

from ..backends.base import SupportsCancel
from ..errors import BackendError, LlmspanError
from ..reader import Reader
from .pipe import Pipe

__all__ = ["QUERIES", "QUERY_TIMEOUT", "QUEUE_TIMEOUT", "BusyError", "SlowError", "Store"]

T = TypeVar("T")

#: queries that run at a time
QUERIES: Final = 4
#: exports that run at a time, beside the queries
STREAMS: Final = 2
#: seconds that a page waits for its query
QUERY_TIMEOUT: Final = 30.0
#: seconds that a page waits until its query can begin
QUEUE_TIMEOUT: Final = 10.0
#: seconds between two attempts to cancel: a page may have several queries, one after the other
_CANCEL_EVERY: Final = 0.2


class BusyError(LlmspanError):
    """Too many queries are running."""


class SlowError(LlmspanError):
    """A query took too long."""


class _Query:
    """What one thread asks, and the reader that it asks, which the event loop may cancel."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self._reader: Reader | None = None
        self._lock = Lock()

    @contextmanager
    def using(self, reader: Reader) -> Generator[None]:
        """The block in which ``reader`` is asked; after it, no attempt to cancel reaches the reader."""
        with self._lock:
            self._reader = reader
        try:
            yield
        finally:
            with self._lock:
                self._reader = None

    def cancel(self) -> None:
        with self._lock:
            self.is_cancelled = True
            if self._reader is not None and isinstance(self._reader.backend, SupportsCancel):
                with suppress(LlmspanError):
                    self._reader.backend.cancel()


class Store:
    """Runs the queries of pages, a limited number at a time."""

    def __init__(
        self,
        make_reader: Callable[[], Reader],
        *,
        queries: int = QUERIES,
        timeout: float = QUERY_TIMEOUT,
        queue_timeout: float = QUEUE_TIMEOUT,
    ) -> None:
        """``make_reader`` opens a reader, in a thread; ``timeout`` and ``queue_timeout`` are in seconds."""
        self._make_reader = make_reader
        self._queries = queries
        self._timeout = timeout
        self._queue_timeout = min(queue_timeout, timeout)
        self._idle: list[Reader] = []
        self._slots = asyncio.Semaphore(queries)
        self._threads = ThreadPoolExecutor(queries, thread_name_prefix="llmspan-ui")
        self._streams = asyncio.Semaphore(STREAMS)
        self._cancelling: set[asyncio.Task[None]] = set()

    @property
    def is_busy(self) -> bool:
        """Whether a query would have to wait."""
        return self._slots.locked()

    async def run(self, ask: Callable[[Reader], T]) -> T:
        """What ``ask`` returns for a reader. If this is cancelled, so is the query.

        Raises:
            BusyError: no other query ended in time.
            SlowError: it took longer than the limit.
            LlmspanError: what ``ask`` raised.
        """
        query = _Query()
        return await self._run(lambda: self._ask(ask, query), query)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """What ``function`` returns, which may wait for the store as a query does and is counted as one.

        Raises:
            BusyError: no other query ended in time.
            SlowError: it took longer than the limit.
        """
        return await self._run(function, _Query())

    async def _run(self, function: Callable[[], T], query: _Query) -> T:
        try:
            await asyncio.wait_for(self._slots.acquire(), self._queue_timeout)
        except TimeoutError:
            raise BusyError(
                f"{self._queries} queries are running, as many as may run at a time; try again when one has ended"
            ) from None
        future = asyncio.get_running_loop().run_in_executor(self._threads, function)
        # a thread cannot be stopped: it keeps its place among the queries until the database has ended what it asks
        future.add_done_callback(self._on_done)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self._timeout)
        except TimeoutError:
            raise SlowError(f"the query took longer than {self._timeout:g} s and was ended; narrow it") from None
        finally:
            if not future.done():
                self._cancel(query, future)

    async def stream(self, write: Callable[[Reader, BinaryIO], object]) -> AsyncGenerator[bytes]:
        """What ``write`` writes, piece by piece; it has a reader of its own, and as much time as its client takes.

        Raises:
            BusyError: :data:`STREAMS` others are running.
            LlmspanError: what ``write`` raised; some of it may have been given before.
        """
        if self._streams.locked():
            raise BusyError(
                f"{STREAMS} exports are running, as many as may run at a time; try again when one has ended"
            )
        async with self._streams:
            pipe = Pipe(asyncio.get_running_loop())
            future = asyncio.create_task(asyncio.to_thread(self._write, write, pipe))
            try:
                async for piece in pipe.pieces():
                    yield piece
                await future
            finally:
                pipe.abandon()

    def _write(self, write: Callable[[Reader, BinaryIO], object], pipe: Pipe) -> None:
        reader = self._make_reader()
        try:
            write(reader, cast("BinaryIO", pipe))
            pipe.flush()
        except BrokenPipeError:
            pass  # nobody reads on
        finally:
            pipe.finish()
            with suppress(LlmspanError):
                reader.close()

    def close(self) -> None:
        """Close all readers, those in use when they are done."""
        self._threads.submit(self._close_idle)
        self._threads.shutdown(wait=False)

    def _cancel(self, query: _Query, future: asyncio.Future[T]) -> None:
        task = asyncio.create_task(_cancel_until_done(query, future))
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    def _on_done(self, future: asyncio.Future[T]) -> None:
        self._slots.release()
        if not future.cancelled():
            future.exception()  # a query whose page has gone: nobody else looks at how it ended

    def _ask(self, ask: Callable[[Reader], T], query: _Query) -> T:
        reader = self._idle.pop() if self._idle else self._open()
        is_usable = False
        try:
            with query.using(reader):
                result = ask(reader)
            is_usable = True
            return result
        except BackendError:  # the connection may be broken: another reader has to connect anew
            raise
        except LlmspanError:
            is_usable = True
            raise
        finally:
            # the end of a query that was cancelled might meet the next one
            if is_usable and not query.is_cancelled:
                self._idle.append(reader)
            else:
                with suppress(LlmspanError):
                    reader.close()

    def _open(self) -> Reader:
        reader = self._make_reader()
        if isinstance(reader.backend, SupportsCancel):
            reader.backend.limit_reads(self._timeout)
        return reader

    def _close_idle(self) -> None:
        while self._idle:
            with suppress(LlmspanError):
                self._idle.pop().close()


async def _cancel_until_done(query: _Query, future: asyncio.Future[T]) -> None:
    """A query may be between two statements of its own: it is cancelled again until it has ended."""
    while not future.done():
        await asyncio.to_thread(query.cancel)
        await asyncio.wait([future], timeout=_CANCEL_EVERY)
