"""Cooperative scheduling of worker threads: one thread of a process holds the GIL, and the program's own go first.

The interpreter lets a busy thread run for 5 ms before it takes the GIL away, so a worker that never sleeps makes an
event loop wait that long, again and again. Our workers look around every fraction of a millisecond, and sleep if
another thread has run or has begun to wait for the GIL: both show as CPU time of the process that is not the worker's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from ._clock import perf_counter, process_time, sleep, thread_time
from ._native import local

__all__ = ["cooperative", "yield_gil"]

#: seconds
_RUN_SECONDS: Final = 100e-6
_PROBE_SLEEP: Final = 20e-6
#: what a thread spends at least to wake up and find the GIL taken
_ACTIVITY_SECONDS: Final = 3e-6
#: a worker that sees no other thread sleeps this often all the same: a system's clocks may be coarse
_MAX_RUN_SECONDS: Final = 2e-3
_BACKOFF_SLEEP: Final = 1e-3
#: a short sleep takes as long as the timer is late; if it takes longer, another thread was running
_CONTENTION_THRESHOLD: Final = 250e-6


class _Pace:
    """The state of one worker thread."""

    def __init__(self, is_urgent: Callable[[], bool]) -> None:
        self._is_urgent = is_urgent
        self._slept_at = perf_counter()
        self._others = _cpu_of_others()
        #: when this thread has run for long enough to look around
        self.look_at = self._slept_at + _RUN_SECONDS

    def look_around(self) -> None:
        """Sleep if another thread has run or wants to, and nobody waits for this one."""
        now = perf_counter()
        if not self._is_urgent() and (self._are_others_active() or now - self._slept_at > _MAX_RUN_SECONDS):
            sleep(_PROBE_SLEEP)
            if perf_counter() - now > _CONTENTION_THRESHOLD:
                sleep(_BACKOFF_SLEEP)
            self._slept_at = perf_counter()
        self.look_at = perf_counter() + _RUN_SECONDS

    def _are_others_active(self) -> bool:
        """Whether another thread has run, or tried to, since the last look: also while this one slept after it."""
        before, self._others = self._others, _cpu_of_others()
        return self._others - before > _ACTIVITY_SECONDS


def _cpu_of_others() -> float:
    """The CPU seconds of all other threads of the process."""
    return process_time() - thread_time()


class _Local(local):
    pace: _Pace | None = None


_local: Final = _Local()


@contextmanager
def cooperative(is_urgent: Callable[[], bool]) -> Generator[None]:
    """Let :func:`yield_gil` release the GIL in this thread, unless ``is_urgent()``: a caller waits for its work."""
    before, _local.pace = _local.pace, _Pace(is_urgent)
    try:
        yield
    finally:
        _local.pace = before


def yield_gil() -> None:
    """Sleep between two pieces of work, if this thread is :func:`cooperative` and has run for long enough."""
    pace = _local.pace
    if pace is not None and perf_counter() >= pace.look_at:
        pace.look_around()
