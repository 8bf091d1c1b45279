"""What the pipeline takes: records that are not built yet, and the interface through which it gets them.

Instrumentation, span exporters, ``llmspan.record`` and the sidecar all submit a :class:`PendingRecord`; the pipeline is
the :class:`RecordSink`. Building may be slow and runs on a worker, so nothing here may block the thread that submits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .trace import ProviderTrace


class PendingRecord(Protocol):
    """A record that has yet to be built."""

    @property
    def size(self) -> int:
        """The bytes that it keeps in memory."""
        ...

    def build(self) -> ProviderTrace:
        """The record. Slow (it parses and reassembles), without side effects, and called on a worker."""
        ...

    def publish(self, record: ProviderTrace, /) -> None:
        """Emit the metrics and events of ``record``, which :meth:`build` returned. Called once, on the worker."""
        ...

    def drop_payload(self) -> None:
        """Free request and response, and keep all other values: the queue is full."""
        ...


class RecordSink(Protocol):
    """Where finished calls are submitted. No method blocks or raises."""

    def ensure_started(self) -> None:
        """Start the worker that :meth:`defer` needs: a finaliser, which may call it, must not start a thread."""
        ...

    def submit(self, pending: PendingRecord, /) -> None:
        """Queue a record."""
        ...

    def defer(self, function: Callable[[], None], /) -> None:
        """Run ``function`` soon on the sink's worker. Safe to call from a finaliser."""
        ...
