"""Spans of other instrumentations whose call has a record of ours, where the span itself must not say so.

Whatever makes records of spans (an exporter) asks here first, so that no call gets a second record. Only the latest
spans are remembered: a span ends and is exported moments after its call. A span has the usage of one call only, so a
call claims it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from opentelemetry.trace import SpanContext

from ..._bounded import drop_oldest

_MAX_REMEMBERED: Final = 10_000
_Key = tuple[int, int]

#: no locks: each step is one operation of the dictionary, and a forked child inherits a consistent state
_recorded: Final[OrderedDict[_Key, None]] = OrderedDict()
#: ids of responses whose call has its record, and whose span gets its usage from its owner, after the call
_recorded_responses: Final[OrderedDict[str, None]] = OrderedDict()
#: span -> the id of the call that it stands for
_span_owners: Final[OrderedDict[_Key, str]] = OrderedDict()


def mark_recorded(context: SpanContext) -> None:
    """Remember that the call of this span has its record."""
    if not context.is_valid:
        return
    _recorded[context.trace_id, context.span_id] = None
    drop_oldest(_recorded, _MAX_REMEMBERED)


def is_recorded(context: SpanContext | None) -> bool:
    """Whether the call of this span has its record."""
    return context is not None and (context.trace_id, context.span_id) in _recorded


def mark_response_recorded(response_id: str) -> None:
    """Remember that the call with this response has its record: its span had ended before the response was read."""
    _recorded_responses[response_id] = None
    drop_oldest(_recorded_responses, _MAX_REMEMBERED)


def is_response_recorded(response_id: object) -> bool:
    """Whether the call with this response has its record, under a span that had ended before."""
    return response_id in _recorded_responses


def claim_span(context: SpanContext, call_id: str) -> bool:
    """Make this span stand for the call; False if it stands for another one that is open or has usage."""
    owner = _span_owners.setdefault((context.trace_id, context.span_id), call_id)
    drop_oldest(_span_owners, _MAX_REMEMBERED)
    return owner == call_id


def release_span(context: SpanContext, call_id: str) -> None:
    """Let another call claim the span: this one has ended without usage."""
    key = context.trace_id, context.span_id
    if _span_owners.get(key) == call_id:
        _span_owners.pop(key, None)
