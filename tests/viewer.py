"""A running viewer for tests: the real application on a real port, over a store that the test fills."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import uvicorn

from llmspan.backends.base import Backend
from llmspan.reader import Reader
from llmspan.ui.access import LOOPBACK_NAMES, Access
from llmspan.ui.app import build_app

TOKEN = "a-token-for-tests"


@dataclass(frozen=True)
class Answer:
    """What the viewer answered."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(frozen=True)
class Viewer:
    """A viewer that runs; ``ask`` sends a request as somebody who has the token, unless headers say otherwise."""

    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> Answer:
        status, lowered, content = self.ask_bytes(path, method=method, headers=headers, body=body)
        return Answer(status, lowered, content.decode())

    def ask_bytes(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        own = {"Cookie": f"llmspan_ui_{self.port}={TOKEN}"} if headers is None else dict(headers)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, own)
            response = connection.getresponse()
            lowered = {name.lower(): value for name, value in response.getheaders()}
            return response.status, lowered, response.read()


@contextlib.contextmanager
def running(
    make_reader: Callable[[], Reader],
    *,
    findings: Callable[[], Sequence[Any]] = list,
    location: str = "memory for tests",
    **options: Any,
) -> Iterator[Viewer]:
    """A viewer of what ``make_reader`` reads; of ``options``, some limit its queries, and others replace the token."""
    limits = {name: options.pop(name) for name in ("queries", "query_timeout", "queue_timeout") if name in options}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        rules = Access(hosts=frozenset(LOOPBACK_NAMES), port=port, token=TOKEN)
        if options:
            rules = replace(rules, token=None, **options)
        app = build_app(make_reader, rules, location=location, findings=findings, **limits)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="error", server_header=False, ws="none", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield Viewer(port)
        finally:
            server.should_exit = True
            thread.join(30)


@contextlib.contextmanager
def viewing(backend: Backend, *, lock: threading.Lock | None = None, **options: Any) -> Iterator[Viewer]:
    """A viewer of ``backend``, which stays open for the test to write to, with ``lock`` if that is given."""
    one_at_a_time = lock or threading.Lock()
    with running(lambda: _Borrowed(backend, one_at_a_time), **options) as viewer:
        yield viewer


class _Borrowed(Reader):
    """A reader that leaves its backend open, and uses it alone: a backend takes one call at a time."""

    def __init__(self, backend: Backend, lock: threading.Lock) -> None:
        super().__init__(backend)
        self._lock = lock

    def _asked(self, ask: Callable[[], Any], without_tables: Any) -> Any:
        with self._lock:
            return super()._asked(ask, without_tables)

    def close(self) -> None:
        pass
