"""Spans of the HTTP client are children of the call's span, one per attempt; nothing else gets that context."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from opentelemetry import trace
from opentelemetry.propagate import inject
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from replay import Pieces
from streams import ALL, CHAT, MESSAGES, Api
from watching import Watch, watching

apis = pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
colours = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
SSE = {"content-type": "text/event-stream"}


class Traced:
    """A transport's handler with the span that an HTTP instrumentation makes around it."""

    def __init__(self, api: Api, watch: Watch, *, failures: int = 0, propagates: bool = False) -> None:
        self.api = api
        self.tracer = watch.tracer_provider.get_tracer("http")
        self.failures = failures
        self.propagates = propagates
        self.headers: list[httpx2.Headers] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        with self.tracer.start_as_current_span("POST", kind=SpanKind.CLIENT):
            if self.propagates:
                inject(request.headers)
            self.headers.append(request.headers)
            if self.failures:
                self.failures -= 1
                return httpx2.Response(500, headers={"retry-after-ms": "1"}, json={})
            if json.loads(request.content).get("stream"):
                return httpx2.Response(200, headers=SSE, stream=Pieces(self.api.stream))
            return httpx2.Response(200, json=self.api.body)


def client_of(api: Api, handler: Any, is_async: bool, **http: Any) -> Any:
    transport = httpx2.MockTransport(handler)
    if is_async:
        kind: Any = openai.AsyncOpenAI if api.provider == "openai" else anthropic.AsyncAnthropic
        return kind(api_key="k", max_retries=2, http_client=httpx2.AsyncClient(transport=transport, **http))
    kind = openai.OpenAI if api.provider == "openai" else anthropic.Anthropic
    return kind(api_key="k", max_retries=2, http_client=httpx2.Client(transport=transport, **http))


def read(client: Any, api: Api, is_async: bool, stream: bool, between: Callable[[], object] = lambda: None) -> None:
    """Make the call, and call ``between`` before, between and after its chunks."""

    async def of_async() -> None:
        between()
        result = await api.method(client)(**api.arguments, stream=stream)
        between()
        if stream:
            async for _ in result:
                between()
        between()

    if is_async:
        asyncio.run(of_async())
        return
    between()
    result = api.method(client)(**api.arguments, stream=stream)
    between()
    if stream:
        for _ in result:
            between()
    between()


def family(spans: list[ReadableSpan]) -> dict[str, list[str | None]]:
    """The names of spans, and those of their parents."""
    names = {span.context.span_id: span.name.partition(" ")[0] for span in spans}
    found: dict[str, list[str | None]] = {}
    for span in spans:
        parent = names.get(span.parent.span_id) if span.parent is not None else None
        found.setdefault(names[span.context.span_id], []).append(parent)
    return found


@apis
@colours
@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
@pytest.mark.parametrize("failures", [0, 2])
def test_each_attempt_is_a_child_of_the_call(failures: int, stream: bool, is_async: bool, api: Api) -> None:
    """One POST per attempt below the call's span, which is below the caller's; and no header is sent on our account."""
    with watching() as watch:
        handler = Traced(api, watch, failures=failures)
        with watch.tracer_provider.get_tracer("caller").start_as_current_span("caller"):
            read(client_of(api, handler, is_async), api, is_async, stream)
        spans = watch.spans
    assert family(spans) == {"POST": ["chat"] * (failures + 1), "chat": ["caller"], "caller": [None]}
    assert not any("traceparent" in headers or "baggage" in headers for headers in handler.headers)


@apis
@colours
def test_the_callers_context_is_his_own(is_async: bool, api: Api) -> None:
    """Before the call, between its chunks and behind them, the caller's span is the current one."""
    seen: list[bool] = []
    with watching() as watch:
        client = client_of(api, Traced(api, watch), is_async)
        with watch.tracer_provider.get_tracer("caller").start_as_current_span("caller") as span:
            read(client, api, is_async, True, lambda: seen.append(trace.get_current_span() is span))
    assert len(seen) > 5
    assert all(seen)


