"""How our threads make way: one thread of a process runs at a time, and the program's own go first.

The interpreter lets a busy thread run for 5 ms before it makes it hand over, so a worker that never stops of itself
makes an event loop wait that long, again and again. Ours therefore run in slices of a fraction of a millisecond, and
step back for longer where somebody was running when they came back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from ._clock import perf_counter, sleep
from ._native import local

__all__ = ["breathe", "making_way"]

#: seconds
_SLICE: Final = 100e-6
_GLANCE: Final = 20e-6
_STEP_BACK: Final = 1e-3
#: a glance takes as long as a timer is late; when it takes longer, somebody else was running
_CROWDED: Final = 250e-6


class _Pace:
    """The slices of one thread."""

    def __init__(self, is_hurried: Callable[[], bool]) -> None:
        self._is_hurried = is_hurried
        self._since = perf_counter()

    def breathe(self) -> None:
        now = perf_counter()
        if now - self._since < _SLICE:
            return
        if not self._is_hurried():
            sleep(_GLANCE)
            if perf_counter() - now > _CROWDED:
                sleep(_STEP_BACK)
        self._since = perf_counter()


class _Local(local):
    pace: _Pace | None = None


_local: Final = _Local()


@contextmanager
def making_way(is_hurried: Callable[[], bool]) -> Generator[None]:
    """Have this thread make way at every :func:`breathe` inside, unless ``is_hurried`` (somebody waits for it)."""
    before, _local.pace = _local.pace, _Pace(is_hurried)
    try:
        yield
    finally:
        _local.pace = before


def breathe() -> None:
    """Between two pieces of work: let others run, if this is a thread that makes way and has run for its slice."""
    if _local.pace is not None:
        _local.pace.breathe()
