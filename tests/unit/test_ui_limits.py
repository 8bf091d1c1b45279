"""Limits of the viewer: of time, of queries at a time, of pages that were left, and of what free text looks through."""

from __future__ import annotations

import contextlib
import html
import http.client
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from llmspan.backends.base import Backend
from llmspan.backends.memory import MemoryBackend
from llmspan.backends.query import Query
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.errors import RetryableError
from llmspan.reader import Reader
from llmspan.ui.tries import FREE_TRIES, LONGEST_PAUSE, PasswordTries
from records import make_trace
from stores import MAKERS
from viewer import TOKEN, Viewer, running

#: takes much longer than a test waits, and ends by itself where cancelling fails
_ENDLESS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000000) SELECT count(*) FROM n",
    "postgres": "SELECT pg_sleep(60)",
    "clickhouse-chdb": "SELECT count() FROM numbers(20000000000) WHERE NOT ignore(sipHash64(number))",
}
WORDS = quote('"weather"')
_LIMITS = {"sqlite": 0.3, "postgres": 0.3, "clickhouse-chdb": 0.5}


class _Slow(Reader):
    """A reader whose list is an endless query, while ``slow`` is set; ``began`` and ``ended`` say where it is."""

    slow = threading.Event()
    began = threading.Event()
    ended = threading.Event()
    statement = ""

    def list(self, *arguments: Any, **options: Any) -> Any:
        if not self.slow.is_set():
            return super().list(*arguments, **options)
        self.began.set()
        try:
            return self.backend._rows(lambda _: Query(self.statement, {}))  # type: ignore[attr-defined]
        finally:
            self.ended.set()


def _slow(statement: str) -> type[_Slow]:
    for event in (_Slow.slow, _Slow.began, _Slow.ended):
        event.clear()
    _Slow.slow.set()
    _Slow.statement = statement
    return _Slow


@pytest.fixture(params=("sqlite", "postgres", "clickhouse-chdb"))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Backend]]:
    backend = MAKERS[request.param](tmp_path)
    backend.open()
    backend.write([make_trace(id="there")])
    yield request.param, backend
    backend.shutdown()


def test_a_query_that_takes_too_long(store: tuple[str, Backend]) -> None:
    """It is ended in the database; the page offers less time, and the next page has its reader."""
    name, backend = store
    slow = _slow(_ENDLESS[name])
    with running(lambda: slow(backend), queries=1, query_timeout=_LIMITS[name]) as viewer:
        answer = viewer.ask("/?q=status:ok")
        if name != "clickhouse-chdb":  # the engine ends it as soon as the page does
            assert (answer.status, "took longer than" in answer.text) == (503, True)
            assert '/?q=status%3Aok+since%3A1h"' in html.unescape(answer.text)
        assert answer.status == 503
        assert slow.ended.wait(10)
        slow.slow.clear()
        assert viewer.ask("/call/there").status == 200


def leave(viewer: Viewer, path: str) -> None:
    """Ask for a page, and go when its query has begun."""
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path, None, {"Cookie": f"llmspan_ui_{viewer.port}={TOKEN}"})
        assert _Slow.began.wait(10)


def test_a_page_that_is_left(tmp_path: Path) -> None:
    """Its query ends long before its limit, and all others can run."""
    backend = SQLiteBackend(tmp_path / "traces.db")
    backend.write([make_trace(id="there")])
    slow = _slow(_ENDLESS["sqlite"])
    with running(lambda: slow(backend), queries=1, query_timeout=60) as viewer:
        leave(viewer, "/")
        assert slow.ended.wait(10)
        slow.slow.clear()
        assert viewer.ask("/").text.count("<tr data-id=") == 1
    backend.shutdown()


def test_more_queries_than_may_run(tmp_path: Path) -> None:
    """The page says so, and when to come again."""
    backend = SQLiteBackend(tmp_path / "traces.db")
    backend.open()
    slow = _slow(_ENDLESS["sqlite"])
    with running(lambda: slow(backend), queries=1, query_timeout=2, queue_timeout=0.1) as viewer:
        asked = threading.Thread(target=viewer.ask, args=("/",))
        asked.start()
        assert slow.began.wait(10)
        answer = viewer.ask("/calls.json")
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert "1 queries are running" in answer.text
        asked.join(30)
    backend.shutdown()


def test_a_read_over_http_is_cancelled() -> None:
    """The connection is shut, and the server is asked to end the query; the client goes on with another."""
    from stores import clickhouse, clickhouse_http

    backend = clickhouse.over_http()
    backend.open()
    front = clickhouse.front()
    with front.failing(clickhouse_http.hang, where="SELECT") as fault:
        failures: list[Exception] = []

        def read() -> None:
            try:
                backend.list()
            except RetryableError as error:
                failures.append(error)

        reading = threading.Thread(target=read)
        reading.start()
        assert fault.hit.wait(10)
        before = front.count("KILL QUERY")
        backend.cancel()
        reading.join(20)
    assert (len(failures), front.count("KILL QUERY") - before) == (1, 1)
    assert backend.list().traces == []
    backend.shutdown()


def test_free_text_has_a_bound() -> None:
    """Words without a time are looked for in a week, which the page says; a time or an id stays as it is."""
    memory = MemoryBackend()
    memory.open()
    memory.write([make_trace(id="old", started_at=1, content="full", request_json='{"input": "weather"}')])
    with running(lambda: Reader(memory)) as viewer:
        answer = viewer.ask(f"/?q={WORDS}")
        assert 'value="&#34;weather&#34; since:7d"' in answer.text
        assert "<tr data-id=" not in answer.text
        link = html.unescape(answer.text).split('id="search-note"')[1].split('href="')[1].split('"')[0]
        assert viewer.ask(link).text.count("<tr data-id=") == 1
        for query in ('"weather" since:9000w', "status:ok"):
            text = viewer.ask(f"/?q={quote(query)}").text
            assert (text.count("<tr data-id="), "search-note" in text) == (1, False)
        assert "since:7d" in viewer.ask(f"/usage?q={WORDS}").text


def test_wrong_passwords_cost_time() -> None:
    """After a few an address waits, longer each time; the password forgets them, and other addresses go on."""
    now = [0.0]
    tries = PasswordTries(clock=lambda: now[0])
    for _ in range(FREE_TRIES):
        tries.note_wrong("10.0.0.1")
        assert tries.pause("10.0.0.1") == 0
    pauses: list[float] = []
    for _ in range(20):
        tries.note_wrong("10.0.0.1")
        pauses.append(tries.pause("10.0.0.1"))
        now[0] += pauses[-1]
    assert pauses[:4] == [2, 4, 8, 16]
    assert pauses[-1] == LONGEST_PAUSE
    assert tries.pause("10.0.0.2") == 0
    tries.note_right("10.0.0.1")
    tries.note_wrong("10.0.0.1")
    assert tries.pause("10.0.0.1") == 0
    for last in range(FREE_TRIES + 1):
        tries.note_wrong(f"2001:db8::{last:x}")
    assert (tries.pause("2001:db8::ffff"), tries.pause("2001:db8:1::")) == (2, 0)
