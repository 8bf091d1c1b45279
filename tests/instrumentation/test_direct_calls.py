"""Calls that a program makes by ``client.post`` and ``client.get``, with paths and result types of its own choice."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from replay import Pieces, client_for, transport
from streams import CHAT, MESSAGES, RESPONSES, Api
from watching import Watch

EVENTS = {"content-type": "text/event-stream"}
PATHS = {"chat": "/chat/completions", "responses": "/responses", "messages": "/v1/messages"}
APIS = pytest.mark.parametrize("api", [CHAT, RESPONSES, MESSAGES], ids=lambda api: api.name)


def asked(api: Api, **more: Any) -> dict[str, Any]:
    body = {**api.arguments, "stream": True, **more}
    return body | ({"stream_options": {"include_usage": True}} if api is CHAT else {})


def open_response(api: Api, client: Any) -> Any:
    return client.post(PATHS[api.name], cast_to=httpx2.Response, body=asked(api), stream=True)


def check_whole(api: Api, watch: Watch) -> None:
    record, span = watch.only()
    assert (record.status, record.response_id) == ("ok", api.response_id)
    assert (record.usage.input_tokens, record.usage.output_tokens) == (api.input_tokens, api.output_tokens)
    assert (span.attributes or {})["gen_ai.usage.output_tokens"] == api.output_tokens
    assert "wörld" in (record.response_json or "")
    assert watch.observer.open_calls == {}


READERS: list[Callable[[Any], object]] = [
    lambda response: response.read(),
    lambda response: list(response.iter_bytes()),
    lambda response: list(response.iter_lines()),
    lambda response: list(response.iter_raw()),
]


@APIS
@pytest.mark.parametrize("read", READERS, ids=["read", "bytes", "lines", "raw"])
def test_the_end_of_an_http_responses_body_is_the_end_of_the_call(
    api: Api, read: Callable[[Any], object], watch: Watch
) -> None:
    """A caller who asks for the HTTP response and reads it later is recorded with what was read."""
    with client_for(api.provider, transport(200, EVENTS, api.stream)) as client:
        response = open_response(api, client)
        assert type(response) is httpx2.Response
        assert watch.pending == []
        read(response)
    check_whole(api, watch)


@pytest.mark.anyio
@APIS
async def test_the_end_of_the_body_async(api: Api, watch: Watch) -> None:
    """The async clients do the same."""
    async with client_for(api.provider, transport(200, EVENTS, api.stream), is_async=True) as client:
        response = await open_response(api, client)
        assert watch.pending == []
        async for _ in response.aiter_lines():
            pass
    check_whole(api, watch)


@APIS
def test_a_response_that_is_closed_or_dropped_unread(api: Api, watch: Watch) -> None:
    """Closing the response, or letting go of it, ends the call early."""
    with client_for(api.provider, transport(200, EVENTS, api.stream)) as client:
        open_response(api, client).close()
        open_response(api, client)
        gc.collect()
    assert [record.status for record in watch.records] == ["closed_early", "closed_early"]


@APIS
def test_a_body_that_breaks_off(api: Api, watch: Watch) -> None:
    """An error while the body is read is the call's."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        pieces = Pieces(api.stream[:4], lambda: httpx2.ReadError("connection reset"))
        return httpx2.Response(200, headers=EVENTS, stream=pieces)

    with client_for(api.provider, httpx2.MockTransport(answer)) as client:
        response = open_response(api, client)
        with pytest.raises(httpx2.ReadError):
            response.read()
    record, _ = watch.only()
    assert (record.status, record.error_type) == ("error", "httpx2.ReadError")


@APIS
def test_a_response_that_was_read_by_the_sdk(api: Api, watch: Watch) -> None:
    """Without ``stream=True`` the SDK reads the body: the call ends when it returns."""
    with client_for(api.provider, transport(200, EVENTS, api.stream)) as client:
        client.post(PATHS[api.name], cast_to=httpx2.Response, body=asked(api))
        assert len(watch.pending) == 1
    check_whole(api, watch)


@pytest.mark.parametrize("stream", [True, False])
def test_nothing_is_added_to_bytes_that_the_caller_reads(stream: bool, watch: Watch) -> None:
    """Usage is only asked for where the extra chunk can be kept from the caller."""
    seen: list[httpx2.Request] = []
    with client_for("openai", transport(200, EVENTS, CHAT.stream, seen)) as client:
        body = {**CHAT.arguments, "stream": True}
        response = client.post("/chat/completions", cast_to=httpx2.Response, body=body, stream=stream)
        assert response.read() == b"".join(CHAT.stream)
        client.post("/chat/completions", cast_to=str, body=body)
    assert [json.loads(request.content) for request in seen] == [body, body]
    assert len(watch.records) == 2


class OwnStream(openai.Stream[ChatCompletionChunk]):
    """A stream class that makes its events itself."""

    def __stream__(self) -> Any:
        yield from self._iter_events()


def test_nothing_is_added_for_a_stream_class_that_reads_by_itself(watch: Watch) -> None:
    """A stream class with a generator of its own would show the extra chunk."""
    seen: list[httpx2.Request] = []
    with client_for("openai", transport(200, EVENTS, CHAT.stream, seen)) as client:
        body = {**CHAT.arguments, "stream": True}
        list(client.post("/chat/completions", cast_to=object, body=body, stream=True, stream_cls=OwnStream))
    assert json.loads(seen[0].content) == body
    assert watch.only()[0].usage.output_tokens == CHAT.output_tokens


