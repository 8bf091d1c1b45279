"""The records of the results of a batch, whichever provider's.

The tokens of a result were billed to the batch, once, however often its results are fetched. So the record of a result
has an id that is derived from the batch and the result's own id, and the times of the batch; the span of the fetch has
no usage.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol

from .. import _json
from .._bounded import drop_oldest
from ..content import ContentPolicy
from ..limits import id_key
from ..trace import ProviderTrace, RecordStatus, nanoseconds_of
from ..wire import error_type
from ..wire.batch_result import BatchResult
from .call import Call
from .credentials import call_credentials
from .record import record_facts
from .telemetry import publish

__all__ = ["MAX_BATCHES", "FetchedBatch", "PendingResult", "Times", "count_as_reported", "times_of"]

#: how many batches are remembered
MAX_BATCHES: Final = 1000
#: nanoseconds since the epoch: what 64 bits hold
_LATEST: Final = 2**63 - 1
_IDS: Final = uuid.uuid5(uuid.NAMESPACE_OID, "llmspan batch result")
_STATUS: Final[dict[str, RecordStatus]] = {"succeeded": "ok", "canceled": "cancelled"}


class Times(NamedTuple):
    """When a batch was created and when it ended, in nanoseconds since the epoch."""

    created: int
    ended: int


def times_of(created: object, ended: object) -> Times | None:
    """The times of a batch; None if they are none that a store could hold, or contradict each other."""
    if not (isinstance(created, datetime) and isinstance(ended, datetime)) or None in (created.tzinfo, ended.tzinfo):
        return None
    times = Times(nanoseconds_of(created), nanoseconds_of(ended))
    return times if 0 <= times.created <= times.ended <= _LATEST else None


class FetchedBatch(Protocol):
    """A batch whose results were fetched: what they have in common."""

    @property
    def batch_id(self) -> str:
        """The id of the batch."""
        ...

    @property
    def times(self) -> Times | None:
        """When it was made; None if that is not known."""
        ...

    @property
    def model(self) -> str | None:
        """The model that all of its requests ask for, if the batch says so."""
        ...

    @property
    def service_tier(self) -> str | None:
        """The tier of all of its results, if that is not what each says."""
        ...


def count_as_reported(call: Call, batch_id: str, index: int) -> bool:
    """Count a result of a batch as reported by metrics and events; whether it was before. Their order is stable.

    Stores recognise a result by its id; for metrics and events there is only this count.
    """
    reported, key = call.observer.reported_results, id_key(batch_id)
    if index < reported.get(key, 0):
        return True
    reported[key] = index + 1
    drop_oldest(reported, MAX_BATCHES)
    return False


class PendingResult:
    """The record of one result; see :class:`llmspan.sink.PendingRecord`. ``size``: bytes of its JSON."""

    def __init__(self, call: Call, batch: FetchedBatch, result: BatchResult, size: int, *, is_reported: bool) -> None:
        self._call = call
        self._batch = batch
        self._result = result
        #: None once the payload was dropped
        self._size: int | None = size
        self._is_reported = is_reported

    @property
    def size(self) -> int:
        """Bytes that are kept for it, about."""
        return 2048 + 2 * (self._size or 0)

    def build(self) -> ProviderTrace:
        """The record: what the batch, the result and the call that fetched it say."""
        call, result, policy = self._call, self._result, self._call.observer.policy
        facts = record_facts(call, result.reply)
        facts |= _batch_facts(self._batch, result, facts) | _result_facts(result)
        request_json, response_json, content = self._texts(policy)
        if self._size is None and policy.keep:
            content = "truncated"
        return ProviderTrace(
            **policy.clean_metadata(facts, call_credentials(call, has_failed=True)),
            request_json=request_json,
            response_json=response_json,
            content=content,
        )

    def publish(self, record: ProviderTrace) -> None:
        """Emit metrics and event, once for each result however often it is fetched."""
        if not self._is_reported:
            publish(record, self._call, self._texts, is_timed=False)

    def drop_payload(self) -> None:
        """Keep the facts only."""
        self._size = None
        self._result = replace(self._result, response=None)

    def _texts(self, policy: ContentPolicy) -> tuple[str | None, str | None, Any]:
        """The payload of the result under ``policy``; a result does not repeat its request."""
        result, has_failed = self._result, self._result.reply.error is not None
        text = None if result.response is None else _json.dumps(result.response)
        credentials = call_credentials(self._call, has_failed=has_failed)
        return policy.apply_to_payloads(None, text, credentials, failed=has_failed)


def _batch_facts(batch: FetchedBatch, result: BatchResult, facts: dict[str, Any]) -> dict[str, Any]:
    """The values in which the record of a result differs from that of its fetch, apart from the outcome."""
    batch_attributes = {"batch_id": batch.batch_id, "batch_custom_id": result.custom_id}
    batch_facts: dict[str, Any] = {
        "id": str(uuid.uuid5(_IDS, f"{batch.batch_id}/{result.id}")),
        "parent_span_id": facts["span_id"],
        "span_id": None,
        "operation": result.operation,
        "api": result.api,
        "request_model": facts["request_model"] if batch.model is None else batch.model,
        "call_type": facts["call_type"] or "batch",
        "service_tier": batch.service_tier or facts["service_tier"],
        "attributes": {**facts["attributes"], **batch_attributes},
        "stream": False,
        "request_id": None,
        "http_status": None,
        "attempts": None,
        "request_bytes": None,
        "response_bytes": None,
        "duration_ns": 0,
    }
    if batch.times is not None:
        batch_facts["started_at"] = batch.times.created
        batch_facts["duration_ns"] = batch.times.ended - batch.times.created
    return batch_facts


def _result_facts(result: BatchResult) -> dict[str, Any]:
    """Status, usage and error of a result."""
    status, error = _STATUS.get(result.kind, "error"), result.reply.error
    return {
        "status": status,
        "usage": result.reply.usage,
        "error_type": error_type(error) if status == "error" else None,
        "error_message": error.message if error is not None else None,
        "error_json": error.json if error is not None else None,
    }
