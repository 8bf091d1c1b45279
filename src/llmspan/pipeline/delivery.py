"""Delivery to one backend: its own bounded queue, its own thread, its own retries. Nobody else's trouble.

A batch that can be retried is retried until it succeeds or the program ends; a batch that can never succeed is halved
until the one bad record is alone, and only that one is given up.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY  # the SDK's own exporters use it too

from .._guard import logger, outcome
from ..backends.base import Backend
from ..errors import RetryableError, SchemaError, SettingsError, ThrottledError
from ..trace import ProviderTrace
from .counts import Counts, Status

_BATCH_ITEMS: Final = 1000
_BATCH_BYTES: Final = 8 * 1024 * 1024
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_PAUSE_IN_FLUSH: Final = 0.1
_FLAT_SIZE: Final = 2048


class Delivery:
    """Queue and worker of one backend. ``put`` never blocks for longer than it takes to move a reference."""

    def __init__(self, backend: Backend, *, max_bytes: int, max_items: int) -> None:
        self.backend = backend
        self.counts = Counts()
        self._max_bytes = max_bytes
        self._max_items = max_items
        self._closing = False
        self._start_empty()

    def put(self, trace: ProviderTrace) -> None:
        """Queue a record that was counted as accepted. Out of bytes, payloads go first; then the oldest records."""
        size = _size(trace)
        with self._changed:
            if self._bytes + size > self._max_bytes and trace.content != "metadata":
                trace = replace(trace, request_json=None, response_json=None, content="truncated")
                size = _FLAT_SIZE
                self.counts.shed()
            self._queue.append((trace, size))
            self._bytes += size
            while len(self._queue) > self._max_items or (self._bytes > self._max_bytes and len(self._queue) > 1):
                self._bytes -= self._queue.popleft()[1]
                self.counts.dropped("queue_full")
            self._ensure_thread()
            self._changed.notify_all()

    def flush(self, deadline: float) -> bool:
        """Wait until all that was put is written or given up, or until ``deadline`` (``time.monotonic``)."""
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._queue and not self._writing, _left(deadline))
            finally:
                self._flushing -= 1

    def close(self, deadline: float) -> bool:
        """Flush, stop the thread and close the backend. What is left is dropped, and counted."""
        done = self.flush(deadline)
        with self._changed:
            self._closing = True
            self.counts.dropped("shutdown", len(self._queue))
            self._queue.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_left(deadline))
        if self._thread is None or not self._thread.is_alive():
            outcome(self.backend.shutdown)
        return done

    def status(self) -> Status:
        """The counters now."""
        return self.counts.snapshot(self.backend.name, self.backend.location)

    def after_fork(self) -> None:
        """In a forked child: what was queued is the parent's to write; start with nothing, and with own locks."""
        self.counts = Counts()
        self._start_empty()

    def _start_empty(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[tuple[ProviderTrace, int]] = deque()
        self._bytes = 0
        self._writing = 0
        self._flushing = 0
        self._thread: threading.Thread | None = None

    def _ensure_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"llmspan-{self.backend.name}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, value=True))
        while batch := self._take():
            self._write(batch)
            with self._changed:
                self._writing = 0
                self._changed.notify_all()

    def _take(self) -> list[ProviderTrace]:
        """The next batch; empty when closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            batch: list[ProviderTrace] = []
            size = 0
            while self._queue and len(batch) < _BATCH_ITEMS and size < _BATCH_BYTES:
                trace, trace_size = self._queue.popleft()
                self._bytes -= trace_size
                size += trace_size
                batch.append(trace)
            self._writing = len(batch)
            return batch

    def _write(self, batch: Sequence[ProviderTrace]) -> None:
        pause = _FIRST_PAUSE
        while (error := outcome(self._open_and_write, batch)) is not None:
            self.counts.failed(error)
            if isinstance(error, RetryableError | SettingsError | SchemaError):
                _complain(self.backend, error)
                if not self._wait(error.delay if isinstance(error, ThrottledError) else random.uniform(0, pause)):  # noqa: S311
                    self.counts.dropped("shutdown", len(batch))
                    return
                pause = min(pause * 2, _LONGEST_PAUSE)
            elif len(batch) > 1:
                middle = len(batch) // 2
                self._write(batch[:middle])
                self._write(batch[middle:])
                return
            else:
                logger.error(
                    "llmspan: %s refused record %s, which is dropped: %s", self.backend.name, batch[0].id, error
                )
                self.counts.dropped("rejected")
                return
        self.counts.delivered(len(batch))

    def _open_and_write(self, batch: Sequence[ProviderTrace]) -> None:
        self.backend.open()
        self.backend.write(batch)

    def _wait(self, pause: float) -> bool:
        """Sleep before the next try, shorter while somebody waits in ``flush``. False when closing."""
        with self._changed:
            if not self._flushing:
                self._changed.wait_for(lambda: self._closing or self._flushing, pause)
            else:
                self._changed.wait_for(lambda: self._closing, min(pause, _PAUSE_IN_FLUSH))
            return not self._closing


_complained: dict[str, float] = {}


def _complain(backend: Backend, error: BaseException) -> None:
    """One line a minute and backend."""
    now = time.monotonic()
    if now - _complained.get(backend.location, -60.0) >= 60.0:
        _complained[backend.location] = now
        logger.log(logging.WARNING, "llmspan: %s cannot be written now, will be tried again: %s", backend.name, error)


def _size(trace: ProviderTrace) -> int:
    return _FLAT_SIZE + len(trace.request_json or "") + len(trace.response_json or "")


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
