"""The context in which an attempt is sent: our span is current there, and nowhere else in an SDK's call.

So the spans of HTTP instrumentations (one per attempt) become children of the call's span. Everything else in an SDK
runs with the caller's context: otherwise the SDK's own spans would have ours as parent. No header is set here.
"""

from __future__ import annotations

from contextvars import Token

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan

from .call import Call


def sending_context(call: Call) -> Context | None:
    """The current context with the span of ``call``; None if that is not ours, or if the SDK sets the current span.

    The span is a non-recording one with the same ids: a pooled connection keeps the context that it was opened in, and
    a call that a hook makes in there would take our span for one that was opened for that call.
    """
    if call.is_adopted or call.has_native_span or call.span_context is None:
        return None
    return trace.set_span_in_context(NonRecordingSpan(call.span_context))


def attach(context: Context | None) -> Token[Context] | None:
    """Make ``context`` the current one, if there is one."""
    return None if context is None else otel_context.attach(context)


def detach(token: Token[Context] | None, context: Context | None) -> None:
    """Undo :func:`attach`, if ``context`` is still the current one here."""
    if token is not None and otel_context.get_current() is context:
        otel_context.detach(token)
