"""The clients of cloud platforms: their provider's name, their routes and their framing, through the real clients."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from openai.lib.bedrock import AsyncBedrockOpenAI, BedrockOpenAI

from frames import chunk, exception
from replay import Pieces
from streams import CHAT, MESSAGES
from watching import Watch

EVENTS = [json.loads(event.decode().partition("data: ")[2]) for event in MESSAGES.stream]
FRAMES = [chunk(event) for event in EVENTS if event["type"] != "ping"]
FRAMED = {"content-type": "application/vnd.amazon.eventstream"}
KEYS = {"aws_access_key": "AK", "aws_secret_key": "planted-secret", "aws_region": "us-east-1"}


def server(pieces: list[bytes] | None, seen: list[httpx2.Request], headers: dict[str, str] | None = None) -> Any:
    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        if pieces is None:
            return httpx2.Response(200, json=MESSAGES.body)
        return httpx2.Response(200, headers=headers or {}, stream=Pieces(list(pieces)))

    return httpx2.MockTransport(answer)


def bedrock(pieces: list[bytes] | None, seen: list[httpx2.Request], is_async: bool = False) -> Any:
    kind = httpx2.AsyncClient if is_async else httpx2.Client
    make = anthropic.AsyncAnthropicBedrock if is_async else anthropic.AnthropicBedrock
    return make(**KEYS, http_client=kind(transport=server(pieces, seen, FRAMED)), max_retries=0)


def check(watch: Watch, provider: str, *, stream: bool) -> Any:
    record, span = watch.only()
    assert record.provider == (span.attributes or {})["gen_ai.provider.name"] == provider
    assert (record.api, record.operation, record.status, record.stream) == ("messages", "chat", "ok", stream)
    assert record.request_model == "claude-sonnet-5"
    assert (record.usage.input_tokens, record.usage.output_tokens) == (32012, 250)
    assert "wörld" in (record.response_json or "")
    assert "planted-secret" not in record.to_json()
    return record


def test_bedrock_stream(watch: Watch) -> None:
    """Bedrock wraps its events in AWS frames; the record is that of any other stream."""
    seen: list[httpx2.Request] = []
    events = list(bedrock(FRAMES, seen).messages.create(**MESSAGES.arguments, stream=True))
    record = check(watch, "aws.bedrock", stream=True)
    assert record.chunk_count == len(FRAMES) == len(events)
    assert record.time_to_first_chunk_ns is not None
    assert record.request_json == seen[0].content.decode()
    assert record.server_address == "bedrock-runtime.us-east-1.amazonaws.com"


@pytest.mark.anyio
async def test_bedrock_stream_async(watch: Watch) -> None:
    """The same, async."""
    client = bedrock(FRAMES, [], is_async=True)
    async for _ in await client.messages.create(**MESSAGES.arguments, stream=True):
        pass
    check(watch, "aws.bedrock", stream=True)


def test_bedrock_bytes(watch: Watch) -> None:
    """Whoever reads Bedrock's bytes himself is recorded with the usage that is in their frames."""
    with bedrock(FRAMES, []).messages.with_streaming_response.create(**MESSAGES.arguments, stream=True) as response:
        assert b"".join(response.iter_bytes()) == b"".join(FRAMES)
    check(watch, "aws.bedrock", stream=True)


@pytest.mark.parametrize("beta", [False, True])
def test_bedrock_without_streaming(beta: bool, watch: Watch) -> None:
    """A call that does not stream, plain and beta."""
    client = bedrock(None, [])
    (client.beta if beta else client).messages.create(**MESSAGES.arguments)
    check(watch, "aws.bedrock", stream=False)


def test_bedrock_exception_mid_stream(watch: Watch) -> None:
    """An exception frame: the SDK raises, the record says AWS's own name for it."""
    pieces = [*FRAMES[:4], exception("throttlingException", "slow down")]
    with pytest.raises(anthropic.APIStatusError, match="slow down"):
        list(bedrock(pieces, []).messages.create(**MESSAGES.arguments, stream=True))
    record, _ = watch.only()
    assert (record.status, record.error_type, record.error_message) == ("error", "throttlingException", "slow down")
    assert "Hello" in (record.response_json or "")


def test_bedrock_cut(watch: Watch) -> None:
    """Frames that end before the message does: incomplete, and no invented output."""
    list(bedrock(FRAMES[:4], []).messages.create(**MESSAGES.arguments, stream=True))
    record, _ = watch.only()
    assert (record.status, record.usage.output_tokens, record.usage.source) == ("incomplete", None, "partial")


