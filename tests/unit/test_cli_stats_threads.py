"""``llmspan stats --cost`` reads sums and prices by two threads, of which none outlives a failure or Ctrl-C."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from llmspan import Reader
from llmspan.backends.base import Filters
from llmspan.backends.memory import MemoryBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import sums
from records import make_trace

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
COST = sums.Extras(cost=True)


@pytest.fixture
def reader(tmp_path: Path) -> Any:
    backend = SQLiteBackend(tmp_path / "traces.db")
    backend.write([make_trace()])
    with Reader(backend) as made:
        yield made


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_other_thread_ends(error: type[BaseException], reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it is between two queries when the first cancellation comes."""
    has_begun, may_ask = threading.Event(), threading.Event()
    ended: list[bool] = []

    def bills(*_: object) -> None:
        has_begun.set()
        may_ask.wait(60)
        try:
            with reader.backend._reader.use() as connection:  # type: ignore[attr-defined]
                connection.execute(ENDLESS)
        finally:
            ended.append(True)

    def stats(*_: object, **__: object) -> None:
        assert has_begun.wait(60)
        threading.Timer(0.2, may_ask.set).start()
        raise error

    monkeypatch.setattr(sums, "bills", bills)
    monkeypatch.setattr(reader, "stats", stats)
    with pytest.raises(error):
        sums.sums_of(reader, ["model"], Filters(), COST)
    assert ended == [True]


def test_a_failure_of_the_prices_is_raised(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if they had been asked for alone."""

    def bills(*_: object) -> None:
        raise RuntimeError("no prices")

    monkeypatch.setattr(sums, "bills", bills)
    with pytest.raises(RuntimeError, match="no prices"):
        sums.sums_of(reader, ["model"], Filters(), COST)


def test_other_stores_are_asked_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backends get one call at a time, unless they say that they gain from two."""
    threads: list[threading.Thread] = []
    monkeypatch.setattr(sums, "bills", lambda *_: threads.append(threading.current_thread()) or {})
    with Reader(MemoryBackend()) as reader:
        sums.sums_of(reader, ["model"], Filters(), COST)
    assert threads == [threading.current_thread()]
