"""Message content in OpenTelemetry: on spans and in events, if the user has enabled it.

Stores get the provider's JSON; spans and events get messages in the schema of the conventions. A span must have its
content before it ends, so that is read by the thread that ends it; events are emitted on the worker. Spans carry JSON
text unless maps are configured, events carry maps. With capture off, nothing here is called.
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
from ..content import ContentPolicy
from ..messages import content_attributes
from ..settings import Capture as CaptureMode
from ..settings import SemconvCompat, SpanContentFormat
from ..trace import ProviderTrace
from ..wire import class_name
from .call import Call, PayloadTexts
from .record import payload_texts

EVENT: Final = "gen_ai.client.inference.operation.details"
EXCEPTION_EVENT: Final = "gen_ai.client.operation.exception"
#: the first OpenTelemetry whose spans take maps, and lists of maps
_MIN_VERSION_WITH_MAPS: Final = (1, 45)


@dataclass(frozen=True, slots=True)
class ContentCapture:
    """Where content goes in OpenTelemetry. ``policy`` is that of the stores, except that it always keeps content.

    ``mode`` returns the current value of ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` and is called for each
    call: a program may set or unset the variable while it runs.
    """

    mode: Callable[[], CaptureMode] = lambda: "NO_CONTENT"
    policy: ContentPolicy = field(default_factory=ContentPolicy)
    span_format: SpanContentFormat = "json"

    @classmethod
    def from_mode(
        cls,
        mode: CaptureMode | Callable[[], CaptureMode],
        policy: ContentPolicy,
        span_format: SpanContentFormat = "json",
    ) -> ContentCapture:
        """The capture of a fixed mode, or of the mode that a function returns for each call."""
        return cls(mode if callable(mode) else lambda: mode, replace(policy, keep=True), span_format)


def span_content_attributes(call: Call, capture: ContentCapture) -> dict[str, Any]:
    """The content attributes of a call's span: maps if they are configured and spans accept them, else JSON text."""
    attributes = _content(payload_texts(call, capture.policy))
    if capture.span_format == "structured" and _spans_accept_maps():
        return attributes
    return {name: _json.dumps(value) for name, value in attributes.items()}


def emit_call_event(
    logger: Any,
    record: ProviderTrace,
    call: Call,
    texts: PayloadTexts,
    capture: ContentCapture,
    compat: SemconvCompat = "off",
) -> None:
    """Emit the event of a finished call in the context of its span: the span's attributes, and the content.

    ``record`` is that of ``call``, or of a batch result that it fetched. The parameters of a result were in the request
    that created the batch, so they are not known here.
    """
    record_texts = record.request_json, record.response_json
    content = _content(record_texts if any(record_texts) else texts(capture.policy))
    if call.batch_results is None:
        attributes = {**semconv.event_attributes(record, call.span_facts), **call.parameters}
    else:
        attributes = semconv.event_attributes(record)
    logger.emit(
        LogRecord(
            timestamp=record.started_at + record.duration_ns,
            context=_context_of(call.span_context or call.parent),
            event_name=EVENT,
            severity_number=SeverityNumber.DEBUG,
            severity_text="DEBUG",
            attributes=semconv.with_old_names(attributes, compat) | content,
        )
    )


def emit_exception_event(logger: Any, record: ProviderTrace, call: Call) -> None:
    """Emit the event of a call that raised, in the context of its span. The message is the record's, which is masked.

    There is no stack trace: until the worker emits it, it would keep the caller's frames and stream alive.
    """
    if call.error is None:
        return
    attributes = {"exception.type": class_name(call.error.kind)}
    if record.error_message is not None:
        attributes["exception.message"] = record.error_message
    logger.emit(
        LogRecord(
            timestamp=call.started_at + call.ended_ns - call.started_ns,
            context=_context_of(call.span_context or call.parent),
            event_name=EXCEPTION_EVENT,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            attributes=attributes,
        )
    )


def _context_of(span_context: SpanContext | None) -> Context | None:
    return None if span_context is None else trace.set_span_in_context(trace.NonRecordingSpan(span_context))


def _content(texts: tuple[Any, ...]) -> dict[str, Any]:
    """The content attributes of a request's and a response's JSON texts."""
    request, response = (None if text is None else json.loads(text) for text in texts[:2])
    return content_attributes(request, response)


@cache
def _spans_accept_maps() -> bool:
    return tuple(int(part) for part in version("opentelemetry-api").split(".")[:2]) >= _MIN_VERSION_WITH_MAPS