def platform_clients(transport: Any) -> list[tuple[Any, str]]:
    http = httpx2.Client(transport=transport)
    return [
        (anthropic.AnthropicBedrockMantle(**KEYS, http_client=http), "aws.bedrock"),
        (anthropic.AnthropicVertex(region="us-east5", project_id="p", access_token="planted-secret", http_client=http),
         "gcp.vertex_ai"),
        (anthropic.AnthropicFoundry(api_key="planted-secret", resource="r", http_client=http), "azure.ai.inference"),
        (anthropic.AnthropicAWS(**KEYS, workspace_id="w", http_client=http), "anthropic"),
        (anthropic.AnthropicGoogleCloud(
            token_provider=lambda: "planted-secret", project="p", location="us", workspace_id="w", http_client=http,
        ), "anthropic"),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(5), ids=["mantle", "vertex", "foundry", "aws", "google_cloud"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.peer_fault("S4", "S8")
def test_other_platforms(number: int, stream: bool, watch: Watch) -> None:
    """Each platform's client is recorded under its provider's name, whatever it makes of the route."""
    seen: list[httpx2.Request] = []
    headers = {"content-type": "text/event-stream"}
    client, provider = platform_clients(server(MESSAGES.stream if stream else None, seen, headers))[number]
    result = client.messages.create(**MESSAGES.arguments, **({"stream": True} if stream else {}))
    if stream:
        list(result)
    record = check(watch, provider, stream=stream)
    assert record.request_json == seen[0].content.decode()
    assert record.server_address == seen[0].url.host


def test_vertex_counts_tokens(watch: Watch) -> None:
    """Counting tokens is rewritten to a route of Vertex's; what was counted is not usage."""
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"input_tokens": 7}))
    client = anthropic.AnthropicVertex(
        region="us-east5", project_id="p", access_token="t", http_client=httpx2.Client(transport=mock)
    )
    client.messages.count_tokens(model="m", messages=MESSAGES.arguments["messages"])
    record, span = watch.only()
    assert (record.operation, record.provider, record.usage.input_tokens) == ("count_tokens", "gcp.vertex_ai", None)
    assert record.usage.raw == {"input_tokens": 7}
    assert "gen_ai.usage.input_tokens" not in (span.attributes or {})


AZURE = {"api_key": "planted-secret", "api_version": "2024-10-21", "azure_endpoint": "https://mine.openai.azure.com"}
OPENAI_CLIENTS = [
    ("azure", lambda http: openai.AzureOpenAI(**AZURE, http_client=http), "azure.ai.openai"),
    ("azure_deployment", lambda http: openai.AzureOpenAI(**AZURE, azure_deployment="d", http_client=http),
     "azure.ai.openai"),
    ("bedrock", lambda http: BedrockOpenAI(api_key="planted-secret", aws_region="us-east-1", http_client=http),
     "aws.bedrock"),
    ("base_url", lambda http: openai.OpenAI(api_key="planted-secret", base_url="http://h.test:1/v1", http_client=http),
     "openai"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "provider"), [pytest.param(m, p, id=i) for i, m, p in OPENAI_CLIENTS])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.peer_fault("S4")
def test_openai_platforms(make: Any, provider: str, stream: bool, watch: Watch) -> None:
    """Azure (also by deployment), Bedrock's flavour and any base URL: the same record under the right name."""
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        headers = {"content-type": "text/event-stream"}
        return (
            httpx2.Response(200, headers=headers, stream=Pieces(list(CHAT.stream)))
            if stream
            else httpx2.Response(200, json=CHAT.body)
        )

    client = make(httpx2.Client(transport=httpx2.MockTransport(answer)))
    result = client.chat.completions.create(**CHAT.arguments, **({"stream": True} if stream else {}))
    if stream:
        list(result)
    record, span = watch.only()
    assert record.provider == (span.attributes or {})["gen_ai.provider.name"] == provider
    assert (record.usage.input_tokens, record.status, record.api) == (1200, "ok", "chat_completions")
    assert record.server_address == seen[0].url.host
    assert record.request_json == seen[0].content.decode()
    assert "planted-secret" not in record.to_json()


@pytest.mark.anyio
async def test_bedrock_openai_async(watch: Watch) -> None:
    """The async Bedrock flavour."""
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json=CHAT.body))
    http = httpx2.AsyncClient(transport=mock)
    client = AsyncBedrockOpenAI(api_key="k", aws_region="us-east-1", http_client=http)
    await client.chat.completions.create(**CHAT.arguments)
    record, _ = watch.only()
    assert (record.provider, record.usage.input_tokens) == ("aws.bedrock", 1200)
