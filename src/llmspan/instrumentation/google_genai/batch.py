"""The results of a batch of the Gemini API, which are in the batch itself once it has ended.

The program asks for the batch again and again until then. A call is made of each of these requests, and is forgotten
unless the response has results: only then has it a span and a record, and each result a record of its own.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from ..._guard import guarded
from ...wire import Reply
from ...wire.apis.gemini_batches import GeminiBatch, may_have_results, read_batch, read_result
from ..batch_results import PendingResult, Times, count_as_reported, times_of
from ..body import Body
from ..call import Call, Route
from ..finished_call import FinishedCall
from .routes import model_name

#: requests that are recorded only if a batch has results
FETCH_BATCH: Final = Route("fetch_batch_results", "batch_generate_content")
#: characters of results that are submitted together: the sink makes records of them before the next ones come
_SLICE_SIZE: Final = 256 * 1024
#: characters that the smallest result counts as: the queue is bounded by the number of records, too
_LEAST_SIZE: Final = 2048


class GeminiBatchResults:
    """The results in one response; see :class:`llmspan.instrumentation.call.BatchResultsSink`."""

    def __init__(self, batch_id: str) -> None:
        self.batch_id = batch_id
        self.times: Times | None = None
        self.model: str | None = None
        #: batches have prices of their own, and their responses do not say that they are of one
        self.service_tier: str | None = "batch"
        self.has_results = False
        self._kinds: Counter[str] = Counter()

    def new_body(self, encoding: str, client: str) -> Body:
        """A body as of any other call: the SDK has read it as a whole."""
        return Body(1 << 20, encoding, client)

    def finish(self, finished: FinishedCall) -> None:
        """Submit the results, then the call that fetched them, on the sink's worker; nothing if there is no result."""
        if self.has_results:
            finished.call.observer.sink.defer(lambda: guarded("google.batch", self._finish, finished))

    def _finish(self, finished: FinishedCall) -> None:
        call = finished.call
        batch = _read(call)
        if batch is None:  # a response like any other that the SDK cannot parse
            call.reply = call.batch_results = None
            call.observer.sink.submit(finished)
            return
        self.model = None if batch.model is None else model_name(batch.model)
        self.times = times_of(batch.created, batch.ended)
        self._submit_from(0, batch.results, finished)

    def _submit_from(self, first: int, results: list[str], finished: FinishedCall) -> None:
        """Submit some of the results, and have the sink's worker go on with the others when those are records."""
        call, size = finished.call, 0
        sink = call.observer.sink
        for index in range(first, len(results)):
            if size >= _SLICE_SIZE:
                self._submit_later(index, results, finished)
                return
            item, results[index] = results[index], ""
            size += max(len(item), _LEAST_SIZE)
            result = guarded("google.batch_result", read_result, index, item)
            if result is not None:
                self._kinds[result.kind] += 1
                reported = count_as_reported(call, self.batch_id, index)
                sink.submit(PendingResult(call, self, result, len(item), is_reported=reported))
        sink.submit(finished)

    def _submit_later(self, first: int, results: list[str], finished: FinishedCall) -> None:
        sink = finished.call.observer.sink
        sink.defer(lambda: guarded("google.batch_slice", self._submit_from, first, results, finished))

    def summary(self) -> Any:
        """The number of results of each kind."""
        return {"batch_id": self.batch_id, "results": dict(sorted(self._kinds.items()))}


def start_span_of_fetch(call: Call) -> None:
    """Start the span of a call that has returned, if it has fetched results."""
    results, body = call.batch_results, call.body
    if isinstance(results, GeminiBatchResults) and body is not None and may_have_results(body.decoded()):
        results.has_results = True
        call.reply = Reply(response_id=results.batch_id)  # a large batch is read by the worker only
        call.observer.start_span(call, {})


def _read(call: Call) -> GeminiBatch | None:
    """What the call has fetched, which is freed; None if it cannot be read."""
    body = call.body
    if body is None:
        return None
    try:
        batch = read_batch(body.decoded().decode())
    except (ValueError, RecursionError):
        return None
    body.dropped += body.size
    body.pieces.clear()
    return batch