FORMS = [
    ("chat/completions", "chat_completions"),
    ("//chat/completions", "chat_completions"),
    ("/chat//completions", "chat_completions"),
    ("./chat/completions/", "chat_completions"),
    ("/chat/completions?trace=1", "chat_completions"),
    ("chat/completions?a=/b/c#d", "chat_completions"),
    ("v1/chat/completions", "chat_completions"),
    ("/openai/v1/chat/completions", "chat_completions"),
    ("/deployments/gpt-4o/chat/completions", "chat_completions"),
    ("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", "chat_completions"),
    ("https://api.openai.com/v1/chat/completions", "chat_completions"),
    ("https://gateway.example/team/a/chat/completions", "chat_completions"),
    ("completions", "completions"),
    ("v1/responses", "responses"),
    ("https://gateway.example:8443/proxy/v1/responses?x=1", "responses"),
    ("responses/compact", "responses_compact"),
    ("deployments/ada/embeddings", "embeddings"),
    ("images/generations", "images"),
]


@pytest.mark.parametrize(("path", "api"), FORMS)
@pytest.mark.parametrize("client_class", [openai.OpenAI, openai.AsyncOpenAI])
@pytest.mark.anyio
async def test_every_form_of_an_openai_path(path: str, api: str, client_class: Any, watch: Watch) -> None:
    """A path is recorded in whatever form the SDK takes it."""
    is_async = client_class is openai.AsyncOpenAI
    client = client_for("openai", httpx2.MockTransport(lambda _: httpx2.Response(200, json=CHAT.body)),
                        is_async=is_async)  # fmt: skip
    result = client.post(path, cast_to=ChatCompletion, body=CHAT.arguments)
    assert (await result if is_async else result).id == CHAT.response_id
    record, _ = watch.only()
    assert (record.api, record.usage.input_tokens) == (api, 1200)


@pytest.mark.parametrize(
    "path", ["v1/messages", "/v1/messages?beta=true", "v1//messages/", "https://gateway.example/anthropic/v1/messages"]
)
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.anyio
async def test_every_form_of_an_anthropic_path(path: str, is_async: bool, watch: Watch) -> None:
    """The same for messages."""
    client = client_for("anthropic", httpx2.MockTransport(lambda _: httpx2.Response(200, json=MESSAGES.body)),
                        is_async=is_async)  # fmt: skip
    result = client.post(path, cast_to=anthropic.types.Message, body=MESSAGES.arguments)
    assert (await result if is_async else result).id == "msg_1"
    record, _ = watch.only()
    assert (record.api, record.usage.input_tokens) == ("messages", 32012)


def test_a_fetch_without_the_leading_slash(watch: Watch) -> None:
    """A response fetched by a path of the caller's own is a fetch."""
    with client_for("openai", httpx2.MockTransport(lambda _: httpx2.Response(200, json=RESPONSES.body))) as client:
        client.get("responses/resp_1", cast_to=object)
    record, _ = watch.only()
    assert (record.operation, record.response_id) == ("fetch_response", "resp_1")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "chat/completions/chatcmpl-1"),
        ("post", "responses/resp_1/cancel"),
        ("get", "chat/completions"),
        ("get", "responses/resp_1/input_items"),
        ("post", "threads/t_1/responses"),
        ("post", "surveys/completions"),
        ("get", "organization/usage/completions"),
    ],
)
def test_other_endpoints_are_not_taken_for_calls(method: str, path: str, watch: Watch) -> None:
    """What merely ends like an endpoint, or is asked by another method, is not recorded."""
    with client_for("openai", httpx2.MockTransport(lambda _: httpx2.Response(200, json={}))) as client:
        getattr(client, method)(path, cast_to=object)
    assert (watch.records, watch.spans) == ([], [])


def test_an_absolute_url_says_whom_it_is_sent_to(watch: Watch) -> None:
    """The address and provider are the URL's, not the client's; usage is asked for only where that host knows it."""
    seen: list[httpx2.Request] = []
    with client_for("openai", transport(200, EVENTS, CHAT.stream, seen)) as client:
        url = "https://api.groq.com:8443/openai/v1/chat/completions"
        stream = client.post(url, cast_to=ChatCompletionChunk, body={**CHAT.arguments, "stream": True}, stream=True,
                             stream_cls=openai.Stream[ChatCompletionChunk])  # fmt: skip
        list(stream)
    record, span = watch.only()
    assert (record.provider, record.server_address, record.server_port) == ("groq", "api.groq.com", 8443)
    assert (span.attributes or {})["server.address"] == "api.groq.com"
    assert "stream_options" not in json.loads(seen[0].content)


@pytest.mark.parametrize("url", ["https://[broken", "https://host:port/v1/chat/completions", "http://"])
def test_a_malformed_url_is_left_to_the_sdk(url: str, watch: Watch) -> None:
    """Whatever the SDK makes of the URL, no defect of ours is counted (``watch`` asserts it)."""
    client = client_for("openai", httpx2.MockTransport(lambda _: httpx2.Response(200, json={})))
    with suppress(httpx2.InvalidURL, openai.OpenAIError):
        client.post(url, cast_to=object, body={})
    assert watch.observer.open_calls == {}
