"""What a caller does with a stream, sync and async: reads on, stops, fails, is interrupted, hands it over."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from .stage import Stage, unchanged


class MineError(Exception):
    """An exception of the caller's own."""


def reads(stage: Stage) -> None:
    for event in stage.open():
        stage.saw(event)


async def reads_async(stage: Stage) -> None:
    async for event in await stage.open_async():
        stage.saw(event)


def breaks(stage: Stage) -> None:
    for event in stage.open():
        if stage.saw(event):
            break


async def breaks_async(stage: Stage) -> None:
    async for event in await stage.open_async():
        if stage.saw(event):
            break


def closes(stage: Stage) -> None:
    stream = stage.open()
    while not stage.saw(next(stream)):
        pass
    stream.close()


async def closes_async(stage: Stage) -> None:
    stream = await stage.open_async()
    while not stage.saw(await anext(stream)):
        pass
    await stream.close()


def leaves_with(stage: Stage) -> None:
    with stage.open() as stream:
        for event in stream:
            if stage.saw(event):
                break


async def leaves_with_async(stage: Stage) -> None:
    async with await stage.open_async() as stream:
        async for event in stream:
            if stage.saw(event):
                break


def drops(stage: Stage) -> None:
    stage.open()


async def drops_async(stage: Stage) -> None:
    await stage.open_async()


def raises(error: Callable[[], BaseException]) -> Callable[[Stage], None]:
    def drive(stage: Stage) -> None:
        for event in stage.open():
            if stage.saw(event):
                raise stage.throw(error())

    return drive


def raises_async(error: Callable[[], BaseException]) -> Callable[[Stage], Coroutine[Any, Any, None]]:
    async def drive(stage: Stage) -> None:
        async for event in await stage.open_async():
            if stage.saw(event):
                raise stage.throw(error())

    return drive


async def cancelled_while_waiting(stage: Stage) -> None:
    task = asyncio.create_task(reads_async(stage))
    await stage.waiting.wait()
    task.cancel()
    await task


async def cancelled_while_holding_an_event(stage: Stage) -> None:
    holding = asyncio.Event()

    async def hold() -> None:
        async for event in await stage.open_async():
            if stage.saw(event):
                holding.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await holding.wait()
    task.cancel()
    await task


def hands_over(stage: Stage) -> None:
    """Made in one thread, read in another."""

    def read(stream: Any) -> None:
        with unchanged(stage, "the reading thread"):
            for event in stream:
                stage.saw(event)

    thread = threading.Thread(target=read, args=[stage.open()])
    thread.start()
    thread.join()


async def hands_over_async(stage: Stage) -> None:
    """Made in one task, read in another that has a context of its own."""
    made: asyncio.Queue[Any] = asyncio.Queue()

    async def make() -> None:
        with unchanged(stage, "the making task"):
            made.put_nowait(await stage.open_async())

    async def read() -> None:
        with unchanged(stage, "the reading task"):
            stream = made.get_nowait()
            async for event in stream:
                stage.saw(event)

    await asyncio.create_task(make())
    await asyncio.create_task(read(), context=contextvars.Context())


def client_goes_away(stage: Stage) -> None:
    """A WSGI-like server drives the program's generator, and closes it when its client has gone."""

    def response() -> Iterator[bytes]:
        for event in stage.open():
            stage.saw(event)
            yield b"data"

    body = response()
    for _ in range(stage.enough):
        next(body)
    contextvars.Context().run(body.close)


async def client_goes_away_async(stage: Stage) -> None:
    """An ASGI-like server iterates the program's generator in a task, which it cancels when its client has gone."""
    sending = asyncio.Event()

    async def response() -> AsyncIterator[bytes]:
        async with await stage.open_async() as stream:
            async for event in stream:
                stage.saw(event)
                yield b"data"

    async def serve() -> None:
        async for _ in response():
            if len(stage.events) >= stage.enough:
                sending.set()
                await asyncio.Event().wait()

    server = asyncio.create_task(serve())
    await sending.wait()
    server.cancel()
    await asyncio.wait([server])
