"""A stand-in for the Gemini API and Vertex AI on a real socket (aiohttp takes no transport in memory), and its clients.

``answers`` says what each request is answered with; what a server does in the middle of a stream (it waits, it breaks
the connection) is part of the answer.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import httpx2
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials

Way = Literal["sync", "httpx2", "aiohttp"]
#: sync, and async over each of the SDK's two HTTP libraries
WAYS: tuple[Way, ...] = ("sync", "httpx2", "aiohttp")
KEY = "AIzaSyPlanted-secret-of-the-tests-0123456"
TOKEN = "ya29.planted-bearer-of-the-tests"
#: the SDK's own: about its class of aiohttp sessions, and about connections that an async stream leaves open
SDK_WARNINGS = (
    "ignore:Inheritance class AiohttpClientSession:DeprecationWarning",
    "ignore:unclosed:ResourceWarning",
    "ignore:Unclosed:ResourceWarning",
    "ignore:.*experimental",
    "ignore:The .* method is deprecated",
)
PATIENCE = 20.0

#: made once: it reads all certificates of the system
_TLS = ssl.create_default_context()
WORDS = ["Hello", ", ", "wörld", "!"]
USAGE = {
    "promptTokenCount": 1200, "candidatesTokenCount": 50, "thoughtsTokenCount": 300, "cachedContentTokenCount": 1024,
    "totalTokenCount": 1550,
}  # fmt: skip


def part(text: str, reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A response, or an event of a stream, with one candidate and one text."""
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    return {
        "candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "gemini-2.5-flash", "responseId": "resp-1",
        **more,
    }  # fmt: skip


def event(data: Any) -> bytes:
    return f"data: {json.dumps(data)}\r\n\r\n".encode()


BODY = part("".join(WORDS), "STOP")
EVENTS = [*(event(part(word)) for word in WORDS[:-1]), event(part(WORDS[-1], "STOP"))]
JSON_HEADERS = {"Content-Type": "application/json; charset=UTF-8"}
SSE_HEADERS = {"Content-Type": "text/event-stream"}
ERROR_BODY = {"error": {"code": 429, "message": "no more", "status": "RESOURCE_EXHAUSTED"}}


@dataclass
class Answer:
    """An answer: its pieces are sent one by one, and then the server does what ``end`` says."""

    pieces: list[bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(SSE_HEADERS))
    end: Literal["ends", "breaks", "waits"] = "ends"

    @classmethod
    def json(cls, data: Any, status: int = 200) -> Answer:
        return cls([json.dumps(data).encode()], status, dict(JSON_HEADERS))


def whole() -> Answer:
    return Answer(EVENTS)


@dataclass
class Received:
    """A request as the server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class GeminiServer(ThreadingHTTPServer):
    """Answers as ``answer`` says, by the number of the request and the request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Callable[[Received], Answer] = lambda request: _usual(request)
        self.requests: list[Received] = []
        #: kept, as the SDK closes the connections of a client that is freed
        self.clients: list[genai.Client] = []
        #: set when an answer waits; lets it go on when the test is over
        self.waiting = threading.Event()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answers(self, *answers: Answer) -> None:
        """Answer with these, one after the other; the last one again and again."""
        remaining = list(answers)
        self.answer = lambda _: remaining.pop(0) if len(remaining) > 1 else remaining[0]

    def reset(self) -> None:
        self.answer = _usual
        self.requests.clear()
        self.clients.clear()
        self.released.set()
        self.waiting, self.released = threading.Event(), threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients of the tests go away."""


def _usual(request: Received) -> Answer:
    return whole() if "streamGenerateContent" in request.path else Answer.json(BODY)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: GeminiServer

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        received = Received(self.command, self.path, headers, self.rfile.read(length))
        self.server.requests.append(received)
        self._send(self.server.answer(received))

    do_GET = do_POST  # noqa: N815 - the base class's name

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.headers.get("Content-Type", "").startswith("application/json") and answer.end == "ends":
            self.send_header("Content-Length", str(sum(map(len, answer.pieces))))
            self.end_headers()
            self.wfile.write(b"".join(answer.pieces))
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in answer.pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self._finish(answer.end)

    def _finish(self, end: str) -> None:
        if end == "ends":
            self.wfile.write(b"0\r\n\r\n")
            return
        self.close_connection = True
        if end == "waits":
            self.wfile.flush()
            self.server.waiting.set()
            self.server.released.wait(PATIENCE)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def gemini_server() -> Iterator[GeminiServer]:
    server = GeminiServer()
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.reset()
        server.shutdown()
        server.server_close()
        thread.join()


def client_for(server: GeminiServer, way: Way = "sync", *, vertex: bool = False, attempts: int = 1) -> genai.Client:
    """A client of the server; ``way`` decides which HTTP library its async calls take."""
    options: dict[str, Any] = {"base_url": server.url, "timeout": 60_000, "client_args": {"verify": _TLS}}
    options["async_client_args"] = {"verify": _TLS}
    if attempts > 1:
        options["retry_options"] = types.HttpRetryOptions(attempts=attempts, initial_delay=0.001, max_delay=0.002)
    if way == "httpx2":
        options["async_client_args"] = {"transport": httpx2.AsyncHTTPTransport(verify=_TLS)}
    if vertex:
        place = {"vertexai": True, "project": "p", "location": "us-central1", "credentials": Credentials(token=TOKEN)}
        client = genai.Client(**place, http_options=types.HttpOptions(**options))
    else:
        client = genai.Client(api_key=KEY, http_options=types.HttpOptions(**options))
    server.clients.append(client)
    return client
