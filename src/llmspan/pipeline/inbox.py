"""What waits in the pipeline's inbox, and who waits for it: plain values, without a lock.

Used by the pipeline alone, under its own lock.
"""

from __future__ import annotations

from typing import NamedTuple

from .._native import Event
from ..deferred_spans import deferred_spans
from ..sink import PendingRecord
from ..span_record import SpanRecord, without_attributes
from ..trace import ProviderTrace
from .backend_worker import BackendWorker
from .queue import size_of

__all__ = ["FlushWaiter", "InboxItem", "PendingSpan", "count_dropped"]


class PendingSpan:
    """A span that is ready to be stored, as :class:`~llmspan.sink.PendingRecord` is for records."""

    def __init__(self, span: SpanRecord) -> None:
        self._span = span
        self.size = size_of(span)

    def build(self) -> SpanRecord:
        """The span."""
        return self._span

    def publish(self, record: ProviderTrace) -> None:
        """Nothing: a span is no call."""

    def drop_payload(self) -> None:
        """Free the attributes: the queue is full."""
        self._span = without_attributes(self._span) or self._span


class InboxItem(NamedTuple):
    """A call or a span in the inbox, and where it was promised to."""

    pending: PendingRecord | PendingSpan
    size: int
    workers: tuple[BackendWorker, ...]


class FlushWaiter:
    """A caller that waits until everything queued before it has been processed."""

    def __init__(self) -> None:
        self.position: int | None = None
        self.processed = Event()


def count_dropped(item: InboxItem, reason: str) -> None:
    """Count an item that is given up, for each backend that it was promised to; its span ends now."""
    deferred_spans.end(item.pending)
    for worker in item.workers:
        worker.stats.dropped(reason)
