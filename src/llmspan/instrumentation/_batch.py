"""The results of a Message Batch: one record each, made as they are read.

A result's numbers were spent by the batch, once, however often its results are fetched. So a result's record has an id
that is derived from the batch and the request's ``custom_id``, and the batch's own times; the span of the fetch has no
usage. Bytes are handed over line by line while the caller reads, so that a batch of any size is never held.
"""

from __future__ import annotations

import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from .. import _json
from .._guard import guarded
from ..content import Policy
from ..limits import id_key
from ..trace import ProviderTrace, Status, nanoseconds_of
from ..wire import error_type
from ..wire.apis.anthropic_batches import BatchResult, read_result
from ._body import Body
from ._call import Call
from ._decoding import UndecodableError, decoder
from ._record import record_facts, secrets_of

_AT_ONCE: Final = 256 * 1024
_REMEMBERED: Final = 1000
_IDS: Final = uuid.uuid5(uuid.NAMESPACE_OID, "llmspan batch result")
_STATUS: Final[dict[str, Status]] = {"succeeded": "ok", "canceled": "cancelled"}


class Times(NamedTuple):
    """When a batch was made and when it ended, in nanoseconds since the epoch."""

    created: int
    ended: int


class BatchTimes:
    """The times of the batches that the program has lately looked at: the SDK does so before it fetches results."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Times] = OrderedDict()

    def note(self, batch: Any) -> None:
        """Remember the times of a ``MessageBatch`` that has ended."""
        name, created, ended = (getattr(batch, key, None) for key in ("id", "created_at", "ended_at"))
        if isinstance(name, str) and isinstance(created, datetime) and isinstance(ended, datetime):
            self._known[id_key(name)] = Times(nanoseconds_of(created), nanoseconds_of(ended))
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def of(self, batch_id: str) -> Times | None:
        """What is known of a batch."""
        return self._known.get(id_key(batch_id))


class BatchResults:
    """The results of one fetch; see :class:`llmspan.instrumentation._call.Results`."""

    def __init__(self, call: Call, batch_id: str, times: Times | None) -> None:
        self.batch_id = batch_id
        self.times = times
        self._call: Call | None = call
        self._decode: Callable[[bytes], Iterator[bytes]] | None = None
        self._rest = b""
        self._kinds: Counter[str] = Counter()
        self._line = 0

    def new_body(self, encoding: str, client: str) -> Body:
        """A body that hands its bytes over as they come. A retry starts anew."""
        self._rest, self._kinds, self._line = b"", Counter(), 0
        self._decode = guarded("batch.decoding", decoder, encoding, client)
        return _Flowing(self)

    def conclude(self, call: Call) -> None:
        """Hand over what is left, and ``call`` behind it, on the sink's thread."""
        sink = call.judge.sink

        def finish() -> None:
            if isinstance(call.body, _Flowing):
                guarded("batch.take", self.take, call.body.pieces, last=True)
            self._call = None
            sink.submit(call)

        sink.defer(finish)

    def overview(self) -> Any:
        """How many results of which kind there were."""
        return {"batch_id": self.batch_id, "results": dict(sorted(self._kinds.items()))}

    def hand_over(self, pieces: list[bytes]) -> None:
        """Have ``pieces`` taken on the sink's thread, in the order in which they come here."""
        if self._call is not None:
            self._call.judge.sink.defer(lambda: guarded("batch.take", self.take, pieces))

    def take(self, pieces: list[bytes], *, last: bool = False) -> None:
        """Make the lines in ``pieces`` into records."""
        call = self._call
        if call is None or self._decode is None:
            return
        *lines, self._rest = b"".join([self._rest, *self._decoded(pieces, self._decode)]).split(b"\n")
        for line in [*lines, self._rest] if last else lines:
            result = read_result(line) if line.strip() else None
            if result is not None:
                self._kinds[result.kind] += 1
                call.judge.sink.submit(_ResultRecord(call, self, result, line, is_told=self._is_told(call)))

    def _decoded(self, pieces: list[bytes], decode: Callable[[bytes], Iterator[bytes]]) -> Iterator[bytes]:
        """The bytes of ``pieces`` as far as they can be decoded; where they break, the client has raised as well."""
        try:
            for piece in pieces:
                yield from decode(piece)
        except UndecodableError:
            self._decode = None

    def _is_told(self, call: Call) -> bool:
        """Whether the next result's numbers have been told before: a batch's results are lines in a steady order.

        Stores know a result again by its id; metrics and events have no such thing.
        """
        told, self._line = call.judge.results_told, self._line + 1
        key = id_key(self.batch_id)
        if self._line <= told.get(key, 0):
            return True
        told[key] = self._line
        while len(told) > _REMEMBERED:
            told.popitem(last=False)
        return False


