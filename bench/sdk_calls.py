"""The SDK calls that are measured: each over an in-memory transport, so that no socket's noise comes in.

A streamed reply arrives event by event. Requests and replies are made beforehand, and the same objects are sent again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import openai

import replies

#: the events of a stream
CHUNKS = 500
_PROMPT = [{"role": "user", "content": "Tell me about Paris. " * 40}]
CHAT_BODY = {"model": "gpt-5-mini", "messages": _PROMPT, "temperature": 0.2}
RESPONSES_BODY = {"model": "gpt-5-mini", "input": _PROMPT, "temperature": 0.2}
MESSAGES_BODY = {"model": "claude-sonnet-5", "messages": _PROMPT, "max_tokens": 1000}
EMBEDDINGS_BODY = {"model": "text-embedding-3-small", "input": "Tell me about Paris. " * 40}
_USAGE = {"include_usage": True}
#: what anthropic's clients are told of the spans that the SDK makes by itself: none
anthropic_options: dict[str, Any] = {"open_telemetry": False}


class Events(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that comes in pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = pieces

    def __iter__(self) -> Any:
        yield from self.pieces

    async def __aiter__(self) -> Any:
        for piece in self.pieces:
            yield piece


class Copies:
    """Pieces that are nobody else's, as if they had been read from a socket."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = pieces

    def __iter__(self) -> Any:
        for piece in self.pieces:
            yield bytes(bytearray(piece))


def _mock(pieces: Iterable[bytes], content_type: str) -> httpx2.MockTransport:
    headers = {"content-type": content_type, "x-request-id": "req_1", "request-id": "req_1"}
    return httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, stream=Events(pieces)))


def streaming(pieces: Iterable[bytes]) -> httpx2.MockTransport:
    """A provider that answers with these events."""
    return _mock(pieces, "text/event-stream")


def unary(body: dict[str, Any]) -> httpx2.MockTransport:
    """A provider that answers with this JSON."""
    return _mock([json.dumps(body).encode()], "application/json")


def sync_client(sdk: str, transport: httpx2.MockTransport) -> Any:
    http = httpx2.Client(transport=transport)
    if sdk == "openai":
        return openai.OpenAI(api_key="k", http_client=http)
    return anthropic.Anthropic(api_key="k", **anthropic_options, http_client=http)


def async_client(sdk: str, transport: httpx2.MockTransport) -> Any:
    http = httpx2.AsyncClient(transport=transport)
    if sdk == "openai":
        return openai.AsyncOpenAI(api_key="k", http_client=http)
    return anthropic.AsyncAnthropic(api_key="k", **anthropic_options, http_client=http)


@dataclass(frozen=True)
class Surface:
    """One method of an SDK, and how its result is read."""

    name: str
    sdk: str
    #: the whole reply, or what makes the events of a stream of so many
    reply: dict[str, Any] | Callable[[int], list[bytes]]
    request: Callable[[Any], Any]
    is_async: bool = False
    #: whether the result is a manager of a stream, as of ``messages.stream()``
    is_manager: bool = False

    @property
    def is_stream(self) -> bool:
        return callable(self.reply)

    def client(self, chunks: int = CHUNKS) -> Any:
        """A client whose provider answers this call."""
        transport = streaming(Copies(self.reply(chunks))) if callable(self.reply) else unary(self.reply)
        return async_client(self.sdk, transport) if self.is_async else sync_client(self.sdk, transport)

    def run(self, client: Any) -> None:
        """One call of a sync client, read to its end."""
        result = self.request(client)
        if self.is_manager:
            with result as stream:
                _drain(stream.text_stream)
        elif self.is_stream:
            _drain(result)

    def start(self, client: Any) -> Coroutine[Any, Any, None]:
        """One call of an async client, read to its end."""
        return _adrain(self.request(client)) if self.is_stream else _awaited(self.request(client))

    def call(self, chunks: int = CHUNKS) -> Callable[[], None]:
        """The call as a function, on a client and a loop of its own."""
        client = self.client(chunks)
        if not self.is_async:
            return lambda: self.run(client)
        loop = asyncio.new_event_loop()
        return lambda: loop.run_until_complete(self.start(client))


def _drain(stream: Any) -> None:
    for _ in stream:
        pass


async def _adrain(request: Any) -> None:
    async for _ in await request:
        pass
    await asyncio.sleep(0)  # what the SDK has left to the loop belongs to the call


async def _awaited(request: Any) -> None:
    await request


def _chat(client: Any) -> Any:
    return client.chat.completions.create(**CHAT_BODY)


def _responses(client: Any) -> Any:
    return client.responses.create(**RESPONSES_BODY)


def _embeddings(client: Any) -> Any:
    return client.embeddings.create(**EMBEDDINGS_BODY)


def _messages(client: Any) -> Any:
    return client.messages.create(**MESSAGES_BODY)


def chat_stream(client: Any) -> Any:
    return client.chat.completions.create(**CHAT_BODY, stream=True, stream_options=_USAGE)


def responses_stream(client: Any) -> Any:
    return client.responses.create(**RESPONSES_BODY, stream=True)


def messages_stream(client: Any) -> Any:
    return client.messages.create(**MESSAGES_BODY, stream=True)


def _manager(client: Any) -> Any:
    return client.messages.stream(**MESSAGES_BODY)


def _beta_manager(client: Any) -> Any:
    return client.beta.messages.stream(**MESSAGES_BODY)


SURFACES = (
    Surface("chat.completions.create", "openai", replies.CHAT, _chat),
    Surface("chat.completions.create, async", "openai", replies.CHAT, _chat, is_async=True),
    Surface("responses.create", "openai", replies.RESPONSE, _responses),
    Surface("embeddings.create", "openai", replies.EMBEDDINGS, _embeddings),
    Surface("messages.create", "anthropic", replies.MESSAGE, _messages),
    Surface("messages.create, async", "anthropic", replies.MESSAGE, _messages, is_async=True),
    Surface("chat.completions, stream", "openai", replies.chat_chunks, chat_stream),
    Surface("chat.completions, async stream", "openai", replies.chat_chunks, chat_stream, is_async=True),
    Surface("responses, stream", "openai", replies.response_events, responses_stream),
    Surface("responses, async stream", "openai", replies.response_events, responses_stream, is_async=True),
    Surface("messages, stream", "anthropic", replies.message_events, messages_stream),
    Surface("messages, async stream", "anthropic", replies.message_events, messages_stream, is_async=True),
    Surface("messages.stream().text_stream", "anthropic", replies.message_events, _manager, is_manager=True),
    Surface("beta.messages.stream().text_stream", "anthropic", replies.message_events, _beta_manager, is_manager=True),
)


def surfaces(only: str = "") -> list[Surface]:
    """The surfaces whose name contains ``only``."""
    return [surface for surface in SURFACES if only in surface.name]
