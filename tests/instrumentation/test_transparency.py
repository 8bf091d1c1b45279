"""Nobody can tell that llmspan is there: the same program, run bare and observed, sees the same things."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from contextlib import AbstractContextManager
from typing import Any

import anthropic
import httpx2
import openai
import pytest

import streams
from replay import client_for, transport
from streams import ALL, CHAT, MESSAGES, RESPONSES, Api
from watching import Watch
from watching import watching as watching_with

SSE = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
apis = pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)


def watching() -> AbstractContextManager[Watch]:
    """Without the one documented change on the wire, which has tests of its own."""
    return watching_with(include_usage="off")


def stream_of(api: Api, **more: Any) -> Any:
    client = client_for(api.provider, transport(200, SSE, list(api.stream)))
    return api.method(client)(**api.arguments, stream=True, **more)


def facts_of_stream(api: Api) -> list[Any]:
    """What a program can see of a stream that it reads to the end."""
    stream = stream_of(api)
    seen: list[Any] = [type(stream), type(stream).__module__, stream.response.status_code, type(stream.response)]
    seen += [isinstance(stream, kind) for kind in (openai.Stream, anthropic.Stream)]
    with stream as entered:
        seen.append(entered is stream)
        seen.append(iter(stream) is stream)
        first = next(stream)
        rest = list(stream)
    seen += [type(first), *map(type, rest)]
    seen += [event.to_dict(exclude_unset=True) for event in (first, *rest)]
    seen += [event.model_fields_set for event in (first, *rest)]
    seen += [stream.response.is_closed, next(stream, "nothing more")]
    return seen


@apis
def test_a_stream_is_the_sdks_own(api: Api) -> None:
    """Type, chunks, order, context manager, response and end are the same with and without us."""
    bare = facts_of_stream(api)
    with watching() as watch:
        observed = facts_of_stream(api)
    assert observed == bare
    assert len(watch.records) == 1


@apis
def test_chunks_are_the_objects_that_the_sdk_made(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every object that the SDK's decoder yields reaches the caller as the very same object, one by one."""
    package = openai if api.provider == "openai" else anthropic
    made: list[Any] = []
    original = package._base_client.BaseClient._process_response_data

    def record(self: Any, **kwargs: Any) -> Any:
        made.append(original(self, **kwargs))
        return made[-1]

    monkeypatch.setattr(package._base_client.BaseClient, "_process_response_data", record)
    with watching():
        for number, event in enumerate(stream_of(api), start=1):
            assert event is made[-1]
            assert len(made) == number  # nothing was read ahead
    assert made


@apis
def test_a_body_is_parsed_into_the_same_object(api: Api) -> None:
    """A call that does not stream returns the same type with the same fields."""
    results = []
    for _ in range(2):
        client = client_for(api.provider, transport(200, JSON, [streams.json.dumps(api.body).encode()]))
        results.append(api.method(client)(**api.arguments))
        if len(results) == 1:
            manager = watching()
            watch = manager.__enter__()
    manager.__exit__(None, None, None)
    bare, observed = results
    assert type(observed) is type(bare)
    assert observed == bare
    assert observed._request_id == bare._request_id
    assert len(watch.records) == 1


def run_helpers(name: str) -> Any:
    """What the SDKs' stream helpers give."""
    if name == "chat":
        client = client_for("openai", transport(200, SSE, list(CHAT.stream)))
        with client.chat.completions.stream(**CHAT.arguments) as stream:
            return [event.type for event in stream], stream.get_final_completion().to_dict()
    if name == "responses":
        client = client_for("openai", transport(200, SSE, list(RESPONSES.stream)))
        with client.responses.stream(**RESPONSES.arguments) as stream:
            return [event.type for event in stream], stream.get_final_response().to_dict()
    client = client_for("anthropic", transport(200, SSE, list(MESSAGES.stream)))
    messages = client.beta.messages if name == "beta" else client.messages
    with messages.stream(**MESSAGES.arguments) as stream:
        if name == "text":
            return list(stream.text_stream), stream.get_final_message().to_dict()
        return [event.type for event in stream], stream.get_final_message().to_dict()


