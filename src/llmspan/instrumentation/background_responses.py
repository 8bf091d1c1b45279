"""Background responses: their usage is in one record, even if several calls and processes see them end.

A background response is created by one call and read by others, which repeat its numbers: polls, a stream that is
resumed, the same in other processes. The first call of a process that sees the response end has the usage, and its
record has an id and a time that are derived from the response. A store that gets such a record twice has one row.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from ..limits import id_key
from ..usage import Usage
from ..wire import Reply
from .call import Call

_IDS: Final = uuid.uuid5(uuid.NAMESPACE_OID, "llmspan background response")
_MAX_REMEMBERED: Final = 10_000
#: nanoseconds since the epoch: 2025, when background responses began
_EARLIEST: Final = 1_735_689_600 * 1_000_000_000
_CLOCK_SKEW: Final = 3_600 * 1_000_000_000


def background_facts(call: Call, reply: Reply, call_type: str | None) -> dict[str, Any]:
    """The values that the record of a call has because it saw a background response end.

    They stay the same each time, and on each thread, that this is called.
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
    # with 1970, as some gateways say, retention would delete the record at once
    if created_at is not None and _EARLIEST <= created_at < call.started_at + _CLOCK_SKEW:
        facts["started_at"] = created_at
    if call.route.operation == "fetch_response":  # its times are those of the fetch, not of the response
        facts["time_to_first_chunk_ns"] = None
        if created_at is not None and completed_at is not None:
            facts["duration_ns"] = max(0, completed_at - created_at)
    return facts


def _is_first(call: Call, response_id: str) -> bool:
    """Whether no other call of this process has the usage of the response."""
    owners = call.observer.background_owners
    is_first = owners.setdefault(id_key(response_id), call.id) == call.id
    while len(owners) > _MAX_REMEMBERED:
        owners.popitem(last=False)
    return is_first
