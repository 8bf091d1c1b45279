"""Where the sidecar's records and spans go. Stored means: the primary backend has them; then they are acknowledged.

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

from .._bounded import drop_oldest
from .._guard import exception_of, guarded, logger
from ..backends.base import Backend, SupportsSpanWrites
from ..content import ContentPolicy
from ..errors import BackendError, RetryableError, SchemaError, SettingsError
from ..limits import id_key
from ..pipeline import BackendStatus, Pipeline
from ..pipeline.retry import retryable_open_error
from ..settings import Settings
from ..span_content import clean_span
from ..span_record import SpanRecord, StoredItem
from ..trace import ProviderTrace

__all__ = ["RecordStore"]

#: ids that are known to be stored; beyond it the stores themselves, whose key the id is, drop what comes twice
_REMEMBERED: Final = 65_536
_FLAT_SIZE: Final = 2048
#: seconds that the spool may take for one batch
_SPOOL_TIMEOUT: Final = 30.0


class RecordStore:
    """Backends, the primary first. Any thread may store."""

    def __init__(self, backends: Sequence[Backend], settings: Settings) -> None:
        self._primary = backends[0]
        self._policy = ContentPolicy.from_settings(settings)
        self._others = Pipeline()
        self._others.configure(settings)
        for backend in backends[1:]:
            self._others.add(backend)
        self._is_spooled = settings.spool_dir is not None and bool(self._others.backends)
        if self._is_spooled:
            self._others.ensure_started()  # what an earlier sidecar has left does not wait for the first record
        self._counts: Counter[str] = Counter()
        self._last_error: str | None = None
        self._is_failing = False
        #: by :func:`id_key` of the ids as they came
        self._stored: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def takes_spans(self) -> bool:
        """Whether one of the backends keeps spans."""
        return keeps_spans(self._primary) or any(map(keeps_spans, self._others.backends))

    def store(self, items: Iterable[StoredItem]) -> dict[str, str]:
        """Store records, and spans, that are not stored yet; the ids of those that never can be, and why.

        Raises:
            RetryableError: the primary, or the spool, cannot store now; nothing may be acknowledged.
            BackendError, SettingsError: nor later, unless it is repaired.
        """
        new = self._enforced(items)
        with self._lock:
            new = {name: item for name, item in new.items() if not self._is_stored(name)}
            reasons: dict[str, str] = {}
            self._write([item for item in new.values() if isinstance(item, ProviderTrace)], reasons)
            self._write_spans([item for item in new.values() if isinstance(item, SpanRecord)])
            rejected = {name: reasons[record.id] for name, record in new.items() if record.id in reasons}
            good = {name: record for name, record in new.items() if name not in rejected}
            self._remember(good)
            if self._others.backends:
                for item in good.values():
                    if isinstance(item, SpanRecord):
                        self._others.submit_span(item)
                    else:
                        self._others.submit(_Ready(item))
            if self._is_spooled and not self._others.wait_until_spooled(_SPOOL_TIMEOUT):  # resent records, too
                raise RetryableError(f"LLMSPAN_SPOOL_DIR: it has not taken the records within {_SPOOL_TIMEOUT:g} s")
        return rejected

    def _enforced(self, items: Iterable[StoredItem]) -> dict[str, StoredItem]:
        """Those that are not stored yet, by the ids as they came, as the settings allow them.

        Not under the lock: a redaction function may take its time.
        """
        with self._lock:
            new: dict[str, StoredItem] = {}
            for item in items:
                if not self._is_stored(item.id):
                    new.setdefault(item.id, item)
        allowed = ((name, self._enforce(item)) for name, item in new.items())
        return {name: item for name, item in allowed if item is not None}

    def _enforce(self, item: StoredItem) -> StoredItem | None:
        """What may be stored of it; of a span that cannot be cleaned nothing."""
        if isinstance(item, ProviderTrace):
            return self._policy.enforce(item)
        return guarded("sidecar.span", clean_span, item, self._policy)

    def _is_stored(self, name: str) -> bool:
        return id_key(name) in self._stored

    def _remember(self, ids: Iterable[str]) -> None:
        self._stored.update(dict.fromkeys(map(id_key, ids)))
        drop_oldest(self._stored, _REMEMBERED)

    def status(self) -> list[BackendStatus]:
        """Delivery statistics per backend."""
        reported = self._counts
        dropped = {"rejected": reported["rejected"]} if reported["rejected"] else {}
        first = BackendStatus(
            self._primary.name, self._primary.location, accepted=reported["stored"] + reported["rejected"],
            delivered=reported["stored"], dropped=dropped, last_error=self._last_error,
            breaker="open" if self._is_failing else "closed",
        )  # fmt: skip
        return [first, *self._others.status()]

    def sizes(self) -> dict[str, int]:
        """The bytes that wait for the backends beside the primary."""
        return self._others.sizes()

    def close(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the other backends, then close all; whether all was written."""
        is_complete = self._others.close(timeout)
        exception_of(self._primary.shutdown)
        return is_complete

    def _write(self, batch: Sequence[ProviderTrace], rejected: dict[str, str]) -> None:
        if not batch:
            return
        error = self._try(batch)
        self._is_failing = error is not None
        if error is None:
            self._counts["stored"] += len(batch)
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
            self._counts["rejected"] += 1
            rejected[batch[0].id] = f"{self._primary.name}: {error}"
        else:
            raise BackendError(f"{self._primary.name}: {type(error).__name__}") from error

    def _write_spans(self, spans: Sequence[SpanRecord]) -> None:
        """Store spans, if the primary keeps some. If it refuses them, they are dropped, and hold up no record."""
        primary = self._primary
        if not spans or not keeps_spans(primary) or not isinstance(primary, SupportsSpanWrites):
            return
        error = exception_of(primary.open) or exception_of(primary.write_spans, spans)
        if isinstance(error, RetryableError):
            raise error
        if error is not None:
            self._last_error = f"{type(error).__name__}: {error}"
            self._counts["rejected"] += len(spans)
            logger.error("llmspan: %s refused %d spans, which are dropped: %s", primary.name, len(spans), error)
        else:
            self._counts["stored"] += len(spans)

    def _try(self, batch: Sequence[ProviderTrace]) -> BaseException | None:
        error = exception_of(self._primary.open)
        return exception_of(self._primary.write, batch) if error is None else retryable_open_error(error)


def keeps_spans(backend: Backend) -> bool:
    """Whether a backend takes spans, as far as it knows."""
    return hasattr(type(backend), "write_spans") and bool(guarded("sidecar.spans", getattr, backend, "keeps_spans"))


class _Ready:
    """A record on its way to the other backends."""

    def __init__(self, record: ProviderTrace) -> None:
        self._record = record

    @property
    def size(self) -> int:
        return _FLAT_SIZE + len(self._record.request_json or "") + len(self._record.response_json or "")

    def build(self) -> ProviderTrace:
        return self._record

    def publish(self, record: ProviderTrace) -> None:
        """Nothing: the process that sent the record has reported its metrics and events."""

    def drop_payload(self) -> None:
        self._record = replace(self._record, request_json=None, response_json=None, content="truncated")
