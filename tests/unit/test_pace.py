"""Workers make way: they step back between slices, for longer where somebody was running, and not in a hurry."""

from __future__ import annotations

import threading

import pytest

from llmspan import _pace
from llmspan._pace import cooperative, yield_gil


class Clock:
    """A clock that only moves when somebody works or sleeps; ``late`` is what a sleep takes longer than asked."""

    def __init__(self) -> None:
        self.now = 0.0
        self.late = 0.0
        self.sleeps: list[float] = []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds + self.late


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(_pace, "perf_counter", made.perf_counter)
    monkeypatch.setattr(_pace, "sleep", made.sleep)
    return made


def work(clock: Clock, pieces: int, seconds: float) -> None:
    for _ in range(pieces):
        clock.now += seconds
        yield_gil()


def test_slices(clock: Clock) -> None:
    """Work goes on for a slice, then steps back for a moment, however small its pieces are."""
    with cooperative(lambda: False):
        work(clock, 1000, _pace._RUN_SECONDS / 10.5)
    assert clock.sleeps == [_pace._PROBE_SLEEP] * 90


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
