"""Time for our deadlines and pauses: the real one, whatever a program has put in its place.

Tests put a mock in place of ``time.sleep`` and count its calls, or have ``time.monotonic`` hand out prepared moments;
our threads must be in neither. freezegun replaces both in all modules that have imported them, where a deadline would
never come. gevent and eventlet replace ``time.sleep`` by one that runs greenlets, which our threads have none of.

The times of a record are not from here: they follow a frozen clock, as those of its span do. The age by which records
are deleted is from here: a test that freezes the clock must not empty a developer's file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ._native import original_module

__all__ = ["DAY", "HOUR", "SECOND", "monotonic", "perf_counter", "process_time", "sleep", "thread_time", "time_ns"]

_time: Final = original_module("time")

monotonic: Final[Callable[[], float]] = _time.monotonic
perf_counter: Final[Callable[[], float]] = _time.perf_counter
process_time: Final[Callable[[], float]] = _time.process_time
sleep: Final[Callable[[float], None]] = _time.sleep
thread_time: Final[Callable[[], float]] = _time.thread_time
time_ns: Final[Callable[[], int]] = _time.time_ns

#: in nanoseconds, as the times and durations of a record are
SECOND: Final = 1_000_000_000
HOUR: Final = 3_600 * SECOND
DAY: Final = 24 * HOUR
