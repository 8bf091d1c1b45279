"""The store goes away while the viewer runs: each page says so, and the viewer reads it again when it is back."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from llmspan.backends.base import Backend
from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.reader import Reader
from records import make_trace
from stores import clickhouse
from stores.clickhouse_http import Front
from stores.postgres import Server
from viewer import running

PAGES = ("/", "/usage", "/call/there", "/calls.json")


def check(make: Callable[[], Backend], leave: Callable[[], None], come_back: Callable[[], None], reason: str) -> None:
    """A page before, the pages without the store, and the pages when it is back."""
    with running(lambda: Reader(make()), query_timeout=20) as viewer:
        assert [viewer.ask(page).status for page in PAGES] == [200] * len(PAGES)
        leave()
        for page in PAGES:
            answer = viewer.ask(page)
            assert (answer.status, "The store cannot be read" in answer.text) == (503, True)
            assert reason in answer.text
            assert "Traceback" not in answer.text
        come_back()
        assert [viewer.ask(page).status for page in PAGES] == [200] * len(PAGES)


def fill(backend: Backend) -> None:
    backend.open()
    backend.write([make_trace(id="there")])
    backend.shutdown()


def test_postgres_is_stopped() -> None:
    """At once, as in a crash, with the viewer's connections open."""
    server = Server().start()
    try:
        fill(PostgresBackend(server.dsn()))
        check(
            lambda: PostgresBackend(server.dsn()),
            lambda: server.stop(signal.SIGQUIT),
            lambda: server.start() and None,
            "Postgres at",
        )
    finally:
        server.remove()


def test_clickhouse_is_stopped() -> None:
    """The HTTP interface is gone, and comes back at the same port."""
    front = Front(clickhouse.engine())
    front.start()
    dsn = front.dsn(clickhouse.new_database())

    def make() -> Backend:
        return ClickHouseBackend.from_settings(clickhouse.settings(dsn))

    try:
        fill(make())
        check(make, front.stop, front.start, "ClickHouse")
    finally:
        front.stop()


def test_a_file_is_removed(tmp_path: Path) -> None:
    """A store without a file has no calls; when one is there, its calls are."""
    path = tmp_path / "traces.db"
    fill(SQLiteBackend(path))
    with running(lambda: Reader(SQLiteBackend(path), makes=False)) as viewer:
        assert viewer.ask("/").text.count("<tr data-id=") == 1
        for file in tmp_path.iterdir():
            file.unlink()
        answer = viewer.ask("/")
        assert (answer.status, "no calls in this store yet" in answer.text) == (200, True)
        assert viewer.ask("/usage").status == 200
        assert not path.exists()
        fill(SQLiteBackend(path))
        assert viewer.ask("/").text.count("<tr data-id=") == 1
        path.chmod(0o600)
        path.write_bytes(b"not a database, but as long as a page of one. " * 100)
        answer = viewer.ask("/")
        assert (answer.status, "Traceback" in answer.text) in ((400, False), (503, False))
