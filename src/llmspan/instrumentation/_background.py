"""Background responses: their usage is in one record, however many calls and processes see them end.

A background response is created by one call and read by others, which repeat its numbers: polls, a stream that is
resumed, the same in other processes. The first call of a process that sees the response end carries the usage, and its
record has an id and a time that are derived from the response. A store that is given such a record twice has one row.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from ..limits import id_key
from ..usage import Usage
from ..wire import Reply
from ._call import Call

_IDS: Final = uuid.uuid5(uuid.NAMESPACE_OID, "llmspan background response")
_REMEMBERED: Final = 10_000
#: nanoseconds since the epoch: 2025, when background responses began
_EARLIEST: Final = 1_735_689_600 * 1_000_000_000
_CLOCK_SKEW: Final = 3_600 * 1_000_000_000


def background_facts(call: Call, reply: Reply, call_type: str | None) -> dict[str, Any]:
    """What the record of a call that saw a background response end says otherwise than other calls' records.

    The answer stays the same however often, and on whichever thread, it is asked for.
    """
    if reply.background is None or reply.response_id is None or reply.usage.source != "provider":
        return {}
    if not _is_first(call, reply.response_id):
        return {"usage": Usage(raw=reply.usage.raw)}
    facts: dict[str, Any] = {
        "id": str(uuid.uuid5(_IDS, reply.response_id)),
        "operation": "chat",
        "call_type": call_type or "background",
        "usage": reply.usage,
    }
    created_at, completed_at = reply.background
    # a gateway that says 1970 would put the record where no store keeps it
    if created_at is not None and _EARLIEST <= created_at < call.started_at + _CLOCK_SKEW:
        facts["started_at"] = created_at
    if call.route.operation == "fetch_response":  # its times are those of the fetch, not of the response
        facts["time_to_first_chunk_ns"] = None
        if created_at is not None and completed_at is not None:
            facts["duration_ns"] = max(0, completed_at - created_at)
    return facts


def _is_first(call: Call, response_id: str) -> bool:
    """Whether no other call of this process carries the usage of the response."""
    owners = call.judge.background_owners
    is_first = owners.setdefault(id_key(response_id), call.id) == call.id
    while len(owners) > _REMEMBERED:
        owners.popitem(last=False)
    return is_first
