"""What records and their like reach, as bytes: stores, files, sockets, exporters, logs, commands, representations."""

from __future__ import annotations

import gzip
import logging
import socket
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Final

from click.testing import CliRunner
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from llmspan.backends.memory import MemoryBackend
from llmspan.cli import main
from llmspan.errors import PermanentError, RetryableError
from llmspan.otlp import OTLPSpanExporter
from llmspan.trace import ProviderTrace
from stores import clickhouse, postgres

#: the end of the name of a receiver's last connection
_LAST: Final = ".last"


class OtlpReceiver:
    """An OTLP receiver over HTTP: the bytes of each signal, as they were exported."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {"traces": b"", "logs": b"", "metrics": b""}
        lock = Lock()
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Nothing on standard error."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                with lock:
                    bodies[self.path.rpartition("/")[2]] += body
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def endpoint(self, signal: str, userinfo: str = "") -> str:
        return f"http://{userinfo}127.0.0.1:{self._server.server_address[1]}/v1/{signal}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Providers:
    """OpenTelemetry's three providers, exporting to a receiver with credentials of their own."""

    def __init__(self, receiver: OtlpReceiver, secret: str) -> None:
        options: dict[str, Any] = {"headers": {"authorization": f"Bearer {secret}"}}

        def endpoint(signal: str) -> dict[str, Any]:
            return {"endpoint": receiver.endpoint(signal, f"ann:{secret}@")} | options

        self.tracer = TracerProvider(shutdown_on_exit=False)
        span_exporter = OTLPSpanExporter("http/protobuf", max_bytes="16m", max_span_bytes="8m", **endpoint("traces"))
        self.tracer.add_span_processor(BatchSpanProcessor(span_exporter, max_queue_size=100_000))
        self.logger = LoggerProvider(shutdown_on_exit=False)
        log_exporter = OTLPLogExporter(**endpoint("logs"))
        self.logger.add_log_record_processor(BatchLogRecordProcessor(log_exporter, max_queue_size=100_000))
        metric_reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(**endpoint("metrics")), export_interval_millis=float("inf")
        )
        self.meter = MeterProvider([metric_reader], shutdown_on_exit=False)

    def shutdown(self) -> None:
        self.meter.force_flush()
        self.tracer.shutdown()
        self.logger.shutdown()
        self.meter.shutdown()


class Relay:
    """Stands between a program and its sidecar; keeps what passes."""

    def __init__(self, path: Path, target: Path) -> None:
        #: the pieces of each direction of each connection
        self._directions: list[list[bytes]] = []
        self._target = target
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def passed(self) -> bytes:
        """The bytes of both directions."""
        return b"\n".join(b"".join(pieces) for pieces in self._directions)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(Thread(target=self._join, args=(near,)))
            self._threads[-1].start()

    def _join(self, near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as far:
            far.connect(str(self._target))
            answers = Thread(target=self._pass, args=(far, near))
            answers.start()
            self._pass(near, far)
            answers.join()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        pieces: list[bytes] = []
        self._directions.append(pieces)
        with suppress(OSError):  # either side may hang up
            while piece := source.recv(1 << 16):
                pieces.append(piece)
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)


class LineReceiver:
    """Takes whatever comes at a Unix socket, on however many connections."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._received: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [Thread(target=self._accept)]
        self._threads[0].start()

    def stop(self) -> bytes:
        """What came, once all senders have hung up: connections are accepted in their order, and this is the last."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.bind(f"{self._path}{_LAST}")
            last.connect(str(self._path))
            self._threads[0].join()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        return b"".join(self._received)

    def _accept(self) -> None:
        while True:
            connection, address = self._listener.accept()
            if str(address).endswith(_LAST):
                connection.close()
                return
            self._threads.append(Thread(target=self._receive, args=(connection,)))
            self._threads[-1].start()

    def _receive(self, connection: socket.socket) -> None:
        pieces: list[bytes] = []
        with connection:
            while piece := connection.recv(1 << 16):
                pieces.append(piece)
        self._received.append(b"".join(pieces))


class Away(MemoryBackend):
    """A store that is down: its records stay in the spool."""

    location = "away"

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        raise RetryableError(f"connection refused; {len(traces)} records wait")


class Refusing(MemoryBackend):
    """A store that refuses each record: they become dead letters."""

    location = "refusing"

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        raise PermanentError(f"record {traces[0].id} is refused")


class LogLines(logging.Handler):
    """All that our loggers say, from DEBUG up, with tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(pathname)s %(message)s"))
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{self.format(record)}\n{record.args!r}\n"


def sqlite_rows(path: Path) -> bytes:
    """Every cell of every table."""
    with sqlite3.connect(path) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [row for name in names for row in connection.execute(f'SELECT * FROM "{name}"')]
    connection.close()
    return b"\n".join(cell if isinstance(cell, bytes) else str(cell).encode() for row in rows for cell in row)


def postgres_rows(dsn: str) -> bytes:
    """Every row of every table of the schema, and what the server shows of connections."""
    names = postgres.execute(dsn, "SELECT c.oid::regclass::text FROM pg_class c WHERE relkind = 'r'"
                             " AND relnamespace = current_schema()::regnamespace")  # fmt: skip
    rows = [row for (name,) in names for row in postgres.execute(dsn, f"SELECT t::text FROM {name} t")]
    rows += postgres.execute(dsn, "SELECT a::text FROM pg_stat_activity a")
    return "\n".join(text for (text,) in rows).encode()


def clickhouse_rows(database: str) -> bytes:
    """Every row of every table of the database, the Collector's among them."""
    engine = clickhouse.engine()
    names = engine.query(f"SELECT name FROM system.tables WHERE database = '{database}'", "TabSeparated").bytes()
    return b"\n".join(
        engine.query(f"SELECT * FROM `{database}`.`{name.decode()}`", "JSONEachRow").bytes() or b""
        for name in names.split()
    )


def files(folder: Path) -> bytes:
    """The bytes of all files below ``folder``, and their names."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return b"\n".join(str(path).encode() + b"\n" + path.read_bytes() for path in paths)


def command(*words: str) -> bytes:
    """What a command prints, to a terminal that can do everything."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(main, words, prog_name="llmspan", color=True)
    return f"{result.output}\n{result.exception!r}\n".encode()