@pytest.mark.parametrize("name", ["chat", "responses", "messages", "beta", "text"])
def test_stream_helpers(name: str) -> None:
    """``.stream()``, ``text_stream``, ``get_final_message()`` and their like give the same, and one record."""
    bare = run_helpers(name)
    with watching() as watch:
        assert run_helpers(name) == bare
    record, _ = watch.only()
    assert record.status == "ok"
    assert record.usage.output_tokens in (250, 350)
    assert record.time_to_first_chunk_ns is not None


@pytest.mark.anyio
@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
async def test_async_stream(api: Api) -> None:
    """The async stream is the SDK's own too, and its chunks are the same."""

    async def facts() -> list[Any]:
        client = client_for(api.provider, transport(200, SSE, list(api.stream)), is_async=True)
        stream = await api.method(client)(**api.arguments, stream=True)
        async with stream:
            events = [event async for event in stream]
        return [type(stream), *(event.to_dict() for event in events), stream.response.is_closed]

    bare = await facts()
    with watching() as watch:
        assert await facts() == bare
    assert watch.only()[0].status == "ok"


@pytest.mark.parametrize("api", [CHAT, MESSAGES], ids=lambda api: api.name)
def test_a_generator_given_as_messages_is_not_eaten(api: Api) -> None:
    """The SDKs take any iterable of messages; ours is not the hand that consumes a generator."""
    sent: list[httpx2.Request] = []
    with watching() as watch:
        mock = transport(200, JSON, [streams.json.dumps(api.body).encode()], sent)
        client = client_for(api.provider, mock)
        arguments = {**api.arguments, "messages": (message for message in api.arguments["messages"])}
        api.method(client)(**arguments)
    assert streams.json.loads(sent[0].content)["messages"] == api.arguments["messages"]
    assert streams.json.loads(watch.records[0].request_json or "")["messages"] == api.arguments["messages"]


@apis
def test_the_request_is_the_same_on_the_wire(api: Api) -> None:
    """Method, URL, headers and body are byte for byte those of the bare SDK: no ``traceparent``, no parameter."""
    seen: list[httpx2.Request] = []

    def run() -> None:
        client = client_for(api.provider, transport(200, SSE, list(api.stream), seen), base_url="http://local.test/v1")
        list(api.method(client)(**api.arguments, stream=True))

    run()
    with watching() as watch, watch.tracer_provider.get_tracer("app").start_as_current_span("caller"):
        run()
    bare, observed = seen
    volatile = ("idempotency-key", "x-stainless-idempotency-key")
    assert [h for h in observed.headers.raw if h[0].decode().lower() not in volatile] == [
        h for h in bare.headers.raw if h[0].decode().lower() not in volatile
    ]
    assert (observed.method, observed.url, observed.content) == (bare.method, bare.url, bare.content)


def test_responses_can_be_pickled_and_copied() -> None:
    """What the caller may pickle or copy bare, he may pickle or copy observed."""
    with watching():
        client = client_for("openai", transport(200, JSON, [streams.json.dumps(CHAT.body).encode()]))
        raw = client.chat.completions.with_raw_response.create(**CHAT.arguments)
        again = pickle.loads(pickle.dumps(raw.http_response))
        assert again.content == raw.http_response.content
        assert copy.copy(raw.parse()) == raw.parse()


@pytest.mark.peer_fault("I3")
def test_nothing_imports_an_sdk() -> None:
    """``llmspan.instrument()`` imports neither SDK; importing one afterwards patches it."""
    code = (
        "import sys, llmspan; llmspan.instrument(backends='memory');"
        "assert not {'openai', 'anthropic'} & set(sys.modules), 'an SDK was imported';"
        "import openai; print(openai._base_client.SyncAPIClient.request.__wrapped__.__qualname__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("SyncAPIClient.request\n", "")
