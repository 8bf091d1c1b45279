"""Replaying recorded provider traffic through the real SDKs, over an in-memory transport."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai

ROOT = Path(__file__).resolve().parents[1]
RECORDINGS = Path(os.environ.get("LLMSPAN_TEST_RECORDINGS", ROOT.parent / "shared" / "recordings"))


#: Of how many recordings one is replayed: a part is enough where only the version of Python differs.
EVERY = int(os.environ.get("LLMSPAN_TEST_RECORDINGS_EVERY", "1"))


@cache
def recording_ids() -> list[str]:
    """The ids of all recordings that are there, or of every ``EVERY``-th."""
    return sorted(path.stem for path in RECORDINGS.glob("*-*-*.json"))[::EVERY]


@dataclass(frozen=True)
class Recording:
    """One recorded interaction; see the README beside the recordings."""

    data: dict[str, Any]

    @classmethod
    def load(cls, name: str) -> Recording:
        return cls(json.loads((RECORDINGS / f"{name}.json").read_text()))

    def __getattr__(self, name: str) -> Any:
        return self.data[name]

    @property
    def wire(self) -> bytes:
        return self.response["body"].encode()

    @property
    def pieces(self) -> list[bytes]:
        """The wire in small pieces; in one where the SDK raises on the way and would leave the rest unread."""
        return [self.wire] if self.sdk_error else split(self.wire)

    @property
    def sdk_error(self) -> str | None:
        """The exception class that the bare SDK raises on this recording."""
        outcome = self.sdk_replay["outcome"]
        # TypeError: raised by the program that replayed it, over a chunk without choices; the SDK hands it on
        return None if outcome in ("ok", "TypeError") or outcome.startswith("differs") else outcome

    @property
    def streams(self) -> bool:
        """Whether the call has to ask for a stream to be answered so."""
        return self.stream or self.expect["is_sse"]

    @property
    def record_api(self) -> str:
        return {"chat.completions": "chat_completions", "beta.messages": "messages"}.get(self.api, self.api)


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


def client_for(provider: str, mock: httpx2.MockTransport, *, is_async: bool = False, **options: Any) -> Any:
    """A real SDK client on top of ``mock``."""
    options = {"api_key": "sk-planted-secret", "max_retries": 0, "timeout": 60.0, **options}
    if provider == "openai":
        if is_async:
            return openai.AsyncOpenAI(http_client=httpx2.AsyncClient(transport=mock), **options)
        return openai.OpenAI(http_client=httpx2.Client(transport=mock), **options)
    if is_async:
        return anthropic.AsyncAnthropic(http_client=httpx2.AsyncClient(transport=mock), **options)
    return anthropic.Anthropic(http_client=httpx2.Client(transport=mock), **options)


_RESOURCES: dict[str, Callable[[Any], Any]] = {
    "chat.completions": lambda client: client.chat.completions,
    "completions": lambda client: client.completions,
    "embeddings": lambda client: client.embeddings,
    "responses": lambda client: client.responses,
    "messages": lambda client: client.messages,
    "beta.messages": lambda client: client.beta.messages,
}
_PLACEHOLDERS: dict[str, dict[str, Any]] = {
    "chat.completions": {"model": "m", "messages": [{"role": "user", "content": "?"}]},
    "completions": {"model": "m", "prompt": "?"},
    "embeddings": {"model": "m", "input": "?"},
    "responses": {"model": "m", "input": "?"},
    "messages": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]},
    "beta.messages": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]},
}


def call(client: Any, recording: Recording, variant: str = "") -> Any:
    """Make the recorded call: through the resource's method, unknown parameters by ``extra_body``.

    ``variant``: ``with_raw_response`` or ``with_streaming_response``.
    """
    resource = _RESOURCES[recording.api](client)
    known = inspect.signature(resource.create).parameters
    resource = getattr(resource, variant) if variant else resource
    if recording.request["method"] == "GET":
        path = recording.request["url_path"].partition("?")[0]
        return resource.retrieve(path.rpartition("/")[2], **({"stream": True} if recording.streams else {}))
    body = {**_PLACEHOLDERS[recording.api], **(recording.request["body"] or {})}
    if recording.streams:
        body["stream"] = True
    extra = {key: value for key, value in body.items() if key not in known}
    return resource.create(
        **{key: value for key, value in body.items() if key in known}, **({"extra_body": extra} if extra else {})
    )


def replay_sync(recording: Recording) -> None:
    """Make the recorded call with the sync client and read it to its end."""
    mock = transport(recording.response["status"], recording.response["headers"], recording.pieces)
    with client_for(recording.provider, mock) as client:
        result = call(client, recording)
        if recording.streams:
            for _ in result:
                pass
