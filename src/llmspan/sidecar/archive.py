"""Where the sidecar's records go. Stored means: the primary backend has them; only then is anything acknowledged.

The other backends get each record through a delivery of their own, with its queue, retries and counts, so that their
trouble holds nobody up.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from .._guard import logger, outcome
from ..backends.base import Backend
from ..errors import BackendError, RetryableError, SchemaError, SettingsError
from ..pipeline import Status
from ..pipeline.counts import Counts
from ..pipeline.delivery import Delivery
from ..trace import ProviderTrace

__all__ = ["Archive"]

#: ids that are known to be stored; beyond it the stores themselves, whose key the id is, drop what comes twice
_REMEMBERED: Final = 65_536


class Archive:
    """Backends, the primary first. Any thread may store."""

    def __init__(self, backends: Sequence[Backend], *, max_bytes: int, max_items: int) -> None:
        self._primary = backends[0]
        self._others = [Delivery(backend, max_bytes=max_bytes, max_items=max_items) for backend in backends[1:]]
        self._counts = Counts()
        self._stored: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def store(self, traces: Iterable[ProviderTrace]) -> dict[str, str]:
        """Store records that are not stored yet; the ids of those that never can be, and why.

        Raises:
            RetryableError: the primary cannot store now; nothing may be acknowledged.
            BackendError, SettingsError: nor later, unless somebody repairs it.
        """
        rejected: dict[str, str] = {}
        with self._lock:
            new: dict[str, ProviderTrace] = {}
            for trace in traces:
                if trace.id not in self._stored:
                    new.setdefault(trace.id, trace)
            batch = list(new.values())
            self._write(batch, rejected)
            good = [trace for trace in batch if trace.id not in rejected]
            for trace in good:
                self._stored[trace.id] = None
            while len(self._stored) > _REMEMBERED:
                self._stored.popitem(last=False)
            for delivery in self._others:
                for trace in good:
                    delivery.counts.accepted()
                    delivery.put(trace)
        return rejected

    def status(self) -> list[Status]:
        """What became of the records, per backend."""
        first = self._counts.snapshot(self._primary.name, self._primary.location)
        return [first, *(delivery.status() for delivery in self._others)]

    def close(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the other backends, then close all; whether all was written."""
        deadline = time.monotonic() + timeout
        done = [delivery.flush(deadline) for delivery in self._others]
        for delivery in self._others:
            delivery.close(deadline)
        outcome(self._primary.shutdown)
        return all(done)

    def _write(self, batch: Sequence[ProviderTrace], rejected: dict[str, str]) -> None:
        if not batch:
            return
        error = outcome(self._open_and_write, batch)
        if error is None:
            for _ in batch:
                self._counts.accepted()
            self._counts.delivered(len(batch))
            return
        self._counts.failed(error)
        if isinstance(error, RetryableError | SettingsError | SchemaError):
            raise error
        if isinstance(error, Exception) and len(batch) > 1:
            middle = len(batch) // 2
            self._write(batch[:middle], rejected)
            self._write(batch[middle:], rejected)
        elif isinstance(error, Exception):
            logger.error("llmspan: %s refused record %s: %s", self._primary.name, batch[0].id, error)
            rejected[batch[0].id] = f"{self._primary.name}: {error}"
        else:
            raise BackendError(f"{self._primary.name}: {type(error).__name__}") from error

    def _open_and_write(self, batch: Sequence[ProviderTrace]) -> None:
        self._primary.open()
        self._primary.write(batch)
