"""Where the sidecar's records go. Stored means: the primary backend has them; only then is anything acknowledged.

The settings are applied first: what they withhold, redact or cut reaches neither a backend nor the spool. The other
backends get each record through a worker of their own, with its queue, retries and counts, so that a slow backend does
not block the others. With a spool, stored also means that the spool has what is to go to them: then the sidecar can be
killed at any time, and none of its backends misses a record.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from .._guard import exception_of, logger
from ..backends.base import Backend
from ..content import Policy
from ..errors import BackendError, RetryableError, SchemaError, SettingsError
from ..limits import id_key
from ..pipeline import BackendStatus, Pipeline
from ..pipeline.retry import open_error
from ..settings import Settings
from ..trace import ProviderTrace

__all__ = ["RecordStore"]

#: ids that are known to be stored; beyond it the stores themselves, whose key the id is, drop what comes twice
_REMEMBERED: Final = 65_536
_FLAT_SIZE: Final = 2048
#: seconds that the spool may take for one batch
_PATIENCE: Final = 30.0


class RecordStore:
    """Backends, the primary first. Any thread may store."""

    def __init__(self, backends: Sequence[Backend], settings: Settings) -> None:
        self._primary = backends[0]
        self._policy = Policy.from_settings(settings)
        self._others = Pipeline()
        self._others.configure(settings)
        for backend in backends[1:]:
            self._others.add(backend)
        self._is_spooled = settings.spool_dir is not None and bool(self._others.backends)
        if self._is_spooled:
            self._others.ensure_started()  # what an earlier sidecar has left does not wait for the first record
        self._told: Counter[str] = Counter()
        self._last_error: str | None = None
        #: by :func:`id_key` of the ids as they came
        self._stored: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def store(self, records: Iterable[ProviderTrace]) -> dict[str, str]:
        """Store records that are not stored yet; the ids of those that never can be, and why.

        Raises:
            RetryableError: the primary, or the spool, cannot store now; nothing may be acknowledged.
            BackendError, SettingsError: nor later, unless somebody repairs it.
        """
        new = self._enforced(records)
        with self._lock:
            new = {name: record for name, record in new.items() if not self._is_stored(name)}
            refusals: dict[str, str] = {}
            self._write(list(new.values()), refusals)
            rejected = {name: refusals[record.id] for name, record in new.items() if record.id in refusals}
            good = {name: record for name, record in new.items() if name not in rejected}
            self._remember(good)
            if self._others.backends:
                for record in good.values():
                    self._others.submit(_Ready(record))
            if self._is_spooled and not self._others.wait_until_spooled(_PATIENCE):  # resent records, too
                raise RetryableError(f"LLMSPAN_SPOOL_DIR: it has not taken the records within {_PATIENCE:g} s")
        return rejected

    def _enforced(self, records: Iterable[ProviderTrace]) -> dict[str, ProviderTrace]:
        """Those that are not stored yet, by the ids as they came, as the settings allow them.

        Not under the lock: a redaction function may take its time.
        """
        with self._lock:
            new: dict[str, ProviderTrace] = {}
            for record in records:
                if not self._is_stored(record.id):
                    new.setdefault(record.id, record)
        return {name: self._policy.enforce(record) for name, record in new.items()}

    def _is_stored(self, name: str) -> bool:
        return id_key(name) in self._stored

    def _remember(self, ids: Iterable[str]) -> None:
        self._stored.update(dict.fromkeys(map(id_key, ids)))
        while len(self._stored) > _REMEMBERED:
            self._stored.popitem(last=False)

    def status(self) -> list[BackendStatus]:
        """What became of the records, per backend."""
        reported = self._told
        dropped = {"rejected": reported["rejected"]} if reported["rejected"] else {}
        first = BackendStatus(
            self._primary.name, self._primary.location, accepted=reported["stored"] + reported["rejected"],
            delivered=reported["stored"], dropped=dropped, last_error=self._last_error,
        )  # fmt: skip
        return [first, *self._others.status()]

    def close(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the other backends, then close all; whether all was written."""
        is_complete = self._others.close(timeout)
        exception_of(self._primary.shutdown)
        return is_complete

    def _write(self, batch: Sequence[ProviderTrace], rejected: dict[str, str]) -> None:
        if not batch:
            return
        error = self._try(batch)
        if error is None:
            self._told["stored"] += len(batch)
            return
        self._last_error = f"{type(error).__name__}: {error}"
        if isinstance(error, RetryableError | SettingsError | SchemaError):
            raise error
        if isinstance(error, Exception) and len(batch) > 1:
            middle = len(batch) // 2
            self._write(batch[:middle], rejected)
            self._write(batch[middle:], rejected)
        elif isinstance(error, Exception):
            logger.error("llmspan: %s refused record %s: %s", self._primary.name, batch[0].id, error)
            self._told["rejected"] += 1
            rejected[batch[0].id] = f"{self._primary.name}: {error}"
        else:
            raise BackendError(f"{self._primary.name}: {type(error).__name__}") from error

    def _try(self, batch: Sequence[ProviderTrace]) -> BaseException | None:
        error = exception_of(self._primary.open)
        return exception_of(self._primary.write, batch) if error is None else open_error(error)


class _Ready:
    """A record on its way to the other backends."""

    def __init__(self, trace: ProviderTrace) -> None:
        self._trace = trace

    @property
    def size(self) -> int:
        return _FLAT_SIZE + len(self._trace.request_json or "") + len(self._trace.response_json or "")

    def build(self) -> ProviderTrace:
        return self._trace

    def publish(self, record: ProviderTrace) -> None:
        """Nothing: the process that sent the record has reported its metrics and events."""

    def drop_payload(self) -> None:
        self._trace = replace(self._trace, request_json=None, response_json=None, content="truncated")
