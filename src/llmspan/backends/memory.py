"""Records in a dictionary, for tests and for programs that look at their calls in the same process.

It keeps rows, as SQLite does, so that what is read is what any other store would give back. Nothing is ever dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from time import time_ns
from typing import ClassVar

from .._native import Lock
from ..annotation import Annotation
from ..query.statistics import Measures, check_groups, groups_of, measures_of
from ..settings import Settings
from ..span_record import SpanRecord
from ..trace import FAILED, KEYS, ProviderTrace
from .annotation_rows import annotation_subject, decode_annotation, encode_annotation, missing_subject
from .base import Filters, GroupBy, Page, StatsRow
from .payload_pages import take_page
from .rows import LISTED_KEYS, Cell, as_page, check_limit, decode, decode_cursor, encode, plain_text
from .span_rows import decode_span, encode_span

__all__ = ["MemoryBackend"]

_Row = Mapping[str, Cell]


class MemoryBackend:
    """Keeps all records until it is dropped; ``shutdown`` does not forget them."""

    name: ClassVar[str] = "memory"
    readable: ClassVar[bool] = True
    knows_conditions: ClassVar[bool] = True

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._spans: dict[tuple[str, str], SpanRecord] = {}
        self._annotations: dict[str, Annotation] = {}
        self._lock = Lock()

    @classmethod
    def from_settings(cls, settings: Settings) -> MemoryBackend:
        """A new, empty store; no setting matters to it."""
        del settings
        return cls()

    @property
    def location(self) -> str:
        """A text of its own for each store."""
        return f"memory:{id(self):x}"

    def open(self) -> None:
        """Do nothing: memory is there."""

    def check(self) -> str:
        """How many records there are."""
        with self._lock:
            return f"{len(self._rows)} records in memory"

    def migrate(self) -> Sequence[str]:
        """Do nothing: there is no schema."""
        return []

    def force_flush(self, timeout: float) -> bool:
        """True: a write is done when it returns."""
        del timeout
        return True

    def shutdown(self) -> None:
        """Do nothing: there is nothing to release."""

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        """Store all of ``traces`` or none; known ids stay as they are."""
        rows = [encode(record) for record in traces]
        with self._lock:
            for row in rows:
                self._rows.setdefault(str(row["id"]), row)

    @property
    def keeps_spans(self) -> bool:
        """True."""
        return True

    def write_spans(self, spans: Sequence[SpanRecord]) -> None:
        """Store all of ``spans``; known ones stay as they are."""
        with self._lock:
            for span in spans:
                self._spans.setdefault((span.trace_id, span.span_id), decode_span(encode_span(span)))

    def spans(self, trace_ids: Sequence[str], limit: int) -> Sequence[SpanRecord]:
        """The spans of these traces, the earliest first."""
        with self._lock:
            spans = [span for span in self._spans.values() if span.trace_id in trace_ids]
        return sorted(spans, key=lambda span: (span.started_at, span.span_id))[:limit]

    def annotate(self, annotation: Annotation) -> None:
        """Store an annotation, if what it is about is there."""
        encodable = decode_annotation(encode_annotation(annotation))
        with self._lock:
            if not self._has_subject(encodable):
                raise missing_subject(annotation, self.location)
            self._annotations.setdefault(encodable.id, encodable)

    def annotations(self, record_ids: Sequence[str], trace_ids: Sequence[str], limit: int) -> Sequence[Annotation]:
        """At most ``limit`` annotations of these records and these traces, the oldest first."""
        with self._lock:
            annotations = list(self._annotations.values())
        chosen = [note for note in annotations if note.record_id in record_ids or note.trace_id in trace_ids]
        return sorted(chosen, key=lambda note: (note.created_at, note.id))[:limit]

    def remove_annotation(self, annotation_id: str) -> bool:
        """Take one out; whether it was there."""
        with self._lock:
            return self._annotations.pop(annotation_id, None) is not None

    def _has_subject(self, annotation: Annotation) -> bool:
        column, value = annotation_subject(annotation)
        return any(row[column] == value for row in self._rows.values())

    def remove(self, ids: Sequence[str]) -> None:
        """Take the records with these ids out."""
        with self._lock:
            self._drop(plain_text(name) for name in ids)

    def delete(
        self, filters: Filters, *, thorough: bool = True, progress: Callable[[int], object] | None = None
    ) -> int:
        """Delete all records that ``filters`` mean."""
        del thorough
        with self._lock:
            annotations = list(self._annotations.values())
            ids = [name for name, row in self._rows.items() if filters.matches(decode(row), annotations)]
            self._drop(ids)
        if progress is not None:
            progress(len(ids))
        return len(ids)

    def _drop(self, ids: Iterable[str]) -> None:
        """Drop rows with their annotations, and spans and annotations of the traces whose last row that was."""
        dropped = [self._rows.pop(name, None) for name in ids]
        ended = {row["trace_id"] for row in dropped if row} - {row["trace_id"] for row in self._rows.values()}
        self._spans = {key: span for key, span in self._spans.items() if span.trace_id not in ended}
        self._annotations = {key: note for key, note in self._annotations.items() if self._has_subject(note)}

    def now(self) -> int:
        """The time of this machine."""
        return time_ns()

    def get(self, record_id: str, /) -> ProviderTrace | None:
        """The record with this ``id``."""
        with self._lock:
            row = self._rows.get(plain_text(record_id))
        return None if row is None else decode(row)

    def get_by_step_id(self, step_id: str) -> ProviderTrace | None:
        """The newest record of a step."""
        records = self._select(Filters(step_id=step_id))
        return decode(records[-1]) if records else None

    def list_by_step_id(self, step_id: str) -> Sequence[ProviderTrace]:
        """All records of a step, oldest first, with payloads."""
        return [decode(row) for row in self._select(Filters(step_id=step_id))]

    def list(
        self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None, payload: bool = False
    ) -> Page:
        """A page of records, newest first; with their payloads only if ``payload``."""
        check_limit(limit)
        last = None if cursor is None else decode_cursor(cursor)
        rows = (row for row in reversed(self._select(filters)) if last is None or _place(row) < last)
        if payload:
            page, next_cursor = take_page(([row[key] for key in KEYS] for row in rows), limit)
            return Page([decode(dict(zip(KEYS, row, strict=True))) for row in page], next_cursor)
        return as_page([decode({key: row[key] for key in LISTED_KEYS}) for row in islice(rows, limit + 1)], limit)

    def ids_with_prefix(self, prefix: str, limit: int) -> Sequence[str]:
        """At most ``limit`` ids that begin with ``prefix``, in their order."""
        with self._lock:
            ids = sorted(self._rows)
        return list(islice((record_id for record_id in ids if record_id.startswith(plain_text(prefix))), limit))

    def count(self, filters: Filters | None = None) -> int:
        """How many records are meant."""
        return len(self._select(filters))

    def stats(self, group_by: Sequence[GroupBy], filters: Filters | None = None) -> Sequence[StatsRow]:
        """Sums per group, in the order of the group's values."""
        groups = self._groups(group_by, filters)
        order = sorted(groups, key=lambda values: [(value is not None, value or "") for value in values])
        return [_stats(dict(zip(group_by, values, strict=True)), groups[values]) for values in order]

    def measures(
        self, group_by: Sequence[GroupBy], filters: Filters | None = None
    ) -> Mapping[tuple[str | None, ...], Measures]:
        """The measures of each group that has records, by the group's values."""
        groups = self._groups(group_by, filters)
        return {values: measures_of([decode(row) for row in rows]) for values, rows in groups.items() if rows}

    def _groups(self, group_by: Sequence[GroupBy], filters: Filters | None) -> dict[tuple[str | None, ...], list[_Row]]:
        check_groups(group_by)
        groups: dict[tuple[str | None, ...], list[_Row]] = {} if group_by else {(): []}
        for row in self._select(filters):
            for values in groups_of(decode(row), group_by):
                groups.setdefault(values, []).append(row)
        return groups

    def _select(self, filters: Filters | None) -> Sequence[_Row]:
        """The rows that are meant, oldest first."""
        filters_or_all = filters or Filters()
        with self._lock:
            rows, annotations = list(self._rows.values()), list(self._annotations.values())
        return sorted((row for row in rows if filters_or_all.matches(decode(row), annotations)), key=_place)


def _place(row: _Row) -> tuple[int, str]:
    return int(row["started_at"] or 0), str(row["id"])


def _stats(group: Mapping[str, str | None], rows: Sequence[_Row]) -> StatsRow:
    return StatsRow(
        group=group,
        calls=len(rows),
        failures=sum(row["status"] in FAILED for row in rows),
        without_usage=sum(row["usage_source"] == "none" for row in rows),
        input_tokens=_sum(row["input_tokens"] for row in rows),
        output_tokens=_sum(row["output_tokens"] for row in rows),
        cache_read_tokens=_sum(row["cache_read_tokens"] for row in rows),
        cache_write_tokens=_sum(row["cache_write_tokens"] for row in rows),
        reasoning_tokens=_sum(row["reasoning_tokens"] for row in rows),
    )


def _sum(cells: Iterable[Cell]) -> int | None:
    reported = [int(cell) for cell in cells if cell is not None]
    return sum(reported) if reported else None
