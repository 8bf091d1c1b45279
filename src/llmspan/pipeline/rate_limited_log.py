"""Log lines of the pipeline: one per subject and minute, written by our own threads only.

A log handler is the application's code: it may block or raise. So callers only count, and a worker logs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from .._clock import monotonic
from .._guard import guarded, logger
from .._native import allocate_lock
from .statistics import BackendStatus

__all__ = ["RateLimitedLog", "report_unwritten"]

_INTERVAL: Final = 60.0


class RateLimitedLog:
    """When each subject was logged last; one for each worker."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self._reported: dict[str, int] = {}
        self._lock = allocate_lock()

    def info(self, subject: str, message: str, *arguments: object) -> None:
        """Log a message, unless ``subject`` was logged less than a minute ago."""
        if self._is_due(subject):
            guarded("pipeline.log", logger.info, message, *arguments)

    def warning(self, subject: str, message: str, *arguments: object) -> None:
        """Log a warning, unless ``subject`` was logged less than a minute ago."""
        if self._is_due(subject):
            guarded("pipeline.log", logger.warning, message, *arguments)

    def error(self, message: str, *arguments: object) -> None:
        """Log an error about one record, by its id, without a limit."""
        guarded("pipeline.log", logger.error, message, *arguments)

    def report_losses(self, backend: str, losses: dict[str, int], *, final: bool = False) -> None:
        """Log the increase of each count of ``losses``, one line a reason; ``final``: without the limit."""
        for reason, number in losses.items():
            if number > self._reported.get(reason, 0) and (self._is_due(reason) or final):
                new, self._reported[reason] = number - self._reported.get(reason, 0), number
                if reason == "without_payload":
                    message = "llmspan: %s: payloads of %d records dropped (queue full); usage was kept"
                    guarded("pipeline.log", logger.warning, message, backend, new)
                else:
                    message = "llmspan: %s: %d records were dropped (%s)"
                    guarded("pipeline.log", logger.warning, message, backend, new, reason)

    def _is_due(self, subject: str) -> bool:
        now = self._clock()
        with self._lock:
            last = self._logged_at.get(subject)
            if last is not None and now - last < _INTERVAL:
                return False
            self._logged_at[subject] = now
            return True


def report_unwritten(statuses: Sequence[BackendStatus], spool_dir: Path | None) -> None:
    """Log what was not written when the pipeline was closed: one line for what is lost, one for what waits on disk."""
    for status in statuses:
        number = status.dropped.get("shutdown", 0) + status.queued
        if number:
            message = "llmspan: the program ended before all records were written; %s lost %d"
            guarded("pipeline.log", logger.warning, message, status.backend, number)
        if status.spooled:
            wait = "record waits" if status.spooled == 1 else "records wait"
            message = "llmspan: %d %s in %s; the next process there writes what is there to %s"
            guarded("pipeline.log", logger.warning, message, status.spooled, wait, spool_dir, status.backend)
