"""What a provider's server does, over an in-memory transport: answers, fails, waits, breaks off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx2

from replay import Pieces
from streams import Api

from .stage import Stage

Answer = Callable[[Api, Stage], httpx2.MockTransport]

SSE = {"content-type": "text/event-stream"}
REQUEST_ID = {"x-request-id": "req_1", "request-id": "req_1"}
ERROR_BODY = {"type": "error", "error": {"type": "some_error", "message": "no", "code": None}}
ERROR_EVENTS = {
    "openai": b'data: {"error": {"message": "busy", "type": "server_error", "code": "overloaded"}}\n\n',
    "anthropic": b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}\n\n',
}


def whole(api: Api, stage: Stage) -> httpx2.MockTransport:
    """All events."""
    return _streaming(api.stream, stage)


def http_error(status: int) -> Answer:
    """An error before the first byte."""

    def answer(api: Api, stage: Stage) -> httpx2.MockTransport:
        def respond(request: httpx2.Request) -> httpx2.Response:
            stage.requests.append(request)
            return httpx2.Response(status, json=ERROR_BODY, headers=REQUEST_ID)

        return httpx2.MockTransport(respond)

    return answer


def rate_limited(times: int) -> Answer:
    """So many 429, then all events. The client tries three times."""

    def answer(api: Api, stage: Stage) -> httpx2.MockTransport:
        stage.retries = 2
        good = whole(api, stage)

        def respond(request: httpx2.Request) -> httpx2.Response:
            if len(stage.requests) < times:
                stage.requests.append(request)
                return httpx2.Response(429, json=ERROR_BODY, headers={**REQUEST_ID, "retry-after-ms": "1"})
            return good.handle_request(request)

        async def respond_async(request: httpx2.Request) -> httpx2.Response:
            return respond(request)

        return httpx2.MockTransport(respond if stage.colour == "sync" else respond_async)

    return answer


def raises_at_once(kind: type[BaseException], message: str) -> Answer:
    """No answer at all."""

    def answer(api: Api, stage: Stage) -> httpx2.MockTransport:
        def respond(request: httpx2.Request) -> httpx2.Response:
            stage.requests.append(request)
            raise stage.throw(kind(message))

        return httpx2.MockTransport(respond)

    return answer


def raises_after(events: int | None, kind: type[BaseException], message: str = "gone") -> Answer:
    """Some events (None: up to the first output), then an exception of the transport."""

    def answer(api: Api, stage: Stage) -> httpx2.MockTransport:
        count = stage.enough if events is None else events
        return _streaming(api.stream[:count], stage, lambda: stage.throw(kind(message)))

    return answer


def error_event(api: Api, stage: Stage) -> httpx2.MockTransport:
    """Some events, then an event that says error."""
    return _streaming([*api.stream[: stage.enough], ERROR_EVENTS[api.provider]], stage)


def no_terminal_event(api: Api, stage: Stage) -> httpx2.MockTransport:
    """All events but those that end the stream; the connection is closed in good order."""
    return _streaming(api.stream[: -api.tail], stage)


def waits(*, before_headers: bool) -> Answer:
    """Nothing, or some events, and then nothing more."""

    def answer(api: Api, stage: Stage) -> httpx2.MockTransport:
        async def respond(request: httpx2.Request) -> httpx2.Response:
            stage.requests.append(request)
            if before_headers:
                stage.waiting.set()
                await asyncio.Event().wait()
            body = _Waiting(api.stream[: stage.enough], stage)
            stage.bodies.append(body)
            return httpx2.Response(200, headers=SSE, stream=body)

        return httpx2.MockTransport(respond)

    return answer


class _Waiting(Pieces):
    def __init__(self, pieces: list[bytes], stage: Stage) -> None:
        super().__init__(pieces)
        self.stage = stage

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.pieces:
            yield self.pieces.pop(0)
        self.stage.waiting.set()
        await asyncio.Event().wait()


def _streaming(
    pieces: list[bytes], stage: Stage, error: Callable[[], BaseException] | None = None
) -> httpx2.MockTransport:
    def respond(request: httpx2.Request) -> httpx2.Response:
        stage.requests.append(request)
        stage.bodies.append(Pieces(pieces, error))
        return httpx2.Response(200, headers=SSE, stream=stage.bodies[-1])

    return httpx2.MockTransport(respond)
