"""Anthropic: which of the SDK's calls are recorded, whom its clients talk to, and the spans that it makes itself.

anthropic >= 1.14 opens a span for every call once a tracer provider is set. A second one doubles every sum over
spans, so by default the SDK's is held back for exactly the calls that we record (``LLMSPAN_ANTHROPIC_NATIVE``).
The only file that knows anthropic's types, by attribute: it never imports the SDK.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any, Final

from .._guard import guarded
from ._batch import BatchResults, BatchTimes
from ._bound import bind
from ._call import Call, Route, Target
from ._endpoints import match_route
from ._hooks import Patch
from ._observe import Observer
from ._running import current_call
from ._stainless import Provider, Stainless
from ._turns import runner_patches

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

#: client class (by what its name contains) -> ``gen_ai.provider.name``. Anthropic's own platform as sold by AWS and
#: Google Cloud (``AnthropicAWS``, ``AnthropicGoogleCloud``) is Anthropic's; so say the spans that the SDK makes.
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


def target(client: Any, url: Any = None) -> Target:
    """Whom a client talks to at ``url`` (its ``base_url`` by default): the platform is told by its class."""
    url = url or client.base_url
    version = getattr(client, "_version", None)
    names = [kind.__name__ for kind in type(client).__mro__ if kind.__module__.startswith("anthropic.")]
    platforms = (provider for mark, provider in _CLIENTS.items() for name in names if mark in name)
    return Target(
        provider=next(platforms, "anthropic"),
        address=url.host or None,
        port=url.port or (443 if url.scheme == "https" else 80),
        sdk=f"anthropic/{version}" if version else "anthropic",
    )


def begun(call: Call, options: Any) -> None:
    """Have the results of a batch recorded one by one."""
    found = _RESULTS_PATH.search(options.url) if call.route is _RESULTS else None
    if found is not None:
        call.stream = False
        call.results = BatchResults(call, found[1], _times.of(found[1]))


def passed(options: Any, result: Any) -> None:
    """Remember the times of a batch that was looked at; the SDK looks before it fetches results."""
    if options.method.lower() == "get" and _BATCH_PATH.search(options.url):
        _times.note(result)


def _adopts(observer: Observer) -> bool:
    """Whether the SDK's span, which opens after the call begins, may turn out to be the one to use."""
    return observer.anthropic_native == "adopt"


def _native_patches(hooks: Stainless, base_client: Any) -> Iterable[Patch]:
    """Hold back the SDK's own span of a recorded call, at the function that starts it."""

    def wrap(original: Any) -> Any:
        @functools.wraps(original)
        def start_api_call_span(*args: Any, **kwargs: Any) -> Any:
            call = current_call() if hooks.active else None
            how = hooks.observer.anthropic_native
            if call is not None and (how == "suppress" or (how == "adopt" and call.is_adopted)):
                return None
            span = original(*args, **kwargs)
            if call is not None:
                call.has_native_span = True
            if call is not None and span is not None:
                guarded("anthropic.bind", lambda: bind(span.get_span_context()))
            return span

        return start_api_call_span

    return (Patch(base_client, "start_api_call_span", wrap),)


PROVIDER: Final = Provider(
    name="anthropic",
    route=route,
    target=target,
    begun=begun,
    passed=passed,
    late_span=_adopts,
    extras={"_base_client": _native_patches, "lib.tools._beta_runner": runner_patches},
    newest=2,
)
