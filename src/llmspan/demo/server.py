"""The demo server: HTTP/1.1 on 127.0.0.1, events flushed one by one. What it says is in ``replies``.

    python -m llmspan.demo.server --port 8080

Only for this machine: it checks no key and remembers nothing.
"""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

from . import replies
from .parts import Answer, Event

_LARGEST_REQUEST: Final = 64 * 1024 * 1024


class DemoServer:
    """A running server, for a ``with`` block; ``pace`` is the pause between two events, in seconds.

    >>> with DemoServer() as server:
    ...     server.openai_base_url == f"http://127.0.0.1:{server.port}/v1"
    True
    """

    def __init__(self, port: int = 0, *, pace: float = 0.0) -> None:
        self._server = _Server(("127.0.0.1", port), pace)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True, name="llmspan-demo"
        )

    @property
    def port(self) -> int:
        """The port that was asked for, or the free one that was found for 0."""
        return self._server.server_port

    @property
    def openai_base_url(self) -> str:
        """For ``OPENAI_BASE_URL``."""
        return f"{self.anthropic_base_url}/v1"

    @property
    def anthropic_base_url(self) -> str:
        """For ``ANTHROPIC_BASE_URL``, and for ``GOOGLE_GEMINI_BASE_URL``."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self) -> None:
        """Serve until interrupted."""
        self._thread.join()

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], pace: float) -> None:
        super().__init__(address, _Handler)
        self.pace = pace
        self.stopping = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client stopped reading, which is one of the things to demonstrate
            super().handle()

    def do_POST(self) -> None:
        self._answer(self._read())

    def do_GET(self) -> None:
        self._answer(replies.refusal(self.path, 404, "not_found_error", "the demo server only takes POST"))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's own signature
        pass

    def _read(self) -> Answer:
        length = int(self.headers.get("content-length") or 0)
        if not 0 < length <= _LARGEST_REQUEST:
            self.close_connection = True
            return replies.refusal(self.path, 400, "invalid_request_error", "a JSON body is needed")
        try:
            request = json.loads(self.rfile.read(length))
        except ValueError as error:
            return replies.refusal(self.path, 400, "invalid_request_error", f"the body is not JSON: {error}")
        if not isinstance(request, dict):
            return replies.refusal(self.path, 400, "invalid_request_error", "the body is not a JSON object")
        return replies.answer(self.path, request)

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.events:
            self._send_stream(answer)
        else:
            self._send_body(answer)

    def _send_body(self, answer: Answer) -> None:
        body = json.dumps(answer.body).encode()
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if answer.is_cut else body)
        if answer.is_cut:
            self._break_off()

    def _send_stream(self, answer: Answer) -> None:
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in answer.events[: len(answer.events) // 2] if answer.is_cut else answer.events:
            self._send_chunk(_frame(event))
            self.server.stopping.wait(self.server.pace)
        if answer.is_cut:
            self._break_off()
        else:
            self._send_chunk(b"")

    def _send_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _break_off(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _frame(event: Event) -> bytes:
    data = event.data if isinstance(event.data, str) else json.dumps(event.data, separators=(",", ":"))
    head = f"event: {event.name}\n" if event.name else ""
    return f"{head}data: {data}\n\n".encode()


def _main() -> None:
    import click

    @click.command(help="Answer like OpenAI, Anthropic and Gemini on 127.0.0.1 until Ctrl-C.")
    @click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 finds a free one.")
    @click.option(
        "--pace", type=click.FloatRange(0, 10), default=0.02, show_default=True, help="Seconds between events."
    )
    def serve(port: int, pace: float) -> None:
        with DemoServer(port, pace=pace) as server:
            click.echo(f"OPENAI_BASE_URL={server.openai_base_url}")
            click.echo(f"ANTHROPIC_BASE_URL={server.anthropic_base_url}")
            try:
                server.wait()
            except KeyboardInterrupt:
                click.echo("", err=True)

    serve()


if __name__ == "__main__":
    _main()
