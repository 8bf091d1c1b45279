"""The ways a call of google-genai may end: what the server does, what the caller does, and what is recorded then."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

from gemini_server import BODY, ERROR_BODY, EVENTS, PATIENCE, Answer, GeminiServer, Way, client_for, event, part

Keeps = Literal["all", "words", "error", "nothing"]
Drive = Callable[["Caller"], Any]
DriveAsync = Callable[["Caller"], Coroutine[Any, Any, None]]
#: read by callers who leave
ENOUGH = 2
REQUEST = {"model": "gemini-2.5-flash", "contents": "hi"}


@dataclass
class Caller:
    """One caller: his client, and what he has seen."""

    server: GeminiServer
    way: Way
    attempts: int = 1
    events: list[Any] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    error: BaseException | None = None

    def client(self) -> Any:
        return client_for(self.server, self.way, attempts=self.attempts)

    def open(self, client: Any) -> Any:
        stream = client.models.generate_content_stream(**REQUEST)
        self.kinds.append(type(stream).__name__)
        return stream

    async def open_async(self, client: Any) -> Any:
        stream = await client.aio.models.generate_content_stream(**REQUEST)
        self.kinds.append(type(stream).__name__)
        return stream

    def saw(self, chunk: Any) -> bool:
        self.events.append(chunk.model_dump(exclude={"sdk_http_response"}))
        return len(self.events) >= ENOUGH


@dataclass(frozen=True)
class Ending:
    """One way to end. ``error`` is ``error.type``, or ``raised`` for the class of the exception that the caller got."""

    name: str
    answers: tuple[Answer, ...]
    sync: Drive | None
    asynchronous: DriveAsync | None
    status: str
    keeps: Keeps = "words"
    error: str | None = None
    attempts: int = 1

    def exists(self, way: Way) -> bool:
        return (self.sync if way == "sync" else self.asynchronous) is not None

    def drive(self, caller: Caller) -> None:
        """Let the caller do it; his exception is kept."""
        try:
            if caller.way == "sync":
                assert self.sync is not None
                self.sync(caller)
            else:
                assert self.asynchronous is not None
                asyncio.run(self.asynchronous(caller))
        except BaseException as error:
            caller.error = error.with_traceback(None)
        gc.collect()


class MineError(Exception):
    """An exception of the caller's own."""


def calls(caller: Caller) -> None:
    caller.saw(caller.client().models.generate_content(**REQUEST))


async def calls_async(caller: Caller) -> None:
    async with caller.client().aio as client:
        caller.saw(await client.models.generate_content(**REQUEST))


def reads(caller: Caller) -> None:
    for chunk in caller.open(caller.client()):
        caller.saw(chunk)


async def reads_async(caller: Caller) -> None:
    client = caller.client()
    try:
        async for chunk in await caller.open_async(client):
            caller.saw(chunk)
    finally:
        await client.aio.aclose()


def breaks(caller: Caller) -> None:
    for chunk in caller.open(caller.client()):
        if caller.saw(chunk):
            break


async def breaks_async(caller: Caller) -> None:
    client = caller.client()
    async for chunk in await caller.open_async(client):
        if caller.saw(chunk):
            break
    await settle()


def closes(caller: Caller) -> None:
    stream = caller.open(caller.client())
    while not caller.saw(next(stream)):
        pass
    stream.close()


async def closes_async(caller: Caller) -> None:
    stream = await caller.open_async(caller.client())
    while not caller.saw(await anext(stream)):
        pass
    await stream.aclose()
    await settle()


def fails(caller: Caller) -> None:
    for chunk in caller.open(caller.client()):
        if caller.saw(chunk):
            raise MineError("mine")


async def fails_async(caller: Caller) -> None:
    async for chunk in await caller.open_async(caller.client()):
        if caller.saw(chunk):
            raise MineError("mine")


def hands_over(caller: Caller) -> None:
    """Opened in one thread, read in another."""
    stream = caller.open(caller.client())
    thread = threading.Thread(target=lambda: [caller.saw(chunk) for chunk in stream])
    thread.start()
    thread.join()


