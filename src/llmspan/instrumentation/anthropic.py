"""Anthropic: which of the SDK's calls are recorded, the endpoints of its clients, and the spans that it makes itself.

anthropic >= 1.14 opens a span for every call once a tracer provider is set. Two spans would double every sum over
spans, so by default the SDK's is suppressed for exactly the calls that we record (``LLMSPAN_ANTHROPIC_NATIVE_SPANS``).
The only file that uses anthropic's types, by their attributes: it never imports the SDK.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any, Final

from .._guard import guarded
from .call import Call, Endpoint, Route
from .observer import Observer
from .patching import Patch
from .peers.recorded_spans import mark_recorded
from .routes import match_route
from .stainless.active_call import current_recorded_call
from .stainless.batch import BatchResults, BatchTimes
from .stainless.hooks import Provider, StainlessHooks
from .stainless.tool_runner import runner_patches

_ROUTES: Final = {
    "/v1/messages": Route("chat", "messages"),
    "/v1/complete": Route("text_completion", "complete"),
    "/v1/messages/count_tokens": Route("count_tokens", "count_tokens"),
    "/v1/messages/batches": Route("create_batch", "message_batches"),
}
_RESULTS: Final = Route("fetch_batch_results", "message_batches")
#: results are fetched from the URL that the batch names, which is absolute
_RESULTS_PATH: Final = re.compile(r"(?:^|/)v1/+messages/+batches/+([^/?]+)/+results/*(?:\?|$)")
_BATCH_PATH: Final = re.compile(r"(?:^|/)v1/+messages/+batches/+[^/?]+/*(?:\?|$)")

#: part of a client class's name -> ``gen_ai.provider.name``. Anthropic's platform as sold by AWS and Google Cloud
#: (``AnthropicAWS``, ``AnthropicGoogleCloud``) is ``anthropic``, as in the spans that the SDK makes.
_CLIENTS: Final = {
    "Bedrock": "aws.bedrock",
    "Vertex": "gcp.vertex_ai",
    "Foundry": "azure.ai.inference",
}
_times: Final = BatchTimes()


def route(options: Any) -> Route | None:
    """The kind of call that these options describe."""
    if options.method.lower() == "post":
        return _ROUTES.get(options.url) or match_route(_ROUTES, options.url)
    return _RESULTS if _RESULTS_PATH.search(options.url) else None


def endpoint(client: Any, url: Any = None) -> Endpoint:
    """The endpoint at ``url`` (the client's ``base_url`` by default); the client's class names the platform."""
    url = url or client.base_url
    version = getattr(client, "_version", None)
    names = [kind.__name__ for kind in type(client).__mro__ if kind.__module__.startswith("anthropic.")]
    platforms = (provider for mark, provider in _CLIENTS.items() for name in names if mark in name)
    return Endpoint(
        provider=next(platforms, "anthropic"),
        address=url.host or None,
        port=url.port or (443 if url.scheme == "https" else 80),
        sdk=f"anthropic/{version}" if version else "anthropic",
    )


def on_call_started(call: Call, options: Any) -> None:
    """Record each result of a batch that the call fetches."""
    match = _RESULTS_PATH.search(options.url) if call.route is _RESULTS else None
    if match is not None:
        call.stream = False
        call.batch_results = BatchResults(call, match[1], _times.get(match[1]))


def on_unrecorded_result(options: Any, result: Any) -> None:
    """Remember the times of a batch that was retrieved; the SDK retrieves it before its results."""
    if options.method.lower() == "get" and _BATCH_PATH.search(options.url):
        _times.remember(result)


def _defers_span(observer: Observer) -> bool:
    """Whether the SDK's span, which opens after the call begins, may turn out to be the one to use."""
    return observer.anthropic_native_spans == "adopt"


def _native_patches(hooks: StainlessHooks, base_client: Any) -> Iterable[Patch]:
    """Suppress the SDK's own span of a recorded call, in the function that starts it."""

    def wrap(original: Any) -> Any:
        @functools.wraps(original)
        def start_api_call_span(*args: Any, **kwargs: Any) -> Any:
            call = current_recorded_call() if hooks.is_active else None
            mode = hooks.observer.anthropic_native_spans
            if call is not None and (mode == "suppress" or (mode == "adopt" and call.is_adopted)):
                return None
            span = original(*args, **kwargs)
            if call is not None:
                call.has_native_span = True
            if call is not None and span is not None:
                guarded("anthropic.mark_recorded", lambda: mark_recorded(span.get_span_context()))
            return span

        return start_api_call_span

    return (Patch(base_client, "start_api_call_span", wrap),)


PROVIDER: Final = Provider(
    name="anthropic",
    route=route,
    endpoint=endpoint,
    on_call_started=on_call_started,
    on_unrecorded_result=on_unrecorded_result,
    defers_span=_defers_span,
    extra_patches={"_base_client": _native_patches, "lib.tools._beta_runner": runner_patches},
    latest_tested_major=2,
)
