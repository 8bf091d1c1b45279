"""Which spans are stored beside the records: what stands above a recorded call, and the agents and tools beside it.

A span ends after its children as a rule, so that a span is known to be wanted when it ends; where a stream outlives the
span that it was begun in, the span has to wait for its call. Waiting spans are bounded in number, bytes and time.
Threads that end spans only append to a queue, which is bounded too; all else happens on the pipeline's worker.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from . import _json, semconv, span_import
from ._bounded import drop_oldest
from ._clock import monotonic
from ._guard import guarded_on_worker
from ._pace import yield_gil
from .content import ContentPolicy
from .ended_spans import EndedSpans
from .span_content import clean_span
from .span_record import SpanRecord, SpanStatus
from .trace import ProviderTrace

__all__ = ["SpanSelector", "to_span_record"]

#: ended spans of other traces that are not looked at one by one, but together
_UNREAD: Final = 256
#: spans that are unread, and that wait for a call of their trace, and what either hold on to, roughly
_MOST_WAITING: Final = 4096
_MOST_BYTES: Final = 16 * 1024 * 1024
#: traces with calls, and traces without
_MOST_TRACES: Final = 2_000
#: spans that are wanted, and that are known, in one trace
_MOST_WANTED: Final = 2_000
_MOST_KNOWN: Final = 20_000
#: seconds that a span waits for the first call of its trace, and that a trace with calls is remembered without news
_WAIT_SECONDS: Final = 600.0
_TRACE_SECONDS: Final = 6 * 3600.0

_STATUS: Final[Mapping[StatusCode, SpanStatus]] = {
    StatusCode.UNSET: "Unset",
    StatusCode.OK: "Ok",
    StatusCode.ERROR: "Error",
}
_BETWEEN: Final = frozenset({SpanKind.SERVER, SpanKind.CONSUMER})


class _Trace:
    """What is known of one trace. One is made for each call that has no span above it."""

    __slots__ = ("known", "touched", "waiting", "wanted")

    def __init__(self) -> None:
        self.touched = 0.0
        #: ended spans that are not wanted yet, with their sizes, by their ids
        self.waiting: dict[int, tuple[ReadableSpan, int]] = {}
        # Plain dictionaries: two thousand traces are remembered, and an ordered one is looked at by each full
        # collection.
        #: ids of spans above calls and above spans that are stored, which have not ended yet
        self.wanted: dict[int, None] = {}
        #: ids of the spans of calls, and of spans that were selected: they are not selected again
        self.known: dict[int, None] = {}


class SpanSelector:
    """See the module. ``defer`` has a function run on the worker; ``deliver`` takes what was selected there."""

    def __init__(
        self,
        mode: Literal["off", "parents", "all"],
        policy: ContentPolicy,
        defer: Callable[[Callable[[], None]], None],
        deliver: Callable[[SpanRecord], None],
    ) -> None:
        self._mode = mode
        self._policy = policy
        self._defer = defer
        self._deliver = deliver
        self.forget()

    def configure(self, mode: Literal["off", "parents", "all"], policy: ContentPolicy) -> None:
        """Obey these settings from now on, also for the spans that wait."""
        self._mode, self._policy = mode, policy
        if mode == "off":
            self._defer(self.forget)

    def forget(self) -> None:
        """Start anew, as in a forked child: the parent's spans are the parent's."""
        self._ended = EndedSpans(_MOST_WAITING, _MOST_BYTES)
        #: the traces by the last news of them: one that is still being worked on moves to the end with each span
        self._plain_traces: OrderedDict[int, _Trace] = OrderedDict()
        self._call_traces: OrderedDict[int, _Trace] = OrderedDict()
        self._waiting = 0
        self._bytes = 0
        self._is_requested = False

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span that has ended. Called by whoever ends it: no more than counts and appends it."""
        if self._mode == "off":
            return
        # A web server ends thousands of spans that no call stands below: to wake the worker for each would cost more
        # than all that is done with them. Those of a trace with a call are few, and somebody may flush next.
        context = span.get_span_context()
        if _is_of_recorded_call(span):
            return
        self._ended.append(span)
        if not self._is_requested and (
            len(self._ended) >= _UNREAD
            or self._ended.bytes >= _MOST_BYTES // 4
            or (context is not None and context.trace_id in self._call_traces)
        ):
            self._is_requested = True
            self._defer(self.read)

    def on_record(self, record: ProviderTrace) -> None:
        """A record was made: the spans above it are wanted. On the worker."""
        trace_id = _number(record.trace_id)
        if self._mode == "off" or not trace_id:
            return
        is_first = trace_id not in self._call_traces
        # Known before the spans that have ended are read: one that ends meanwhile asks for another reading.
        trace = self._call_trace(trace_id)
        own, parent = _number(record.span_id), _number(record.parent_span_id)
        if own:
            _remember(trace.known, own, _MOST_KNOWN)
            if own in trace.waiting:
                self._release(trace, own)
        # Spans that ended before this call did may be unread: a parent of a stream may be among them.
        if self._ended or len(self._call_traces) > _MOST_TRACES:
            self.read()
        if parent:
            self._select(trace, (parent,))
        if is_first and trace.waiting:
            self._select(trace, [span_id for span_id, (span, _) in trace.waiting.items() if self._is_beside(span)])

    def read(self) -> None:
        """Look at the spans that have ended since the last time. On the worker."""
        self._is_requested = False
        for span, size in self._ended.take_all():
            guarded_on_worker("spans.read", self._read, span, size)
            yield_gil()
        self._expire()

    def _read(self, span: ReadableSpan, size: int) -> None:
        context = span.get_span_context()
        if context is None or not context.is_valid:
            return
        span_id, trace = context.span_id, self._trace(context.trace_id)
        if semconv.RECORD_ID in (span.attributes or {}):  # of another instrumentation, for a call that is recorded
            _remember(trace.known, span_id, _MOST_KNOWN)
        if span_id in trace.known or span_id in trace.waiting:
            return
        trace.waiting[span_id] = span, size
        self._waiting += 1
        self._bytes += size
        has_call = context.trace_id in self._call_traces
        if has_call and (span_id in trace.wanted or self._is_beside(span)):
            self._select(trace, (span_id,))

    def _is_beside(self, span: ReadableSpan) -> bool:
        """Whether ``span`` is stored although no call stands below it."""
        attributes = span.attributes or {}
        # Another library's span of a call is that call's own, or stands around it: then it is wanted as a parent.
        if span_import.is_model_call(span):
            return False
        return self._mode == "all" or span.kind in _BETWEEN or _is_of_agent(attributes)

    def _select(self, trace: _Trace, span_ids: Iterable[int]) -> None:
        """Hand over the spans of these ids, and those above them; what has not ended yet is wanted from now on."""
        pending = list(span_ids)
        while pending:
            span_id = pending.pop()
            if span_id in trace.known:
                continue
            if span_id not in trace.waiting:
                _remember(trace.wanted, span_id, _MOST_WANTED)
                continue
            span, _ = trace.waiting[span_id]
            self._release(trace, span_id)
            trace.wanted.pop(span_id, None)
            _remember(trace.known, span_id, _MOST_KNOWN)
            if span.parent is not None:
                pending.append(span.parent.span_id)
            guarded_on_worker("spans.deliver", self._hand_over, span)

    def _hand_over(self, span: ReadableSpan) -> None:
        if self._mode != "off":
            self._deliver(clean_span(to_span_record(span), self._policy))

    def _release(self, trace: _Trace, span_id: int) -> None:
        _, size = trace.waiting.pop(span_id, (None, None))
        if size is not None:
            self._waiting -= 1
            self._bytes -= size

    def _trace(self, trace_id: int) -> _Trace:
        traces = self._call_traces if trace_id in self._call_traces else self._plain_traces
        return _touch(traces, trace_id, traces.get(trace_id))

    def _call_trace(self, trace_id: int) -> _Trace:
        trace = self._call_traces.get(trace_id) or self._plain_traces.pop(trace_id, None)
        return _touch(self._call_traces, trace_id, trace)

    def _expire(self) -> None:
        """Give up traces by age and number; for room, spans of traces without calls, and then the others that wait.

        What is known of a trace with calls stays: its root may end hours later, and is wanted.
        """
        now = monotonic()
        for traces, seconds in ((self._plain_traces, _WAIT_SECONDS), (self._call_traces, _TRACE_SECONDS)):
            while traces and (len(traces) > _MOST_TRACES or now - next(iter(traces.values())).touched >= seconds):
                self._release_all(traces.popitem(last=False)[1])
        while self._plain_traces and self._is_full():
            self._release_all(self._plain_traces.popitem(last=False)[1])
        for trace in self._call_traces.values():
            if not self._is_full():
                return
            self._make_room(trace)

    def _is_full(self) -> bool:
        return self._waiting > _MOST_WAITING or self._bytes > _MOST_BYTES

    def _release_all(self, trace: _Trace) -> None:
        for span_id in list(trace.waiting):
            self._release(trace, span_id)

    def _make_room(self, trace: _Trace) -> None:
        for span_id in list(trace.waiting):
            if not self._is_full():
                return
            self._release(trace, span_id)


