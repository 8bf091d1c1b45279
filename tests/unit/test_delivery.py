"""Several backends side by side: what befalls one is its own, and nobody waits for it beyond his deadline."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from llmspan._clock import monotonic
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.errors import PermanentError, RetryableError, SettingsError
from llmspan.pipeline.queue import Queue, size_of
from llmspan.trace import ProviderTrace
from polling import until
from records import make_trace
from scripted import Ready, Scripted, identity_holds, ids_in, pipeline_to, raising, submit, waiting


def test_one_refuses_one_hangs_one_is_well(tmp_path: Path) -> None:
    """The healthy store gets everything at once, callers go on, and after recovery all three hold the same records."""
    gate, stuck = threading.Event(), threading.Event()
    is_up = threading.Event()

    class Refusing(Scripted):
        def open(self) -> None:
            if not is_up.is_set():
                raise RetryableError("connection refused")

    healthy = SQLiteBackend(tmp_path / "traces.db")
    refusing, hanging = Refusing(place="refusing"), Scripted(waiting(gate, stuck), place="hanging")
    pipeline = pipeline_to(refusing, hanging)
    assert pipeline.add(healthy)
    ids = submit(pipeline, 1)
    assert stuck.wait(30)
    ids += submit(pipeline, 500)
    until(lambda: pipeline.status()[2].delivered == 501)
    first, second, third = pipeline.status()
    assert (first.delivered, second.delivered) == (0, 0)
    assert (third.queued, third.dropped, third.failed_writes) == (0, {}, 0)
    assert all(identity_holds(status) for status in (first, second, third))
    gate.set()
    is_up.set()
    assert pipeline.flush(30)
    stored = {trace.id for trace in healthy.list(limit=1000).traces}
    assert ids_in(refusing) == ids_in(hanging) == stored == set(ids)
    assert pipeline.close(30)


def test_a_hanging_write_does_not_hold_up_the_end() -> None:
    """``close`` returns at its deadline, though the write has not; the other store is closed and whole."""
    gate, stuck = threading.Event(), threading.Event()
    hanging, healthy = Scripted(waiting(gate, stuck), place="hanging"), Scripted(place="healthy")
    pipeline = pipeline_to(hanging, healthy)
    ids = submit(pipeline, 1)
    assert stuck.wait(30)
    assert not pipeline.close(0.2)
    assert not gate.is_set()
    assert not hanging.closed
    assert healthy.closed
    assert ids_in(healthy) == set(ids)
    assert all(identity_holds(status) for status in pipeline.status())
    gate.set()


def test_a_hanging_shutdown_does_not_hold_up_the_end() -> None:
    """A backend whose ``shutdown`` never returns costs the deadline, not more."""
    gate = threading.Event()

    class Stuck(Scripted):
        def shutdown(self) -> None:
            gate.wait(30)

    pipeline = pipeline_to(Stuck())
    submit(pipeline, 1)
    assert not pipeline.close(0.2)
    assert not gate.is_set()
    assert pipeline.status()[0].delivered == 1
    gate.set()


def test_a_flush_asks_the_backend_too() -> None:
    """After all was written the backend is asked whether it is safe, for no longer than there is time; it decides."""
    asked: list[tuple[int, bool]] = []
    answers = [False, True]

    class Late(Scripted):
        def force_flush(self, timeout: float) -> bool:
            asked.append((len(ids_in(self)), 0 < timeout <= 30))
            return answers.pop(0)

    pipeline = pipeline_to(Late())
    submit(pipeline, 3)
    assert not pipeline.flush(30)
    assert pipeline.flush(30)
    assert asked == [(3, True), (3, True)]


def test_a_flush_that_hangs_in_the_backend_has_a_deadline() -> None:
    """A backend that ignores the time it was given does not hold up the one who flushes."""
    gate = threading.Event()

    class Stuck(Scripted):
        def force_flush(self, timeout: float) -> bool:
            return gate.wait(30)

    pipeline = pipeline_to(Stuck())
    submit(pipeline, 1)
    assert not pipeline.flush(0.2)
    assert not gate.is_set()
    gate.set()
    assert pipeline.flush(30)


def test_a_flush_waits_for_what_was_there_only() -> None:
    """Records that come after the flush was asked for do not prolong it."""
    first, second = threading.Event(), threading.Event()
    begun, stuck = threading.Event(), threading.Event()
    pipeline = pipeline_to(Scripted(waiting(first, begun), waiting(second, stuck)))
    submit(pipeline, 1)
    assert begun.wait(30)
    flushed: list[bool] = []
    flushing = threading.Thread(target=lambda: flushed.append(pipeline.flush(30)))
    flushing.start()
    until(lambda: pipeline._workers[0]._flush_requests)
    submit(pipeline, 1)
    first.set()
    assert stuck.wait(30)  # the later record is being written, and would be for ever
    flushing.join(30)
    assert flushed == [True]
    assert not second.is_set()
    second.set()
    assert pipeline.flush(30)


def test_the_breaker_is_in_the_status() -> None:
    """A store that keeps refusing shows as open, with its error; when it is back, as closed."""
    is_up = threading.Event()

    class Away(Scripted):
        def open(self) -> None:
            if not is_up.is_set():
                raise SettingsError("no such database")

    pipeline = pipeline_to(Away())
    ids = submit(pipeline, 2)
    until(lambda: pipeline.status()[0].breaker == "open")
    (status,) = pipeline.status()
    assert status.last_error == "SettingsError: no such database"
    assert (status.queued, status.failed_writes > 0) == (2, True)
    is_up.set()
    assert pipeline.flush(30)
    (status,) = pipeline.status()
    assert (status.delivered, status.breaker) == (len(ids), "closed")


def test_a_hanging_write_is_in_the_status() -> None:
    """A write that goes on for much longer than it may shows as an open breaker."""
    gate, stuck = threading.Event(), threading.Event()
    pipeline = pipeline_to(Scripted(waiting(gate, stuck)), write_timeout=0.0)
    submit(pipeline, 1)
    assert stuck.wait(30)
    (status,) = pipeline.status()
    assert status.breaker == "open"
    assert "has not returned" in (status.last_error or "")
    gate.set()
    assert pipeline.flush(30)
    assert pipeline.status()[0].breaker == "closed"


def test_what_cannot_be_kept_either_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A record that neither the store nor the dead-letter file takes is dropped, named and counted."""
    (tmp_path / "file").write_text("")
    pipeline = pipeline_to(Scripted(raising(PermanentError("no"))), dead_letter_dir=tmp_path / "file")
    (id_,) = submit(pipeline, 1)
    assert pipeline.flush(30)
    (status,) = pipeline.status()
    assert (status.dead_lettered, status.dropped) == (0, {"rejected": 1})
    assert any(id_ in message for message in caplog.messages)


