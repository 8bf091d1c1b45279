"""Background responses: their usage is in one record, even if several calls and processes see them end.

A background response is created by one call and read by others, which repeat its numbers: polls, a stream that is
resumed, the same in other processes. Where a response does not say that it is one, the calls tell: the request asked
for one, or a call of this process has returned while it was in progress. The first call of a process that sees the
response end has the usage, and its record has an id and a time that are derived from the response. A store that gets
such a record twice has one row.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from typing import Any, Final

from .._bounded import drop_oldest
from .._clock import HOUR, SECOND
from ..limits import id_key
from ..usage import Usage
from ..wire import Reply
from .call import Call

_IDS: Final = uuid.uuid5(uuid.NAMESPACE_OID, "llmspan background response")
_MAX_REMEMBERED: Final = 10_000
#: nanoseconds since the epoch: 2025, when background responses began
_EARLIEST: Final = 1_735_689_600 * SECOND
_CLOCK_SKEW: Final = HOUR


def background_facts(call: Call, reply: Reply, call_type: str | None) -> dict[str, Any]:
    """The values that the record of a call has because it saw a background response end.

    They stay the same each time, and on each thread, that this is called.
    """
    response_id = reply.response_id
    if response_id is not None and _is_left_pending(call, reply):
        _remember(call.observer.pending_responses, response_id, call.id)
        return {"usage": Usage(raw=reply.usage.raw)}
    if reply.background is None or response_id is None or reply.usage.source != "provider":
        return {}
    created_at, completed_at, is_certain, operation = reply.background
    if not (is_certain or call.asks_background or id_key(response_id) in call.observer.pending_responses):
        return {}
    if not _is_first(call, response_id):
        return {"usage": Usage(raw=reply.usage.raw)}
    facts: dict[str, Any] = {
        "id": str(uuid.uuid5(_IDS, response_id)),
        "operation": operation,
        "call_type": call_type or "background",
        "usage": reply.usage,
    }
    # with 1970, as some gateways say, retention would delete the record at once
    if created_at is not None and _EARLIEST <= created_at < call.started_at + _CLOCK_SKEW:
        facts["started_at"] = created_at
    if call.route.operation == "fetch_response":  # its times are those of the fetch, not of the response
        facts["time_to_first_chunk_ns"] = None
        if created_at is not None and completed_at is not None:
            facts["duration_ns"] = max(0, completed_at - created_at)
    return facts


def _is_left_pending(call: Call, reply: Reply) -> bool:
    """Whether another call is to have the usage: a response that was waited for has what it reported until it broke."""
    is_fetch = call.route.operation == "fetch_response"
    return reply.is_pending and (call.asks_background or is_fetch or not reply.usage.raw)


def _is_first(call: Call, response_id: str) -> bool:
    """Whether no other call of this process has the usage of the response."""
    return _remember(call.observer.background_owners, response_id, call.id) == call.id


def _remember(calls: OrderedDict[str, str], response_id: str, call_id: str) -> str:
    """The call that ``calls`` has for the response; ``call_id`` from now on if there is none."""
    first = calls.setdefault(id_key(response_id), call_id)
    drop_oldest(calls, _MAX_REMEMBERED)
    return first
