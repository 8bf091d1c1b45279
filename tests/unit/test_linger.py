"""The pipeline's worker takes calls together: it is woken by the first, and by none of those that follow soon."""

from __future__ import annotations

import threading

import pytest

from llmspan.pipeline import wake_signal
from llmspan.pipeline.wake_signal import WakeSignal
from llmspan.settings import Settings
from polling import until
from scripted import Scripted, identity_holds, ids_in, pipeline_to, submit

#: seconds that no test waits for: what is to end a linger of this length has to end it itself
_LONG = 60.0
#: what comes in the time of a linger at a hundred calls a second
_CALLS = int(100 * Settings().linger)


class _Signals:
    """A queue of wake-up signals that notes them, and the time that each wait was given; no wait takes any time."""

    def __init__(self) -> None:
        self.puts = 0
        self.waits: list[float | None] = []

    def empty(self) -> bool:
        return True

    def put(self, item: None) -> None:
        self.puts += 1

    def get(self, timeout: float | None = None) -> None:
        self.waits.append(timeout)
        if timeout is not None:
            raise wake_signal.Empty


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> _Signals:
    made = _Signals()
    monkeypatch.setattr(wake_signal, "SimpleQueue", lambda: made)
    return made


def test_calls_that_follow_soon_wake_nobody() -> None:
    """The worker is woken by the first call of two hundred, and takes the others by itself."""
    first = threading.Event()
    backend = Scripted(lambda _: first.set())
    pipeline = pipeline_to(backend, linger=_LONG)
    ids = submit(pipeline, 1)
    assert first.wait(30)  # which was written at once
    until(lambda: pipeline._wake_signal.lingers)
    signals = pipeline._wake_signal._signals
    ids += submit(pipeline, _CALLS)
    assert signals.empty()
    assert pipeline.flush(30)
    assert backend.batches == [1, _CALLS]
    assert ids_in(backend) == set(ids)


def test_default_linger_makes_batches() -> None:
    """At a hundred calls a second, ten records and more share a transaction, and none waits for half a second."""
    assert _CALLS >= 10
    assert Settings().linger <= 0.25  # building and writing have as long again


def test_records_are_written_without_a_flush() -> None:
    """What came while the worker lingered is written when that is over, with nobody asking for it."""
    backend = Scripted()
    pipeline = pipeline_to(backend, linger=0.01)
    ids = submit(pipeline, 300)
    until(lambda: ids_in(backend) == set(ids))


def test_full_inbox_ends_the_linger() -> None:
    """A quarter of what the inbox may hold is not kept waiting, in items or in bytes."""
    for limits in ({"queue_max_items": 40}, {"queue_max_bytes": 120_000}):
        backend = Scripted()
        pipeline = pipeline_to(backend, linger=_LONG, **limits)
        ids = submit(pipeline, 1)
        until(lambda p=pipeline: p._wake_signal.lingers)
        ids += submit(pipeline, 10)
        until(lambda b=backend, i=ids: ids_in(b) == set(i))


def test_many_deferred_functions_end_the_linger() -> None:
    """Functions of finalisers wait for each other, up to a number."""
    pipeline = pipeline_to(Scripted(), linger=_LONG)
    submit(pipeline, 1)
    until(lambda: pipeline._wake_signal.lingers)
    done = threading.Event()
    pipeline.defer(done.set)
    assert not done.is_set()
    for _ in range(8):
        pipeline.defer(lambda: None)
    assert done.wait(30)


def test_no_linger() -> None:
    """0 writes each record at once."""
    backend = Scripted()
    pipeline = pipeline_to(backend, linger=0)
    for number in range(1, 4):
        submit(pipeline, 1)
        until(lambda n=number: len(ids_in(backend)) == n)
    assert not pipeline._wake_signal.lingers


def test_closing_does_not_linger() -> None:
    """The end of the program takes what has come, and counts it."""
    backend = Scripted()
    pipeline = pipeline_to(backend, linger=_LONG)
    ids = submit(pipeline, 1)
    until(lambda: pipeline._wake_signal.lingers)
    ids += submit(pipeline, 5)
    assert pipeline.close(30)
    (status,) = pipeline.status()
    assert (status.delivered, status.queued) == (6, 0)
    assert identity_holds(status)
    assert ids_in(backend) == set(ids)


def test_worker_looks_after_it_has_lingered(signals: _Signals) -> None:
    """Who came during the linger woke nobody: the worker looks before it waits for a signal."""
    signal = WakeSignal()
    signal.wait(0.2, lambda: True)
    assert signals.waits == [0.2]
    signal.wait(0.2, lambda: False)
    assert signals.waits == [0.2, 0.2, None]
    signal.wait(0.0, lambda: False)
    assert signals.waits[3:] == [None]
    assert not signal.lingers
