"""The calls before and after a call in its run, or in its conversation or trace where it has no run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ..backends.base import Filters
from ..reader import Reader
from ..trace import ProviderTrace

__all__ = ["Neighbours", "neighbours_of"]

#: of a longer run the newest are looked at, and the page does not say which of how many the call is
_MOST_CALLS: Final = 500


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Ids of the call before and of the call after; None where there is none."""

    kind: str
    group: str
    previous: str | None
    following: str | None
    #: which of how many calls it is, by time, from 1
    position: int | None = None
    count: int | None = None


def neighbours_of(reader: Reader, record: ProviderTrace) -> Neighbours | None:
    """The neighbours of ``record``; None if it belongs to nothing."""
    if record.run_id is not None:
        return _neighbours(reader, record, "run", record.run_id, Filters(run_id=record.run_id))
    if record.conversation_id is not None:
        filters = Filters(conversation_id=record.conversation_id)
        return _neighbours(reader, record, "conversation", record.conversation_id, filters)
    if record.trace_id is not None:
        return _neighbours(reader, record, "trace", record.trace_id, Filters(trace_id=record.trace_id))
    return None


def _neighbours(reader: Reader, record: ProviderTrace, kind: str, group: str, filters: Filters) -> Neighbours:
    page = reader.list(filters, limit=_MOST_CALLS)
    calls = [call.id for call in page.traces][::-1]
    at = calls.index(record.id) if record.id in calls else None
    following = calls[at + 1] if at is not None and at + 1 < len(calls) else None
    if page.next_cursor is None and at is not None:
        return Neighbours(kind, group, calls[at - 1] if at else None, following, at + 1, len(calls))
    earlier = reader.list(replace(filters, until=record.started_at), limit=1).traces
    return Neighbours(kind, group, earlier[0].id if earlier else None, following)
