"""The observer: begins a call and its span, and concludes both.

One call is one span that carries usage. If somebody else has opened a span for this very call (an instrumentation
above us, or anthropic's own), ours is not opened and the record takes the other's ids; a second call under the same
span has one of ours. Our span is current only while the HTTP client sends (``_http.py``): elsewhere in an SDK call it
would re-parent the SDK's own spans and send ``traceparent`` to the provider.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, Tracer

from .. import scope, semconv
from .._guard import guarded
from ..content import Policy
from ..estimate import Estimator
from ..metrics import CallMetrics
from ..settings import IncludeUsage, SemconvCompat
from ..trace import ProviderTrace, new_id
from ._bound import bind_response, claim, release
from ._call import Call, Route, Sink, Target, Texts
from ._call_spans import find_call_span
from ._content import Capture, emit_details, emit_exception, span_content
from ._estimates import with_estimates
from ._late_spans import keep_usage_off_late_span
from ._record import brief_record, full_record, payload, span_facts
from ._request_metadata import SAYS_WHO, with_request_metadata
from ._suppression import leave_out


@dataclass(slots=True)
class Observer:
    """How calls are observed: made once by ``llmspan.instrument`` and shared by all providers."""

    sink: Sink
    tracer: Tracer
    policy: Policy = field(default_factory=Policy)
    source: str | None = None
    baggage_keys: tuple[str, ...] = ()
    include_usage: IncludeUsage = "auto"
    anthropic_native: str = "suppress"
    #: whether a request's own ``user`` and ``metadata`` fill what the context leaves open
    request_metadata: bool = True
    #: who counts tokens where the provider reports none
    estimator: Estimator | None = None
    #: content for OpenTelemetry, and the logger of its events
    capture: Capture = field(default_factory=Capture)
    logger: Any = None
    #: whether and how names are written that the conventions have replaced
    compat: SemconvCompat = "off"
    metrics: CallMetrics | None = None
    #: whether the time of every piece is taken, not only those up to the first output
    stamps_all: bool = False
    #: calls that have not ended, so that the end of the program can end them
    open_calls: dict[int, Call] = field(default_factory=dict[int, Call])
    #: batch id -> how many of its results metrics and events have told of
    results_told: OrderedDict[str, int] = field(default_factory=OrderedDict[str, int])
    #: id of a background response -> id of the call that carries its usage
    background_owners: OrderedDict[str, str] = field(default_factory=OrderedDict[str, str])

    def begin(self, route: Route, target: Target, body: Mapping[str, Any], *, stream: bool) -> Call | None:
        """A new call, or None where instrumentation is suppressed for the moment and no span of this call is open.

        Logfire suppresses around the call that its span stands for, so that nobody makes a second span of it; the
        record takes the ids of that span.
        """
        model = body.get("model")
        model = model if isinstance(model, str) else None
        if not is_instrumentation_enabled() and find_call_span(route.operation, model) is None:
            leave_out(target.provider, route.operation)
            return None
        self.sink.ensure_started()
        call = Call(id=new_id(), route=route, target=target, judge=self)
        around = scope.current()
        call.scope = scope.with_baggage(around, self.baggage_keys) if self.baggage_keys else around
        if self.request_metadata and not SAYS_WHO.isdisjoint(body):
            args = call.scope, route.api, body, self.policy
            call.scope = guarded("observe.request_metadata", with_request_metadata, *args) or call.scope
        call.source = self.source
        call.stream = stream
        call.model = model
        call.conversation_id = _conversation(body)
        return call

    def start_span(self, call: Call, body: Mapping[str, Any]) -> None:
        """Open the span of ``call``, or take the ids of the one that somebody else has opened for it."""
        route = call.route
        call.parameters = semconv.request_attributes(call.target.provider, route.api, body)
        theirs = find_call_span(route.operation, call.model)
        if theirs is not None and self._takes(call, theirs):
            self.adopt(call, theirs)
        else:
            self._open_span(call, around=trace.get_current_span() if theirs is None else theirs)
        if route.api == "responses" and route.operation not in semconv.NOT_BILLED:
            guarded("observe.late_span", keep_usage_off_late_span)

    def has_span(self, call: Call) -> bool:
        """Whether somebody else has opened a span for the call about to be made."""
        return find_call_span(call.route.operation, call.model) is not None

    def _takes(self, call: Call, span: Span) -> bool:
        """Whether ``call`` is the one that ``span`` stands for, and not one after it (a framework's second attempt)."""
        return claim(span.get_span_context(), call.id) or not is_instrumentation_enabled()

    def _open_span(self, call: Call, *, around: Span) -> None:
        target, route = call.target, call.route
        attributes = semconv.start_attributes(
            operation=route.operation,
            provider=target.provider,
            model=call.model,
            address=target.address,
            port=target.port,
        )
        attributes |= call.parameters
        attributes[semconv.RECORD_ID] = call.id
        if call.stream:
            attributes[semconv.STREAM] = True
        if call.response_id is not None:
            attributes[semconv.RESPONSE_ID] = call.response_id
        attributes = semconv.with_old_names(attributes, self.compat)
        parent = around.get_span_context()
        call.parent = parent if parent.is_valid else None
        call.span = self.tracer.start_span(
            semconv.span_name(route.operation, call.model),
            context=trace.set_span_in_context(around),
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=call.started_at,
        )
        started = call.span.get_span_context()
        # without an SDK, the API hands the parent's context on: that is the trace, but no span of this call
        if started.is_valid and (call.parent is None or started.span_id != call.parent.span_id):
            call.span_context = started

    def adopt(self, call: Call, span: Span) -> None:
        """Attach the record of ``call`` to a span that is not ours; it gets what it lacks, and is not ended by us."""
        call.span = span
        call.is_adopted = True
        call.span_context = span.get_span_context()
        parent = getattr(span, "parent", None)
        call.parent = parent if isinstance(parent, SpanContext) else None
        if span.is_recording():
            span.set_attribute(semconv.RECORD_ID, call.id)
            if call.scope is not None and call.scope.step_id:
                span.set_attribute("llmspan.step.id", call.scope.step_id)

    def conclude(self, call: Call) -> None:
        """End the span of a finished call and hand the call over; each of the two whatever becomes of the other."""
        span, call.span = call.span, None
        if span is not None and span.is_recording():
            guarded("observe.describe", self._describe, call, span)
        elif call.is_adopted:
            guarded("observe.bind_response", self._bind_response, call)
        if span is not None and not call.is_adopted:
            guarded("observe.end_span", span.end, call.started_at + call.ended - call.started)
        take = self.sink.submit if call.results is None else call.results.conclude
        guarded("observe.accept", take, call)

    def brief(self, call: Call) -> ProviderTrace:
        """The record of a finished call without its payload."""
        return brief_record(call)

    def full(self, call: Call) -> ProviderTrace:
        """The whole record of a finished call; on the worker, which also sees to events and metrics."""
        record = call.brief if call.is_payload_dropped and call.brief is not None else full_record(call)
        if self.estimator is not None:
            record = guarded("observe.estimate", with_estimates, record, call, self.estimator) or record
        is_timed = record.operation == call.route.operation  # not that of a background response, which nobody awaited
        self.tell(record, call, functools.partial(payload, call), is_timed=is_timed)
        if self.logger is not None and record.status == "error" and call.error is not None:
            guarded("observe.exception", emit_exception, self.logger, record, call)
        return record

    def tell(self, record: ProviderTrace, call: Call, texts: Texts, *, is_timed: bool = True) -> None:
        """Make the metrics and the event of a record: of ``call`` itself, or of a result that it fetched."""
        if self.metrics is not None:
            gaps = _gaps(call, record) if self.stamps_all else ()
            fingerprint = call.span_facts.system_fingerprint
            guarded("observe.metrics", self.metrics.record, record, gaps, is_timed=is_timed, fingerprint=fingerprint)
        if self.logger is not None and self.capture.in_events and record.operation in semconv.GENERATION:
            guarded("observe.details", emit_details, self.logger, record, call, texts, self.capture, self.compat)

    def _bind_response(self, call: Call) -> None:
        """Remember the response of a call whose span its owner has ended: what he says of it later is no other call."""
        response_id = span_facts(call)["response_id"]
        if response_id is not None:
            bind_response(response_id)

    def _describe(self, call: Call, span: Span) -> None:
        facts = span_facts(call)
        found = semconv.end_attributes(facts, call.span_facts)
        if "id" in facts:  # of a background response
            span.set_attribute(semconv.RECORD_ID, facts["id"])
        if self.capture.on_spans and call.route.operation in semconv.GENERATION:
            found |= guarded("observe.content", span_content, call, self.capture) or {}
        found = semconv.with_old_names(found, self.compat)
        if call.is_adopted:  # what its owner has said stands; he may be about to say the rest
            if facts["usage"].source == "none":
                release(span.get_span_context(), call.id)
            known: Mapping[str, Any] = getattr(span, "attributes", None) or {}
            span.set_attributes({name: value for name, value in found.items() if name not in known})
            return
        span.set_attributes(found)
        if facts["status"] == "error":
            span.set_status(Status(StatusCode.ERROR, facts["error_message"] or facts["error_type"]))


def finish_open_calls(observer: Observer) -> None:
    """End the calls that are still open: the program is ending, nobody will read on."""
    for call in list(observer.open_calls.values()):
        call.abandoned()


def _gaps(call: Call, record: ProviderTrace) -> list[int]:
    """The nanoseconds between the pieces that were received from the first output on."""
    if call.body is None or record.time_to_first_chunk_ns is None:
        return []
    first = call.started + record.time_to_first_chunk_ns
    times = [moment for moment in call.body.times if moment >= first]
    return [later - moment for moment, later in pairwise(times)]


def _conversation(body: Mapping[str, Any]) -> str | None:
    """The Responses API's ``conversation``: an id, or an object with one."""
    value = body.get("conversation")
    if value is None:
        return None
    if isinstance(value, Mapping):
        value = value.get("id")
    return value if isinstance(value, str) else None
