"""Replaying interactions through the real SDKs, over an in-memory transport."""

from __future__ import annotations

import functools
import inspect
import io
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anthropic
import httpx2
import openai

from interaction import Interaction


class Pieces(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A response body that arrives in pieces; ``error`` is raised behind the last one."""

    def __init__(self, pieces: list[bytes], error: Callable[[], BaseException] | None = None) -> None:
        self.pieces = list(pieces)
        self.error = error
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.pieces:  # as from a socket: what was read is gone
            yield self.pieces.pop(0)
        if self.error is not None:
            raise self.error()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.pieces:
            yield self.pieces.pop(0)
        if self.error is not None:
            raise self.error()

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


def split(body: bytes, size: int = 97) -> list[bytes]:
    """``body`` in pieces that respect neither events nor characters."""
    return [body[start : start + size] for start in range(0, len(body), size)]


def events_of(body: bytes) -> list[bytes]:
    """``body`` in pieces of one event each, as a server would flush them."""
    return [event + b"\n\n" for event in body.split(b"\n\n") if event]


def transport(
    status: int, headers: dict[str, str], pieces: list[bytes], seen: list[httpx2.Request] | None = None
) -> httpx2.MockTransport:
    """A server that answers every request with these pieces."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if seen is not None:
            seen.append(request)
        return httpx2.Response(status, headers=headers, stream=Pieces(pieces))

    return httpx2.MockTransport(answer)


#: a client of each kind: its classes, sync and async, and what they need beside a key
_CLIENTS: dict[str, tuple[type[Any], type[Any], dict[str, Any]]] = {
    "openai": (openai.OpenAI, openai.AsyncOpenAI, {}),
    "azure": (openai.AzureOpenAI, openai.AsyncAzureOpenAI,
              {"api_version": "2024-10-21", "azure_endpoint": "https://mine.openai.azure.com"}),
    "anthropic": (anthropic.Anthropic, anthropic.AsyncAnthropic, {}),
    "bedrock": (anthropic.AnthropicBedrock, anthropic.AsyncAnthropicBedrock,
                {"aws_access_key": "AK", "aws_secret_key": "sk-planted-secret", "aws_region": "us-east-1"}),
    "vertex": (anthropic.AnthropicVertex, anthropic.AsyncAnthropicVertex,
               {"region": "us-east5", "project_id": "p", "access_token": "sk-planted-secret"}),
}  # fmt: skip


def client_for(kind: str, mock: httpx2.MockTransport, *, is_async: bool = False, **options: Any) -> Any:
    """A real SDK client on top of ``mock``."""
    sync_class, async_class, needed = _CLIENTS[kind]
    key = {} if kind in ("bedrock", "vertex") else {"api_key": "sk-planted-secret"}
    options = {**key, **needed, "max_retries": 0, "timeout": 60.0, **options}
    if is_async:
        return async_class(http_client=httpx2.AsyncClient(transport=mock), **options)
    return sync_class(http_client=httpx2.Client(transport=mock), **options)


_CHAT = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
_PLACEHOLDERS: dict[str, dict[str, Any]] = {
    "chat_completions": _CHAT,
    "complete": {"model": "m", "prompt": "?", "max_tokens_to_sample": 9},
    "completions": {"model": "m", "prompt": "?"},
    "count_tokens": _CHAT,
    "decisions": {"model": "m", "input": "?", "questions": []},
    "embeddings": {"model": "m", "input": "?"},
    "images": {"model": "m", "prompt": "?"},
    "message_batches": {"requests": []},
    "messages": {**_CHAT, "max_tokens": 9},
    "moderations": {"input": "?"},
    "responses": {"model": "m", "input": "?"},
    "responses_compact": {"model": "m"},
    "speech": {"model": "m", "voice": "alloy", "input": "?"},
    "transcriptions": {"model": "m", "file": "@question.mp3"},
    "translations": {"model": "m", "file": "@question.mp3"},
}


def call(client: Any, interaction: Interaction, variant: str = "") -> Any:
    """Make the call: through the SDK's method, unknown parameters by ``extra_body``.

    ``variant``: ``with_raw_response`` or ``with_streaming_response``.
    """
    body = {**_PLACEHOLDERS.get(interaction.record_api, {}), **(interaction.request["body"] or {})}
    if interaction.streams:
        body["stream"] = True
    if interaction.method == "post":
        return _post(client, interaction, body)
    *resources, name = interaction.method.split(".")
    resource = functools.reduce(getattr, resources, client)
    if interaction.request["method"] == "GET":
        path = interaction.request["url_path"].partition("?")[0]
        body = {"response_id": path.rpartition("/")[2], **({"stream": True} if interaction.streams else {})}
    known = inspect.signature(getattr(resource, name)).parameters
    extra = {key: value for key, value in body.items() if key not in known}
    given = {key: _file(value) if key == "file" else value for key, value in body.items() if key in known}
    return getattr(getattr(resource, variant) if variant else resource, name)(
        **given, **({"extra_body": extra} if extra else {})
    )


def _post(client: Any, interaction: Interaction, body: dict[str, Any]) -> Any:
    """A call that the SDK has no method for any more."""
    streams = anthropic.AsyncStream if isinstance(client, anthropic.AsyncAnthropic) else anthropic.Stream
    return client.post(
        interaction.request["url_path"], body=body, cast_to=object, stream=interaction.streams,
        stream_cls=streams[object] if interaction.streams else None,
    )  # fmt: skip


def _file(name: str) -> Any:
    """What is to be uploaded under a name."""
    return name.removeprefix("@"), io.BytesIO(b"ID3\x04\x00 not really"), "audio/mpeg"


def read(interaction: Interaction, result: Any) -> None:
    """Read the result of a call to its end."""
    if interaction.streams:
        for _ in result:
            pass


async def read_async(interaction: Interaction, result: Any) -> None:
    """The same, async."""
    if interaction.streams:
        async for _ in result:
            pass


def transport_of(interaction: Interaction, seen: list[httpx2.Request] | None = None) -> httpx2.MockTransport:
    """A server that answers every request as the interaction says."""
    # in one piece where the SDK raises on the way and would leave the rest unread
    pieces = [interaction.wire] if interaction.sdk_error else split(interaction.wire)
    return transport(interaction.response["status"], interaction.response["headers"], pieces, seen)


def client_of(interaction: Interaction, *, is_async: bool = False) -> Any:
    """A client that is answered as the interaction says."""
    mock = transport_of(interaction)
    return client_for(interaction.client, mock, is_async=is_async, **interaction.options)


def replay_sync(interaction: Interaction) -> None:
    """Make the call with the sync client and read it to its end."""
    with client_of(interaction) as client:
        read(interaction, call(client, interaction))
