"""The observer: starts calls and their spans, decides when a call is over, and finishes it.

One call is one span that carries usage. If another instrumentation, or the SDK, has opened a span for the same call,
none is opened here and the record takes the ids of that one; a second call under the same span gets a span of its own.
Our span is current only while the HTTP client sends: elsewhere in an SDK call it would become the parent of the SDK's
own spans, and its ``traceparent`` would be sent to the provider.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, Tracer

from .. import call_context, semconv
from .._guard import guarded
from ..content import ContentPolicy
from ..deferred_spans import deferred_spans
from ..estimate import Estimator
from ..metrics import CallMetrics
from ..settings import IncludeUsage, SemconvCompat
from ..sink import RecordSink
from ..trace import new_id
from .body import Body
from .call import Call, End, Endpoint, ErrorInfo, Route, current_process
from .content_capture import ContentCapture, span_content_attributes
from .finished_call import FinishedCall
from .peers.call_spans import find_call_span
from .peers.late_spans import strip_usage_from_late_span
from .peers.recorded_spans import claim_span, mark_response_recorded, release_span
from .record import facts_for_span, release_request
from .request_metadata import CALLER_TYPES, with_request_metadata
from .span_attributes import set_attributes, start_span
from .suppression import count_suppressed_call


@dataclass(slots=True)
class Observer:
    """The configuration of all providers, and the calls that are open. ``llmspan.instrument`` makes one.

    A call ends exactly once, on whichever thread reports an end first, and never blocks there. Ends that a finaliser
    reports are deferred to the sink's worker: ending a span sets context variables, and doing that in a finaliser can
    crash CPython 3.11 (python/cpython#148891).
    """

    sink: RecordSink
    tracer: Tracer
    policy: ContentPolicy = field(default_factory=ContentPolicy)
    source: str | None = None
    baggage_keys: tuple[str, ...] = ()
    include_usage: IncludeUsage = "auto"
    anthropic_native_spans: str = "suppress"
    #: whether a request's own ``user`` and ``metadata`` fill what the context leaves open
    request_metadata: bool = True
    #: counts tokens where the provider reports none
    estimator: Estimator | None = None
    #: where message content goes in OpenTelemetry, and the logger of its events
    capture: ContentCapture = field(default_factory=ContentCapture)
    logger: Any = None
    #: whether attributes are written under names that the conventions have replaced
    compat: SemconvCompat = "off"
    metrics: CallMetrics | None = None
    #: whether every chunk gets a time stamp, not only those up to the first output
    times_all_chunks: bool = False
    #: calls that have not ended, by ``id(call)``: they are ended when the program exits
    open_calls: dict[int, Call] = field(default_factory=dict[int, Call])
    #: batch id -> how many of its results metrics and events have reported
    reported_results: OrderedDict[str, int] = field(default_factory=OrderedDict[str, int])
    #: id of a background response -> id of the call whose record has its usage
    background_owners: OrderedDict[str, str] = field(default_factory=OrderedDict[str, str])
    #: id of a response that was in progress when a call for it returned -> id of the first such call
    pending_responses: OrderedDict[str, str] = field(default_factory=OrderedDict[str, str])

    # -- the start --------------------------------------------------------------------------------------------------

    def start_call(
        self, route: Route, endpoint: Endpoint, body: Mapping[str, Any], *, stream: bool, model: str | None = None
    ) -> Call | None:
        """A new call, or None if instrumentation is suppressed here and no span of this call is open.

        ``model`` is that of the request, where its body has none.

        Logfire suppresses instrumentation around a call that its span stands for. Such a call is recorded: the record
        takes the ids of that span.
        """
        if model is None:
            model = body.get("model")
            model = model if isinstance(model, str) else None
        # an empty context, which is the ordinary one outside of spans, suppresses nothing
        if get_current() and not is_instrumentation_enabled() and find_call_span(route.operation, model) is None:
            count_suppressed_call(endpoint.provider, route.operation)
            return None
        self.sink.ensure_started()
        call = Call(id=new_id(), route=route, endpoint=endpoint, observer=self)
        self.open_calls[id(call)] = call
        context = call_context.current()
        call.context = call_context.with_baggage(context, self.baggage_keys) if self.baggage_keys else context
        if self.request_metadata and any(map(isinstance, map(body.get, CALLER_TYPES), CALLER_TYPES.values())):
            args = call.context, route.api, body, self.policy
            call.context = guarded("observer.request_metadata", with_request_metadata, *args) or call.context
        call.source = self.source
        call.stream = stream
        call.model = model
        if body.get("conversation") is not None:
            call.conversation_id = _conversation_id(body)
        return call

    def start_span(self, call: Call, body: Mapping[str, Any]) -> None:
        """Open the span of ``call``, or use the one that another instrumentation has opened for it."""
        route = call.route
        call.parameters = semconv.request_attributes(call.endpoint.provider, route.api, body)
        current = trace.get_current_span()
        call_span = find_call_span(route.operation, call.model, current)
        if call_span is not None and self._claims(call, call_span):
            self.adopt_span(call, call_span)
        else:
            self._open_span(call, current, below=call_span)
        if route.api == "responses" and route.operation not in semconv.NOT_BILLED:
            guarded("observer.late_span", strip_usage_from_late_span)

    def has_span(self, call: Call) -> bool:
        """Whether another instrumentation has opened a span for ``call``."""
        return find_call_span(call.route.operation, call.model) is not None

    def _claims(self, call: Call, span: Span) -> bool:
        """Whether ``span`` stands for ``call``, and not for an earlier one (a framework's first attempt)."""
        return claim_span(span.get_span_context(), call.id) or not is_instrumentation_enabled()

    def _open_span(self, call: Call, current: Span, *, below: Span | None) -> None:
        """Open a span below the ``current`` one, or ``below`` that of another instrumentation."""
        endpoint, route = call.endpoint, call.route
        attributes = semconv.start_attributes(
            operation=route.operation,
            provider=endpoint.provider,
            model=call.model,
            address=endpoint.address,
            port=endpoint.port,
        )
        attributes |= call.parameters
        attributes[semconv.RECORD_ID] = call.id
        if call.stream:
            attributes[semconv.STREAM] = True
        if call.response_id is not None:
            attributes[semconv.RESPONSE_ID] = call.response_id
        if self.compat != "off":
            attributes = semconv.with_old_names(attributes, self.compat)
        parent_context = (current if below is None else below).get_span_context()
        call.parent = parent_context if parent_context.is_valid else None
        call.span = start_span(
            self.tracer,
            semconv.span_name(route.operation, call.model),
            attributes,
            context=None if below is None else trace.set_span_in_context(below),
            kind=SpanKind.CLIENT,
            start_time=call.started_at,
        )
        span_context = call.span.get_span_context()
        # without an SDK, the API returns the parent's context: the trace is right, but it is no span of this call
        if span_context.is_valid and (call.parent is None or span_context.span_id != call.parent.span_id):
            call.span_context = span_context

    def adopt_span(self, call: Call, span: Span) -> None:
        """Use a span that is not ours for ``call``: attributes that it lacks are added, and its owner ends it."""
        call.span = span
        call.is_adopted = True
        call.span_context = span.get_span_context()
        parent = getattr(span, "parent", None)
        call.parent = parent if isinstance(parent, SpanContext) else None
        if span.is_recording():
            span.set_attribute(semconv.RECORD_ID, call.id)
            if call.context is not None and call.context.step_id:
                span.set_attribute("llmspan.step.id", call.context.step_id)

    # -- the end: what the hooks report; the first report that ends the call counts -----------------------------------

    def on_return(self, call: Call) -> None:
        """The caller has got the whole response."""
        self._end(call, "returned")

    def on_stream_end(self, call: Call) -> None:
        """The caller has got the last event."""
        self._end(call, "exhausted")

    def on_error(self, call: Call, error: BaseException | ErrorInfo) -> None:
        """``error`` is raised to the caller."""
        self._end(call, "raised", error)

    def on_abandon(self, call: Call) -> None:
        """Nobody reads on: a generator or coroutine was closed or collected, which look the same, so it is deferred."""
        self._end(call, "abandoned", deferred=True)

    def on_body_end(self, call: Call, body: Body) -> None:
        """The bytes of a response were read to their end."""
        if self._body_end_is_call_end(call, body):
            self._end(call, "exhausted", deferred=call.is_generator_collected)

    def on_body_error(self, call: Call, body: Body, error: BaseException) -> None:
        """Reading the bytes has raised."""
        if self._body_end_is_call_end(call, body):
            self._end(call, "raised", error, deferred=call.is_generator_collected)

    def on_body_close(self, call: Call, body: Body) -> None:
        """The bytes were closed: by the caller, by the SDK when it had read enough, or by a finaliser."""
        if self._body_end_is_call_end(call, body):
            self._end(call, "closed", deferred=call.is_generator_collected)

    def on_body_gc(self, call: Call, body: Body) -> None:
        """The bytes can no longer be read by anyone (called by a finaliser)."""
        if body is call.body and call.options is None:
            self._end(call, "abandoned", deferred=True)

    def _body_end_is_call_end(self, call: Call, body: Body) -> bool:
        """Whether ``body`` is that of the latest response, and no generator of ours is running that reports the end."""
        return body is call.body and call.options is None and not call.is_generator_running

    def _end(
        self, call: Call, end: End, error: BaseException | ErrorInfo | None = None, *, deferred: bool = False
    ) -> None:
        if self.open_calls.pop(id(call), None) is None:  # atomic: whoever removes it is the one that ends it
            return
        call.ended_ns = perf_counter_ns()
        call.end = end
        if isinstance(error, ErrorInfo):
            call.error = error
        elif error is not None:
            call.error = guarded("observer.raised", ErrorInfo.of, error) or ErrorInfo(type(error))
        if call.process is not current_process[0]:  # copied by a fork: the parent process records it
            return
        if deferred:
            self.sink.defer(lambda: guarded("observer.finish_call", self.finish_call, call))
        else:
            guarded("observer.finish_call", self.finish_call, call)

    def finish_call(self, call: Call) -> None:
        """End the span of a call that is over and submit the call. If one of the two fails, the other still happens."""
        guarded("observer.release_request", release_request, call)
        finished, span = FinishedCall(call), call.span
        has_own = span is not None and not call.is_adopted
        if not (has_own and guarded("observer.defer_end", deferred_spans.defer, span, finished)):
            self.end_span(call)
        guarded("observer.submit", self._submit, finished)

    def _submit(self, finished: FinishedCall) -> None:
        batch_results = finished.call.batch_results
        try:
            if batch_results is None:
                self.sink.submit(finished)
            else:
                batch_results.finish(finished)
        except BaseException:
            deferred_spans.end(finished)  # nobody else will
            raise

    def end_span(self, call: Call) -> None:
        """Set the last attributes of the span of a call that is over, and end the span if it is ours."""
        span, call.span = call.span, None
        if span is not None and span.is_recording():
            guarded("observer.set_end_attributes", self._set_end_attributes, call, span)
        elif call.is_adopted:
            guarded("observer.mark_response_recorded", self._mark_response_recorded, call)
        if span is not None and not call.is_adopted:
            guarded("observer.end_span", span.end, call.started_at + call.ended_ns - call.started_ns)

    def _mark_response_recorded(self, call: Call) -> None:
        """Remember the response of a call whose span has ended: a span that its owner makes of it is no other call."""
        response_id = facts_for_span(call)["response_id"]
        if response_id is not None:
            mark_response_recorded(response_id)

    def _set_end_attributes(self, call: Call, span: Span) -> None:
        facts = facts_for_span(call)
        attributes = semconv.end_attributes(facts, call.span_facts)
        if facts["id"] != call.id:  # that of a background response
            span.set_attribute(semconv.RECORD_ID, facts["id"])
        if "SPAN" in self.capture.mode() and call.route.operation in semconv.GENERATION:
            attributes |= guarded("observer.content", span_content_attributes, call, self.capture) or {}
        if self.compat != "off":
            attributes = semconv.with_old_names(attributes, self.compat)
        if call.is_adopted:  # the owner's values stay; it may be about to set the others itself
            if facts["usage"].source == "none":
                release_span(span.get_span_context(), call.id)
            existing: Mapping[str, Any] = getattr(span, "attributes", None) or {}
            span.set_attributes({name: value for name, value in attributes.items() if name not in existing})
            return
        set_attributes(span, attributes)
        if facts["status"] == "error":
            span.set_status(Status(StatusCode.ERROR, facts["error_message"] or facts["error_type"]))


def finish_open_calls(observer: Observer) -> None:
    """End all calls that are open: the program exits, so their streams will not be read further."""
    for call in list(observer.open_calls.values()):
        call.observer.on_abandon(call)


def _conversation_id(body: Mapping[str, Any]) -> str | None:
    """The Responses API's ``conversation``: an id, or an object with one."""
    value = body.get("conversation")
    if isinstance(value, Mapping):
        value = value.get("id")
    return value if isinstance(value, str) else None
