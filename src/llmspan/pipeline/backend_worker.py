"""Delivery to one backend: its own bounded queue, its own thread, its own retries.

A batch that can be retried is retried, the same batch, until it succeeds or the program ends; a batch that can never
succeed is halved until the one bad record is alone, and only that one is set aside. With a spool, what waits is on
disk, and the end of the program is not the end of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY  # the SDK's own exporters use it too

from .._clock import monotonic
from .._guard import exception_of, guarded, report_internal_error
from .._native import Condition, Event, Thread, allocate_lock
from .._pace import cooperative
from ..backends.base import Backend, SupportsSpanWrites
from ..errors import SchemaError, SettingsError
from ..settings import Settings
from ..span_record import SpanRecord, StoredItem
from ..trace import ProviderTrace
from .dead_letters import DeadLetters
from .queue import Queue
from .rate_limited_log import RateLimitedLog
from .retry import Backoff, is_retryable, retryable_open_error
from .statistics import BackendStatus, DeliveryStats, Location
from .status_file import StatusFile

__all__ = ["BackendWorker", "Backlog", "FlushRequest", "remaining"]

#: a write that runs for so many times its time limit is shown as hanging
_HANG_FACTOR: Final = 2.0
#: seconds that the pipeline waits at most for a store to get on, and a write may run before it is not waited for
_CAPACITY_WAIT_SECONDS: Final = 1.0


class _SpansNotKeptError(Exception):
    """The records of a batch are written; its spans are not for this backend."""


class _SpansRefusedError(_SpansNotKeptError):
    """The records of a batch are written; the store refused its spans, as it will the next time."""


class Backlog(Protocol):
    """What waits for one backend in the spool. Files are touched by :meth:`take` and :meth:`settle` only."""

    @property
    def is_replay(self) -> bool:
        """Whether a process that has died may have begun with what was taken."""
        ...

    def is_empty(self) -> bool:
        """Whether there is nothing to take."""
        ...

    def end(self) -> object:
        """The place up to which there is something now."""
        ...

    def is_past(self, end: object) -> bool:
        """Whether all before ``end`` is settled."""
        ...

    def take(self) -> Sequence[StoredItem]:
        """The next batch; after a failure or a new start, the same batch again."""
        ...

    def settle(self) -> None:
        """What was taken is written, or set aside."""
        ...


class FlushRequest:
    """A caller waits until everything queued before it is written, and safe."""

    def __init__(self, deadline: float, position: int, end: object, *, is_final: bool) -> None:
        self.deadline = deadline
        self.position = position
        self.end = end
        #: the program is about to end: what is in the spool may stay there if the store is down
        self.is_final = is_final
        self.ok = False
        self._answered = Event()

    def answer(self, *, ok: bool) -> None:
        """Let the asker go on."""
        self.ok = ok
        self._answered.set()

    def wait(self) -> bool:
        """The answer; False at the deadline."""
        return self._answered.wait(remaining(self.deadline)) and self.ok


class BackendWorker:
    """Queue and worker of one backend. ``put`` never waits for the backend."""

    def __init__(self, backend: Backend, settings: Settings, status_file: StatusFile | None = None) -> None:
        self.backend = backend
        self.backlog: Backlog | None = None
        self._settings = settings
        self._status_file = status_file or StatusFile(None)
        self._dead_letters = DeadLetters(settings.dead_letter_dir, backend.name)
        self._takes_spans = hasattr(type(backend), "write_spans")
        self._closing = False
        self._reset()

    def _reset(self) -> None:
        self.stats = DeliveryStats()
        self._changed = Condition()
        self._starting = allocate_lock()
        self._queue = Queue(self._settings.queue_max_bytes, self._settings.queue_max_items)
        self._backoff = Backoff()
        self._log = RateLimitedLog()
        self._flush_requests: list[FlushRequest] = []
        self._writing_since: float | None = None
        #: the oldest record of the batch that is being written, or waits for its next try
        self._batch_head: StoredItem | None = None
        self._thread: Thread | None = None
        self._has_ended = False

    # -- what others call -----------------------------------------------------------------------------------------

    @property
    def bytes(self) -> int:
        """What the queue holds on to."""
        return self._queue.bytes

    @property
    def keeps_spans(self) -> bool:
        """Whether the backend takes spans, as far as it knows."""
        return self._takes_spans and bool(guarded("pipeline.spans", getattr, self.backend, "keeps_spans"))

    def put(self, records: Sequence[StoredItem], reserved_bytes: int = 0) -> None:
        """Queue records that were counted as accepted; ``reserved_bytes`` of the limit are others'."""
        with self._changed.lock:
            if self._closing:
                self.stats.dropped("shutdown", len(records))
                return
            for record in records:
                payload_dropped, evicted = self._queue.put(record, reserved_bytes)
                if payload_dropped:
                    self.stats.payload_dropped()
                if evicted:
                    self.stats.dropped("queue_full", evicted)
            self._changed.notify_all()

    def wake(self) -> None:
        """There is more in the spool."""
        with self._changed.lock:
            self._changed.notify_all()

    def wait_for_capacity(self) -> None:
        """Let a store get on that writes, if much waits for it; not one that is down, or hangs."""
        with self._changed.lock:
            self._changed.wait_for(self._has_capacity, _CAPACITY_WAIT_SECONDS)

    def start(self) -> None:
        """Have a thread, early: at the end of the program none can be started. Does not wait for who is doing so."""
        if self._thread is not None or not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None and not self._closing:
                self._thread = Thread(self._run, f"llmspan-{self.backend.name}")
        finally:
            self._starting.release()

    def request_flush(self, deadline: float, *, is_final: bool = False) -> FlushRequest:
        """Ask for all that was put so far to be written, until ``deadline`` (``monotonic``)."""
        with self._changed.lock:
            end = self.backlog.end() if self.backlog is not None else None
            request = FlushRequest(deadline, self._queue.last, end, is_final=is_final)
            if self._thread is None or self._has_ended:
                request.answer(ok=self._is_done(request))
            else:
                self._flush_requests.append(request)
                self._changed.notify_all()
            return request

    def stop(self) -> None:
        """Take nothing more. What waits in memory is dropped, and counted; what is in the spool stays there."""
        with self._changed.lock:
            self._closing = True
            self.stats.dropped("shutdown", self._queue.clear())
            self._changed.notify_all()

    def join(self, deadline: float) -> bool:
        """Wait for the thread, whose last act is to close the backend; whether it has ended."""
        self.report(final=True)
        if self._thread is None:
            exception_of(self.backend.shutdown)
            return True
        return self._thread.join(remaining(deadline))

    def status(self) -> BackendStatus:
        """The counters now."""
        status = self.stats.snapshot(self.backend.name, self.backend.location, self._backoff.state)
        heads = [item for item in (self._batch_head, self._queue.head) if item is not None]
        if heads:
            status = replace(status, waiting_since=min(item.started_at + item.duration_ns for item in heads))
        since = self._writing_since
        running = 0.0 if since is None else monotonic() - since
        if running <= _HANG_FACTOR * self._settings.write_timeout:
            return status
        return replace(status, breaker="open", last_error=f"a write has not returned for {running:.0f} s")

    def report_failure(self, error: BaseException) -> None:
        """Say why nothing can be written now, not more than once a minute."""
        message = "llmspan: %s cannot be written now, will be tried again: %s"
        self._log.warning("retry", message, self.backend.name, error)

    def report(self, *, final: bool = False) -> None:
        """Log what was dropped since the last time, at most once a minute; at once if ``final``."""
        if self.stats.has_losses:
            self._log.report_losses(self.backend.name, self.stats.losses(), final=final)

    def after_fork(self) -> None:
        """In a forked child: what was queued is the parent's to write; start with nothing, and with own locks."""
        self.backlog = None
        self._reset()

    # -- the worker -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, value=True))
        with cooperative(self._is_urgent):
            while not self._closing:
                error = exception_of(self._step)
                if error is not None:
                    report_internal_error("pipeline.delivery", error)
                    self._sleep(1.0)
        exception_of(self.backend.shutdown)
        self._answer_all()

    def _is_urgent(self) -> bool:
        """Whether a caller waits for what is written now, or the queue behind it is long."""
        return self._closing or bool(self._flush_requests) or self._queue.is_filling()

    def _step(self) -> None:
        """Wait for something to do, and do it: a batch, or an answer to those who wait for an earlier one."""
        with self._changed.lock:
            self._changed.wait_for(self._has_work, self._status_file.delay())
            batch = [] if self._closing else self._queue.take()
        finished = 0
        try:
            if batch:
                finished = self._write(batch, "queued")
            elif not self._closing and self.backlog is not None and not self.backlog.is_empty():
                self._write_spooled(self.backlog)
                self._batch_head = None  # else the file would say that it still waits
                guarded("pipeline.status", self._status_file.update)
        finally:
            self._batch_head = None
            if finished < len(batch):
                self.stats.dropped("shutdown" if self._closing else "internal_error", len(batch) - finished)
            with self._changed.lock:
                self._queue.settle()
                self._changed.notify_all()
        if self._flush_requests:
            self._answer_requests()
        self.report()
        guarded("pipeline.status", self._status_file.update if finished else self._status_file.write_pending)

    def _has_work(self) -> bool:
        if self._closing or len(self._queue) or any(map(self._is_done, self._flush_requests)):
            return True
        return self.backlog is not None and not self.backlog.is_empty()

    def _has_capacity(self) -> bool:
        since = self._writing_since
        hangs = since is not None and monotonic() - since > _CAPACITY_WAIT_SECONDS
        return hangs or self._closing or self._backoff.is_failing or not self._queue.is_filling()

    def _write_spooled(self, backlog: Backlog) -> None:
        batch = backlog.take()
        self._dead_letters.look_for([record.id for record in batch] if backlog.is_replay else [])
        if self._write(batch, "spooled") == len(batch):
            guarded("pipeline.dead_letters", self._dead_letters.sync)
            backlog.settle()

    def _write(self, batch: Sequence[StoredItem], location: Location) -> int:
        """Write ``batch``, or what of it can be written; how many records are settled: all, unless we are closing."""
        while batch:
            self._batch_head = batch[0]
            self._backoff.on_attempt()
            error = self._attempt(batch)
            if error is None:
                self._backoff.on_answer()
                self.stats.delivered(len(batch), location)
                return len(batch)
            # The spool is one log for all backends, and a sidecar says only in its greeting whether it takes spans.
            if isinstance(error, _SpansNotKeptError):
                spans = sum(isinstance(item, SpanRecord) for item in batch)
                if isinstance(error, _SpansRefusedError):
                    self.stats.dropped("rejected", spans, location)
                    self._log.error(
                        "llmspan: %s refused %d spans, which are dropped: %s", self.backend.name, spans, error
                    )
                else:
                    self.stats.skipped(spans, location)
                self.stats.delivered(len(batch) - spans, location)
                return len(batch)
            self.stats.failed(error)
            if is_retryable(error):
                pause = self._backoff.next_delay(error)
                self.report_failure(error)
                guarded("pipeline.status", self._status_file.update)
                if not self._wait_before_retry(pause):
                    return 0
                continue
            self._backoff.on_answer()
            if len(batch) == 1:
                self._dead_letter(batch[0], error, location)
                return 1
            middle = len(batch) // 2
            finished = self._write(batch[:middle], location)
            return finished + self._write(batch[middle:], location) if finished == middle else finished
        return 0

    def _attempt(self, batch: Sequence[StoredItem]) -> BaseException | None:
        self._writing_since = monotonic()
        try:
            error = exception_of(self.backend.open)
            return exception_of(self._write_items, batch) if error is None else retryable_open_error(error)
        finally:
            self._writing_since = None

    def _write_items(self, batch: Sequence[StoredItem]) -> None:
        """Records first: where they are written and the spans are not, the batch comes again, and changes nothing."""
        spans = [item for item in batch if isinstance(item, SpanRecord)]
        records = [item for item in batch if isinstance(item, ProviderTrace)] if spans else batch
        if records:
            self.backend.write(records)  # pyright: ignore[reportArgumentType] - no spans are among them
        if not spans:
            return
        if not self.keeps_spans or not isinstance(self.backend, SupportsSpanWrites):
            raise _SpansNotKeptError
        error = exception_of(self.backend.write_spans, spans)
        # A right that is missing on the table of spans must not hold up the records, which are written. Where the whole
        # store refuses us, as after a change of its password, the spans wait with the records.
        if isinstance(error, SettingsError | SchemaError) and exception_of(self.backend.check) is None:
            raise _SpansRefusedError(str(error)) from error
        if error is not None:
            raise error

    def _dead_letter(self, record: StoredItem, error: BaseException, location: Location) -> None:
        name = self.backend.name
        failure = self._dead_letters.store(record, name, error)
        if failure is None:
            self.stats.dead_lettered(location)
            message = "llmspan: %s refused record %s, which is kept in %s: %s"
            self._log.error(message, name, record.id, self._dead_letters.path, error)
        else:
            self.stats.dropped("rejected", location=location)
            message = (
                "llmspan: %s refused record %s, which is dropped because it cannot be saved as a dead letter (%s): %s"
            )
            self._log.error(message, name, record.id, failure, error)

    def _wait_before_retry(self, pause: float) -> bool:
        """Wait before the next try, shorter while a caller waits in ``flush``. False when closing."""
        started = monotonic()
        with self._changed.lock:
            self._fail_final_requests()
            while not self._closing:
                delay = self._backoff.shortened_for_flush(pause) if self._is_flush_pending() else pause
                seconds = started + delay - monotonic()
                if seconds <= 0:
                    return True
                self._changed.wait(seconds)
            return False

    def _sleep(self, pause: float) -> None:
        with self._changed.lock:
            self._changed.wait_for(lambda: self._closing, pause)

    # -- those who wait -------------------------------------------------------------------------------------------

    def _is_done(self, request: FlushRequest) -> bool:
        return self._queue.is_done(request.position) and (self.backlog is None or self.backlog.is_past(request.end))

    def _is_flush_pending(self) -> bool:
        """Whether a caller still waits; those whose time is over are removed."""
        now = monotonic()
        self._flush_requests = [ask for ask in self._flush_requests if ask.deadline > now]
        return bool(self._flush_requests)

    def _answer_requests(self) -> None:
        with self._changed.lock:
            finished = [request for request in self._flush_requests if self._is_done(request)]
            self._flush_requests = [ask for ask in self._flush_requests if ask not in finished]
        for ask in finished:
            flushed: list[bool] = []
            exception_of(lambda: flushed.append(self.backend.force_flush(remaining(ask.deadline))))  # noqa: B023 - called at once
            if ask.is_final:  # at once, not when others are done too: the backend is to be closed in time
                self.stop()
            ask.answer(ok=flushed == [True])

    def _fail_final_requests(self) -> None:
        """Do not hold up the end of the program for a store that is down if all that waits for it is on disk."""
        if self._backoff.state == "closed" or not self._queue.is_done(self._queue.last):
            return
        for request in [ask for ask in self._flush_requests if ask.is_final]:
            self._flush_requests.remove(request)
            request.answer(ok=False)

    def _answer_all(self) -> None:
        with self._changed.lock:
            requests, self._flush_requests = self._flush_requests, []
            self._has_ended = True  # whoever asks from now on is answered at once
        for request in requests:
            request.answer(ok=self._is_done(request))


def remaining(deadline: float) -> float:
    """The seconds until ``deadline`` (``monotonic``), not below zero."""
    return max(0.0, deadline - monotonic())
