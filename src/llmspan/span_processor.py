"""How ended spans reach the pipeline: a span processor on the program's tracer provider, and our span exporters.

Both hand spans to the one selector of the process, which stores a span once, whoever brings it, and however often.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import TracerProvider

from . import pipeline
from ._guard import guarded
from ._identity_set import IdentitySet
from .content import ContentPolicy
from .deferred_spans import accepts_deferred_spans
from .settings import Settings
from .span_selection import SpanSelector

__all__ = ["attach_processor", "configure_spans", "select_spans", "submit_ended_span"]

_providers: Final = IdentitySet()


def configure_spans(settings: Settings, policy: ContentPolicy) -> None:
    """Have the pipeline store spans as these settings say, whatever an exporter was made with."""
    shared = pipeline.shared()
    if shared.span_selector is None:
        shared.span_selector = SpanSelector(settings.spans, policy, shared.defer, shared.store_span)
    else:
        shared.span_selector.configure(settings.spans, policy)


def select_spans(settings: Settings, policy: ContentPolicy) -> None:
    """Have the pipeline store spans as an exporter's settings say, unless others are in force."""
    if settings.spans != "off" and pipeline.shared().span_selector is None:
        configure_spans(settings, policy)


def attach_processor(provider: TracerProvider | None, settings: Settings) -> None:
    """See the spans of a tracer provider (the global one by default), if it lets us, from now on; once for each.

    Never raises: a provider may be any object.
    """
    if settings.spans != "off":
        guarded("spans.attach", _attach, provider)


def _attach(provider: TracerProvider | None) -> None:
    provider = trace.get_tracer_provider() if provider is None else provider
    add: Callable[[SpanProcessor], Any] | None = getattr(provider, "add_span_processor", None)
    # instrument() may be called once per SDK, and again when the program has made its provider: each provider once.
    if callable(add) and provider not in _providers:
        _providers.add(provider)
        add(_EndedSpanProcessor())


def submit_ended_span(span: ReadableSpan) -> None:
    """Offer a span that has ended. Never raises, never waits."""
    selector = pipeline.shared().span_selector
    if selector is not None:
        guarded("spans.on_end", selector.on_end, span)


@accepts_deferred_spans
class _EndedSpanProcessor(SpanProcessor):
    """Offers all sampled spans. A provider has no way to take it off again: after shutdown it does nothing."""

    def on_end(self, span: ReadableSpan) -> None:
        submit_ended_span(span)
