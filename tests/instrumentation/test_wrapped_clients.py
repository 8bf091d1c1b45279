"""Wrappers that others put on the SDK's methods, before us or after us: each call is recorded once, and exactly.

The shapes are those of real instrumentations: wrapt on a subclass (OpenInference), functools on a class, an attribute
of an instance, a subclass that calls the function it has saved.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import anthropic
import httpx2
import openai
import pytest
import wrapt
from opentelemetry import trace

from replay import Pieces
from streams import CHAT, MESSAGES, Api
from watching import Watch, watching

SSE = {"content-type": "text/event-stream"}
APIS = {"openai": CHAT, "anthropic": MESSAGES}
sdks = pytest.mark.parametrize("sdk", APIS)
METHODS = ["request", "post", "_request", "_process_response", "_build_request", "_prepare_options", "_sleep_for_retry"]

Undo = Callable[[], None]


def base_of(sdk: str, is_async: bool) -> Any:
    module = {"openai": openai, "anthropic": anthropic}[sdk]
    return getattr(module._base_client, "AsyncAPIClient" if is_async else "SyncAPIClient")


def subclass_of(sdk: str, is_async: bool) -> Any:
    names = {"openai": ("OpenAI", "AsyncOpenAI"), "anthropic": ("Anthropic", "AsyncAnthropic")}
    return getattr({"openai": openai, "anthropic": anthropic}[sdk], names[sdk][is_async])


def passing(function: Any, calls: list[str]) -> Any:
    """A wrapper by functools, of the function's colour."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapper_async(*args: Any, **kwargs: Any) -> Any:
            calls.append(function.__name__)
            return await function(*args, **kwargs)

        return wrapper_async

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        calls.append(function.__name__)
        return function(*args, **kwargs)

    return wrapper


def set_on(owner: Any, name: str, value: Any) -> Undo:
    own = vars(owner).get(name)
    setattr(owner, name, value)
    return (lambda: delattr(owner, name)) if own is None else (lambda: setattr(owner, name, own))


def by_wrapt(owner: Any, name: str, calls: list[str]) -> Undo:
    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        assert instance is not None  # as wrapt's wrappers expect of a method
        assert not args or args[0] is not instance
        calls.append(name)
        return wrapped(*args, **kwargs)

    return set_on(owner, name, wrapt.FunctionWrapper(getattr(owner, name), wrapper))


def by_functools(owner: Any, name: str, calls: list[str]) -> Undo:
    return set_on(owner, name, passing(getattr(owner, name), calls))


WRAPS = {"wrapt": by_wrapt, "functools": by_functools}


