"""Records on their way into the spool, and what happens when it cannot take them: they wait in memory, and it is told.

Used by the pipeline's worker, which alone writes to the spool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from .._clock import monotonic
from .._guard import guarded, outcome
from ..errors import SettingsError
from ..settings import Settings
from ..trace import ProviderTrace
from .delivery import Delivery
from .notices import Notices
from .spool import Reader, Spool, SpoolFullError

_Group = Sequence[tuple[bytes, ProviderTrace, Sequence[Delivery]]]

__all__ = ["Spooling", "checked_place"]

#: seconds before a spool that failed is tried again, and between two looks for logs of dead processes
_RETRY_AFTER: Final = 5.0
_ADOPT_EVERY: Final = 60.0


def checked_place(place: Path) -> Path:
    """The spool's directory, absolute.

    Raises:
        SettingsError: it can never be one. (One that cannot be written now is no error: records wait in memory.)
    """
    try:
        path = place.expanduser().absolute()
    except (RuntimeError, OSError) as error:
        raise SettingsError(f"LLMSPAN_SPOOL_DIR={place}: {error}; set it to an absolute path") from error
    above = next((p for p in (path, *path.parents) if p.exists()), path)
    if not above.is_dir():
        raise SettingsError(f"LLMSPAN_SPOOL_DIR={place}: {above} is not a directory; set it to one")
    return path


class Spooling:
    """The spool of this process, opened when there is a worker to open it; ``wake`` has it look again."""

    def __init__(self, place: Path, settings: Settings, wake: Callable[[], None]) -> None:
        self._spool = Spool(place, settings, adopt_more=wake)
        self._singly = settings.spool_sync == "always"
        self._notices = Notices()
        self._retry_at = 0.0
        self._adopt_at = 0.0

    @property
    def root(self) -> Path:
        """The directory, absolute."""
        return self._spool.root

    @property
    def has_more(self) -> bool:
        """Whether logs of dead processes wait to be adopted."""
        return self._spool.has_more

    @property
    def adoptions(self) -> int:
        """How many of them were adopted so far."""
        return self._spool.adoptions

    @property
    def bytes(self) -> int:
        """What it takes on the disk."""
        return self._spool.bytes

    def open(self, deliveries: Sequence[Delivery]) -> bool:
        """Give every delivery its backlog; whether records can be written."""
        now = monotonic()
        if not deliveries:
            return False
        if now < self._retry_at:
            if self.has_more:  # to deliver them is what makes room
                guarded("spool.adopt", self._spool.adopt)
                _nudge(deliveries)
            return False
        error = outcome(self._open, deliveries, now)
        if error is not None:
            self._failed(error)
        return error is None

    def _open(self, deliveries: Sequence[Delivery], now: float) -> None:
        readers = [Reader(d.backend.name, d.backend.location, d.counts) for d in deliveries]
        backlogs = self._spool.backlogs(readers)
        for delivery, reader in zip(deliveries, readers, strict=True):
            delivery.backlog = backlogs[reader]
        try:
            self._spool.open(readers)
            if now >= self._adopt_at or self._spool.has_more:
                self._adopt_at = now + _ADOPT_EVERY
                self._spool.adopt()
        finally:
            _nudge(deliveries)

    def store(self, made: Sequence[tuple[ProviderTrace, Sequence[Delivery]]], deliveries: Sequence[Delivery]) -> None:
        """Take records over; each was counted as accepted for the deliveries beside it."""
        encoded = [(guarded("spool.encode", _encoded, trace), trace, promised) for trace, promised in made]
        for trace, promised in [(trace, promised) for data, trace, promised in encoded if data is None]:
            _queue(trace, promised)
        good = [(data, trace, promised) for data, trace, promised in encoded if data is not None]
        size = 1 if self._singly else max(1, len(good))
        for start in range(0, len(good), size):
            self._store(good[start : start + size], deliveries)

    def _store(self, group: _Group, deliveries: Sequence[Delivery]) -> None:
        if not self.open(deliveries):
            _queue_all(group)
            return
        error = outcome(self._spool.commit, [data for data, _, _ in group])
        if error is None:
            self._count(group, deliveries)
            self._spool.publish()
            _nudge(deliveries)
        elif isinstance(error, SpoolFullError):
            self._make_do(group, deliveries)
        else:
            self._failed(error)
            _queue_all(group)

    def _make_do(self, group: _Group, deliveries: Sequence[Delivery]) -> None:
        """There is no room for all of ``group``: some of it may still fit."""
        middle = len(group) // 2
        if middle:
            self._store(group[:middle], deliveries)
            self._store(group[middle:], deliveries)
            return
        for delivery in group[0][2]:
            delivery.counts.dropped("spool_full")

    def _count(self, group: _Group, deliveries: Sequence[Delivery]) -> None:
        for _, _, promised in group:
            for delivery in deliveries:
                if delivery not in promised:  # added since the call ended: it gets the record as well
                    delivery.counts.accepted()
                delivery.counts.spooled(1)
            for delivery in promised:
                if delivery not in deliveries:
                    delivery.counts.dropped("shutdown")

    def _failed(self, error: BaseException) -> None:
        self._retry_at = monotonic() + _RETRY_AFTER
        line = "llmspan: LLMSPAN_SPOOL_DIR=%s: %s; records wait in memory until it can be written"
        self._notices.say("spool", line, self._spool.root, getattr(error, "strerror", None) or repr(error))

    def close(self) -> None:
        """Remove what is delivered, leave the rest to the next process."""
        self._spool.close()

    def forget(self) -> None:
        """In a forked child: what is there is the parent's."""
        self._spool.forget()


def _encoded(trace: ProviderTrace) -> bytes:
    return trace.to_json().encode()


def _nudge(deliveries: Sequence[Delivery]) -> None:
    for delivery in deliveries:
        delivery.nudge()


def _queue_all(group: _Group) -> None:
    for _, trace, promised in group:
        _queue(trace, promised)


def _queue(trace: ProviderTrace, deliveries: Sequence[Delivery]) -> None:
    for delivery in deliveries:
        delivery.put(trace)
