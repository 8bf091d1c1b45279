"""Streams whose ``__stream__`` somebody overrides in a subclass, or wraps on the SDK's class, before us or after us.

A call ends as with the SDK's own generator, whether it has passed our ``request`` or not, and the caller gets the
events that he gets without us.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import anthropic
import httpx2
import openai
import pytest
import wrapt

from replay import Pieces, client_for
from streams import CHAT, MESSAGES, Api
from watching import Watch, watching

SDKS: dict[str, Any] = {"openai": openai, "anthropic": anthropic}
PATHS = {"chat": "/chat/completions", "messages": "/v1/messages"}
#: the type of their events
ITEMS = {
    "chat": openai.types.chat.ChatCompletionChunk,
    "messages": anthropic.types.RawMessageStreamEvent,
}
ENDS = {"read": "ok", "left": "closed_early", "lost": "error"}
pytestmark = pytest.mark.every_row
COLOURS = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
APIS = pytest.mark.parametrize("api", [CHAT, MESSAGES], ids=lambda api: api.name)


def stream_class(api: Api, is_async: bool) -> Any:
    sdk = SDKS[api.provider]
    return sdk.AsyncStream if is_async else sdk.Stream


def is_async_stream(kind: Any) -> bool:
    return hasattr(kind.__origin__, "__aiter__")


def calls_super(kind: Any) -> Any:
    """A subclass that looks at the events of the generator above it."""

    class Looking(kind):  # type: ignore[misc]
        def __stream__(self) -> Any:
            yield from super().__stream__()

    class LookingAsync(kind):  # type: ignore[misc]
        async def __stream__(self) -> Any:
            async for event in super().__stream__():
                yield event

    return LookingAsync if is_async_stream(kind) else Looking


def calls_saved(kind: Any) -> Any:
    """A subclass that has saved the SDK's function before anybody patched it."""
    saved = inspect.unwrap(kind.__origin__.__stream__)

    class Saved(kind):  # type: ignore[misc]
        def __stream__(self) -> Any:
            return saved(self)

    return Saved


def reads_itself(kind: Any) -> Any:
    """A subclass that makes events of the server's by itself."""

    class Own(kind):  # type: ignore[misc]
        def __stream__(self) -> Any:
            yield from self._iter_events()

    class OwnAsync(kind):  # type: ignore[misc]
        async def __stream__(self) -> Any:
            async for event in self._iter_events():
                yield event

    return OwnAsync if is_async_stream(kind) else Own


OVERRIDES = {"super": calls_super, "saved": calls_saved, "own": reads_itself}


def server(api: Api, end: str, seen: list[Any]) -> httpx2.MockTransport:
    """Answers with usage only if it is asked for, as OpenAI does, and breaks off if the test is about that."""

    def respond(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        seen.append(body)
        asked = api is not CHAT or "stream_options" in body
        pieces = [piece for piece in api.stream if asked or b'"choices": []' not in piece]
        if end == "lost":
            lost = Pieces(pieces[: api.first_output + 1], lambda: httpx2.ReadError("gone"))
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=lost)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces(pieces))

    return httpx2.MockTransport(respond)


def client_of(api: Api, end: str, is_async: bool, is_bypassed: bool, seen: list[Any]) -> Any:
    client = client_for(api.provider, server(api, end, seen), is_async=is_async)
    if is_bypassed:
        saved = inspect.unwrap(type(client).request)
        client.request = lambda *args, **kwargs: saved(client, *args, **kwargs)
    return client


def consume(api: Api, client: Any, end: str, is_async: bool, kind: Any = None) -> list[Any]:
    """Make the call, with a stream class of the caller's if there is one; the events that he gets."""
    found: list[Any] = []

    def open_stream() -> Any:
        if kind is None:
            return api.method(client)(**api.arguments, stream=True)
        body = {**api.arguments, "stream": True}
        return client.post(PATHS[api.name], cast_to=ITEMS[api.name], body=body, stream=True, stream_cls=kind)

    async def of_async() -> None:
        async for event in await open_stream():
            found.append(event.to_dict() if hasattr(event, "to_dict") else vars(event))
            if end == "left" and len(found) == api.first_output + 1:
                break
        gc.collect()

    def of_sync() -> None:
        for event in open_stream():
            found.append(event.to_dict() if hasattr(event, "to_dict") else vars(event))
            if end == "left" and len(found) == api.first_output + 1:
                break

    gc.collect()
    gc.freeze()  # a collection has to look at this call's objects only
    lost = (httpx2.ReadError, SDKS[api.provider].APIConnectionError)
    with pytest.raises(lost) if end == "lost" else nullcontext():
        asyncio.run(of_async()) if is_async else of_sync()
    gc.collect()
    return found


def check(watch: Watch, api: Api, end: str, *, is_asked: bool) -> None:
    record, span = watch.only()
    assert (record.status, record.stream, record.response_id) == (ENDS[end], True, api.response_id)
    assert span.end_time is not None
    assert watch.observer.open_calls == {}
    if end == "read":
        assert record.usage.output_tokens == (api.output_tokens if is_asked or api is not CHAT else None)


@APIS
@COLOURS
@pytest.mark.parametrize("is_bypassed", [False, True], ids=["by our request", "past our request"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("override", OVERRIDES)
def test_a_stream_class_with_a_generator_of_its_own(
    override: str, end: str, is_bypassed: bool, is_async: bool, api: Api
) -> None:
    """One record and one span that say how it ended, and the caller gets what he gets without us."""
    kind = OVERRIDES[override](stream_class(api, is_async)[ITEMS[api.name]])
    sent: list[Any] = []
    bare = consume(api, client_of(api, end, is_async, is_bypassed, []), end, is_async, kind)
    with watching() as watch:
        seen = consume(api, client_of(api, end, is_async, is_bypassed, sent), end, is_async, kind)
        check(watch, api, end, is_asked="stream_options" in sent[0])
    assert seen == bare


def by_wrapt(function: Any) -> Any:
    return wrapt.FunctionWrapper(function, lambda wrapped, _, args, kwargs: wrapped(*args, **kwargs))


def by_a_function(function: Any) -> Any:
    return lambda stream: function(stream)


def by_a_generator(function: Any) -> Any:
    def wrapper(stream: Any) -> Iterator[Any]:
        yield from function(stream)

    async def wrapper_async(stream: Any) -> Any:
        async for event in function(stream):
            yield event

    return wrapper_async if inspect.isasyncgenfunction(inspect.unwrap(function)) else wrapper


WRAPPERS = {"wrapt": by_wrapt, "function": by_a_function, "generator": by_a_generator}


@APIS
@COLOURS
@pytest.mark.parametrize("is_bypassed", [False, True], ids=["by our request", "past our request"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", WRAPPERS)
@pytest.mark.parametrize("order", ["before", "after"])
def test_a_wrapper_of_the_generator(
    order: str, way: str, end: str, is_bypassed: bool, is_async: bool, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where somebody has put a wrapper on the SDK's class."""
    kind, sent = stream_class(api, is_async), list[Any]()
    bare = consume(api, client_of(api, end, is_async, is_bypassed, []), end, is_async)
    with monkeypatch.context() as patching:
        if order == "before":
            patching.setattr(kind, "__stream__", WRAPPERS[way](kind.__stream__))
        with watching() as watch, monkeypatch.context() as inner:
            if order == "after":
                inner.setattr(kind, "__stream__", WRAPPERS[way](kind.__stream__))
            seen = consume(api, client_of(api, end, is_async, is_bypassed, sent), end, is_async)
            check(watch, api, end, is_asked=True)
    assert seen == bare
