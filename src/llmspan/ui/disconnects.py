"""Ends the work for a request whose browser has gone: a page that was left, a filter that was changed while it loaded.

A server tells an application of that only when the application asks. Here somebody asks while the page is made, and
cancels what makes it; the store then cancels the query.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["DisconnectMiddleware"]

#: requests without a body: those with one are read, and not watched
_METHODS: Final = frozenset({"GET", "HEAD"})


class DisconnectMiddleware:
    """Cancels the application when the client of its request disconnects."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, unless its client goes before that."""
        if scope["type"] != "http" or scope["method"] not in _METHODS:
            await self._app(scope, receive, send)
            return
        client = _Client(receive)
        watcher = asyncio.create_task(client.watch())
        answering = asyncio.create_task(_answer(self._app, scope, client.receive, send))
        try:
            await asyncio.wait({watcher, answering}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                answering.cancel()
                await asyncio.wait({answering})
            if not answering.cancelled():
                answering.result()  # raises what the application raised
        finally:
            watcher.cancel()
            answering.cancel()


class _Client:
    """The client of a request, as the application and the watcher both see it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._has_begun = False
        self._is_gone = asyncio.Event()

    async def watch(self) -> None:
        """Return when the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._is_gone.set()

    async def receive(self) -> Message:
        """What the application gets: an empty body, and then nothing until the client has gone."""
        if not self._has_begun:
            self._has_begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._is_gone.wait()
        return {"type": "http.disconnect"}


async def _answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
