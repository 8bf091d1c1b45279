"""A ClickHouse server for the tests: the HTTP interface that the driver speaks, in front of the real engine.

It serves what the driver needs, and it can be told to fail: a fault is met by the next statements that match it, and is
counted. Not here: sessions, external tables, compressed native blocks.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import lz4.frame
import zstandard

#: URL keys that are not settings of a query
_TRANSPORT = frozenset({
    "query", "database", "query_id", "session_id", "session_timeout", "session_check", "wait_end_of_query",
    "buffer_size", "client_protocol_version", "enable_http_compression", "send_progress_in_http_headers",
    "http_headers_progress_interval_ms", "cancel_http_readonly_queries_on_client_close", "default_format", "role",
    "quota_key", "compress", "decompress", "user", "password",
})  # fmt: skip
_INSERT = re.compile(rb"^(\s*INSERT\s+INTO\s+.+?)\s+FORMAT\s+(\w+)[ \t]*\r?\n", re.IGNORECASE | re.DOTALL)
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_CODE = re.compile(r"Code: (\d+)")


@dataclass
class Fault:
    """What happens to the next ``times`` requests whose statement begins with ``where``."""

    do: Callable[[_Handler, Callable[[], None]], None]
    where: str = "INSERT"
    times: int = 1
    met: int = 0
    hit: threading.Event = field(default_factory=threading.Event)


class Front:
    """The server; ``execute`` runs a statement on the engine, one at a time."""

    def __init__(self, engine: Any, *, password: str | None = None) -> None:
        self.password = password
        self.statements: list[str] = []
        #: the deduplication tokens of the inserts, in their order
        self.tokens: list[str | None] = []
        self.faults: list[Fault] = []
        self.released = threading.Event()
        self.port = 0
        self._engine = engine
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.front = self
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse new connections and drop those that are there."""
        self.released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.drop_all()
            self._server = None

    def dsn(self, database: str, who: str = "") -> str:
        return f"http://{who}127.0.0.1:{self.port}/{database}"

    @contextmanager
    def failing(self, do: Callable[..., None], *, where: str = "INSERT", times: int = 1) -> Iterator[Fault]:
        fault = Fault(do, where, times)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults.remove(fault)

    def fault_for(self, statement: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.met < fault.times and statement.lstrip().upper().startswith(fault.where):
                    fault.met += 1
                    return fault
        return None

    def count(self, beginning: str) -> int:
        """How many statements began so."""
        return sum(statement.lstrip().upper().startswith(beginning) for statement in list(self.statements))

    def execute(self, sql: str, database: str, params: dict[str, str], settings: dict[str, str], form: str) -> bytes:
        with self._lock:
            self._engine.query(f"USE `{database or 'default'}`", "TabSeparated")
            for name, value in settings.items():
                self._engine.query(f"SET {name} = '{_escaped(value)}'", "TabSeparated")
            try:
                return self._engine.query(sql, form, params=params).bytes() or b""
            finally:
                for name in settings:
                    self._engine.query(f"SET {name} = DEFAULT", "TabSeparated")


# -- faults


def drop(handler: _Handler, execute: Callable[[], None]) -> None:
    """Do what was asked, and reset the connection instead of saying so."""
    execute()
    handler.reset()


def drop_before(handler: _Handler, execute: Callable[[], None]) -> None:
    """Reset the connection and do nothing."""
    handler.reset()


def status(code: int, exception: int | None = None, text: str = "not now") -> Callable[..., None]:
    """Answer with this HTTP status and, if there is one, this exception, and do nothing."""

    def answer(handler: _Handler, execute: Callable[[], None]) -> None:
        headers = {} if exception is None else {"X-ClickHouse-Exception-Code": str(exception)}
        handler.answer(code, text.encode(), headers)

    return answer


def hang(handler: _Handler, execute: Callable[[], None]) -> None:
    """Say nothing until the server stops or the client goes away."""
    handler.wait()


def drip(handler: _Handler, execute: Callable[[], None]) -> None:
    """Do what was asked, and let the answer come a header at a time, without end."""
    execute()
    handler.drip()


# -- the server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    front: Front

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def drop_all(self) -> None:
        for connection in list(self._open):
            _reset(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two packets; the second would wait up to 40 ms for the acknowledgement of the first.
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/ping":
            self.answer(200, b"Ok.\n")
        else:
            self.do_POST()

    def do_POST(self) -> None:
        front = self.server.front
        keys = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        body = self._body()
        if self.headers.get_content_type() == "multipart/form-data":  # what the driver sends when a URL is too long
            keys |= _fields(self.headers["Content-Type"], body)
            body = b""
        if front.password is not None and not self._is_let_in(front.password):
            self._refuse("Code: 516. DB::Exception: default: Authentication failed. (AUTHENTICATION_FAILED)")
            return
        statement, data, form = _split(keys.get("query", ""), body)
        front.statements.append(statement)
        params = {name[6:]: value for name, value in keys.items() if name.startswith("param_")}
        settings = {k: v for k, v in keys.items() if k not in _TRANSPORT and not k.startswith("param_")}
        if form:
            front.tokens.append(settings.get("insert_deduplication_token"))

        def execute() -> bytes:
            return _run(front, statement, data, form, keys.get("database", ""), params, settings)

        fault = front.fault_for(statement)
        try:
            if fault is not None:
                fault.hit.set()
                fault.do(self, execute)
                return
            result = execute()
        except RuntimeError as error:
            self._refuse(str(error))
            return
        found = _FORMAT.search(statement)
        headers = {"X-ClickHouse-Format": found[1] if found else "TabSeparated"} if result else {}
        self.answer(200, result, headers)

    def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        summary = {"read_rows": "0", "written_rows": "0", "elapsed_ns": "1"}
        known = {
            "X-ClickHouse-Summary": json.dumps(summary), "X-ClickHouse-Query-Id": str(uuid.uuid4()),
            "X-ClickHouse-Timezone": "UTC", "Content-Type": "text/plain", "Content-Length": str(len(body)),
        }  # fmt: skip
        for name, value in (known | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        self.close_connection = True
        _reset(self.connection)

    def wait(self) -> None:
        """Until the server stops."""
        self.close_connection = True
        self.server.front.released.wait(60)

    def drip(self) -> None:
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for at in range(10_000):
            if self.server.front.released.wait(0.05):
                return
            try:
                self.wfile.write(b"X-ClickHouse-Progress: {}\r\n" if at % 20 == 0 else b"")
                self.wfile.flush()
            except OSError:
                return

    def _refuse(self, message: str) -> None:
        code = _CODE.search(message)
        headers = {"X-ClickHouse-Exception-Code": code[1]} if code else {}
        self.answer(404 if code and code[1] in ("60", "81") else 500, message.encode(), headers)

    def _is_let_in(self, password: str) -> bool:
        import base64

        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        return scheme == "Basic" and base64.b64decode(value).decode().partition(":")[2] == password

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            raw = b"".join(self._chunks())
        else:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return _DECODERS[self.headers.get("Content-Encoding", "")](raw)

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass


def _fields(content_type: str, body: bytes) -> dict[str, str]:
    form = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body, policy=HTTP)
    return {
        str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True).decode()
        for part in form.iter_parts()
    }


def _lz4_frames(raw: bytes) -> bytes:
    """The driver sends each block of a large insert as a frame of its own."""
    parts: list[bytes] = []
    while raw:
        frame = lz4.frame.LZ4FrameDecompressor()
        parts.append(frame.decompress(raw))
        raw = frame.unused_data or b""
    return b"".join(parts)


_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "lz4": _lz4_frames,
    "zstd": lambda raw: zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True).read(),
    "gzip": gzip.decompress,
}


def _split(query: str, body: bytes) -> tuple[str, bytes, str]:
    """The statement, the data of an insert, and its format."""
    whole = f"{query}\n".encode() + body if query else body
    found = _INSERT.match(whole)
    if found is None:
        return whole.decode(), b"", ""
    return found[1].decode(), whole[found.end() :], found[2].decode()


def _run(
    front: Front, statement: str, data: bytes, form: str, database: str, params: Any, settings: dict[str, str]
) -> bytes:
    if not form:
        return front.execute(statement, database, params, settings, "TabSeparated")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows"
        file.write_bytes(data)
        sql = f"{statement} FROM INFILE '{_escaped(str(file))}' FORMAT {form}"
        return front.execute(sql, database, params, settings, "TabSeparated")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _reset(connection: socket.socket) -> None:
    """Close with a RST, as a server that was killed does."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()