async def cancelled(caller: Caller) -> None:
    task = asyncio.create_task(reads_async(caller))
    assert await asyncio.to_thread(caller.server.waiting.wait, PATIENCE)
    await settle()
    task.cancel()
    await task


async def settle() -> None:
    """Let what the end of a generator has started run."""
    for _ in range(20):
        await asyncio.sleep(0)


def _stream(*pieces: bytes, end: Any = "ends") -> tuple[Answer, ...]:
    return (Answer(list(pieces), end=end),)


def _failing(code: int, status: str) -> tuple[Answer, ...]:
    return (Answer.json({"error": {"code": code, "message": "no more", "status": status}}, code),)


RATE_LIMITED = Answer.json(ERROR_BODY, 429)
BUSY = event({"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}})
BLOCKED = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}}
OTHER_PIECES = [b"[" + json.dumps(part("Hello")).encode() + b"\n", b"," + json.dumps(part("!", "STOP")).encode() + b"]"]

_CALL: dict[str, Any] = {"sync": calls, "asynchronous": calls_async}
_READ: dict[str, Any] = {"sync": reads, "asynchronous": reads_async}

ENDINGS: tuple[Ending, ...] = (
    Ending("returned", (Answer.json(BODY),), **_CALL, status="ok", keeps="all"),
    Ending("HTTP 400", _failing(400, "INVALID_ARGUMENT"), **_CALL, status="error", keeps="error",
           error="INVALID_ARGUMENT"),
    Ending("HTTP 403", _failing(403, "PERMISSION_DENIED"), **_CALL, status="error", keeps="error",
           error="PERMISSION_DENIED"),
    Ending("HTTP 500", _failing(500, "INTERNAL"), **_CALL, status="error", keeps="error", error="INTERNAL"),
    Ending("HTTP 429 twice, then an answer", (RATE_LIMITED, RATE_LIMITED, Answer.json(BODY)), **_CALL, status="ok",
           keeps="all", attempts=3),
    Ending("HTTP 429 on all attempts", (RATE_LIMITED,), **_CALL, status="error", keeps="error",
           error="RESOURCE_EXHAUSTED", attempts=3),
    Ending("prompt blocked", (Answer.json(BLOCKED),), **_CALL, status="ok", keeps="nothing"),
    Ending("stream: read to the end", (Answer(EVENTS),), **_READ, status="ok", keeps="all"),
    Ending("stream: handed to another thread", (Answer(EVENTS),), hands_over, None, status="ok", keeps="all"),
    Ending("stream: HTTP 429", (RATE_LIMITED,), **_READ, status="error", keeps="error", error="RESOURCE_EXHAUSTED"),
    Ending("stream: HTTP 429 once, then events", (RATE_LIMITED, Answer(EVENTS)), **_READ, status="ok", keeps="all",
           attempts=2),
    Ending("stream: no finishReason", _stream(*EVENTS[:-1]), **_READ, status="incomplete"),
    Ending("stream: connection lost", _stream(*EVENTS[:2], end="breaks"), **_READ, status="error", error="raised"),
    Ending("stream: error event", _stream(*EVENTS[:2], BUSY), **_READ, status="error", error="UNAVAILABLE"),
    Ending("stream: a JSON array", (Answer(OTHER_PIECES),), **_READ, status="error", error="raised"),
    Ending("stream: break", (Answer(EVENTS),), breaks, breaks_async, status="closed_early"),
    Ending("stream: close", (Answer(EVENTS),), closes, closes_async, status="closed_early"),
    Ending("stream: exception in the loop", (Answer(EVENTS),), fails, fails_async, status="closed_early"),
    Ending("stream: task cancelled between events", _stream(*EVENTS[:2], end="waits"), None, cancelled,
           status="cancelled", error="raised"),
    Ending("stream: task cancelled before the headers", _stream(end="waits"), None, cancelled, status="cancelled",
           keeps="nothing", error="raised"),
)  # fmt: skip
