"""Reads what a tree is made of from a backend: the records, their spans, and the other records of their traces.

Everything is bounded, and a backend that keeps no spans gives a tree of calls alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from .backends.base import Backend, Filters, OneOf, SupportsCount, SupportsSpans
from .backends.rows import check_limit
from .errors import SettingsError
from .query.tree import Tree, build_tree
from .span_record import SpanRecord
from .trace import ProviderTrace

__all__ = ["load_tree"]

#: so many spans are read for each call that a tree may have
SPANS_PER_CALL: Final = 10
_PAGE: Final = 500
#: so many traces are named in one query
_TRACES_AT_ONCE: Final = 200


def load_tree(backend: Backend, ids: Mapping[str, str | None], limit: int) -> Tree:
    """The tree of the newest ``limit`` calls with the one id of ``ids`` that is not None.

    Raises:
        SettingsError: not exactly one id is given, or ``limit`` is below 1.
    """
    filters = _filters(ids)
    check_limit(limit)
    records = _newest(backend, filters, limit + 1)
    omitted = _count(backend, filters) - limit if len(records) > limit else 0
    records = records[:limit]
    trace_ids = sorted({record.trace_id for record in records if record.trace_id})
    spans = _spans(backend, [ids["trace_id"]] if ids.get("trace_id") else trace_ids, limit * SPANS_PER_CALL)
    others: Sequence[ProviderTrace] = ()
    # A trace may go through several runs. Without spans nothing of the others could be in the tree.
    if spans and not ids.get("trace_id"):
        own = {record.id for record in records}
        others = [record for record in _records_of_traces(backend, trace_ids, limit) if record.id not in own]
    has_spans = isinstance(backend, SupportsSpans)
    return build_tree(records, spans, others=others, omitted=max(omitted, 0), has_spans=has_spans)


def _filters(ids: Mapping[str, str | None]) -> Filters:
    named = [name for name, value in ids.items() if value is not None]
    if len(named) != 1:
        got = f"got {' and '.join(named)}" if named else "got none of them"
        raise SettingsError(f"a tree is that of one trace_id, run_id or conversation_id; {got}")
    return Filters(trace_id=ids.get("trace_id"), run_id=ids.get("run_id"), conversation_id=ids.get("conversation_id"))


def _newest(backend: Backend, filters: Filters, limit: int) -> list[ProviderTrace]:
    page = backend.list(filters, limit=min(limit, _PAGE))
    records = list(page.traces)
    while page.next_cursor is not None and len(records) < limit:
        page = backend.list(filters, limit=_PAGE, cursor=page.next_cursor)
        records.extend(page.traces)
    return records[:limit]


def _count(backend: Backend, filters: Filters) -> int:
    return backend.count(filters) if isinstance(backend, SupportsCount) else backend.stats((), filters)[0].calls


def _records_of_traces(backend: Backend, trace_ids: Sequence[str], limit: int) -> list[ProviderTrace]:
    records: list[ProviderTrace] = []
    for ids in _slices(trace_ids):
        room = limit * SPANS_PER_CALL - len(records)
        if room <= 0:
            break
        records += _newest(backend, Filters(trace_id=OneOf(tuple(ids))), room)
    return records


def _spans(backend: Backend, trace_ids: Sequence[str | None], limit: int) -> list[SpanRecord]:
    spans: list[SpanRecord] = []
    if isinstance(backend, SupportsSpans):
        for ids in _slices([trace_id for trace_id in trace_ids if trace_id]):
            if len(spans) < limit:
                spans += backend.spans(ids, limit - len(spans))
    return spans


def _slices(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[first : first + _TRACES_AT_ONCE] for first in range(0, len(ids), _TRACES_AT_ONCE)]
