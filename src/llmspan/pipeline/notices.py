"""Log lines of the pipeline: one per subject and minute, written by our own threads only.

A log handler is the application's code: it may block or raise. So callers only count, and a worker tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .._clock import monotonic
from .._guard import guarded, logger
from .._native import allocate_lock

__all__ = ["Notices"]

_INTERVAL: Final = 60.0


class Notices:
    """What was told when; one for each delivery."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._told_at: dict[str, float] = {}
        self._told: dict[str, int] = {}
        self._lock = allocate_lock()

    def say(self, subject: str, message: str, *arguments: object) -> None:
        """Warn, unless ``subject`` was told less than a minute ago."""
        if self._is_due(subject):
            guarded("pipeline.log", logger.warning, message, *arguments)

    def always(self, message: str, *arguments: object) -> None:
        """Tell of one record by its id: each one matters."""
        guarded("pipeline.log", logger.error, message, *arguments)

    def losses(self, backend: str, losses: dict[str, int]) -> None:
        """One line a reason for what ``losses`` has more of than was told before."""
        for reason, number in losses.items():
            if number > self._told.get(reason, 0) and self._is_due(reason):
                more, self._told[reason] = number - self._told.get(reason, 0), number
                if reason == "without_payload":
                    line = "llmspan: %s: the queue is full; %d records gave up their payload, their numbers are kept"
                    guarded("pipeline.log", logger.warning, line, backend, more)
                else:
                    line = "llmspan: %s: %d records were dropped (%s)"
                    guarded("pipeline.log", logger.warning, line, backend, more, reason)

    def _is_due(self, subject: str) -> bool:
        now = self._clock()
        with self._lock:
            last = self._told_at.get(subject)
            if last is not None and now - last < _INTERVAL:
                return False
            self._told_at[subject] = now
            return True
