"""Spans that somebody else made of calls that have a record of ours, where the span itself is not to say so.

Whoever makes records of spans asks here, so that none of them becomes a second record. The latest few are known: a span
ends, and is exported, moments after its call. A span also has the usage of one call only: who claims it first has it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from opentelemetry.trace import SpanContext

_REMEMBERED: Final = 10_000
_Key = tuple[int, int]

#: no locks: each step is one operation of the dictionary's, and a forked child may take over what it finds
_bound: Final[OrderedDict[_Key, None]] = OrderedDict()
#: ids of responses whose call has its record, but whose usage its owner puts on a span that comes afterwards
_responses: Final[OrderedDict[str, None]] = OrderedDict()
#: span -> the id of the call that it stands for
_claimed: Final[OrderedDict[_Key, str]] = OrderedDict()


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


def bind_response(response_id: str) -> None:
    """Note that the call with this response has its record: its span has ended before the response was read."""
    _responses[response_id] = None
    if len(_responses) > _REMEMBERED:
        _responses.popitem(last=False)


def is_bound_response(response_id: object) -> bool:
    """Whether the call with this response has its record, under a span that ended before."""
    return response_id in _responses


def claim(context: SpanContext, call_id: str) -> bool:
    """Have this span stand for the call; False if it stands for another one that is under way, or has usage."""
    owner = _claimed.setdefault((context.trace_id, context.span_id), call_id)
    if len(_claimed) > _REMEMBERED:
        _claimed.popitem(last=False)
    return owner == call_id


def release(context: SpanContext, call_id: str) -> None:
    """Let the span stand for another call: this one has ended without any usage."""
    key = context.trace_id, context.span_id
    if _claimed.get(key) == call_id:
        _claimed.pop(key, None)
