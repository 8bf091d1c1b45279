"""Wrappers around the request of an anthropic client that traces itself: the SDK's own span comes inside of them.

The shapes are Logfire's: a wrapper of ``request`` that opens the call's span and may suppress instrumentation, and a
tracer that makes spans without recording where that is suppressed.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import anthropic
import httpx2
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_instrumentation_enabled, suppress_instrumentation
from opentelemetry.trace import NonRecordingSpan, SpanKind

from foreign_spans import span_id
from llmspan.instrumentation import suppressed_calls
from llmspan.instrumentation.stainless.active_call import current_active_call
from llmspan.instrumentation.suppression import reset_suppressed_calls
from replay import Pieces
from streams import MESSAGES, json
from watching import Watch, watching

#: what Logfire's span says when it calls the SDK
THEIRS = {"gen_ai.provider.name": "anthropic", "gen_ai.operation.name": "chat", "request_data": '{"model":"m"}'}
ASKED = MESSAGES.arguments
MODES = pytest.mark.parametrize("mode", ["suppress", "adopt", "both"])
COLOURS = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
#: how a client makes the call; what it returns is read to the end
CALLS: dict[str, Callable[[Any], Any]] = {
    "create": lambda client: client.messages.create(**ASKED),
    "create, stream": lambda client: client.messages.create(**ASKED, stream=True),
    "beta": lambda client: client.beta.messages.create(**ASKED),
    "manager": lambda client: client.messages.stream(**ASKED),
    "beta manager": lambda client: client.beta.messages.stream(**ASKED),
    "raw": lambda client: client.messages.with_raw_response.create(**ASKED),
    "post": lambda client: client.post("/v1/messages", body=ASKED, cast_to=anthropic.types.Message),
}
#: what no method of the SDK's asks for, the SDK does not trace
UNTRACED = {"post"}


class Suppressible(trace.TracerProvider):
    """Makes spans that record nothing where instrumentation is suppressed, with the ids of the current one."""

    def __init__(self, provider: trace.TracerProvider) -> None:
        self.provider = provider

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        tracer = self.provider.get_tracer(*args, **kwargs)
        return type("Suppressible", (), {"start_span": staticmethod(functools.partial(self._start, tracer))})()

    def _start(self, tracer: trace.Tracer, *args: Any, **kwargs: Any) -> trace.Span:
        if is_instrumentation_enabled():
            return tracer.start_span(*args, **kwargs)
        return NonRecordingSpan(trace.get_current_span().get_span_context())


def answer(request: httpx2.Request) -> httpx2.Response:
    body = json.loads(request.content)
    if request.url.path.endswith("count_tokens"):
        return httpx2.Response(200, json={"input_tokens": 3})
    if body.get("stream"):
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces(MESSAGES.stream))
    return httpx2.Response(200, json=MESSAGES.body)


def client_of(watch: Watch, is_async: bool, server: Any = answer) -> Any:
    """A client that traces itself, by the provider of the test."""
    http = (httpx2.AsyncClient if is_async else httpx2.Client)(transport=httpx2.MockTransport(server))
    native = {"tracer_provider": Suppressible(watch.tracer_provider)}
    kind = anthropic.AsyncAnthropic if is_async else anthropic.Anthropic
    return kind(api_key="k", http_client=http, max_retries=0, open_telemetry=native)


def run(make: Callable[[Any], Any], client: Any, is_async: bool) -> None:
    """Make a call and read what it returns."""

    async def read() -> None:
        result = make(client)
        result = await result if inspect.isawaitable(result) else result
        if hasattr(result, "__aenter__"):
            async with result as stream:
                [event async for event in stream]

    if is_async:
        asyncio.run(read())
        return
    result = make(client)
    if hasattr(result, "__enter__"):
        with result as stream:
            list(stream)


@contextmanager
def wrapped(enter: Callable[[], Any], where: str = "subclass") -> Iterator[None]:
    """``request`` of both clients, wrapped by somebody: on the class that is used, or on the one that has it."""
    sync, asynchronous = (
        (anthropic.Anthropic, anthropic.AsyncAnthropic)
        if where == "subclass"
        else (anthropic._base_client.SyncAPIClient, anthropic._base_client.AsyncAPIClient)
    )
    saved, saved_async = sync.request, asynchronous.request
    own = [(kind, vars(kind).get("request")) for kind in (sync, asynchronous)]

    def request(*args: Any, **kwargs: Any) -> Any:
        with enter():
            return saved(*args, **kwargs)

    async def request_async(*args: Any, **kwargs: Any) -> Any:
        with enter():
            return await saved_async(*args, **kwargs)

    sync.request, asynchronous.request = request, request_async  # type: ignore[method-assign]
    try:
        yield
    finally:
        for kind, value in own:
            if value is None:
                del kind.request
            else:
                kind.request = value  # type: ignore[method-assign]


@contextmanager
def peer_first(enter: Callable[[Watch], Any], mode: str = "suppress", where: str = "subclass") -> Iterator[Watch]:
    """llmspan set up after somebody else, who is told of the providers."""
    found: list[Watch] = []
    reset_suppressed_calls()
    with wrapped(lambda: enter(found[0]), where), watching(anthropic_native_spans=mode) as watch:
        found.append(watch)
        yield watch
        assert watch.observer.open_calls == {}
        assert current_active_call() is None
    reset_suppressed_calls()


@contextmanager
def their_span(watch: Watch, *, is_suppressed: bool) -> Iterator[None]:
    """As Logfire's wrapper: the call's span, and suppression inside of it."""
    tracer = watch.tracer_provider.get_tracer("theirs")
    with (
        tracer.start_as_current_span("Message with {model}", kind=SpanKind.CLIENT, attributes=THEIRS),
        suppress_instrumentation() if is_suppressed else nullcontext(),
    ):
        yield


@MODES
@COLOURS
@pytest.mark.parametrize("is_suppressed", [True, False], ids=["suppressed", "open"])
@pytest.mark.parametrize("name", CALLS)
def test_their_span_is_the_calls(name: str, is_suppressed: bool, is_async: bool, mode: str) -> None:
    """The SDK's span never takes the place of theirs: one record, with the ids of theirs, and no span of ours."""
    with peer_first(functools.partial(their_span, is_suppressed=is_suppressed), mode) as watch:
        run(CALLS[name], client_of(watch, is_async), is_async)
        spans, (record,) = watch.spans, watch.records
    theirs = next(span for span in spans if span.name == "Message with {model}")
    assert (record.status, record.span_id) == ("ok", span_id(theirs))
    assert record.usage.output_tokens == MESSAGES.output_tokens
    assert (theirs.attributes or {})["llmspan.record.id"] == record.id
    assert len(spans) == (2 if mode == "both" and not is_suppressed and name not in UNTRACED else 1)
    assert suppressed_calls() == {}


