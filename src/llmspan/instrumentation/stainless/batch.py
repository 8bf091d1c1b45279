"""The results of a Message Batch: one record each, built while the caller reads them.

The tokens of a result were billed to the batch, once, however often its results are fetched. So the record of a result
has an id that is derived from the batch and the request's ``custom_id``, and the times of the batch; the span of the
fetch has no usage. The bytes go to the worker while the caller reads, so a batch of any size is never in memory.
"""

from __future__ import annotations

import functools
import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from ... import _json
from ..._bounded import drop_oldest
from ..._guard import guarded
from ...content import ContentPolicy
from ...limits import id_key
from ...trace import ProviderTrace, RecordStatus, nanoseconds_of
from ...wire import error_type
from ...wire.apis.anthropic_batches import BatchResult, read_result
from ..body import Body
from ..call import Call
from ..credentials import call_credentials
from ..decoding import UndecodableError, decoder
from ..finished_call import FinishedCall
from ..record import record_facts
from ..telemetry import publish

#: bytes that are passed to the worker together
_SLICE_SIZE: Final = 256 * 1024
_MAX_BATCHES: Final = 1000
_IDS: Final = uuid.uuid5(uuid.NAMESPACE_OID, "llmspan batch result")
_STATUS: Final[dict[str, RecordStatus]] = {"succeeded": "ok", "canceled": "cancelled"}


class Times(NamedTuple):
    """When a batch was created and when it ended, in nanoseconds since the epoch."""

    created: int
    ended: int


class BatchTimes:
    """The times of the batches that the program has retrieved last: the SDK retrieves one before its results."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, Times] = OrderedDict()

    def remember(self, batch: Any) -> None:
        """Keep the times of a ``MessageBatch`` that has ended."""
        batch_id, created, ended = (getattr(batch, key, None) for key in ("id", "created_at", "ended_at"))
        if isinstance(batch_id, str) and isinstance(created, datetime) and isinstance(ended, datetime):
            self._times[id_key(batch_id)] = Times(nanoseconds_of(created), nanoseconds_of(ended))
            drop_oldest(self._times, _MAX_BATCHES)

    def get(self, batch_id: str) -> Times | None:
        """The times of a batch, if it was retrieved."""
        return self._times.get(id_key(batch_id))


class BatchResults:
    """The results of one fetch; see :class:`llmspan.instrumentation.call.BatchResultsSink`."""

    def __init__(self, call: Call, batch_id: str, times: Times | None) -> None:
        self.batch_id = batch_id
        self.times = times
        self._call: Call | None = call
        self._decode: Callable[[bytes], Iterator[bytes]] | None = None
        #: the bytes behind the last line feed
        self._partial_line = b""
        self._kinds: Counter[str] = Counter()
        self._line_count = 0

    def new_body(self, encoding: str, client: str) -> Body:
        """A body that passes its bytes on. A retry of the request starts from the first result again."""
        self._partial_line, self._kinds, self._line_count = b"", Counter(), 0
        self._decode = guarded("batch.decoding", decoder, encoding, client)
        return _StreamedBody(self)

    def finish(self, finished: FinishedCall) -> None:
        """Submit the remaining results, then the call that fetched them, on the sink's worker."""
        finished.call.observer.sink.defer(functools.partial(self._finish, finished))

    def _finish(self, finished: FinishedCall) -> None:
        call = finished.call
        if isinstance(call.body, _StreamedBody):
            guarded("batch.take", self.read_pieces, call.body.pieces, is_last=True)
        self._call = None
        call.observer.sink.submit(finished)

    def summary(self) -> Any:
        """The number of results of each kind."""
        return {"batch_id": self.batch_id, "results": dict(sorted(self._kinds.items()))}

    def defer_pieces(self, pieces: list[bytes]) -> None:
        """Read ``pieces`` on the sink's worker, which keeps the order of these calls."""
        if self._call is not None:
            self._call.observer.sink.defer(lambda: guarded("batch.take", self.read_pieces, pieces))

    def read_pieces(self, pieces: list[bytes], *, is_last: bool = False) -> None:
        """Submit a record for each line that ends in ``pieces``."""
        call = self._call
        if call is None or self._decode is None:
            return
        decoded = self._decoded(pieces, self._decode)
        *lines, self._partial_line = b"".join([self._partial_line, *decoded]).split(b"\n")
        for line in [*lines, self._partial_line] if is_last else lines:
            result = read_result(line) if line.strip() else None
            if result is not None:
                self._kinds[result.kind] += 1
                is_reported = self._is_reported(call)
                call.observer.sink.submit(_PendingResult(call, self, result, line, is_reported=is_reported))

    def _decoded(self, pieces: list[bytes], decode: Callable[[bytes], Iterator[bytes]]) -> Iterator[bytes]:
        """The decoded bytes of ``pieces``, up to those that cannot be decoded: the client has raised there as well."""
        try:
            for piece in pieces:
                yield from decode(piece)
        except UndecodableError:
            self._decode = None

    def _is_reported(self, call: Call) -> bool:
        """Whether metrics and events have reported the next result before: results are lines in a stable order.

        Stores recognise a result by its id; for metrics and events there is only this count.
        """
        reported, self._line_count = call.observer.reported_results, self._line_count + 1
        key = id_key(self.batch_id)
        if self._line_count <= reported.get(key, 0):
            return True
        reported[key] = self._line_count
        drop_oldest(reported, _MAX_BATCHES)
        return False


