"""The methods of readers that give annotations; a backend that keeps none gives none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from .annotation import Annotation
from .backends.annotation_store import SupportsAnnotations
from .backends.base import Backend
from .trace import ProviderTrace

__all__ = ["AnnotationReading", "AsyncAnnotationReading"]

T = TypeVar("T")

#: a statement has a parameter for each id
_IDS_AT_ONCE: Final = 500


class AnnotationReading:
    """The methods of :class:`llmspan.Reader`."""

    backend: Backend

    def _asked(self, ask: Callable[[], T], without_tables: T) -> T:
        raise NotImplementedError

    def annotations(
        self, *, record_id: str | None = None, trace_id: str | None = None, limit: int = 1_000
    ) -> Sequence[Annotation]:
        """At most ``limit`` notes and scores, the oldest first: those of the record and those of the trace."""
        backend = self.backend
        if not isinstance(backend, SupportsAnnotations):
            return []
        record_ids = [] if record_id is None else [record_id]
        trace_ids = [] if trace_id is None else [trace_id]
        return self._asked(lambda: backend.annotations(record_ids, trace_ids, limit), [])

    def annotations_of(self, records: Sequence[ProviderTrace], *, limit: int = 1_000) -> Sequence[Annotation]:
        """At most ``limit`` notes and scores of these records and of their traces, the oldest first."""
        backend = self.backend
        if not isinstance(backend, SupportsAnnotations):
            return []
        trace_ids = list(dict.fromkeys(record.trace_id for record in records if record.trace_id))
        record_ids = [record.id for record in records]
        annotations: list[Annotation] = []
        for at in range(0, max(len(record_ids), len(trace_ids)), _IDS_AT_ONCE):
            part = record_ids[at : at + _IDS_AT_ONCE], trace_ids[at : at + _IDS_AT_ONCE]
            annotations += self._asked(lambda part=part: backend.annotations(*part, limit), [])
        return sorted(annotations, key=lambda annotation: annotation.created_at)[:limit]


class AsyncAnnotationReading:
    """The methods of :class:`llmspan.AsyncReader`; the work is done in a thread."""

    _reader: Any

    async def annotations(
        self, *, record_id: str | None = None, trace_id: str | None = None, limit: int = 1_000
    ) -> Sequence[Annotation]:
        """See :meth:`llmspan.Reader.annotations`."""
        return await asyncio.to_thread(self._reader.annotations, record_id=record_id, trace_id=trace_id, limit=limit)

    async def annotations_of(self, records: Sequence[ProviderTrace], *, limit: int = 1_000) -> Sequence[Annotation]:
        """See :meth:`llmspan.Reader.annotations_of`."""
        return await asyncio.to_thread(self._reader.annotations_of, records, limit=limit)
