"""Web servers whose clients go away: a provider on a real socket, real servers in front of it, a visitor who leaves.

The provider sends an answer up to its first output and then waits for :attr:`Page.gate`: what happens to a response
whose client leaves in its middle does not depend on who is faster.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import anthropic
import openai
import uvicorn
from starlette.responses import StreamingResponse

from outcomes.stage import Stage, unchanged
from polling import until
from streams import ALL, Api

#: what the server is doing when its client goes: it waits for the provider, or it holds a chunk that it cannot send
Moment = Literal["waiting", "holding"]
PATIENCE = 60.0
#: more than sockets take at once from a server whose client does not read
_LARGE = b"x" * (8 << 20)


class Provider(ThreadingHTTPServer):
    """Answers every streaming API; waits for ``gate`` behind an answer's first output."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.gate = threading.Event()
        #: events that come before the gate, beside those up to the first output
        self.ahead = 0

    @property
    def openai_base_url(self) -> str:
        return f"{self.anthropic_base_url}/v1"

    @property
    def anthropic_base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def client(self, api: Api, *, is_async: bool) -> Any:
        """A real client of this server."""
        if api.provider == "openai":
            kind: Any = openai.AsyncOpenAI if is_async else openai.OpenAI
            return kind(api_key="sk-planted-secret", base_url=self.openai_base_url, max_retries=0)
        kind = anthropic.AsyncAnthropic if is_async else anthropic.Anthropic
        return kind(api_key="sk-planted-secret", base_url=self.anthropic_base_url, max_retries=0)


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Provider

    def handle(self) -> None:
        with suppress(ConnectionError):  # the page's client has let go
            super().handle()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        api = next(api for api in ALL if self.path.partition("?")[0].endswith(_ending(api)))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        told = 0
        for event in (*api.stream, b""):
            if told > api.first_output + self.server.ahead:
                self.server.gate.wait(PATIENCE)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            told += b'"ping"' not in event  # which the SDK keeps to itself

    def log_message(self, *_: Any) -> None:
        pass


def _ending(api: Api) -> str:
    return "/" + api.path.removeprefix("beta.").removesuffix(".create").replace(".", "/")


@dataclass
class Page(Stage):
    """A streaming page: hands on what one call gets, and says what it saw of its surroundings."""

    provider: Provider = field(default_factory=Provider)
    moment: Moment = "waiting"
    #: set when the page has handed on as much as it can
    is_stuck: threading.Event = field(default_factory=threading.Event)
    #: counts the requests that the server is done with
    done: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    made: Any = None

    def client(self) -> Any:
        return self.made

    def body(self) -> Iterator[bytes]:
        for event in self.open():
            yield self.chunk(event)

    async def body_async(self) -> AsyncIterator[bytes]:
        async for event in await self.open_async():
            yield self.chunk(event)

    def chunk(self, event: Any) -> bytes:
        """What becomes of an event: a few bytes, or once more than a client takes who does not read."""
        self.saw(event)
        count = len(self.events)
        if count == self.enough + self.provider.ahead:
            self.is_stuck.set()
        return _LARGE if self.moment == "holding" and count == self.enough else b"data"

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        """The page as an ASGI application, inside a span as instrumented servers make one."""

        async def listen() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.provider.gate.set()
            return message

        content = self.body() if self.colour == "sync" else self.body_async()
        try:
            with self.tracer.start_as_current_span("caller"), unchanged(self, "the server's task"):
                await StreamingResponse(content)(scope, listen, send)
        finally:
            self.done.release()

    def wsgi(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        """The page as a WSGI application."""
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self.body()


@contextmanager
def providing() -> Iterator[Provider]:
    """A provider for the length of a block."""
    with Provider() as provider:
        thread = threading.Thread(target=provider.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield provider
        finally:
            provider.gate.set()
            provider.shutdown()
            thread.join()


@contextmanager
def uvicorn_serving(page: Page) -> Iterator[int]:
    """The port of a real uvicorn, on an event loop in debug mode."""
    listening = socket.create_server(("127.0.0.1", 0))
    page.provider.ahead = int(page.moment == "holding")  # taken before uvicorn waits for room
    config = uvicorn.Config(page.asgi, lifespan="off", log_config=None, http="h11", ws="none", interface="asgi3")
    server = uvicorn.Server(config)

    async def serve() -> None:
        asyncio.get_running_loop().slow_callback_duration = math.inf
        page.made = page.provider.client(page.api, is_async=page.colour == "async")
        await server.serve([listening])
        await page.made.close() if page.colour == "async" else page.made.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve(), debug=True))
    thread.start()
    try:
        until(lambda: server.started)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def wsgiref_serving(page: Page) -> Iterator[int]:
    """The port of the standard library's WSGI server."""

    class Silent(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    class Server(WSGIServer):
        def process_request(self, request: Any, client_address: Any) -> None:
            with unchanged(page, "the server's thread"):
                super().process_request(request, client_address)
            page.done.release()

    with Server(("127.0.0.1", 0), Silent) as server, page.provider.client(page.api, is_async=False) as page.made:
        server.set_app(page.wsgi)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def visiting(port: int, path: str = "/") -> Iterator[socket.socket]:
    """A client that has asked for a page, and reads little."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode())
        yield client


def leave(client: socket.socket) -> None:
    """Be gone, at once: the server's next write is refused."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def read_until(client: socket.socket, enough: Callable[[bytes], bool]) -> bytes:
    """What comes, until it is enough or there is nothing more."""
    read = b""
    while not enough(read) and (piece := client.recv(65536)):
        read += piece
    return read