class Server:
    """Answers by the request's model: fails once, always, or not at all."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.requests = 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests += 1
        body = json.loads(request.content)
        if body["model"] == "unreachable":
            raise httpx2.ConnectError("refused")
        if body["model"] == "slow":
            raise httpx2.ReadTimeout("slow")
        if body["model"] == "broken" or (body["model"] == "broken once" and self.requests == 1):
            return httpx2.Response(500, json={"error": {"message": "x"}}, headers={"retry-after-ms": "1"})
        if body.get("stream"):
            return httpx2.Response(200, headers=SSE, stream=Pieces(self.api.stream))
        return httpx2.Response(200, json=self.api.body)


def client_of(sdk: str, server: Any, is_async: bool = False, kind: Any = None, **options: Any) -> Any:
    http = (httpx2.AsyncClient if is_async else httpx2.Client)(transport=httpx2.MockTransport(server))
    options = {"api_key": "k", "max_retries": 1, "http_client": http, **options}
    return (kind or subclass_of(sdk, is_async))(**options)


def call(client: Any, api: Api, is_async: bool, **more: Any) -> Any:
    """Make the call and read it to its end; what the caller got."""

    async def of_async() -> Any:
        result = await api.method(client)(**{**api.arguments, **more})
        return [event async for event in result] if more.get("stream") else result

    if is_async:
        return asyncio.run(of_async())
    result = api.method(client)(**{**api.arguments, **more})
    return list(result) if more.get("stream") else result


def outcome(function: Callable[[], Any]) -> tuple[Any, Any]:
    """What a caller gets: the kind of result or of exception, and its text."""
    try:
        result = function()
    except Exception as error:
        return type(error), str(error)
    return type(result), len(result) if isinstance(result, list) else None


@pytest.fixture
def undo() -> Iterator[list[Undo]]:
    undone: list[Undo] = []
    yield undone
    while undone:
        undone.pop()()


@sdks
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("where", ["base class", "subclass", "instance"])
@pytest.mark.parametrize("way", WRAPS)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("order", ["before", "after"])
def test_a_method_that_somebody_wraps(
    order: str, name: str, way: str, where: str, is_async: bool, sdk: str, undo: list[Undo]
) -> None:
    """A body and a stream: one span and one record each, whoever wraps what, where, and when."""
    api, calls = APIS[sdk], list[str]()
    if not hasattr(base_of(sdk, is_async), name) or (where == "instance" and way == "wrapt"):
        pytest.skip("there is no such method, or wrapt does not bind it there")
    client = client_of(sdk, Server(api), is_async)
    owner = {"base class": base_of(sdk, is_async), "subclass": type(client), "instance": client}[where]
    if where == "base class" and name not in vars(owner):
        owner = next(kind for kind in owner.__mro__ if name in vars(kind))
    if order == "before":
        undo.append(WRAPS[way](owner, name, calls))
    with watching() as watch:
        if order == "after":
            undo.append(WRAPS[way](owner, name, calls))
        call(client, api, is_async)
        call(client, api, is_async, stream=True)
        spans, records = watch.spans, watch.records
        if order == "after":
            undo.pop()()
    assert calls or name == "_sleep_for_retry"
    assert [span.name for span in spans] == [f"chat {api.arguments['model']}"] * 2
    assert [(r.status, r.attempts, r.usage.output_tokens) for r in records] == [("ok", 1, api.output_tokens)] * 2
    assert [r.stream for r in records] == [False, True]
    assert all(r.request_json and r.response_json for r in records)


CASES: dict[str, tuple[dict[str, Any], int, tuple[str, int | None]]] = {
    "broken once": ({}, 2, ("ok", 200)),
    "broken": ({}, 2, ("error", 500)),
    "unreachable": ({}, 2, ("error", None)),
    "slow": ({}, 2, ("error", None)),
    "broken once, stream": ({"stream": True}, 2, ("ok", 200)),
    "broken, stream": ({"stream": True}, 2, ("error", 500)),
}


def bypassing(sdk: str, is_async: bool, name: str = "request") -> Any:
    """A subclass that calls the SDK's own function, which it has saved."""
    saved = inspect.unwrap(getattr(base_of(sdk, is_async), name))
    return type("Saving", (subclass_of(sdk, is_async),), {name: passing(saved, [])})


@sdks
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("case", CASES)
def test_a_bypassed_call_ends_as_any_other(case: str, is_async: bool, sdk: str) -> None:
    """Retries, statuses and errors: record and span are those of a call that passes us, and so is the result."""
    api = APIS[sdk]
    more, attempts, expected = CASES[case]
    kinds = {"passing us": subclass_of(sdk, is_async), "bypassing us": bypassing(sdk, is_async)}
    seen: dict[str, Any] = {}
    for way, kind in kinds.items():
        with watching() as watch:
            client = client_of(sdk, Server(api), is_async, kind)
            got = outcome(lambda c=client: call(c, api, is_async, model=case.partition(",")[0], **more))
        (record,), (span,) = watch.records, watch.spans
        assert (record.attempts, (record.status, record.http_status)) == (attempts, expected)
        names = sorted(name for name in span.attributes or {} if name != "llmspan.record.id")
        facts = (record.error_type, record.error_message, record.usage, record.stream, record.response_json)
        seen[way] = got, facts, span.status.status_code, names
    assert seen["passing us"] == seen["bypassing us"]


STEPS = {
    "options": "_prepare_options",
    "headers": "_build_headers",
    "login": "_prepare_request",
    "wait": "_calculate_retry_timeout",
    "own code": "_make_status_error",
}


@sdks
@pytest.mark.parametrize("where", STEPS)
def test_a_bypassed_call_that_fails_between_its_steps(where: str, sdk: str) -> None:
    """What raises in between passes no hook; the record is made all the same, once."""
    api = APIS[sdk]

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with watching() as watch:
        client = client_of(sdk, Server(api), kind=bypassing(sdk, False))
        name = STEPS[where]
        setattr(client, name, stop)
        with suppress(KeyboardInterrupt):
            call(client, api, False, model="broken")
        gc.collect()
        assert len(watch.records) == len(watch.spans) == 1
        assert watch.observer.open_calls == {}
        delattr(client, name)
        call(client, api, False)
        assert [record.status for record in watch.records][1:] == ["ok"]


@sdks
def test_a_bypassed_call_that_fails_before_its_second_attempt(sdk: str) -> None:
    """The program's own code raises when the retry is prepared: one record, with what the first attempt met."""
    api = APIS[sdk]
    with watching() as watch:
        client = client_of(sdk, Server(api), kind=bypassing(sdk, False))

        def build(options: Any, *, retries_taken: int = 0) -> Any:
            if retries_taken:
                raise KeyboardInterrupt
            return type(client)._build_request(client, options, retries_taken=retries_taken)

        client._build_request, client._calculate_retry_timeout = build, lambda *_: 0
        with suppress(KeyboardInterrupt):
            call(client, api, False, model="unreachable")
        gc.collect()
        (record,) = watch.records
    assert (record.status, record.attempts, record.error_type) == ("error", 1, f"{sdk}.APIConnectionError")


