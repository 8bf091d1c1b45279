"""Calls below spans of somebody else's, with the attributes and kinds that these have when the call is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span, SpanKind

from replay import client_for, transport
from streams import MESSAGES, Api
from watching import Watch

USAGE = "gen_ai.usage.input_tokens"


@contextmanager
def inside(
    watch: Watch, name: str, attributes: dict[str, Any], kind: SpanKind = SpanKind.INTERNAL, scope: str = "framework"
) -> Iterator[Span]:
    """A current span of another library's."""
    tracer = watch.tracer_provider.get_tracer(scope)
    with tracer.start_as_current_span(name, kind=kind, attributes=attributes) as span:
        yield span


def call(api: Api) -> None:
    """Make a streamed call and read it to its end."""
    options = {"open_telemetry": False} if api is MESSAGES else {}
    mock = transport(200, {"content-type": "text/event-stream"}, list(api.stream))
    client = client_for(api.provider, mock, **options)
    for _ in api.method(client)(**api.arguments, stream=True):
        pass


def span_id(span: Span | ReadableSpan) -> str:
    """The id of a span as records have it."""
    context = span.get_span_context()
    assert context is not None
    return f"{context.span_id:016x}"
