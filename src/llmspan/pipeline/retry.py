"""When to try again: which errors are worth it, how long to pause, and a breaker that spares a store that is down.

Pauses are drawn between zero and a bound that doubles (full jitter), so that many processes do not come back at the
same moment. A store that says when to come back is believed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, Literal

from ..errors import RetryableError, SchemaError, SettingsError, ThrottledError

__all__ = ["Backoff", "BreakerState", "is_retryable", "open_error"]

#: ``closed`` writes go through; ``open`` they wait; ``half_open`` one write is finding out
BreakerState = Literal["closed", "open", "half_open"]

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
#: failures in a row that open the breaker
_THRESHOLD: Final = 5
#: a store that asks for more is asked again all the same
_LONGEST_DELAY: Final = 600.0
#: between two tries while somebody waits in ``flush``: with the breaker closed, and open
_FLUSH_DELAY: Final = 0.1
_FLUSH_DELAY_OPEN: Final = 1.0


def is_retryable(error: BaseException) -> bool:
    """Whether the same write may succeed later. What the machine says (``OSError``) passes, what the code says not."""
    return isinstance(error, RetryableError | SettingsError | SchemaError | OSError | MemoryError)


def open_error(error: BaseException) -> Exception:
    """Why a store could not be opened, as an error that is worth another try: no record is at fault for that."""
    if isinstance(error, Exception) and is_retryable(error):
        return error
    return RetryableError(f"it cannot be opened: {type(error).__name__}: {error}")


class Backoff:
    """Failures in a row, and what follows from them. Used by one thread; its state may be read by any."""

    def __init__(self, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._draw = draw
        self._failures = 0
        self._delay: float | None = None
        self.state: BreakerState = "closed"

    @property
    def is_failing(self) -> bool:
        """Whether the last write failed."""
        return self._failures > 0

    def on_attempt(self) -> None:
        """A write is about to be tried."""
        if self.state == "open":
            self.state = "half_open"

    def on_success(self) -> None:
        """The store has answered."""
        self._failures = 0
        self.state = "closed"

    def next_delay(self, error: BaseException) -> float:
        """A write failed for now; the seconds to wait before the next try."""
        self._failures += 1
        self._delay = error.delay if isinstance(error, ThrottledError) else None
        # a wrong set-up does not mend itself: retrying quickly does not help
        is_broken = isinstance(error, SettingsError | SchemaError)
        if self._failures >= _THRESHOLD or is_broken or self._delay is not None:
            self.state = "open"
        if self._delay is not None:
            return max(0.0, min(self._delay, _LONGEST_DELAY))
        bound = LONGEST_PAUSE if is_broken else min(FIRST_PAUSE * 2.0 ** (self._failures - 1), LONGEST_PAUSE)
        pause = self._draw(0.0, bound)
        return pause if self.state == "closed" else max(pause, _FLUSH_DELAY_OPEN)

    def shortened_for_flush(self, pause: float) -> float:
        """``pause`` for a time when somebody waits: shorter, unless the store itself asked for it."""
        if self._delay is not None:
            return pause
        return min(pause, _FLUSH_DELAY if self.state == "closed" else _FLUSH_DELAY_OPEN)