class _Flowing(Body):
    """A body that is never held: beyond a few pieces they are handed over."""

    def __init__(self, results: BatchResults) -> None:
        super().__init__(_AT_ONCE)
        self._results = results

    def check(self) -> None:
        """Hand over what came, if it is worth it."""
        size = self.size
        if size >= _AT_ONCE:
            pieces = list(self.pieces)
            self.lost += size
            self.pieces.clear()
            self._results.hand_over(pieces)


class _ResultRecord:
    """The record of one result in the making."""

    def __init__(self, call: Call, results: BatchResults, result: BatchResult, line: bytes, *, is_told: bool) -> None:
        self._call = call
        self._results = results
        self._result = result
        self._line: bytes | None = line
        self._is_told = is_told

    @property
    def size(self) -> int:
        return 2048 + 2 * len(self._line or b"")

    def drop_payload(self) -> None:
        self._line = None
        self._result = replace(self._result, response=None)

    def build(self) -> ProviderTrace:
        call, result, policy = self._call, self._result, self._call.judge.policy
        facts = record_facts(call, result.reply)
        facts |= _of_the_batch(self._results, result, facts) | _outcome(result)
        request_json, response_json, content = self._texts(policy)
        if self._line is None and policy.keep:
            content = "truncated"
        record = ProviderTrace(
            **policy.clean(facts, lambda: secrets_of(call, failed=True)),
            request_json=request_json,
            response_json=response_json,
            content=content,
        )
        if not self._is_told:
            call.judge.tell(record, call, self._texts, is_timed=False)
        return record

    def _texts(self, policy: Policy) -> tuple[str | None, str | None, Any]:
        """What ``policy`` makes of the result; the request is not repeated in it."""
        result, failed = self._result, self._result.reply.error is not None
        text = None if result.response is None else _json.dumps(result.response)
        return policy.apply(None, text, secrets_of(self._call, failed=failed), failed=failed)


def _of_the_batch(results: BatchResults, result: BatchResult, facts: dict[str, Any]) -> dict[str, Any]:
    """What a result's record says otherwise than its fetch's."""
    marks = {"batch_id": results.batch_id, "batch_custom_id": result.custom_id}
    found: dict[str, Any] = {
        "id": str(uuid.uuid5(_IDS, f"{results.batch_id}/{result.custom_id}")),
        "parent_span_id": facts["span_id"],
        "span_id": None,
        "operation": "chat",
        "api": "messages",
        "call_type": facts["call_type"] or "batch",
        "attributes": {**facts["attributes"], **marks},
        "stream": False,
        "request_id": None,
        "http_status": None,
        "attempts": None,
        "request_bytes": None,
        "response_bytes": None,
        "duration_ns": 0,
    }
    if results.times is not None:
        found |= {"started_at": results.times.created, "duration_ns": results.times.ended - results.times.created}
    return found


def _outcome(result: BatchResult) -> dict[str, Any]:
    status, error = _STATUS.get(result.kind, "error"), result.reply.error
    return {
        "status": status,
        "usage": result.reply.usage,
        "error_type": error_type(error) if status == "error" else None,
        "error_message": error.message if error is not None else None,
        "error_json": error.json if error is not None else None,
    }
