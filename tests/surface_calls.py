"""Calling a surface in one of the ways that it has, and reading the answer to its end."""

from __future__ import annotations

from typing import Any

import httpx2

from replay import Pieces
from surfaces import Surface


def server(surface: Surface, seen: list[httpx2.Request]) -> httpx2.MockTransport:
    headers = {"content-type": surface.content_type, "x-request-id": "req_1", "request-id": "req_1"}

    async def answer_async(request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        return answer(request)

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, headers=headers, stream=Pieces(list(surface.reply)))

    transport = httpx2.MockTransport(answer)
    transport.handle_async_request = answer_async  # type: ignore[method-assign]
    return transport


def call(surface: Surface, way: str, client: Any) -> None:
    """Call and read to the end."""
    if way == "plain":
        result = surface.method(client)(**surface.arguments())
        if surface.how == "manager":
            with result as stream:
                for _ in stream:
                    pass
        else:
            consume(surface, result)
    elif way == "raw":
        response = surface.method(client, "with_raw_response")(**surface.arguments())
        assert response.headers["x-request-id"] == "req_1"
        consume(surface, response.parse())
    else:
        with surface.method(client, "with_streaming_response")(**surface.arguments()) as response:
            if way.endswith("parse"):
                consume(surface, response.parse())
            elif way.endswith("json"):
                assert isinstance(response.json(), dict)
            else:
                for _ in response.iter_lines() if way.endswith("lines") else response.iter_bytes():
                    pass


def consume(surface: Surface, result: Any) -> None:
    if surface.how == "stream":
        for _ in result:
            pass
    elif surface.how == "bytes":
        assert (result if isinstance(result, bytes) else result.read()) == b"".join(surface.reply)


async def call_async(surface: Surface, way: str, client: Any) -> None:
    """The async twin of :func:`call`."""
    if way == "plain" and surface.how == "manager":
        async with surface.method(client)(**surface.arguments()) as stream:
            async for _ in stream:
                pass
    elif way == "plain":
        await consume_async(surface, await surface.method(client)(**surface.arguments()))
    elif way == "raw":
        response = await surface.method(client, "with_raw_response")(**surface.arguments())
        parsed = response.parse()  # anthropic's is a coroutine, openai's is not
        await consume_async(surface, await parsed if hasattr(parsed, "__await__") else parsed)
    else:
        async with surface.method(client, "with_streaming_response")(**surface.arguments()) as response:
            if way.endswith("parse"):
                await consume_async(surface, await response.parse())
            elif way.endswith("json"):
                assert isinstance(await response.json(), dict)
            else:
                async for _ in response.iter_lines() if way.endswith("lines") else response.iter_bytes():
                    pass


async def consume_async(surface: Surface, result: Any) -> None:
    if surface.how == "stream":
        async for _ in result:
            pass
    elif surface.how == "bytes":
        content = result if isinstance(result, bytes) else result.read()
        assert (await content if hasattr(content, "__await__") else content) == b"".join(surface.reply)
