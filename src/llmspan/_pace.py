"""Cooperative scheduling of worker threads: one thread of a process holds the GIL, and the program's own go first.

The interpreter lets a busy thread run for 5 ms before it takes the GIL away, so a worker that never sleeps makes an
event loop wait that long, again and again. Our workers run for a fraction of a millisecond at a time, and sleep for
longer if another thread was running when they woke up.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from ._clock import perf_counter, sleep
from ._native import local

__all__ = ["cooperative", "yield_gil"]

#: seconds
_RUN_SECONDS: Final = 100e-6
_PROBE_SLEEP: Final = 20e-6
_BACKOFF_SLEEP: Final = 1e-3
#: a short sleep takes as long as the timer is late; if it takes longer, another thread was running
_CONTENTION_THRESHOLD: Final = 250e-6


class _Pace:
    """The state of one worker thread."""

    def __init__(self, is_urgent: Callable[[], bool]) -> None:
        self._is_urgent = is_urgent
        self._since = perf_counter()

    def yield_gil(self) -> None:
        now = perf_counter()
        if now - self._since < _RUN_SECONDS:
            return
        if not self._is_urgent():
            sleep(_PROBE_SLEEP)
            if perf_counter() - now > _CONTENTION_THRESHOLD:
                sleep(_BACKOFF_SLEEP)
        self._since = perf_counter()


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
    if _local.pace is not None:
        _local.pace.yield_gil()
