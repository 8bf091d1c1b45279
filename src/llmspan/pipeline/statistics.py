"""Delivery statistics: accepted = delivered + queued + spooled + dropped + dead-lettered, at every moment.

A record is in one place at a time, and every method moves records from one place to another in one step, so the
identity cannot be out even between two lines. ``without_payload`` are records whose payload was dropped to fit the
queue (the record and its usage stayed); ``recovered`` those that an earlier process had left in the spool.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from .._clock import SECOND, time_ns
from .._guard import exception_of
from .._native import SerialExecutor
from .retry import BreakerState

#: where a record waits: in memory, or in the spool's files
Location = Literal["queued", "spooled"]


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """A snapshot of one backend's workers; ``dropped`` is by reason, ``breaker`` as in :mod:`.retry`."""

    backend: str
    location: str
    accepted: int = 0
    delivered: int = 0
    queued: int = 0
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    without_payload: int = 0
    last_error: str | None = None
    spooled: int = 0
    dead_lettered: int = 0
    recovered: int = 0
    failed_writes: int = 0
    breaker: BreakerState = "closed"
    #: when the call of the oldest record that waits had ended, in nanoseconds since the epoch; None if nothing waits
    waiting_since: int | None = None

    def waiting_age(self) -> float:
        """The seconds since the call of the oldest record that waits had ended; 0 if nothing waits."""
        return 0.0 if self.waiting_since is None else max(0.0, (time_ns() - self.waiting_since) / SECOND)


class DeliveryStats:
    """The counters of one worker; every change is atomic, and so is a snapshot. No change waits for another."""

    def __init__(self) -> None:
        self._changes = SerialExecutor()
        self._accepted = 0
        self._delivered = 0
        self._waiting: dict[Location, int] = {"queued": 0, "spooled": 0}
        self._dropped: Counter[str] = Counter()
        self._dead_lettered = 0
        self._without_payload = 0
        self._recovered = 0
        self._failed_writes = 0
        self._last_error: str | None = None
        #: whether there may be something to log; needs no lock
        self.has_losses = False

    def accepted(self, *, without_payload: bool = False) -> None:
        """One record was taken in; ``shed``: without its payload."""
        self._changes.execute(partial(self._add_accepted, without_payload))

    def _add_accepted(self, without_payload: bool) -> None:
        self._accepted += 1
        self._waiting["queued"] += 1
        self._without_payload += without_payload
        self.has_losses = self.has_losses or without_payload

    def recovered(self, number: int) -> None:
        """That many records of an earlier process were found in the spool."""
        with self._changes:
            self._accepted += number
            self._recovered += number
            self._waiting["spooled"] += number

    def payload_dropped(self) -> None:
        """One record that waits gave up its payload."""
        with self._changes:
            self._without_payload += 1
            self.has_losses = True

    def spooled(self, number: int) -> None:
        """That many records of the queue are in the spool now."""
        with self._changes:
            self._waiting["queued"] -= number
            self._waiting["spooled"] += number

    def close_spool(self, number: int) -> None:
        """The spool is closed, and has that many: what else waited in it went with its file, as there was no room."""
        with self._changes:
            evicted = max(0, self._waiting["spooled"] - number)
            self._waiting["spooled"] -= evicted
            self._dropped["spool_full"] += evicted
            self.has_losses = True

    def delivered(self, number: int, location: Location = "queued") -> None:
        """That many records are in the store."""
        with self._changes:
            self._waiting[location] -= number
            self._delivered += number

    def dropped(self, reason: str, number: int = 1, location: Location = "queued") -> None:
        """That many records are given up."""
        self._changes.execute(partial(self._add_dropped, reason, number, location))

    def _add_dropped(self, reason: str, number: int, location: Location) -> None:
        self._waiting[location] -= number
        self._dropped[reason] += number
        self.has_losses = True

    def skipped(self, number: int, location: Location) -> None:
        """That many spans are not for this backend, which keeps none: they count as never accepted."""
        with self._changes:
            self._waiting[location] -= number
            self._accepted -= number

    def dead_lettered(self, location: Location = "queued") -> None:
        """One record that the store can never hold is in the dead-letter file."""
        with self._changes:
            self._waiting[location] -= 1
            self._dead_lettered += 1

    def failed(self, error: BaseException) -> None:
        """A write did not succeed."""
        text = describe_error(error)
        with self._changes:
            self._failed_writes += 1
            self._last_error = text

    def losses(self) -> dict[str, int]:
        """The losses to log: records dropped, by reason, and payloads dropped.

        What is left unwritten at exit is logged when the pipeline is closed.
        """
        with self._changes:
            dropped = {reason: number for reason, number in self._dropped.items() if reason != "shutdown"}
            return {**dropped, "without_payload": self._without_payload}

    def snapshot(self, backend: str, location: str, breaker: BreakerState = "closed") -> BackendStatus:
        """The counters now."""
        with self._changes:
            return BackendStatus(
                backend,
                location,
                accepted=self._accepted,
                delivered=self._delivered,
                queued=self._waiting["queued"],
                dropped={reason: number for reason, number in self._dropped.items() if number},
                without_payload=self._without_payload,
                last_error=self._last_error,
                spooled=self._waiting["spooled"],
                dead_lettered=self._dead_lettered,
                recovered=self._recovered,
                failed_writes=self._failed_writes,
                breaker=breaker,
            )


def describe_error(error: BaseException) -> str:
    """The type and the message of ``error``, which may be a backend's own and fail to say any."""
    message: list[str] = []
    exception_of(lambda: message.append(str(error)))
    return ": ".join([type(error).__name__, *message])
