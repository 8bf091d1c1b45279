"""Time for our deadlines and pauses: the real one, whatever a program's tests have put in its place.

Tests put a mock in place of ``time.sleep`` and count its calls, or have ``time.monotonic`` hand out prepared moments;
our threads must be in neither. freezegun replaces both in all modules that have imported them, where a deadline would
never come. It does not find these, which are the same functions in a wrapper.

The times of a record are not from here: they follow a frozen clock, as those of its span do.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Final

__all__ = ["monotonic", "perf_counter", "sleep"]

monotonic: Final = partial(time.monotonic)
perf_counter: Final = partial(time.perf_counter)
sleep: Final = partial(time.sleep)
