"""The way from finished calls to stores: bounded, counted, isolated; nothing is lost without a count."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from llmspan import _guard
from llmspan.errors import PermanentError, RetryableError, ThrottledError
from llmspan.pipeline import Pipeline
from llmspan.pipeline.backend_worker import BackendWorker
from llmspan.trace import ProviderTrace
from polling import until
from records import make_trace
from scripted import Ready, Scripted, identity_holds, ids_in, only, pipeline_to, raising, submit, waiting


def test_everything_accepted_is_delivered() -> None:
    """A flush returns when all records are in all stores."""
    one, two = Scripted(place="one"), Scripted(place="two")
    pipeline = pipeline_to(one, two)
    ids = submit(pipeline, 2500)
    assert pipeline.flush(30)
    assert ids_in(one) == ids_in(two) == set(ids)
    assert [(s.accepted, s.delivered, s.queued, s.dropped) for s in pipeline.status()] == [(2500, 2500, 0, {})] * 2


def test_the_same_place_twice_is_one() -> None:
    """Named by setting and by exporter, a store gets each record once."""
    pipeline = pipeline_to(Scripted(place="same"))
    assert not pipeline.add(Scripted(place="same"))
    assert len(pipeline.backends) == 1


@pytest.mark.parametrize("error", [RetryableError("away"), ThrottledError("slow down", 0.0)])
@pytest.mark.peer_fault("K2")
def test_what_can_be_retried_is_retried(error: Exception) -> None:
    """A batch that failed for now is written in the end, once, and the failure is told."""
    backend = Scripted(raising(error), raising(error))
    pipeline = pipeline_to(backend)
    ids = submit(pipeline, 3)
    assert pipeline.flush(30)
    (status,) = pipeline.status()
    assert ids_in(backend) == set(ids)
    assert (status.delivered, status.dropped) == (3, {})
    assert status.last_error is not None
    assert str(error) in status.last_error


def test_one_bad_record_does_not_take_its_batch_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """A batch that can never be written is halved until the poison is alone; it is named, and only it is set aside."""
    gate, reached = threading.Event(), threading.Event()
    poison = make_trace()

    class Picky(Scripted):
        def write(self, traces: Sequence[ProviderTrace]) -> None:
            if any(trace.id == poison.id for trace in traces):
                raise PermanentError("cannot hold this")
            super().write(traces)

    backend = Picky(waiting(gate, reached))
    pipeline = pipeline_to(backend)
    ids = submit(pipeline, 1)
    assert reached.wait(30)
    ids += submit(pipeline, 20)
    pipeline.submit(Ready(poison))
    ids += submit(pipeline, 20)
    gate.set()
    assert pipeline.flush(30)
    (status,) = pipeline.status()
    assert ids_in(backend) == set(ids)
    assert (status.delivered, status.dropped, status.dead_lettered) == (41, {}, 1)
    assert sum(poison.id in message for message in caplog.messages) == 1


def test_a_defect_of_a_backend_is_its_own() -> None:
    """A backend that raises what it should not gets none of its records, which are kept; the other gets all."""
    broken = Scripted(*[raising(ZeroDivisionError("a defect"))] * 1000, place="broken")
    healthy = Scripted(place="healthy")
    pipeline = pipeline_to(broken, healthy)
    ids = submit(pipeline, 10)
    assert pipeline.flush(30)
    assert ids_in(healthy) == set(ids)
    first, second = pipeline.status()
    assert (first.delivered, first.dropped, first.dead_lettered) == (0, {}, 10)
    assert second.delivered == 10


def test_a_hanging_backend_does_not_hold_up_another() -> None:
    """One queue and one thread a backend: what hangs, hangs alone."""
    gate = threading.Event()
    hanging, healthy = Scripted(waiting(gate), place="hanging"), Scripted(place="healthy")
    delivered = threading.Event()
    pipeline = pipeline_to(hanging, healthy)
    healthy.script = [lambda _: delivered.set()]
    ids = submit(pipeline, 1)
    assert delivered.wait(30)
    assert not pipeline.flush(0.01)  # the other one is not done
    assert all(identity_holds(status) for status in pipeline.status())
    gate.set()
    assert pipeline.flush(30)
    assert ids_in(hanging) == ids_in(healthy) == set(ids)


@pytest.mark.peer_fault("U12", "K1")
def test_the_queue_is_bounded_in_items() -> None:
    """Beyond the limit the oldest records go, and are counted."""
    gate, reached = threading.Event(), threading.Event()
    backend = Scripted(waiting(gate, reached))
    pipeline = pipeline_to(backend, queue_max_items=10)
    first = submit(pipeline, 1)
    assert reached.wait(30)
    late = submit(pipeline, 50)
    (status,) = pipeline.status()
    gate.set()
    assert pipeline.flush(30)
    (status,) = pipeline.status()
    assert status.dropped == {"queue_full": 40}
    assert status.delivered == 11
    assert ids_in(backend) == set(first) | set(late[-10:])


def test_out_of_bytes_payloads_go_first() -> None:
    """Beyond the limit in bytes, records and their usage stay; their payloads go, and are counted."""
    gate, reached = threading.Event(), threading.Event()
    backend = Scripted(waiting(gate, reached))
    pipeline = pipeline_to(backend, queue_max_bytes=200_000)
    submit(pipeline, 1)
    assert reached.wait(30)
    ids = submit(pipeline, 20, request_json='"' + "x" * 50_000 + '"', response_json="{}", content="full")
    gate.set()
    assert pipeline.flush(30)
    (status,) = pipeline.status()
    kept = [backend.get(id_) for id_ in ids]
    whole = [trace for trace in kept if trace is not None and trace.content == "full"]
    cut = [trace for trace in kept if trace is not None and trace.content == "truncated"]
    assert len(whole) + len(cut) == 20
    assert 0 < len(whole) < 20
    assert all(trace.request_json is None for trace in cut)
    assert (status.without_payload, status.dropped) == (len(cut), {})


def test_the_inbox_sheds_payloads_too() -> None:
    """What does not fit the inbox lets go of its bytes on the spot."""
    pipeline = pipeline_to(Scripted(), queue_max_bytes=10_000)
    small, big = Ready(make_trace()), Ready(make_trace(), size=50_000)
    pipeline.submit(small)
    pipeline.submit(big)
    assert pipeline.flush(30)
    assert (small.is_payload_dropped, big.is_payload_dropped) == (False, True)
    assert pipeline.status()[0].without_payload == 1


class Broken(Ready):
    """A pending record whose functions raise; ``build`` no more once the payload is dropped, if that helps."""

    def __init__(self, error: type[BaseException], *names: str, is_helped: bool = False) -> None:
        super().__init__(make_trace())
        self.error, self.names, self.is_helped = error, names, is_helped

    def _maybe_raise(self, name: str) -> None:
        if name in self.names and not (self.is_helped and self.is_payload_dropped):
            raise self.error("a defect")

    def build(self) -> ProviderTrace:
        self._maybe_raise("build")
        return super().build()

    def publish(self, record: ProviderTrace) -> None:
        self._maybe_raise("publish")

    def drop_payload(self) -> None:
        super().drop_payload()
        self._maybe_raise("drop_payload")


#: what a function of the program may raise on the worker: a panic of a Rust library is no ``Exception``
ERRORS = (RuntimeError, SystemExit, KeyboardInterrupt, GeneratorExit, BaseException)


@pytest.fixture
def no_failures() -> Iterator[None]:
    _guard.reset_error_counts()
    yield
    _guard.reset_error_counts()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.usefixtures("no_failures")
def test_a_record_that_cannot_be_made_is_counted(error: type[BaseException]) -> None:
    """A defect while a record is made costs that record, nothing else; what it took in the inbox is free again."""
    backend = Scripted()
    pipeline = pipeline_to(backend)
    pipeline.submit(Broken(error, "build", "drop_payload"))
    ids = submit(pipeline, 1)
    assert pipeline.flush(30)
    assert ids_in(backend) == set(ids)
    assert only(pipeline).dropped == {"internal_error": 1}
    assert pipeline.sizes()["memory"] == 0
    assert _guard.failures() == {"pipeline.build": 2, "pipeline.shed": 1}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.usefixtures("no_failures")
def test_a_record_whose_payload_cannot_be_made_is_kept(error: type[BaseException]) -> None:
    """It is tried again without the payload: what reads or redacts that may fail where the rest does not."""
    backend = Scripted()
    pipeline = pipeline_to(backend)
    broken = Broken(error, "build", is_helped=True)
    pipeline.submit(broken)
    unpublished = Broken(error, "publish")
    pipeline.submit(unpublished)
    assert pipeline.flush(30)
    assert ids_in(backend) == {broken.trace.id, unpublished.trace.id}
    assert only(pipeline).dropped == {}
    assert _guard.failures() == {"pipeline.build": 1, "pipeline.publish": 1}


@pytest.mark.peer_fault("K3")
def test_close_has_a_deadline_and_counts_what_is_left() -> None:
    """A dead backend does not hold up the end: what could not be written is dropped, and counted."""
    gate = threading.Event()
    backend = Scripted(waiting(gate))
    pipeline = pipeline_to(backend)
    submit(pipeline, 5)
    assert not pipeline.close(0.05)
    (status,) = pipeline.status()
    assert status.accepted == 5
    assert identity_holds(status)
    assert sum(status.dropped.values()) + status.queued == 5
    gate.set()


def test_close_closes_the_backends() -> None:
    """After a clean close every backend is closed, and everything is in it."""
    backend = Scripted()
    pipeline = pipeline_to(backend)
    ids = submit(pipeline, 7)
    assert pipeline.close(30)
    assert backend.closed
    assert ids_in(backend) == set(ids)
    assert pipeline.status()[0].delivered == 7


def test_late_ends_are_part_of_a_flush() -> None:
    """What a finaliser handed over is worked on before a flush returns."""
    backend = Scripted()
    pipeline = pipeline_to(backend)
    trace = make_trace()
    pipeline.ensure_started()
    pipeline.defer(lambda: pipeline.submit(Ready(trace)))
    assert pipeline.flush(30)
    assert ids_in(backend) == {trace.id}


def test_a_forked_child_starts_empty() -> None:
    """The parent's queue stays the parent's; the child's own records are written by the child, once."""
    gate, reached = threading.Event(), threading.Event()
    backend = Scripted(waiting(gate, reached))
    pipeline = pipeline_to(backend)
    submit(pipeline, 1)
    assert reached.wait(30)
    submit(pipeline, 4)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # no assertion may escape into pytest's copy
        status = pipeline.status()[0]
        before = (status.accepted, status.queued)
        backend.script = []
        ids = submit(pipeline, 2)
        flushed = pipeline.flush(30)
        ours = set(ids) <= ids_in(backend)
        os.write(write, repr((before, flushed, ours, pipeline.status()[0].delivered)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1000).decode() == repr(((0, 0), True, True, 2))
    os.close(read)
    os.close(write)
    gate.set()
    assert pipeline.flush(30)
    assert pipeline.status()[0].delivered == 5


def test_a_worker_survives_anything() -> None:
    """A ``CancelledError`` or ``SystemExit`` that a backend lets out costs its record, not the thread."""
    backend = Scripted(raising(asyncio.CancelledError()), raising(SystemExit(1)))  # type: ignore[arg-type]
    pipeline = pipeline_to(backend)
    for _ in range(2):
        submit(pipeline, 1)
        assert pipeline.flush(30)
    ids = submit(pipeline, 3)
    assert pipeline.flush(30)
    assert ids_in(backend) == set(ids)
    assert pipeline.status()[0].dead_lettered == 2


def test_what_a_late_end_brings_goes_on_before_the_next() -> None:
    """A batch's results come by thousands: they do not push each other out of an inbox for ten."""
    backend = Scripted()
    pipeline = pipeline_to(backend, queue_max_items=10)
    pipeline.ensure_started()
    for _ in range(50):
        pipeline.defer(lambda: submit(pipeline, 5))
    assert pipeline.flush(30)
    (status,) = pipeline.status()
    assert (status.accepted, status.delivered, status.dropped) == (250, 250, {})


def test_a_store_that_hangs_is_not_waited_for() -> None:
    """What late ends bring waits for a store that writes, and not long for one that does not."""
    gate, good = threading.Event(), Scripted(place="good")
    pipeline = pipeline_to(Scripted(waiting(gate)), good, queue_max_items=20)
    pipeline.ensure_started()
    for _ in range(60):
        pipeline.defer(lambda: submit(pipeline, 2))
    until(lambda: pipeline.status()[1].delivered == 120)
    hanging, _ = pipeline.status()
    assert identity_holds(hanging)
    assert hanging.dropped["queue_full"] >= 60
    gate.set()
    assert pipeline.flush(30)


def test_a_thread_that_could_not_be_started_is_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system was out of threads for a moment."""
    _guard.reset_error_counts()
    backend = Scripted()
    pipeline = pipeline_to(backend)
    real, refused = BackendWorker.start, threading.Event()

    def start(delivery: BackendWorker) -> None:
        if not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        real(delivery)

    monkeypatch.setattr(BackendWorker, "start", start)
    ids = submit(pipeline, 3)
    assert pipeline.flush(30)
    assert ids_in(backend) == set(ids)
    assert _guard.failures() == {"pipeline.start": 1}
    _guard.reset_error_counts()


def test_an_error_that_cannot_say_what_it_is() -> None:
    """A refusal whose text cannot be made costs its record, no other, and no count."""

    class SpeechlessError(PermanentError):
        def __str__(self) -> str:
            raise ValueError("no text")

    bad: list[str] = []

    def refuse(traces: Sequence[ProviderTrace]) -> None:
        bad[:] = bad or [traces[0].id]
        if bad[0] in [trace.id for trace in traces]:
            raise SpeechlessError

    backend = Scripted(*[refuse] * 20)
    pipeline = pipeline_to(backend)
    ids = submit(pipeline, 8)
    assert pipeline.flush(30)
    (status,) = pipeline.status()
    assert identity_holds(status)
    assert (status.delivered, status.dead_lettered, status.last_error) == (7, 1, "SpeechlessError")
    assert ids_in(backend) == set(ids) - set(bad)


def test_a_defect_of_the_worker_costs_one_record_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits behind it goes on by itself: nobody has to call again."""
    _guard.reset_error_counts()
    backend, gate = Scripted(), threading.Event()
    pipeline = pipeline_to(backend)
    real = Pipeline._build_record

    def failing(pipeline: Pipeline, taken: Any) -> None:
        gate.wait(30)
        if taken.pending.trace.id in bad:
            raise RuntimeError("broken for a test")
        real(pipeline, taken)

    bad: list[str] = []
    monkeypatch.setattr(Pipeline, "_build_record", failing)
    ids = submit(pipeline, 6)
    bad += ids[:3]
    gate.set()
    until(lambda: ids_in(backend) == set(ids[3:]))
    assert _guard.failures() == {"pipeline.worker": 3}
    _guard.reset_error_counts()


def test_a_store_that_is_down_is_not_waited_for() -> None:
    """From its first failure on, not only when its breaker is open."""
    backend = Scripted(*[raising(RetryableError("away"))] * 100)
    pipeline = pipeline_to(backend, queue_max_items=4)
    submit(pipeline, 1)
    until(lambda: pipeline.status()[0].failed_writes == 1)
    submit(pipeline, 4)
    assert pipeline.wait_until_spooled(30)
    (delivery,) = pipeline._workers
    assert delivery._queue.is_filling()
    assert delivery._has_capacity()
    pipeline.close(0)