def _is_of_recorded_call(span: ReadableSpan) -> bool:
    """Whether it is a span of ours: the record of its call says all that is asked of it here."""
    scope = span.instrumentation_scope
    if scope is None or scope.name != semconv.SCOPE:
        return False
    attributes = span.attributes
    return attributes is not None and semconv.RECORD_ID in attributes


def _touch(traces: OrderedDict[int, _Trace], trace_id: int, trace: _Trace | None) -> _Trace:
    """Put ``trace``, or a new one, behind those that had news before it."""
    trace = traces[trace_id] = trace or _Trace()
    trace.touched = monotonic()
    traces.move_to_end(trace_id)
    return trace


def _remember(span_ids: dict[int, None], span_id: int, limit: int) -> None:
    span_ids.pop(span_id, None)  # the latest stands last
    span_ids[span_id] = None
    drop_oldest(span_ids, limit)


def to_span_record(span: ReadableSpan) -> SpanRecord:
    """The span with the columns of ``otel_traces``, attributes as the Collector writes them; not yet cleaned.

    Raises:
        ValueError: it has no valid context.
    """
    context = span.get_span_context()
    if context is None or not context.is_valid:
        raise ValueError("a span without a valid context")
    scope, started_at = span.instrumentation_scope, span.start_time or 0
    resource = _texts(span.resource.attributes)
    return SpanRecord(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_span_id=f"{span.parent.span_id:016x}" if span.parent is not None and span.parent.span_id else None,
        trace_state=context.trace_state.to_header(),
        name=span.name,
        kind=span.kind.name.capitalize(),
        service_name=resource.get("service.name", ""),
        resource_attributes=resource,
        scope_name=scope.name if scope is not None else "",
        scope_version=(scope.version or "") if scope is not None else "",
        attributes=_texts(span.attributes or {}),
        started_at=started_at,
        duration_ns=max(0, (span.end_time or started_at) - started_at),
        status_code=_STATUS[span.status.status_code],
        status_message=span.status.description or "",
    )


def _texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(name): value if isinstance(value, str) else _json.dumps(list(value) if isinstance(value, tuple) else value)
        for name, value in attributes.items()
    }


def _is_of_agent(attributes: Mapping[str, Any]) -> bool:
    """Whether these are attributes of an agent, a tool, a workflow or another step of one, in any dialect."""
    return (
        isinstance(attributes.get(semconv.OPERATION), str)
        or "openinference.span.kind" in attributes
        or "traceloop.span.kind" in attributes
    )


def _number(text: str | None) -> int:
    try:
        return int(text or "0", 16)
    except ValueError:
        return 0
