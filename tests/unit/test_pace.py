"""Workers yield the GIL to threads that want it, for longer where one was running, and to nobody in a hurry."""

from __future__ import annotations

import threading

import pytest

from llmspan import _pace
from llmspan._pace import cooperative, yield_gil


class Clock:
    """A clock that only moves when somebody works or sleeps; ``late`` is what a sleep takes longer than asked.

    ``others`` is the CPU time that other threads take while this one works, ``late_others`` while it sleeps.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.late = 0.0
        self.cpu = self.own_cpu = 0.0
        self.others = _pace._ACTIVITY_SECONDS * 1.01
        self.late_others = 0.0
        self.sleeps: list[float] = []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds + self.late
        self.cpu += self.late_others

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.own_cpu += seconds
        self.cpu += seconds + self.others


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(_pace, "perf_counter", made.perf_counter)
    monkeypatch.setattr(_pace, "sleep", made.sleep)
    monkeypatch.setattr(_pace, "process_time", lambda: made.cpu)
    monkeypatch.setattr(_pace, "thread_time", lambda: made.own_cpu)
    return made


def work(clock: Clock, pieces: int, seconds: float) -> None:
    for _ in range(pieces):
        clock.work(seconds)
        yield_gil()


def test_slices(clock: Clock) -> None:
    """Work goes on for a slice, then steps back for a moment, however small its pieces are."""
    with cooperative(lambda: False):
        work(clock, 1000, _pace._RUN_SECONDS / 10.5)
    assert clock.sleeps == [_pace._PROBE_SLEEP] * 90


def test_alone(clock: Clock) -> None:
    """While no other thread takes any CPU time, none waits for the GIL: a worker then sleeps rarely, for safety."""
    clock.others = 0.0
    pieces = round(_pace._MAX_RUN_SECONDS / _pace._RUN_SECONDS) * 5
    with cooperative(lambda: False):
        work(clock, pieces, _pace._RUN_SECONDS * 1.01)
    assert 3 <= len(clock.sleeps) <= 5


def test_who_ran_while_the_worker_slept(clock: Clock) -> None:
    """A thread that ran while the worker slept may want to go on: the worker sleeps once more after the next slice."""
    clock.others = 0.0
    clock.late_others = 1.0
    with cooperative(lambda: False):
        clock.cpu += 1.0  # another thread begins to wait
        work(clock, 1, _pace._RUN_SECONDS)
        assert len(clock.sleeps) == 1
        clock.late_others = 0.0
        work(clock, 1, _pace._RUN_SECONDS)
        assert len(clock.sleeps) == 2
        work(clock, 3, _pace._RUN_SECONDS)
        assert len(clock.sleeps) == 2


def test_crowded(clock: Clock) -> None:
    """Where the moment took long, somebody else was running: then it steps back for longer."""
    clock.late = _pace._CONTENTION_THRESHOLD
    with cooperative(lambda: False):
        work(clock, 2, _pace._RUN_SECONDS)
    assert clock.sleeps == [_pace._PROBE_SLEEP, _pace._BACKOFF_SLEEP] * 2


def test_in_a_hurry(clock: Clock) -> None:
    """While somebody waits for the work there is no stepping back; afterwards there is."""
    hurry = [True]
    with cooperative(lambda: hurry[0]):
        work(clock, 100, _pace._RUN_SECONDS)
        assert clock.sleeps == []
        hurry[0] = False
        work(clock, 1, _pace._RUN_SECONDS)
    assert clock.sleeps == [_pace._PROBE_SLEEP]


def test_only_threads_that_make_way(clock: Clock) -> None:
    """A thread that has not said so is never kept: neither another one, nor this one afterwards."""
    with cooperative(lambda: False):
        other = threading.Thread(target=work, args=(clock, 10, 1.0))
        other.start()
        other.join()
    work(clock, 10, 1.0)
    assert clock.sleeps == []