def test_what_comes_during_the_end_is_counted() -> None:
    """Records that are taken while the pipeline closes are delivered or dropped, never forgotten."""
    backend = Scripted()
    pipeline = pipeline_to(backend)
    stop = threading.Event()
    taken: list[str] = []

    def call() -> None:
        while not stop.is_set():
            taken.extend(submit(pipeline, 1))

    thread = threading.Thread(target=call)
    thread.start()
    until(lambda: len(taken) > 50)
    pipeline.close(30)
    stop.set()
    thread.join(30)
    pipeline.flush(30)
    (status,) = pipeline.status()
    assert status.delivered == len(ids_in(backend))
    assert identity_holds(status)


def test_no_caller_waits_for_io() -> None:
    """While every backend is stuck in each of its methods, callers are not: the gate opens only after they are done."""
    for method in ("open", "write", "force_flush", "shutdown"):
        gate, stuck = threading.Event(), threading.Event()
        backend = Scripted()

        def hang(*_: object, gate: threading.Event = gate, stuck: threading.Event = stuck) -> bool:
            stuck.set()
            return gate.wait(60)

        setattr(backend, method, hang)
        pipeline = pipeline_to(backend, queue_max_items=5, queue_max_bytes=100_000)
        submit(pipeline, 1)
        if method in ("force_flush", "shutdown"):
            (pipeline.flush if method == "force_flush" else pipeline.close)(0.05)
        assert stuck.wait(30)
        submit(pipeline, 20)
        pipeline.submit(Ready(make_trace(), size=64 * 1024 * 1024))
        pipeline.defer(lambda: None)
        pipeline.ensure_started()
        assert all(identity_holds(status) for status in pipeline.status())
        assert not gate.is_set()
        gate.set()


