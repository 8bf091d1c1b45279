"""When to try again: which errors are worth it, how long to pause, and a breaker that spares a store that is down.

Pauses are drawn between zero and a bound that doubles (full jitter), so that many processes do not come back at the
same moment. A retry time that the store names is obeyed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, Literal

from ..errors import RetryableError, SchemaError, SettingsError, ThrottledError

__all__ = ["Backoff", "BreakerState", "is_retryable", "retryable_open_error"]

#: ``closed`` writes go through; ``open`` they wait; ``half_open`` one write is finding out
BreakerState = Literal["closed", "open", "half_open"]

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
#: failures in a row that open the breaker
_THRESHOLD: Final = 5
#: the longest wait that a store can ask for, in seconds
_LONGEST_RETRY_AFTER: Final = 600.0
#: between two tries while a caller waits in ``flush``: with the breaker closed, and open
_FLUSH_DELAY: Final = 0.1
_FLUSH_DELAY_OPEN: Final = 1.0


def is_retryable(error: BaseException) -> bool:
    """Whether the same write may succeed later: errors of the system may pass, others are bugs or bad records."""
    return isinstance(error, RetryableError | SettingsError | SchemaError | OSError | MemoryError)


def retryable_open_error(error: BaseException) -> Exception:
    """Why a store could not be opened, as an error that is worth another try: no record is at fault for that."""
    if isinstance(error, Exception) and is_retryable(error):
        return error
    return RetryableError(f"it cannot be opened: {type(error).__name__}: {error}")


class Backoff:
    """Failures in a row, and what follows from them. Used by one thread; its state may be read by any."""

    def __init__(self, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._draw = draw
        self._failures = 0
        self._retry_after: float | None = None
        self.state: BreakerState = "closed"

    @property
    def is_failing(self) -> bool:
        """Whether the last write failed."""
        return self._failures > 0

    def on_attempt(self) -> None:
        """A write is about to be tried."""
        if self.state == "open":
            self.state = "half_open"

    def on_answer(self) -> None:
        """The store has answered."""
        self._failures = 0
        self.state = "closed"

    def next_delay(self, error: BaseException) -> float:
        """A write failed for now; the seconds to wait before the next try."""
        self._failures += 1
        self._retry_after = error.delay if isinstance(error, ThrottledError) else None
        # a wrong set-up does not mend itself: retrying quickly does not help
        is_broken = isinstance(error, SettingsError | SchemaError)
        if self._failures >= _THRESHOLD or is_broken or self._retry_after is not None:
            self.state = "open"
        if self._retry_after is not None:
            return max(0.0, min(self._retry_after, _LONGEST_RETRY_AFTER))
        bound = LONGEST_PAUSE if is_broken else min(FIRST_PAUSE * 2.0 ** (self._failures - 1), LONGEST_PAUSE)
        pause = self._draw(0.0, bound)
        return pause if self.state == "closed" else max(pause, _FLUSH_DELAY_OPEN)

    def shortened_for_flush(self, pause: float) -> float:
        """``pause`` while a caller waits: shorter, unless the store itself asked for it."""
        if self._retry_after is not None:
            return pause
        return min(pause, _FLUSH_DELAY if self.state == "closed" else _FLUSH_DELAY_OPEN)
