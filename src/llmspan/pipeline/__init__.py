"""The way from finished calls to stores: one inbox, one worker that makes records, one delivery per backend.

Callers only append to the inbox. It is bounded in bytes and items: out of bytes, a record gives up its payload; out
of items, the oldest goes. Everything that happens to a record is counted, and nothing here can block or fail a caller.
"""

from __future__ import annotations

import os
import weakref
from _queue import SimpleQueue  # not queue's, which gevent and eventlet replace
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple, Protocol

from .._clock import monotonic
from .._guard import guarded, note, outcome
from .._log import emit_held, emit_soon
from .._native import Event, SerialExecutor, Thread, allocate_lock
from .._pace import breathe, making_way
from ..backends.base import Backend
from ..content import Policy
from ..settings import Settings
from ..trace import ProviderTrace
from .counts import Status
from .delivery import Delivery, left
from .made import Made
from .notices import report_remains
from .queue import size_of
from .spooling import Spooling, checked_place
from .totals import Totals

__all__ = ["Made", "Pending", "Pipeline", "Status", "Totals", "shared"]


#: what of the made records goes into the spool together, at most
_GROUP_ITEMS: Final = 256
_GROUP_BYTES: Final = 1024 * 1024
_GROUP_SECONDS: Final = 0.05


class Pending(Protocol):
    """A record in the making."""

    @property
    def size(self) -> int:
        """The bytes that it holds on to."""
        ...

    def build(self) -> ProviderTrace:
        """The record; slow."""
        ...

    def drop_payload(self) -> None:
        """Let go of the payload."""
        ...


class _Taken(NamedTuple):
    """A call in the inbox, and where it was promised to."""

    pending: Pending
    size: int
    deliveries: tuple[Delivery, ...]


class _Drain:
    """Somebody waits until the worker is through with all that was there when he came."""

    def __init__(self) -> None:
        self.position: int | None = None
        self.done = Event()


