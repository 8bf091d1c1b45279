"""What became of every record: accepted = delivered + queued + dropped, at every moment.

``without_payload`` are records that gave up their
payload to fit the queue (the record and its usage stayed).
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Status:
    """A snapshot of one backend's deliveries."""

    backend: str
    location: str
    accepted: int = 0
    delivered: int = 0
    queued: int = 0
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    without_payload: int = 0
    last_error: str | None = None


class Counts:
    """The counters of one delivery; every change is atomic, and so is a snapshot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accepted = 0
        self._delivered = 0
        self._without_payload = 0
        self._dropped: Counter[str] = Counter()
        self._last_error: str | None = None

    def accepted(self) -> None:
        """One record was taken in."""
        with self._lock:
            self._accepted += 1

    def shed(self) -> None:
        """One record gave up its payload."""
        with self._lock:
            self._without_payload += 1

    def delivered(self, number: int) -> None:
        """That many records are in the store."""
        with self._lock:
            self._delivered += number

    def dropped(self, reason: str, number: int = 1) -> None:
        """That many records are given up."""
        with self._lock:
            self._dropped[reason] += number

    def failed(self, error: BaseException) -> None:
        """A write did not succeed."""
        with self._lock:
            self._last_error = f"{type(error).__name__}: {error}"

    def snapshot(self, backend: str, location: str) -> Status:
        """The counters now; ``queued`` is what is neither delivered nor dropped yet."""
        with self._lock:
            gone = self._delivered + sum(self._dropped.values())
            return Status(
                backend,
                location,
                self._accepted,
                self._delivered,
                self._accepted - gone,
                dict(self._dropped),
                self._without_payload,
                self._last_error,
            )