class _StreamedBody(Body):
    """A body that passes its bytes on instead of keeping them."""

    def __init__(self, results: BatchResults) -> None:
        super().__init__(_SLICE_SIZE)
        self._results = results

    def trim(self) -> None:
        """Pass on what was received since the last time, if it is enough."""
        size = self.size
        if size >= _SLICE_SIZE:
            pieces = list(self.pieces)
            self.dropped += size
            self.pieces.clear()
            self._results.defer_pieces(pieces)


class _PendingResult:
    """The record of one result; see :class:`llmspan.sink.PendingRecord`."""

    def __init__(
        self, call: Call, results: BatchResults, result: BatchResult, line: bytes, *, is_reported: bool
    ) -> None:
        self._call = call
        self._results = results
        self._result = result
        self._line: bytes | None = line
        self._is_reported = is_reported

    @property
    def size(self) -> int:
        return 2048 + 2 * len(self._line or b"")

    def build(self) -> ProviderTrace:
        call, result, policy = self._call, self._result, self._call.observer.policy
        facts = record_facts(call, result.reply)
        facts |= _batch_facts(self._results, result, facts) | _result_facts(result)
        request_json, response_json, content = self._texts(policy)
        if self._line is None and policy.keep:
            content = "truncated"
        return ProviderTrace(
            **policy.clean_metadata(facts, call_credentials(call, has_failed=True)),
            request_json=request_json,
            response_json=response_json,
            content=content,
        )

    def publish(self, record: ProviderTrace) -> None:
        if not self._is_reported:
            publish(record, self._call, self._texts, is_timed=False)

    def drop_payload(self) -> None:
        self._line = None
        self._result = replace(self._result, response=None)

    def _texts(self, policy: ContentPolicy) -> tuple[str | None, str | None, Any]:
        """The payload of the result under ``policy``; a result does not repeat its request."""
        result, has_failed = self._result, self._result.reply.error is not None
        text = None if result.response is None else _json.dumps(result.response)
        credentials = call_credentials(self._call, has_failed=has_failed)
        return policy.apply_to_payloads(None, text, credentials, failed=has_failed)


def _batch_facts(results: BatchResults, result: BatchResult, facts: dict[str, Any]) -> dict[str, Any]:
    """The values in which the record of a result differs from that of its fetch, apart from the outcome."""
    batch_attributes = {"batch_id": results.batch_id, "batch_custom_id": result.custom_id}
    batch_facts: dict[str, Any] = {
        "id": str(uuid.uuid5(_IDS, f"{results.batch_id}/{result.custom_id}")),
        "parent_span_id": facts["span_id"],
        "span_id": None,
        "operation": "chat",
        "api": "messages",
        "call_type": facts["call_type"] or "batch",
        "attributes": {**facts["attributes"], **batch_attributes},
        "stream": False,
        "request_id": None,
        "http_status": None,
        "attempts": None,
        "request_bytes": None,
        "response_bytes": None,
        "duration_ns": 0,
    }
    if results.times is not None:
        batch_facts["started_at"] = results.times.created
        batch_facts["duration_ns"] = results.times.ended - results.times.created
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
