"""The results of a batch of the Gemini API, which are in the batch itself once it has ended.

The program asks for the batch again and again until then. A call is made of each of these requests, and is forgotten
unless the response has results: only then has it a span and a record, and each result a record of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

from ..._guard import guarded
from ...trace import nanoseconds_of
from ...wire.apis.gemini_batches import GeminiBatch, may_have_results, read_batch
from ...wire.reply import obj
from ..batch_results import PendingResult, Times, is_reported
from ..body import Body
from ..call import Call, Route
from ..finished_call import FinishedCall
from .routes import model_name

#: requests that are recorded only if a batch has results
FETCH_BATCH: Final = Route("fetch_batch_results", "batch_generate_content")


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
        body = b"" if call.body is None else call.body.decoded()
        batch = guarded("google.read_batch", lambda: read_batch(obj(json.loads(body))))
        if batch is not None:
            self._submit_results(call, batch, len(body))
        call.observer.sink.submit(finished)

    def _submit_results(self, call: Call, batch: GeminiBatch, size: int) -> None:
        self.model = None if batch.model is None else model_name(batch.model)
        if batch.created is not None and batch.ended is not None:
            self.times = Times(nanoseconds_of(batch.created), nanoseconds_of(batch.ended))
        for number, result in enumerate(batch.results):
            self._kinds[result.kind] += 1
            reported = is_reported(call, self.batch_id, number)
            share = size // len(batch.results)
            call.observer.sink.submit(PendingResult(call, self, result, share, is_reported=reported))

    def summary(self) -> Any:
        """The number of results of each kind."""
        return {"batch_id": self.batch_id, "results": dict(sorted(self._kinds.items()))}


def start_span_of_fetch(call: Call) -> None:
    """Start the span of a call that has returned, if it has fetched results."""
    results = call.batch_results
    body = call.body
    if isinstance(results, GeminiBatchResults) and body is not None and may_have_results(body.decoded()):
        results.has_results = True
        call.observer.start_span(call, {})
