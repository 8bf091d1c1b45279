"""The way from finished calls to stores: one inbox, one worker that makes records, one worker per backend.

Callers only append to the inbox. It is bounded in bytes and items: out of bytes, a record gives up its payload; out
of items, the oldest goes. Everything that happens to a record is counted, and nothing here can block or fail a caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from .._clock import monotonic
from .._fork import ForkGroup
from .._guard import exception_of, guarded, guarded_on_worker, report_internal_error
from .._log import emit_held, emit_soon, held_records
from .._native import Event, SerialExecutor, Thread, allocate_lock
from .._pace import cooperative, yield_gil
from ..backends.base import Backend
from ..content import ContentPolicy
from ..deferred_spans import deferred_spans
from ..settings import Settings
from ..sink import PendingRecord
from ..span_record import SpanRecord
from ..span_selection import SpanSelector
from ..trace import ProviderTrace
from .backend_worker import BackendWorker, remaining
from .group import RecordGroup, batch_limits, put_records
from .inbox import FlushWaiter, InboxItem, PendingSpan, count_dropped
from .rate_limited_log import report_unwritten
from .run_summary import RunSummary
from .spool import SpoolWriter, resolve_spool_directory
from .statistics import BackendStatus
from .status_file import StatusFile, describe_process
from .wake_signal import WakeSignal

__all__ = ["Pipeline", "shared"]


#: what ends the worker's linger early: so much in the inbox (or the bytes of a group), or so many deferred functions
_LINGER_ITEMS: Final = 128
_LINGER_FUNCTIONS: Final = 8


class Pipeline:
    """See the module. One per process, made by :func:`shared`."""

    def __init__(self) -> None:
        self.totals = RunSummary()
        #: what of a payload is kept of records that are handed over; None until the settings are read
        self.policy: ContentPolicy | None = None
        #: which spans are stored beside the records; None: none
        self.span_selector: SpanSelector | None = None
        #: which program such records come from
        self.source: str | None = None
        self._take_settings(Settings())
        self._spool_writer: SpoolWriter | None = None
        self.status_file = StatusFile(lambda: describe_process("program", self.status(), self.sizes()))
        self._workers: tuple[BackendWorker, ...] = ()
        self._reset()
        _instances.add(self)

    def configure(self, settings: Settings) -> None:
        """Take the limits of ``settings``; those of a worker hold for backends that are added from now on.

        Raises:
            SettingsError: the spool's place can never be a directory.
        """
        spool_directory = None if settings.spool_dir is None else resolve_spool_directory(settings.spool_dir)
        self._take_settings(settings)
        if spool_directory is not None and self._spool_writer is None:
            self._spool_writer = SpoolWriter(spool_directory, settings, self._wake)

    def _take_settings(self, settings: Settings) -> None:
        self._settings = settings
        self._linger_limits = batch_limits(settings, _LINGER_ITEMS)
        self._group_limits = batch_limits(settings)

    def add(self, backend: Backend) -> bool:
        """Deliver to ``backend`` too; False if records go to that place already."""
        with self._state:
            if any(d.backend.name == backend.name and d.backend.location == backend.location for d in self._workers):
                return False
            self._workers = (*self._workers, BackendWorker(backend, self._settings, self.status_file))
        if self._thread is not None:
            self._start_workers()
        return True

    def report_failure(self, backend: Backend, error: Exception) -> None:
        """``backend`` could not be opened: say so, once, also if the first writes fail as well."""
        for worker in self._workers:
            if worker.backend is backend:
                worker.report_failure(error)

    @property
    def backends(self) -> list[Backend]:
        """Where records go, the primary first."""
        return [worker.backend for worker in self._workers]

    # -- what callers call ------------------------------------------------------------------------------------------

    def submit(self, pending: PendingRecord) -> None:
        """Take a finished call. Never raises, and takes no lock that another thread, or a greenlet, may hold."""
        size = pending.size
        full = self._is_full_with(size)
        if full:
            deferred_spans.end(pending)  # its values are read from what is dropped
            guarded("pipeline.shed", pending.drop_payload)
            size = pending.size
        self._state.execute(partial(self._admit, pending, size, full, None))
        if self._evicted:
            self._count_evicted()
        if self._thread is None:
            guarded("pipeline.start", self.ensure_started)  # at the very end of a program none can be started
        max_items, max_bytes = self._linger_limits
        if not self._wake_signal.lingers or len(self._inbox) >= max_items or self._bytes >= max_bytes:
            self._wake_signal.wake()
        if held_records:
            guarded("pipeline.log", emit_soon)

    def _admit(
        self, pending: PendingRecord | PendingSpan, size: int, full: bool, workers: tuple[BackendWorker, ...] | None
    ) -> None:
        workers = self._workers if workers is None else workers
        for worker in workers:
            worker.stats.accepted(without_payload=full)
        self._inbox.append(InboxItem(pending, size, workers))
        self._bytes += size
        self._position += 1
        settings = self._settings
        while (number := len(self._inbox)) > settings.queue_max_items or (
            self._bytes > settings.queue_max_bytes and number > 1
        ):
            evicted = self._inbox.popleft()
            self._bytes -= evicted.size
            self._evicted.append(evicted)

    def _count_evicted(self) -> None:
        """Count what had to make room, and free it here, not under the lock: it may be large."""
        while self._evicted:
            with suppress(IndexError):  # another caller was faster
                count_dropped(self._evicted.popleft(), "queue_full")

    def submit_span(self, span: SpanRecord) -> None:
        """Take a span that is to be stored, for the backends that keep spans. As :meth:`submit`."""
        pending = PendingSpan(span)
        workers = tuple(worker for worker in self._workers if worker.keeps_spans)
        self._state.execute(partial(self._admit, pending, pending.size, False, workers))
        self._count_evicted()
        guarded("pipeline.start", self.ensure_started)
        self._wake()

    def defer(self, function: Callable[[], None]) -> None:
        """Run ``function`` on the worker. Takes no lock: it may be called by a finaliser, anywhere."""
        self._deferred.append(function)
        if not self._wake_signal.lingers or len(self._deferred) >= _LINGER_FUNCTIONS:
            self._wake_signal.wake()

    def _wake(self) -> None:
        self._wake_signal.wake()

    def ensure_started(self) -> None:
        """Have a worker for what :meth:`defer` will be given; a finaliser could not start one.

        If another thread is starting it, this does not wait for that.
        """
        if self._thread is None and self._starting.acquire(blocking=False):
            try:
                self._thread = self._thread or Thread(self._run, "llmspan-pipeline")
            finally:
                self._starting.release()
            self._start_workers()

    def _is_full_with(self, size: int) -> bool:
        """Whether so many more bytes do not fit: into the limit less what waits further on, but half in any case."""
        limit, total = self._settings.queue_max_bytes, self._bytes + size
        return total > limit // 2 and total > limit - min(self._waiting_bytes(), limit // 2)

    def _waiting_bytes(self) -> int:
        return max((worker.bytes for worker in self._workers), default=0)

    # -- life cycle ---------------------------------------------------------------------------------------------------

    def flush(self, timeout: float) -> bool:
        """Wait until everything accepted so far is written and safe, or given up; False after ``timeout`` seconds.

        With a spool, that includes what dead processes have left in it.
        """
        deadline, spooling = monotonic() + timeout, self._spool_writer
        if spooling is None:
            return self._flush(deadline, is_final=False)
        self.ensure_started()
        adoptions_before, was_idle = spooling.adoptions, False
        while self._flush(deadline, is_final=False):  # what was adopted meanwhile has to be waited for, too
            has_more, adoptions = spooling.has_more, spooling.adoptions
            is_idle, adoptions_before = adoptions == adoptions_before, adoptions
            if is_idle and not has_more:
                return True
            if is_idle and was_idle:  # all that is held is done, and yet there is no place for more
                return False
            was_idle = is_idle
        return False

    def wait_until_spooled(self, timeout: float) -> bool:
        """Wait until all that was accepted so far is in the spool; False after ``timeout`` seconds.

        Without a spool, or while it cannot be written: in the queues of the backends.
        """
        return self._wait_until_processed(monotonic() + timeout)

    def close(self, timeout: float) -> bool:
        """Flush, then stop all threads and close all backends. What could not be written is dropped, and counted."""
        deadline = monotonic() + timeout
        is_flushed = self._flush(deadline, is_final=True)
        with self._state:
            workers, self._workers = self._workers, ()
        for worker in workers:
            worker.stop()
        if self._thread is None:
            self._drop_inbox()
        are_joined = [worker.join(deadline) for worker in workers]  # every one, not up to the first
        self._close_spool(deadline)
        if workers:  # else it was closed before
            self._closed_statuses = [worker.status() for worker in workers]
            report_unwritten(self._closed_statuses, self._settings.spool_dir)
        self.status_file.remove()
        guarded("pipeline.log", emit_held)
        return is_flushed and all(are_joined)

    def _drop_inbox(self) -> None:
        """There never was a worker: what came, came too late."""
        with self._state:
            inbox, self._inbox = self._inbox, deque()
            self._bytes = 0
        for item in inbox:
            count_dropped(item, "shutdown")

    def _close_spool(self, deadline: float) -> None:
        if self._spool_writer is None:
            return
        if self._thread is None:  # it was never opened
            self._spool_writer = None
            return
        closed = Event()
        self._deferred.append(lambda: self._close_spool_writer(closed))  # on the worker, which may be writing to it
        self._wake_signal.wake()
        closed.wait(remaining(deadline))

    def _close_spool_writer(self, closed: Event) -> None:
        guarded_on_worker("pipeline.rest", self._process_remaining)
        spooling, self._spool_writer = self._spool_writer, None
        self._is_spool_open = False
        if spooling is not None:
            guarded_on_worker("spool.close", spooling.close)
        closed.set()

    def _process_remaining(self) -> None:
        """What was accepted while the workers were stopped is in the spool before that is closed."""
        for _ in range(len(self._inbox)):  # what comes from now on is accepted for no backend
            self._process_next()
        self._store_group()

    def _wait_until_processed(self, deadline: float) -> bool:
        if self._thread is None and not self._starting.locked():
            return not self._inbox
        if self.span_selector is not None:
            self._deferred.append(self.span_selector.read)  # what has ended belongs to what is waited for
        waiter = FlushWaiter()
        self._waiters.append(waiter)
        self._wake_signal.wake()
        return waiter.processed.wait(remaining(deadline))

    def _flush(self, deadline: float, *, is_final: bool) -> bool:
        if self._thread is not None and not self._wait_until_processed(deadline):
            return False
        requests = [worker.request_flush(deadline, is_final=is_final) for worker in self._workers]
        answers = [request.wait() for request in requests]
        return all(answers)

    def status(self) -> list[BackendStatus]:
        """Delivery statistics per backend; the final ones after :meth:`close`."""
        return [worker.status() for worker in self._workers] or self._closed_statuses

    def sizes(self) -> dict[str, int]:
        """The bytes that wait: in memory, for the backend with the longest queue, and on disk."""
        spooled = self._spool_writer.bytes if self._spool_writer is not None else 0
        return {"memory": self._bytes + self._waiting_bytes(), "disk": spooled}

    def after_fork_in_child(self) -> None:
        """In a forked child: the parent keeps its queue; the child starts empty, with its own locks and threads."""
        self.totals = RunSummary()
        self._reset()
        self.status_file.forget()
        if self.span_selector is not None:
            self.span_selector.forget()
        for worker in self._workers:
            worker.after_fork()
        if self._spool_writer is not None:
            spooling = self._spool_writer
            self._spool_writer = SpoolWriter(spooling.root, self._settings, self._wake)
            exception_of(spooling.forget)  # a daemon may have closed all its descriptors before it forked

    def _reset(self) -> None:
        #: guards the inbox, its size and position, and the workers
        self._state = SerialExecutor()
        self._starting = allocate_lock()
        self._inbox: deque[InboxItem] = deque()
        #: what had to make room, and is yet to be counted
        self._evicted: deque[InboxItem] = deque()
        self._bytes = 0
        self._position = 0
        self._deferred: deque[Callable[[], None]] = deque()
        self._waiters: deque[FlushWaiter] = deque()
        self._wake_signal = WakeSignal()
        self._thread: Thread | None = None
        self._group = RecordGroup()
        self._is_spool_open = False
        self._closed_statuses: list[BackendStatus] = []

    # -- the worker -------------------------------------------------------------------------------------------------

    def _start_workers(self) -> None:
        """Start the workers' threads now: at the program's end, when the first record may come, none can start."""
        for worker in self._workers:
            guarded("pipeline.start", worker.start)

    def _run(self) -> None:
        with cooperative(self._is_urgent):
            while True:
                processed = self._position - len(self._inbox)
                error = exception_of(self._process_all)
                if error is not None:
                    report_internal_error("pipeline.worker", error)
                if error is None or processed == self._position - len(self._inbox):  # else it cost one record: go on
                    self._wake_signal.wait(self._settings.linger, self._has_work)

    def _has_work(self) -> bool:
        with self._state:  # behind which is what other threads have begun to submit
            return bool(self._inbox or self._deferred or self._waiters)

    def _is_urgent(self) -> bool:
        """Whether a caller waits for the worker, or the inbox is filling up."""
        settings = self._settings
        is_filling = self._bytes > settings.queue_max_bytes // 4 or len(self._inbox) > settings.queue_max_items // 4
        return is_filling or bool(self._waiters)

    def _process_all(self) -> None:
        """Everything that waits: deferred functions first, as what they add is what others wait for."""
        self._start_workers()  # those that could not be started when they were needed first
        if self._spool_writer is not None and (not self._is_spool_open or self._spool_writer.has_more):
            self._is_spool_open = self._spool_writer.open(self._workers)
        while self._deferred or self._inbox or self._waiters:
            # before the deferred functions: those that they wait for are there
            waiters = [waiter for waiter in list(self._waiters) if waiter.position is None]
            while self._deferred:
                self._run_deferred(self._deferred.popleft())
            if waiters:
                self._place_waiters(waiters)
            self._process_next()
            if self._waiters and not self._group:  # they wait for what is in it
                self._release_waiters()
        for worker in self._workers:
            worker.report()
        guarded("pipeline.status", self.status_file.update)

    def _run_deferred(self, function: Callable[[], None]) -> None:
        """Run ``function``, and make records of as many as it brought: a batch's results come faster than they go."""
        before = len(self._inbox)
        guarded_on_worker("pipeline.defer", function)
        added = range(len(self._inbox) - before)
        for worker in self._workers if added else ():
            worker.wait_for_capacity()
        for _ in added:
            self._process_next()

    def _process_next(self) -> None:
        """Make a record of the oldest call in the inbox; store what was made, if it is time to."""
        with self._state:
            item = self._inbox.popleft() if self._inbox else None
        if item is not None:
            yield_gil()
            self._build_record(item)
        if self._group and (not self._inbox or self._group.is_full(self._group_limits)):
            self._store_group()

    def _place_waiters(self, waiters: list[FlushWaiter]) -> None:
        """Have each wait for what has been submitted by now."""
        with self._state:
            for waiter in waiters:
                waiter.position = self._position if waiter.position is None else waiter.position

    def _release_waiters(self) -> None:
        """Wake the waiters whose records are done."""
        with self._state:
            processed = self._position - len(self._inbox) - len(self._group)
        for waiter in list(self._waiters):
            if waiter.position is not None and waiter.position <= processed:
                self._waiters.remove(waiter)
                waiter.processed.set()

    def _build_record(self, item: InboxItem) -> None:
        pending = item.pending
        guarded_on_worker("pipeline.end_span", deferred_spans.end, pending)
        record = guarded_on_worker("pipeline.build", pending.build)
        if record is None:  # what a payload is read or redacted with may fail where the rest does not
            guarded_on_worker("pipeline.shed", pending.drop_payload)
            record = guarded_on_worker("pipeline.build", pending.build)
        if isinstance(record, ProviderTrace):
            guarded_on_worker("pipeline.publish", pending.publish, record)
        with self._state:
            self._bytes -= item.size
        if record is None:
            count_dropped(item, "internal_error")
            return
        self._group.add(record, item.workers)
        if isinstance(record, ProviderTrace):
            guarded_on_worker("pipeline.totals", self.totals.add, record)
            if self.span_selector is not None:
                guarded_on_worker("pipeline.spans", self.span_selector.on_record, record)

    def store_span(self, span: SpanRecord) -> None:
        """Deliver a span to the backends that keep spans. On the worker: it goes behind the records made before."""
        workers = tuple(worker for worker in self._workers if worker.keeps_spans)
        for worker in workers:
            worker.stats.accepted()
        if workers:
            self._group.add(span, workers)

    def _store_group(self) -> None:
        """Hand the records that were built to the backends, or to the spool, with one ``fdatasync``."""
        records = self._group.take()
        if self._spool_writer is not None and records:
            workers = self._workers or max((owners for _, owners in records), key=len)  # closing
            self._spool_writer.store(records, workers)
        else:
            put_records(records, self._bytes)


_instances: Final = ForkGroup["Pipeline"]()
_shared: Final[list[Pipeline]] = []


def shared() -> Pipeline:
    """The pipeline of this process."""
    if not _shared:
        _shared.append(Pipeline())
    return _shared[0]