@colours
@pytest.mark.parametrize("api", [CHAT, MESSAGES], ids=lambda api: api.name)
def test_an_attempt_that_fails_leaves_no_context(is_async: bool, api: Api) -> None:
    """A connection that is refused, and a call that is cancelled while it is sent."""
    after: list[trace.Span] = []

    def refuse(_: httpx2.Request) -> httpx2.Response:
        raise KeyboardInterrupt

    async def stall(_: httpx2.Request) -> httpx2.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def cancelled() -> None:
        call: Awaitable[Any] = api.method(client_of(api, stall, True))(**api.arguments)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.01)
        after.append(trace.get_current_span())

    with watching() as watch:
        if is_async:
            asyncio.run(cancelled())
        else:
            with pytest.raises(KeyboardInterrupt):
                read(client_of(api, refuse, False), api, False, False)
            after.append(trace.get_current_span())
    assert after == [trace.INVALID_SPAN]
    assert len(watch.records) == 1


@pytest.mark.parametrize("api", [CHAT, MESSAGES], ids=lambda api: api.name)
def test_what_an_instrumentation_propagates_is_its_own(api: Api) -> None:
    """An HTTP instrumentation that sends ``traceparent`` does so with us as without us: of its own span."""
    with watching() as watch:
        handler = Traced(api, watch, propagates=True)
        read(client_of(api, handler, False), api, False, False)
        (post,) = [span for span in watch.spans if span.name == "POST"]
    (headers,) = handler.headers
    assert headers["traceparent"].split("-")[1:3] == [f"{post.context.trace_id:032x}", f"{post.context.span_id:016x}"]


def test_a_call_that_a_hook_makes_has_a_span_of_its_own() -> None:
    """A hook of the HTTP client that asks another model, with the same operation: a call below the call."""
    with watching() as watch:
        guard = client_of(MESSAGES, Traced(MESSAGES, watch), False)
        hooks = {"request": [lambda _: MESSAGES.method(guard)(**MESSAGES.arguments)]}
        read(client_of(CHAT, Traced(CHAT, watch), False, event_hooks=hooks), CHAT, False, False)
        spans, records = watch.spans, watch.records
    assert sorted(record.provider for record in records) == ["anthropic", "openai"]
    assert len({record.span_id for record in records}) == 2
    names = {span.context.span_id: span.name for span in spans}
    parents = {span.name: names.get(span.parent.span_id) if span.parent else None for span in spans}
    assert parents["chat claude-sonnet-5"] == "chat gpt-5-mini"


def test_without_a_tracer_provider_nothing_is_made_current() -> None:
    """Without an SDK of OpenTelemetry there is no span, and the caller's remote parent stays the current one."""
    seen: list[Any] = []

    def answer(_: httpx2.Request) -> httpx2.Response:
        seen.append(trace.get_current_span().get_span_context())
        return httpx2.Response(200, json=CHAT.body)

    remote = trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(1))
    with watching() as watch:
        watch.observer.tracer = trace.NoOpTracer()
        with trace.use_span(trace.NonRecordingSpan(remote)):
            read(client_of(CHAT, answer, False), CHAT, False, False)
    assert seen == [remote]
    assert len(watch.records) == 1


@apis
@colours
def test_a_span_that_became_current_since(api: Api, is_async: bool) -> None:
    """A span that somebody opens between the call and its request is nearer to the request: it stays current."""
    with watching() as watch:
        client = client_of(api, Traced(api, watch), is_async)
        tracer, send = watch.tracer_provider.get_tracer("middle"), client._client.send

        async def send_async_in_span(*args: Any, **kwargs: Any) -> Any:
            with tracer.start_as_current_span("middle"):
                return await send(*args, **kwargs)

        def send_in_span(*args: Any, **kwargs: Any) -> Any:
            with tracer.start_as_current_span("middle"):
                return send(*args, **kwargs)

        client._client.send = send_async_in_span if is_async else send_in_span
        read(client, api, is_async, stream=False)
        spans = watch.spans
    assert family(spans)["POST"] == ["middle"]
