"""A call that has ended, as the sink takes it: it builds its record, and publishes metrics and events of it.

Both run on the sink's worker. Building has no side effects, so a record may be built again after a failure; publishing
is a step of its own, which happens once.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Final

from .._guard import guarded
from ..trace import ProviderTrace
from .call import Call
from .content_capture import emit_exception_event
from .estimates import with_estimates
from .record import build_record, payload_texts, record_without_payload
from .telemetry import publish

#: an estimate of a call's bytes without request and response
_BASE_SIZE: Final = 2048


class FinishedCall:
    """See :class:`llmspan.sink.PendingRecord`."""

    __slots__ = ("_stripped", "call")

    def __init__(self, call: Call) -> None:
        self.call = call
        #: the record without payload, once that was dropped
        self._stripped: ProviderTrace | None = None

    @property
    def size(self) -> int:
        """The bytes of request and response, and a flat sum for everything else."""
        call = self.call
        request = len(call.request_bytes or b"") + (call.upload.held if call.upload is not None else 0)
        return _BASE_SIZE + request + (call.body.size if call.body is not None else 0)

    def end_span(self) -> None:
        """See :class:`llmspan.deferred_spans.SpanOwner`."""
        self.call.observer.end_span(self.call)

    def build(self) -> ProviderTrace:
        """The whole record, or the one without payload if that was dropped."""
        call = self.call
        record = self._stripped if self._stripped is not None else build_record(call)
        estimator = call.observer.estimator
        if estimator is not None:
            record = guarded("finished_call.estimate", with_estimates, record, call, estimator) or record
        return record

    def publish(self, record: ProviderTrace) -> None:
        """Emit the metrics and events of the call."""
        call = self.call
        # a background response is timed by its provider: no caller has waited for it
        is_timed = record.operation == call.route.operation
        publish(record, call, functools.partial(payload_texts, call), is_timed=is_timed)
        logger = call.observer.logger
        if logger is not None and record.status == "error" and call.error is not None:
            guarded("finished_call.exception", emit_exception_event, logger, record, call)

    def drop_payload(self) -> None:
        """Free request and response; ``content`` of the record becomes ``truncated``."""
        call = self.call
        stripped = self._stripped if self._stripped is not None else record_without_payload(call)
        self._stripped = replace(stripped, content="truncated" if call.observer.policy.keep else "metadata")
        call.body = call.upload = call.reply = call.end_facts = None
        if call.batch_results is None:  # the results that it fetched are still to be masked
            call.request = call.credentials = None