def test_a_batch_is_tried_again_as_it_was() -> None:
    """What came in the meantime does not change a batch that failed: a store that had it already can tell."""
    seen: list[list[str]] = []

    class Noting(Scripted):
        def write(self, traces: Sequence[ProviderTrace]) -> None:
            seen.append([trace.id for trace in traces])
            if len(seen) < 3:
                submit(pipeline, 2)
                raise RetryableError("executed, and then the connection was reset")
            super().write(traces)

    pipeline = pipeline_to(Noting())
    ids = submit(pipeline, 1)
    assert pipeline.flush(30)
    assert seen[0] == seen[1] == seen[2] == ids


@pytest.mark.parametrize("refusals", [1, 2])
def test_halves_are_left_alone_at_the_end(refusals: int) -> None:
    """If the end comes while a part of a refused batch waits for its next try, the store is asked for no other part."""
    gate, stuck = threading.Event(), threading.Event()

    def end(_: Sequence[ProviderTrace]) -> None:
        pipeline._workers[0].stop()
        raise RetryableError("connection refused")

    refused = raising(PermanentError("cannot hold one of these"))
    backend = Scripted(waiting(gate, stuck), *[refused] * refusals, end)
    pipeline = pipeline_to(backend)
    submit(pipeline, 1)
    assert stuck.wait(30)
    submit(pipeline, 8)
    until(lambda: len(pipeline._workers[0]._queue) == 8)
    gate.set()
    assert pipeline.close(30)
    (status,) = pipeline.status()
    assert backend.batches == [1, 8, 4, 2][: refusals + 2]
    assert (status.delivered, status.dropped) == (1, {"shutdown": 8})
    assert identity_holds(status)


def test_a_position_is_done_when_all_before_it_is() -> None:
    """Records dropped from a full queue do not make a batch look written that is still being written."""
    queue = Queue(max_bytes=1 << 30, max_items=10)
    for _ in range(5):
        queue.put(make_trace())
    assert len(queue.take()) == 5
    assert not queue.is_done(5)
    for _ in range(40):
        queue.put(make_trace())
    assert len(queue) == 10
    assert not queue.is_done(5)
    queue.settle()
    assert queue.is_done(35)
    assert not queue.is_done(36)


def test_others_bytes_are_part_of_the_limit() -> None:
    """A payload that fits alone is given up when others hold the memory already; a record without has none to give."""
    trace = make_trace(request_json='"' + "x" * 50_000 + '"')
    queue = Queue(max_bytes=100_000, max_items=10)
    assert queue.put(trace) == (False, 0)
    assert queue.put(trace, reserved_bytes=60_000) == (True, 0)
    assert queue.put(make_trace(request_json=None, response_json=None), reserved_bytes=100_000) == (False, 0)
    assert queue.bytes == size_of(trace) + 2 * 2048


def test_flush_after_the_end_is_answered_at_once() -> None:
    """A worker whose thread has ended answers: nobody waits for it until the deadline."""
    pipeline = pipeline_to(Scripted())
    submit(pipeline, 1)
    assert pipeline.flush(30)
    (worker,) = pipeline._workers
    worker.stop()
    assert worker.join(monotonic() + 30)
    assert worker.request_flush(monotonic() + 3600).wait()
