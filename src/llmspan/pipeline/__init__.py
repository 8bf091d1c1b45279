"""The way from finished calls to stores: one inbox, one worker that makes records, one delivery per backend.

Callers only append to the inbox. It is bounded in bytes and items: out of bytes, a record gives up its payload; out
of items, the oldest goes. Everything that happens to a record is counted, and nothing here can block or fail a caller.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Final, Protocol

from .._guard import guarded, note, outcome
from ..backends.base import Backend
from ..content import Policy
from ..settings import Settings
from ..trace import ProviderTrace
from .counts import Status
from .delivery import Delivery
from .made import Made
from .totals import Totals

__all__ = ["Made", "Pending", "Pipeline", "Status", "Totals", "shared"]


class Pending(Protocol):
    """A record in the making."""

    @property
    def size(self) -> int:
        """The bytes that it holds on to."""
        ...

    def build(self) -> ProviderTrace:
        """The record; slow."""
        ...

    def shed(self) -> None:
        """Let go of the payload."""
        ...


class Pipeline:
    """See the module. One per process, made by :func:`shared`."""

    def __init__(self) -> None:
        self.totals = Totals()
        #: what of a payload is kept of records that are handed over; None until somebody has read the settings
        self.policy: Policy | None = None
        #: which program such records come from
        self.source: str | None = None
        self._max_bytes = Settings().queue_max_bytes
        self._max_items = Settings().queue_max_items
        self._deliveries: list[Delivery] = []
        self._start_empty()
        _instances.add(self)

    def configure(self, settings: Settings) -> None:
        """Take the limits of ``settings``; they hold for backends that are added from now on."""
        self._max_bytes = settings.queue_max_bytes
        self._max_items = settings.queue_max_items

    def add(self, backend: Backend) -> bool:
        """Deliver to ``backend`` too; False if records go to that place already."""
        with self._lock:
            if any(d.backend.name == backend.name and d.backend.location == backend.location for d in self._deliveries):
                return False
            self._deliveries.append(Delivery(backend, max_bytes=self._max_bytes, max_items=self._max_items))
            return True

    @property
    def backends(self) -> list[Backend]:
        """Where records go, the primary first."""
        return [delivery.backend for delivery in self._deliveries]

    # -- what callers call ------------------------------------------------------------------------------------------

    def accept(self, pending: Pending) -> None:
        """Take a finished call. Never blocks, never raises."""
        size = pending.size
        with self._lock:
            full = self._bytes + size > self._max_bytes
        if full:
            guarded("pipeline.shed", pending.shed)
            size = pending.size
        with self._lock:
            for delivery in self._deliveries:
                delivery.counts.accepted()
                if full:
                    delivery.counts.shed()
            self._inbox.append((pending, size))
            self._bytes += size
            if len(self._inbox) > self._max_items:
                self._bytes -= self._inbox.popleft()[1]
                self._count_dropped("queue_full")
        self._ensure_thread()
        self._wake.put(None)

    def later(self, function: Callable[[], None]) -> None:
        """Run ``function`` on the worker. Takes no lock: it may be called by a finaliser, anywhere."""
        self._late.append(function)
        self._wake.put(None)

    def ensure_started(self) -> None:
        """Have a worker for what :meth:`later` will be given; a finaliser could not start one."""
        self._ensure_thread()

    # -- life cycle ---------------------------------------------------------------------------------------------------

    def flush(self, timeout: float) -> bool:
        """Wait until everything accepted so far is written or given up; False when ``timeout`` seconds are over."""
        deadline = time.monotonic() + timeout
        if self._thread is not None:
            drained = threading.Event()
            self._wake.put(drained)
            if not drained.wait(timeout):
                return False
        done = [delivery.flush(deadline) for delivery in list(self._deliveries)]  # every one, not up to the first
        return all(done)

    def close(self, timeout: float) -> bool:
        """Flush, then stop all threads and close all backends. What could not be written is dropped, and counted."""
        deadline = time.monotonic() + timeout
        done = self.flush(timeout)
        with self._lock:
            deliveries, self._deliveries = self._deliveries, []
        for delivery in deliveries:
            done = delivery.close(deadline) and done
        self._closed_statuses = [delivery.status() for delivery in deliveries]
        return done

    def status(self) -> list[Status]:
        """What became of the records, per backend; after :meth:`close`, what had become of them."""
        return [delivery.status() for delivery in self._deliveries] or self._closed_statuses

    def after_fork(self) -> None:
        """In a forked child: the parent keeps its queue; the child starts empty, with its own locks and threads."""
        self.totals = Totals()
        self._start_empty()
        for delivery in self._deliveries:
            delivery.after_fork()

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._inbox: deque[tuple[Pending, int]] = deque()
        self._bytes = 0
        self._late: deque[Callable[[], None]] = deque()
        self._wake: SimpleQueue[threading.Event | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed_statuses: list[Status] = []

    # -- the worker -------------------------------------------------------------------------------------------------

    def _ensure_thread(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="llmspan-pipeline", daemon=True)
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while True:
            drained = self._wake.get()
            error = outcome(self._work)
            if error is not None:
                note("pipeline.worker", error)
            if drained is not None:
                drained.set()

    def _work(self) -> None:
        """Everything that waits: late ends first, as they may add to the inbox."""
        while self._late or self._inbox:
            while self._late:
                guarded("pipeline.later", self._late.popleft())
            with self._lock:
                pending, size = self._inbox.popleft() if self._inbox else (None, 0)
            if pending is not None:
                self._make_record(pending)
                with self._lock:
                    self._bytes -= size

    def _make_record(self, pending: Pending) -> None:
        trace = guarded("pipeline.build", pending.build)
        if trace is None:
            with self._lock:
                self._count_dropped("internal_error")
            return
        guarded("pipeline.totals", self.totals.add, trace)
        for delivery in self._deliveries:
            if outcome(delivery.put, trace) is not None:  # no thread can be started any more: the program is ending
                delivery.counts.dropped("shutdown")

    def _count_dropped(self, reason: str) -> None:
        for delivery in self._deliveries:
            delivery.counts.dropped(reason)


_instances: weakref.WeakSet[Pipeline] = weakref.WeakSet()
_shared: Final[list[Pipeline]] = []


def shared() -> Pipeline:
    """The pipeline of this process."""
    if not _shared:
        _shared.append(Pipeline())
    return _shared[0]


def _after_fork(pipelines: Iterable[Pipeline] = _instances) -> None:
    for pipeline in list(pipelines):
        pipeline.after_fork()


os.register_at_fork(after_in_child=_after_fork)
