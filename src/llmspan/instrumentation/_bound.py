"""Spans that somebody else made of calls that have a record of ours, where the span itself is not to say so.

Whoever makes records of spans asks here, so that none of them becomes a second record. The latest few are known: a span
ends, and is exported, moments after its call.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from opentelemetry.trace import SpanContext

_REMEMBERED: Final = 10_000

#: no lock: each step is one operation of the dictionary's, and a forked child may take over what it finds
_bound: Final[OrderedDict[tuple[int, int], None]] = OrderedDict()


def bind(context: SpanContext) -> None:
    """Note that the call of this span has its record."""
    if not context.is_valid:
        return
    _bound[context.trace_id, context.span_id] = None
    if len(_bound) > _REMEMBERED:
        _bound.popitem(last=False)


def is_bound(context: SpanContext | None) -> bool:
    """Whether the call of this span has its record."""
    return context is not None and (context.trace_id, context.span_id) in _bound
