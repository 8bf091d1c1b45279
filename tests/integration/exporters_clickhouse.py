"""As much of a ClickHouse server as the Collector's exporter talks to, in front of the real engine.

Over HTTP the exporter's driver says hello, asks for a table's columns and inserts blocks of the Native format. The
engine executes; only the answer to the hello is written here, for the driver expects it in a newer form than the engine
gives. By saying that its revision is 0, the server gets and gives the plain form from then on.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

#: runs a statement and gives its result in the Native format
Execute = Callable[[str], bytes]


def hello() -> bytes:
    """One row of ``displayName(), version(), revision(), timezone()`` as a block with its info."""
    info = bytes([1, 0, 2]) + (-1).to_bytes(4, "little", signed=True) + bytes([0])
    columns = [
        ("displayName()", "String", _text("test")),
        ("version()", "String", _text("26.5.1.1")),
        ("revision()", "UInt32", (0).to_bytes(4, "little")),
        ("timezone()", "String", _text("UTC")),
    ]
    body = b"".join(_text(name) + _text(kind) + b"\0" + value for name, kind, value in columns)
    return info + bytes([len(columns), 1]) + body


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


class ExportersClickHouse:
    """The server, for a ``with`` block; ``refusing`` makes it answer 503."""

    def __init__(self, execute: Execute) -> None:
        outer = self
        self.execute = execute
        self.inserts = 0
        self.refused = 0
        self.refusing = threading.Event()
        self._lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                status, answer = outer.answer(asked.get("query"), self._body())
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def _body(self) -> bytes:
                if self.headers.get("transfer-encoding") != "chunked":
                    return self.rfile.read(int(self.headers["content-length"]))
                parts: list[bytes] = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, query: str | None, body: bytes) -> tuple[int, bytes]:
        """What to say to a request: a statement in its URL with a block as its body, or a statement as its body."""
        if self.refusing.is_set():
            self.refused += 1
            return 503, b"not now"
        if query is None and b"revision()" in body:
            return 200, hello()
        with self._lock:
            if query is None:
                return 200, self.execute(body.decode())
            with tempfile.NamedTemporaryFile(suffix=".native") as block:
                block.write(body)
                block.flush()
                statement = query.upper().rindex(" FORMAT") if " FORMAT" in query.upper() else len(query)
                self.execute(f"{query[:statement]} FROM INFILE '{block.name}' FORMAT Native")
            self.inserts += 1
            return 200, b""
