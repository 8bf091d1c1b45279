"""``LLMSPAN_INCLUDE_USAGE``: usage of OpenAI chat streams that nobody asked for, and nobody notices."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest

from replay import Pieces
from streams import CHAT
from watching import watching


def honest_server(seen: list[dict[str, Any]]) -> httpx2.MockTransport:
    """Answers as OpenAI does: with ``usage: null`` on every chunk and a last usage chunk, if and only if asked."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        seen.append(body)
        pieces = []
        asked = (body.get("stream_options") or {}).get("include_usage")
        for piece in CHAT.stream:
            if piece.startswith(b"data: {"):
                chunk = json.loads(piece[6:])
                if not asked and not chunk["choices"]:
                    continue
                if asked:
                    chunk.setdefault("usage", None)
                piece = b"data: " + json.dumps(chunk).encode() + b"\n\n"
            pieces.append(piece)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces(pieces))

    return httpx2.MockTransport(answer)


def client(mock: httpx2.MockTransport, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=mock), **options)


def azure(mock: httpx2.MockTransport, version: str) -> openai.AzureOpenAI:
    http = httpx2.Client(transport=mock)
    return openai.AzureOpenAI(
        api_key="k", api_version=version, azure_endpoint="https://mine.openai.azure.com", http_client=http
    )


def read(made: Any, **arguments: Any) -> list[Any]:
    stream = made.chat.completions.create(**CHAT.arguments, stream=True, **arguments)
    return [(chunk.to_dict(), chunk.model_fields_set, chunk.usage) for chunk in stream]


@pytest.mark.peer_fault("N10")
def test_usage_is_asked_for_and_kept_from_the_caller() -> None:
    """The record has the usage; the caller sees exactly the chunks, and the fields, of an uninstrumented stream."""
    sent: list[dict[str, Any]] = []
    bare = read(client(honest_server(sent)))
    with watching() as watch:
        assert read(client(honest_server(sent))) == bare
    assert "stream_options" not in sent[0]
    assert sent[1] == {**sent[0], "stream_options": {"include_usage": True}}
    record, span = watch.only()
    assert (record.usage.input_tokens, record.usage.output_tokens, record.usage.source) == (1200, 350, "provider")
    assert (span.attributes or {})["gen_ai.usage.output_tokens"] == 350
    assert json.loads(record.request_json or "") == sent[1]  # the record is what was sent


@pytest.mark.anyio
async def test_usage_is_asked_for_async() -> None:
    """The async client is treated the same."""
    sent: list[dict[str, Any]] = []

    async def read_async() -> list[Any]:
        made = openai.AsyncOpenAI(api_key="k", http_client=httpx2.AsyncClient(transport=honest_server(sent)))
        stream = await made.chat.completions.create(**CHAT.arguments, stream=True)
        return [(chunk.to_dict(), chunk.model_fields_set) async for chunk in stream]

    bare = await read_async()
    with watching() as watch:
        assert await read_async() == bare
    assert watch.only()[0].usage.output_tokens == 350


def test_the_stream_helper_does_not_see_it_either() -> None:
    """``chat.completions.stream()`` gives the same events and the same final completion, without usage."""

    def events() -> Any:
        with client(honest_server([])).chat.completions.stream(**CHAT.arguments) as stream:
            return [event.type for event in stream], stream.get_final_completion().to_dict()

    bare = events()
    with watching() as watch:
        assert events() == bare
    assert watch.only()[0].usage.output_tokens == 350


@pytest.mark.parametrize("asked", [{"include_usage": False}, {"include_usage": True}, None, openai.omit])
@pytest.mark.peer_fault("R7")
def test_what_the_caller_said_stands(asked: Any) -> None:
    """An explicit ``stream_options`` goes out as it is, and its chunks come in as they are; omitting is not saying."""
    sent: list[dict[str, Any]] = []
    bare = read(client(honest_server(sent)), stream_options=asked)
    with watching():
        assert read(client(honest_server(sent)), stream_options=asked) == bare
    if asked is openai.omit:
        assert "stream_options" in sent[1]
    else:
        assert sent[0] == sent[1]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"base_url": "https://api.deepseek.com"}, "another provider's host"),
        ({"base_url": "http://127.0.0.1:8000/v1"}, "a gateway"),
    ],
)
def test_other_hosts_are_left_alone(options: dict[str, Any], why: str) -> None:
    """Servers that may not understand ``stream_options`` never get it."""
    sent: list[dict[str, Any]] = []
    with watching() as watch:
        read(client(honest_server(sent), **options))
    assert "stream_options" not in sent[0], why
    assert watch.only()[0].usage.source == "none"