@sdks
def test_a_bypassed_call_that_is_cancelled(sdk: str) -> None:
    """While it is sent, and while it waits for its next attempt: cancelled, and over."""
    api = APIS[sdk]

    async def cancel(model: str) -> None:
        reached = asyncio.Event()

        async def hang(request: httpx2.Request) -> httpx2.Response:
            reached.set()
            if model == "sending":
                await asyncio.Event().wait()
            return httpx2.Response(500, headers={"retry-after": "30"})

        client = client_of(sdk, hang, True, bypassing(sdk, True))
        task = asyncio.create_task(api.method(client)(**api.arguments))
        await reached.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    with watching() as watch:
        for model in ("sending", "waiting"):
            asyncio.run(cancel(model))
        gc.collect()
        assert watch.observer.open_calls == {}
        assert [record.status for record in watch.records] == ["cancelled"] * 2


def test_a_bypassed_call_keeps_nothing_in_the_callers_context(watch: Watch) -> None:
    """Before, between chunks and after: the caller's current span is his own, and no call is left running."""
    from llmspan.instrumentation.stainless.active_call import current_active_call

    tracer = watch.tracer_provider.get_tracer("caller")
    for kind in (openai.OpenAI, bypassing("openai", False)):
        client = client_of("openai", Server(CHAT), kind=kind)
        with tracer.start_as_current_span("caller") as span:
            for _ in call_lazily(client):
                assert trace.get_current_span() is span
                assert current_active_call() is None
            assert trace.get_current_span() is span
    assert len(watch.records) == 2


def call_lazily(client: Any) -> Any:
    return CHAT.method(client)(**CHAT.arguments, stream=True)


def test_a_call_that_meets_two_of_our_wrappers_is_one(undo: list[Undo]) -> None:
    """A class attribute that is our wrapper, around a function that calls our wrapper again."""
    with watching() as watch:
        ours = base_of("openai", False).request
        undo.append(set_on(openai.OpenAI, "request", lambda self, *args, **kwargs: ours(self, *args, **kwargs)))
        client = client_of("openai", Server(CHAT))
        call(client, CHAT, False)
        undo.pop()()
    assert len(watch.records) == len(watch.spans) == 1


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_record_is_of_a_real_call(is_cached: bool, undo: list[Undo]) -> None:
    """A wrapper that answers from its cache makes no call; one that calls twice makes two."""
    saved = openai.OpenAI.request

    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_cached:
            return "cached"
        saved(self, *args, **kwargs)
        return saved(self, *args, **kwargs)

    undo.append(set_on(openai.OpenAI, "request", wrapper))
    with watching() as watch:
        call(client_of("openai", Server(CHAT)), CHAT, False)
    assert len(watch.records) == len(watch.spans) == (0 if is_cached else 2)


def test_usage_is_asked_for_and_hidden_behind_a_wrapper_too() -> None:
    """The stream's usage is recorded, and the chunk with it is kept back."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked = b"include_usage" in request.content
        events = [event for event in CHAT.stream if asked or b'"choices": []' not in event]
        return httpx2.Response(200, headers=SSE, stream=Pieces(events))

    with watching() as watch:
        client = client_of("openai", answer, kind=bypassing("openai", False))
        chunks = call(client, CHAT, False, stream=True)
    assert all(chunk.choices for chunk in chunks)
    assert [record.usage.output_tokens for record in watch.records] == [CHAT.output_tokens]


def test_a_span_of_the_wrapper_for_this_call_is_the_one(undo: list[Undo]) -> None:
    """A wrapper on the subclass, put there before us, that opens the call's span: its span gets the record."""
    with watching() as inner:  # only for its provider
        tracer = inner.tracer_provider.get_tracer("theirs")
    saved = openai.OpenAI.request

    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        with tracer.start_as_current_span("ChatCompletion", attributes={"openinference.span.kind": "LLM"}):
            return saved(self, *args, **kwargs)

    undo.append(set_on(openai.OpenAI, "request", wrapper))
    with watching() as watch:
        call(client_of("openai", Server(CHAT)), CHAT, False)
    (record,) = watch.records
    (span,) = inner.exporter.get_finished_spans()
    assert watch.spans == []
    assert record.span_id == f"{span.context.span_id:016x}"
