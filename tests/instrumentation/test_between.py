"""What a program has put between the SDK and the provider: hooks of the HTTP client, middleware, transports of its own.

They read responses before the SDK does, make calls of their own, retry, and keep contexts; the record is of the call.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from replay import Pieces, client_for
from streams import ALL, CHAT, MESSAGES, Api
from watching import Watch

apis = pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
SSE = {"content-type": "text/event-stream"}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


class Own(httpx2.Response):
    """A response class of the program's."""


WAYS: dict[str, tuple[Callable[[Api], httpx2.Response], list[Any]]] = {
    "read by a hook": (lambda api: httpx2.Response(200, headers=SSE, stream=Pieces(api.stream)), [lambda r: r.read()]),
    "made of bytes": (lambda api: httpx2.Response(200, headers=SSE, content=b"".join(api.stream)), []),
    "of a class of its own": (lambda api: Own(200, headers=SSE, stream=Pieces(api.stream)), []),
}


@apis
@pytest.mark.parametrize("way", WAYS)
def test_a_stream_that_is_read_before_the_sdk_reads_it(way: str, api: Api, watch: Watch) -> None:
    """The whole stream is recorded, whoever has read it first."""
    answer, hooks = WAYS[way]
    http = httpx2.Client(transport=httpx2.MockTransport(lambda _: answer(api)), event_hooks={"response": hooks})
    sdk = openai.OpenAI if api.provider == "openai" else anthropic.Anthropic
    events = list(api.method(sdk(api_key="k", http_client=http))(**api.arguments, stream=True))
    assert events
    record, span = watch.only()
    assert (record.status, record.usage.output_tokens) == ("ok", api.output_tokens)
    assert record.response_bytes == len(b"".join(api.stream))
    assert span.attributes is not None
    assert span.attributes["gen_ai.usage.output_tokens"] == api.output_tokens


def test_a_call_that_a_hook_makes_is_not_the_one_that_it_is_in(watch: Watch) -> None:
    """The models that a hook lists are neither the request nor the response of the call that it hooks."""
    models = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"object": "list", "data": []}))
    others = openai.OpenAI(api_key="other", http_client=httpx2.Client(transport=models))
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=CHAT.body))
    http = httpx2.Client(transport=transport, event_hooks={"response": [lambda _: others.models.list()]})
    CHAT.method(openai.OpenAI(api_key="k", http_client=http))(**CHAT.arguments)
    record, _ = watch.only()
    assert (record.attempts, record.usage.output_tokens) == (1, CHAT.output_tokens)
    assert json.loads(record.request_json or "") == CHAT.arguments


@pytest.mark.anyio
async def test_a_task_that_a_hook_has_begun_is_on_its_own(watch: Watch) -> None:
    """It has the context of the call, which is over when it makes its own."""
    models = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"object": "list", "data": []}))
    others = openai.AsyncOpenAI(api_key="other", http_client=httpx2.AsyncClient(transport=models))
    over = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def later() -> None:
        await over.wait()
        await others.models.list()

    async def hook(_: httpx2.Response) -> None:
        tasks.append(asyncio.create_task(later()))

    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=CHAT.body))
    http = httpx2.AsyncClient(transport=transport, event_hooks={"response": [hook]})
    await CHAT.method(openai.AsyncOpenAI(api_key="k", http_client=http))(**CHAT.arguments)
    over.set()
    await asyncio.gather(*tasks)
    record, _ = watch.only()
    assert (record.attempts, record.usage.output_tokens) == (1, CHAT.output_tokens)
    assert json.loads(record.request_json or "") == CHAT.arguments


@pytest.mark.anyio
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_context_that_is_kept_does_not_keep_the_call(is_async: bool, watch: Watch) -> None:
    """Timers and tasks copy the context of the call, and may live on for long after it."""
    kept: list[contextvars.Context] = []
    calls: list[weakref.ref[Any]] = []

    def keep() -> None:
        kept.append(contextvars.copy_context())
        calls.extend(weakref.ref(call) for call in watch.observer.open_calls.values())

    async def keep_async(_: httpx2.Response) -> None:
        keep()

    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=CHAT.body))
    if is_async:
        http: Any = httpx2.AsyncClient(transport=transport, event_hooks={"response": [keep_async]})
        await CHAT.method(openai.AsyncOpenAI(api_key="k", http_client=http))(**CHAT.arguments)
    else:
        http = httpx2.Client(transport=transport, event_hooks={"response": [lambda _: keep()]})
        CHAT.method(openai.OpenAI(api_key="k", http_client=http))(**CHAT.arguments)
    assert watch.only()[0].status == "ok"
    watch.pending.clear()
    gc.collect()
    assert kept
    assert [call() for call in calls] == [None]


def passing(request: Any, call_next: Callable[[Any], Any]) -> Any:
    return call_next(request)


def falling_back(request: Any, call_next: Callable[[Any], Any]) -> Any:
    response = call_next(request)
    if response.http_response.status_code == 529:
        response.http_response.close()
        response = call_next(request)
    return response


@pytest.mark.parametrize("how", ["create", "with_streaming_response"])
@pytest.mark.parametrize(("middleware", "retries"), [(passing, 2), (falling_back, 0)], ids=["passing", "falling back"])
def test_a_stream_that_is_retried_behind_a_middleware(middleware: Any, retries: int, how: str, watch: Watch) -> None:
    """The end of a refusal that is retried is not the end of the call: the stream that follows is."""
    answers = iter([
        httpx2.Response(529, headers={"retry-after-ms": "1"}, stream=Pieces([json.dumps(OVERLOADED).encode()])),
        httpx2.Response(200, headers=SSE, stream=Pieces(MESSAGES.stream)),
    ])  # fmt: skip
    http = httpx2.Client(transport=httpx2.MockTransport(lambda _: next(answers)))
    client = anthropic.Anthropic(api_key="k", max_retries=retries, middleware=[middleware], http_client=http)
    if how == "create":
        events = list(client.messages.create(**MESSAGES.arguments, stream=True))
    else:
        with client.messages.with_streaming_response.create(**MESSAGES.arguments, stream=True) as response:
            events = list(response.parse())
    assert events
    record, span = watch.only()
    assert (record.status, record.http_status, record.attempts) == ("ok", 200, 2)
    assert span.attributes is not None
    assert span.attributes["gen_ai.usage.output_tokens"] == MESSAGES.output_tokens


class Closing(httpx2.AsyncByteStream):
    """A transport's stream that notes in which task it is closed, and when."""

    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for piece in CHAT.stream:
                yield piece
        finally:
            await asyncio.sleep(0)
            self.seen.append(asyncio.current_task())

    async def aclose(self) -> None:
        self.seen.append("closed")


@pytest.mark.anyio
async def test_a_transport_is_closed_where_its_reader_stops(watch: Watch) -> None:
    """In the reader's own task, before the response: not by a finaliser, later and elsewhere."""
    seen: list[Any] = []
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=SSE, stream=Closing(seen)))
    client = client_for("openai", transport, is_async=True)
    async with client.chat.completions.with_streaming_response.create(**CHAT.arguments, stream=True) as response:
        async with aclosing(response.http_response.aiter_bytes()) as pieces:
            await anext(pieces)
        seen.append("left")
    assert seen[:3] == [asyncio.current_task(), "closed", "left"]
    assert watch.only()[0].status == "closed_early"