class Pipeline:
    """See the module. One per process, made by :func:`shared`."""

    def __init__(self) -> None:
        self.totals = Totals()
        #: what of a payload is kept of records that are handed over; None until somebody has read the settings
        self.policy: Policy | None = None
        #: which program such records come from
        self.source: str | None = None
        self._settings = Settings()
        self._spooling: Spooling | None = None
        self._deliveries: tuple[Delivery, ...] = ()
        self._start_empty()
        _instances.add(self)

    def configure(self, settings: Settings) -> None:
        """Take the limits of ``settings``; those of a delivery hold for backends that are added from now on.

        Raises:
            SettingsError: the spool's place can never be a directory.
        """
        place = None if settings.spool_dir is None else checked_place(settings.spool_dir)
        self._settings = settings
        if place is not None and self._spooling is None:
            self._spooling = Spooling(place, settings, self._wake_up)

    def add(self, backend: Backend) -> bool:
        """Deliver to ``backend`` too; False if records go to that place already."""
        with self._state:
            if any(d.backend.name == backend.name and d.backend.location == backend.location for d in self._deliveries):
                return False
            self._deliveries = (*self._deliveries, Delivery(backend, self._settings))
        if self._thread is not None:
            self._start_deliveries()
        return True

    def tell_failure(self, backend: Backend, error: Exception) -> None:
        """``backend`` could not be opened: say so, once, also if the first writes fail as well."""
        for delivery in self._deliveries:
            if delivery.backend is backend:
                delivery.tell_failure(error)

    @property
    def backends(self) -> list[Backend]:
        """Where records go, the primary first."""
        return [delivery.backend for delivery in self._deliveries]

    # -- what callers call ------------------------------------------------------------------------------------------

    def submit(self, pending: Pending) -> None:
        """Take a finished call. Never raises, and takes no lock that another thread, or a greenlet, may hold."""
        full = self._bytes + pending.size > self._room()
        if full:
            guarded("pipeline.shed", pending.drop_payload)
        self._state.execute(partial(self._admit, pending, pending.size, full))
        self._count_evicted()
        if self._thread is None:
            guarded("pipeline.start", self._ensure_thread)  # at the very end of a program none can be started
        self._wake_up()
        guarded("pipeline.log", emit_soon)

    def _admit(self, pending: Pending, size: int, full: bool) -> None:
        deliveries = self._deliveries
        for delivery in deliveries:
            delivery.counts.accepted(shed=full)
        self._inbox.append(_Taken(pending, size, deliveries))
        self._bytes += size
        self._position += 1
        while len(self._inbox) > self._settings.queue_max_items or (self._is_over() and len(self._inbox) > 1):
            evicted = self._inbox.popleft()
            self._bytes -= evicted.size
            self._evicted.append(evicted)

    def _count_evicted(self) -> None:
        """Count what had to make room, and free it here, not under the lock: it may be large."""
        while self._evicted:
            with suppress(IndexError):  # another caller was faster
                _count_dropped(self._evicted.popleft(), "queue_full")

    def defer(self, function: Callable[[], None]) -> None:
        """Run ``function`` on the worker. Takes no lock: it may be called by a finaliser, anywhere."""
        self._late.append(function)
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake.empty():  # else the worker has yet to look, and will find this too
            self._wake.put(None)

    def ensure_started(self) -> None:
        """Have a worker for what :meth:`defer` will be given; a finaliser could not start one."""
        self._ensure_thread()

    def _room(self) -> int:
        """What the inbox may hold: the limit less what already waits further on, but half of it in any case."""
        limit = self._settings.queue_max_bytes
        return limit - min(self._waiting_bytes(), limit // 2)

    def _waiting_bytes(self) -> int:
        return max((delivery.bytes for delivery in self._deliveries), default=0)

    def _is_over(self) -> bool:
        return self._bytes > self._settings.queue_max_bytes

    # -- life cycle ---------------------------------------------------------------------------------------------------

    def flush(self, timeout: float) -> bool:
        """Wait until everything accepted so far is written and safe, or given up; False after ``timeout`` seconds.

        With a spool, that includes what dead processes have left in it.
        """
        deadline, spooling = monotonic() + timeout, self._spooling
        if spooling is None:
            return self._flush(deadline, last=False)
        self._ensure_thread()
        seen, was_idle = spooling.adoptions, False
        while self._flush(deadline, last=False):  # what was adopted meanwhile has to be waited for, too
            more, adoptions = spooling.has_more, spooling.adoptions
            is_idle, seen = adoptions == seen, adoptions
            if is_idle and not more:
                return True
            if is_idle and was_idle:  # all that is held is done, and yet there is no place for more
                return False
            was_idle = is_idle
        return False

    def hand_over(self, timeout: float) -> bool:
        """Wait until all that was accepted so far is in the spool; False after ``timeout`` seconds.

        Without a spool, or while it cannot be written: in the queues of the backends.
        """
        return self._hand_over(monotonic() + timeout)

    def close(self, timeout: float) -> bool:
        """Flush, then stop all threads and close all backends. What could not be written is dropped, and counted."""
        deadline = monotonic() + timeout
        done = self._flush(deadline, last=True)
        with self._state:
            deliveries, self._deliveries = self._deliveries, ()
        for delivery in deliveries:
            delivery.stop()
        if self._thread is None:
            self._give_up_inbox()
        ended = [delivery.join(deadline) for delivery in deliveries]  # every one, not up to the first
        self._close_spool(deadline)
        if deliveries:  # else it was closed before
            self._closed_statuses = [delivery.status() for delivery in deliveries]
            report_remains(self._closed_statuses, self._settings.spool_dir)
        guarded("pipeline.log", emit_held)
        return done and all(ended)

    def _give_up_inbox(self) -> None:
        """There never was a worker: what came, came too late."""
        with self._state:
            inbox, self._inbox = self._inbox, deque()
            self._bytes = 0
        for taken in inbox:
            _count_dropped(taken, "shutdown")

    def _close_spool(self, deadline: float) -> None:
        if self._spooling is None:
            return
        if self._thread is None:  # it was never opened
            self._spooling = None
            return
        closed = Event()
        self.defer(lambda: self._end_spool(closed))  # on the worker, which may be writing to it
        closed.wait(left(deadline))

    def _end_spool(self, closed: Event) -> None:
        guarded("pipeline.rest", self._make_rest)
        spooling, self._spooling = self._spooling, None
        self._is_spool_open = False
        if spooling is not None:
            guarded("spool.close", spooling.close)
        closed.set()

    def _make_rest(self) -> None:
        """What was accepted while the deliveries were stopped is in the spool before that is closed."""
        for _ in range(len(self._inbox)):  # what comes from now on is accepted for no backend
            self._make_next()
        self._store_group()

    def _hand_over(self, deadline: float) -> bool:
        if self._thread is None and not self._starting.locked():
            return not self._inbox
        drain = _Drain()
        self._drains.append(drain)
        self._wake_up()
        return drain.done.wait(left(deadline))

    def _flush(self, deadline: float, *, last: bool) -> bool:
        if self._thread is not None and not self._hand_over(deadline):
            return False
        asks = [delivery.ask(deadline, last=last) for delivery in self._deliveries]
        answers = [ask.wait() for ask in asks]
        return all(answers)

    def status(self) -> list[Status]:
        """What became of the records, per backend; after :meth:`close`, what had become of them."""
        return [delivery.status() for delivery in self._deliveries] or self._closed_statuses

    def sizes(self) -> dict[str, int]:
        """The bytes that wait: in memory, for the backend with the longest queue, and on disk."""
        spooled = self._spooling.bytes if self._spooling is not None else 0
        return {"memory": self._bytes + self._waiting_bytes(), "disk": spooled}

    def after_fork(self) -> None:
        """In a forked child: the parent keeps its queue; the child starts empty, with its own locks and threads."""
        self.totals = Totals()
        self._start_empty()
        for delivery in self._deliveries:
            delivery.after_fork()
        if self._spooling is not None:
            spooling = self._spooling
            self._spooling = Spooling(spooling.root, self._settings, self._wake_up)
            outcome(spooling.forget)  # a daemon may have closed all its descriptors before it forked

    def _start_empty(self) -> None:
        #: guards the inbox, its size and position, and the deliveries
        self._state = SerialExecutor()
        self._starting = allocate_lock()
        self._inbox: deque[_Taken] = deque()
        #: what had to make room, and is yet to be counted
        self._evicted: deque[_Taken] = deque()
        self._bytes = 0
        self._position = 0
        self._late: deque[Callable[[], None]] = deque()
        self._drains: deque[_Drain] = deque()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._thread: Thread | None = None
        self._group: list[tuple[ProviderTrace, tuple[Delivery, ...]]] = []
        self._group_bytes = 0
        self._group_since = 0.0
        self._is_spool_open = False
        self._closed_statuses: list[Status] = []

    # -- the worker -------------------------------------------------------------------------------------------------

    def _ensure_thread(self) -> None:
        """Start the worker, unless another thread is doing so: nobody waits for that."""
        if self._thread is None and self._starting.acquire(blocking=False):
            try:
                self._thread = self._thread or Thread(self._run, "llmspan-pipeline")
            finally:
                self._starting.release()
            self._start_deliveries()

    def _start_deliveries(self) -> None:
        """Their threads too: when the program ends, and the first record comes, it is too late to start any."""
        for delivery in self._deliveries:
            guarded("pipeline.start", delivery.start)

    def _run(self) -> None:
        with making_way(self._is_hurried):
            while True:
                taken = self._position - len(self._inbox)
                error = outcome(self._work)
                if error is not None:
                    note("pipeline.worker", error)
                if error is None or taken == self._position - len(self._inbox):  # else it cost one record: go on
                    self._wake.get()

    def _is_hurried(self) -> bool:
        """Whether somebody waits for the worker, or the inbox is filling up."""
        settings = self._settings
        much = self._bytes > settings.queue_max_bytes // 4 or len(self._inbox) > settings.queue_max_items // 4
        return much or bool(self._drains)

    def _work(self) -> None:
        """Everything that waits: late ends first, as what they add is what others wait for."""
        self._start_deliveries()  # those that could not be started when they were needed first
        if self._spooling is not None and (not self._is_spool_open or self._spooling.has_more):
            self._is_spool_open = self._spooling.open(self._deliveries)
        while self._late or self._inbox or self._drains:
            waiting = list(self._drains)  # before the late ends: those that they wait for are there
            while self._late:
                self._end_late(self._late.popleft())
            with self._state:
                for drain in waiting:
                    drain.position = self._position if drain.position is None else drain.position
            self._make_next()
            self._release()
        for delivery in self._deliveries:
            delivery.report()

    def _end_late(self, function: Callable[[], None]) -> None:
        """Run ``function``, and make records of as many as it brought: a batch's results come faster than they go."""
        before = len(self._inbox)
        guarded("pipeline.later", function)
        brought = range(len(self._inbox) - before)
        for delivery in self._deliveries if brought else ():
            delivery.wait_for_room()
        for _ in brought:
            self._make_next()

    def _make_next(self) -> None:
        """Make a record of the oldest call in the inbox; store what was made, if it is time to."""
        with self._state:
            taken = self._inbox.popleft() if self._inbox else None
        if taken is not None:
            breathe()
            self._make_record(taken)
        if self._group and (not self._inbox or self._is_group_full()):
            self._store_group()

    def _release(self) -> None:
        """Let those go on for whom all is done."""
        with self._state:
            made = self._position - len(self._inbox) - len(self._group)
        for drain in list(self._drains):
            if drain.position is not None and drain.position <= made:
                self._drains.remove(drain)
                drain.done.set()

    def _make_record(self, taken: _Taken) -> None:
        trace = guarded("pipeline.build", taken.pending.build)
        with self._state:
            self._bytes -= taken.size
        if trace is None:
            _count_dropped(taken, "internal_error")
            return
        guarded("pipeline.totals", self.totals.add, trace)
        if self._spooling is not None:
            self._group_since = self._group_since if self._group else monotonic()
            self._group_bytes += size_of(trace)
            self._group.append((trace, taken.deliveries))
            return
        for delivery in taken.deliveries:
            delivery.put(trace, self._bytes)

    def _is_group_full(self) -> bool:
        return (
            len(self._group) >= _GROUP_ITEMS
            or self._group_bytes >= _GROUP_BYTES
            or monotonic() - self._group_since >= _GROUP_SECONDS
        )

    def _store_group(self) -> None:
        """What was made goes into the spool together, with one ``fdatasync``."""
        group, self._group, self._group_bytes = self._group, [], 0
        if self._spooling is not None and group:
            deliveries = self._deliveries or max((promised for _, promised in group), key=len)  # closing
            self._spooling.store(group, deliveries)
            return
        for trace, promised in group:
            for delivery in promised:
                delivery.put(trace)


def _count_dropped(taken: _Taken, reason: str) -> None:
    for delivery in taken.deliveries:
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