@MODES
@COLOURS
@pytest.mark.parametrize("where", ["subclass", "base class"])
@pytest.mark.parametrize("name", CALLS)
def test_a_wrapper_without_a_span(name: str, where: str, is_async: bool, mode: str) -> None:
    """The setting decides as it does without a wrapper: ours, the SDK's, or both."""
    with peer_first(lambda _: nullcontext(), mode, where) as watch:
        run(CALLS[name], client_of(watch, is_async), is_async)
        spans, (record,) = watch.spans, watch.records
    ours = [span for span in spans if not span.name.startswith("anthropic.")]
    has_native = mode != "suppress" and name not in UNTRACED
    assert (len(ours), len(spans) - len(ours)) == (0 if has_native and mode == "adopt" else 1, int(has_native))
    (span,) = ours or spans
    assert (record.status, record.span_id) == ("ok", span_id(span))


@COLOURS
@pytest.mark.parametrize("name", CALLS)
def test_suppression_without_a_span_is_counted_once(name: str, is_async: bool) -> None:
    """Nobody's span stands for the call: it is left out, however many of our hooks it passes."""
    with peer_first(lambda _: suppress_instrumentation()) as watch:
        client = client_of(watch, is_async)
        run(CALLS[name], client, is_async)
        run(CALLS[name], client, is_async)
        assert (watch.records, watch.spans, suppressed_calls()) == ([], [], {"anthropic": 2})


@COLOURS
def test_another_operation_below_their_span(is_async: bool) -> None:
    """Tokens that are counted below a chat span have a span of ours."""
    with peer_first(functools.partial(their_span, is_suppressed=False)) as watch:
        client = client_of(watch, is_async)
        run(lambda made: made.messages.count_tokens(model="m", messages=ASKED["messages"]), client, is_async)
        names = [span.name for span in watch.spans]
    assert names == ["count_tokens m", "Message with {model}"]


@COLOURS
def test_a_call_that_fails_below_their_span(is_async: bool) -> None:
    """Refused, and then answered: each call has its record and the ids of its own span."""

    def refuse(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(400, json={"error": {"type": "invalid_request_error", "message": "no"}})

    with peer_first(functools.partial(their_span, is_suppressed=True)) as watch:
        with pytest.raises(anthropic.BadRequestError):
            run(CALLS["create"], client_of(watch, is_async, refuse), is_async)
        run(CALLS["create"], client_of(watch, is_async), is_async)
        spans, records = watch.spans, watch.records
    assert [record.status for record in records] == ["error", "ok"]
    assert [record.span_id for record in records] == [span_id(span) for span in spans]
