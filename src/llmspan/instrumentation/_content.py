"""Content for OpenTelemetry: messages on spans and in events, where the user asked for it and nowhere else.

Stores get the provider's own JSON; this is the other way, to wherever spans and logs are sent, in the conventions'
schema. What goes on a span has to be ready before the span ends, so it is read on the caller's thread; events are made
on the worker. Spans carry JSON text unless maps are asked for, events carry maps. With capture off, nothing here is
called.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from typing import Any, Final

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext

from .. import _json, semconv
from ..content import Policy
from ..messages import content_attributes
from ..settings import Capture as Mode
from ..settings import SemconvCompat, SpanContentFormat
from ..trace import ProviderTrace
from ..wire import class_name
from ._call import Call, Texts
from ._record import payload

EVENT: Final = "gen_ai.client.inference.operation.details"
EXCEPTION_EVENT: Final = "gen_ai.client.operation.exception"
#: the first OpenTelemetry whose spans take maps, and lists of maps
_STRUCTURED: Final = (1, 45)


@dataclass(frozen=True, slots=True)
class Capture:
    """Where content goes beside the stores. ``policy`` is theirs, less that they may have been told to keep none.

    ``mode`` gives the value of ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` that holds, and is asked for each
    call: the variable may be set, or taken back, when the program runs already.
    """

    mode: Callable[[], Mode] = lambda: "NO_CONTENT"
    policy: Policy = field(default_factory=Policy)
    span_format: SpanContentFormat = "json"

    @classmethod
    def of(cls, mode: Mode | Callable[[], Mode], policy: Policy, span_format: SpanContentFormat = "json") -> Capture:
        """The capture that ``mode`` asks for, or what it will say then."""
        return cls(mode if callable(mode) else lambda: mode, replace(policy, keep=True), span_format)

    @property
    def on_spans(self) -> bool:
        """Whether content goes on spans."""
        return "SPAN" in self.mode()

    @property
    def in_events(self) -> bool:
        """Whether content goes into events."""
        return "EVENT" in self.mode()


def span_content(call: Call, capture: Capture) -> dict[str, Any]:
    """The content attributes of a call's span: maps where they are asked for and spans take them, else JSON text."""
    attributes = _content(payload(call, capture.policy))
    if capture.span_format == "structured" and _takes_maps():
        return attributes
    return {name: _json.dumps(value) for name, value in attributes.items()}


def emit_details(
    logger: Any, record: ProviderTrace, call: Call, texts: Texts, capture: Capture, compat: SemconvCompat = "off"
) -> None:
    """Emit the event of a finished call within its span: all that the span says, and the call's content.

    ``record`` is that of ``call``, or of one of the results that it fetched: those have parameters of their own, which
    their batch's request said and they do not repeat.
    """
    kept = record.request_json, record.response_json
    content = _content(kept if any(kept) else texts(capture.policy))
    if call.results is None:
        attributes = {**semconv.event_attributes(record, call.span_facts), **call.parameters}
    else:
        attributes = semconv.event_attributes(record)
    logger.emit(
        LogRecord(
            timestamp=record.started_at + record.duration_ns,
            context=_within(call.span_context or call.parent),
            event_name=EVENT,
            severity_number=SeverityNumber.DEBUG,
            severity_text="DEBUG",
            attributes=semconv.with_old_names(attributes, compat) | content,
        )
    )


def emit_exception(logger: Any, record: ProviderTrace, call: Call) -> None:
    """Emit the event of a call that raised, within its span. Its message is the record's, masked and redacted.

    There is no stack trace: keeping one until the worker gets there would keep the caller's frames and stream alive.
    """
    if call.error is None:
        return
    attributes = {"exception.type": class_name(call.error.kind)}
    if record.error_message is not None:
        attributes["exception.message"] = record.error_message
    logger.emit(
        LogRecord(
            timestamp=call.started_at + call.ended - call.started,
            context=_within(call.span_context or call.parent),
            event_name=EXCEPTION_EVENT,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            attributes=attributes,
        )
    )


def _within(span_context: SpanContext | None) -> Context | None:
    return None if span_context is None else trace.set_span_in_context(trace.NonRecordingSpan(span_context))


def _content(texts: tuple[Any, ...]) -> dict[str, Any]:
    """The content attributes of a request's and a response's JSON texts."""
    request, response = (None if text is None else json.loads(text) for text in texts[:2])
    return content_attributes(request, response)


@cache
def _takes_maps() -> bool:
    return tuple(int(part) for part in version("opentelemetry-api").split(".")[:2]) >= _STRUCTURED