def is_asked(base_url: str, include_usage: Any) -> bool:
    """Whether a chat stream to ``base_url`` goes out with ``stream_options``; the caller's chunks stay the same."""
    sent: list[dict[str, Any]] = []
    bare = read(client(honest_server(sent), base_url=base_url))
    with watching(include_usage=include_usage) as watch:
        assert read(client(honest_server(sent), base_url=base_url)) == bare
    known = watch.only()[0].usage.source == "provider"
    assert known == ("stream_options" in sent[1])
    return known


@pytest.mark.parametrize("region", ["eu", "us", "ae", "au", "in", "jp"])
def test_regional_hosts_are_openai(region: str) -> None:
    """OpenAI's regional hosts are asked as its global one is."""
    assert is_asked(f"https://{region}.api.openai.com/v1", "auto")


@pytest.mark.parametrize(
    "host",
    [
        "evilapi.openai.com.example",
        "api.openai.com.evil.example",
        "eu.api.openai.com.example",
        "evilapi.openai.com",
        "eu-api.openai.com",
        "openai.com",
        "api.openai.co",
        "mine.openai.azure.com.example",
    ],
)
def test_hosts_that_only_look_like_openai_are_left_alone(host: str) -> None:
    """A name that contains OpenAI's, or ends almost like it, is somebody else's."""
    assert not is_asked(f"https://{host}/v1", "auto")


@pytest.mark.parametrize(
    ("setting", "base_url", "asks"),
    [
        ("on", "http://127.0.0.1:8000/v1", True),
        ("on", "https://api.deepseek.com", True),
        (("gateway.example",), "https://gateway.example/v1", True),
        (("gateway.example",), "https://GATEWAY.example.:8443/v1", True),
        (("gateway.example",), "https://sub.gateway.example/v1", False),
        (("gateway.example",), "https://gateway.example.evil/v1", False),
        (("gateway.example",), "https://api.openai.com/v1", False),
        (("auto", "gateway.example"), "https://eu.api.openai.com/v1", True),
        (("auto", "gateway.example"), "https://other.example/v1", False),
        (("*.internal.example",), "https://llm.internal.example/v1", True),
        (("*.internal.example",), "https://internal.example/v1", False),
        (("localhost:4000",), "http://localhost:4000", True),
        (("localhost:4000",), "http://localhost:4001", False),
        (("gateway.example:443",), "https://gateway.example/v1", True),
        (("[::1]:8000",), "http://[::1]:8000/v1", True),
        ("off", "https://api.openai.com/v1", False),
    ],
)
def test_the_setting_names_hosts(setting: Any, base_url: str, asks: bool) -> None:
    """``on`` is every host, a list exactly those that it names, ``auto`` in it those of OpenAI and Azure."""
    assert is_asked(base_url, setting) is asks


@pytest.mark.parametrize(
    ("version", "asks"),
    [("2024-02-01", False), ("2024-06-01", False), ("2024-10-21", True), ("2025-04-01-preview", True)],
)
def test_azure_by_api_version(version: str, asks: bool) -> None:
    """Azure rejects unknown parameters: it is asked only in API versions that know ``stream_options``."""
    sent: list[dict[str, Any]] = []
    with watching() as watch:
        read(azure(honest_server(sent), version))
    assert ("stream_options" in sent[0]) is asks
    assert watch.only()[0].provider == "azure.ai.openai"


def test_raw_responses_are_left_alone() -> None:
    """Callers who read the wire themselves would see the extra chunk: nothing is added."""
    sent: list[dict[str, Any]] = []
    with watching():
        raw = client(honest_server(sent)).chat.completions.with_raw_response
        list(raw.create(**CHAT.arguments, stream=True).parse())
        streaming = client(honest_server(sent)).chat.completions.with_streaming_response
        with streaming.create(**CHAT.arguments, stream=True) as response:
            list(response.iter_lines())
    assert ["stream_options" in body for body in sent] == [False, False]


def test_it_can_be_switched_off() -> None:
    """``off``: the request is the caller's, and the usage is not known."""
    sent: list[dict[str, Any]] = []
    with watching(include_usage="off") as watch:
        read(client(honest_server(sent)))
    assert "stream_options" not in sent[0]
    assert watch.only()[0].usage.source == "none"


def test_the_callers_arguments_are_not_changed() -> None:
    """What is added goes into a copy."""
    arguments = {**CHAT.arguments, "stream": True, "extra_body": {"user": "u"}}
    before = json.dumps(arguments)
    sent: list[dict[str, Any]] = []
    with watching():
        list(client(honest_server(sent)).chat.completions.create(**arguments))
    assert json.dumps(arguments) == before
    assert sent[0]["user"] == "u"
