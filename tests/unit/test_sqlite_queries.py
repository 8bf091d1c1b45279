"""How SQLite is asked: by index, and never for a payload that nobody wants."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmspan.backends.base import Filters
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.reader import Reader
from llmspan.trace import KEYS
from llmspan.usage import Usage
from records import full_trace, make_trace
from stores import shutting_down


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[SQLiteBackend]:
    with shutting_down(SQLiteBackend(tmp_path / "traces.db")) as backend:
        yield backend


def statements(backend: SQLiteBackend, use: Callable[[], object]) -> list[str]:
    seen: list[str] = []
    with backend._reader.use() as connection:
        connection.set_trace_callback(seen.append)
    use()
    return [sql for sql in seen if sql.startswith("SELECT")]


QUERIES = {
    "provider_traces_step_id": [
        lambda backend: backend.get_by_step_id("s"),
        lambda backend: backend.list_by_step_id("s"),
        lambda backend: backend.list(Filters(step_id="s")),
    ],
    "provider_traces_trace_id": [lambda backend: backend.list(Filters(trace_id="t"))],
    "provider_traces_run_id": [lambda backend: backend.list(Filters(run_id="r", since=1))],
    "provider_traces_agent_id": [lambda backend: backend.list(Filters(agent_id="a", status="ok"))],
    "provider_traces_started_at": [lambda backend: backend.list(), lambda backend: backend.list(Filters(since=5))],
    "sqlite_autoindex_provider_traces_1": [
        lambda backend: backend.get("x"),
        lambda backend: backend.ids_with_prefix("x", 2),
    ],
}


@pytest.mark.parametrize(("index", "use"), [(index, use) for index, uses in QUERIES.items() for use in uses])
def test_queries_use_their_index(backend, index, use):
    """Each look-up goes through its index, and finds the order there: nothing is scanned whole or sorted."""
    backend.write([make_trace()])
    (sql,) = statements(backend, lambda: use(backend))
    with backend._reader.use() as connection:
        plan = " / ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}"))
    assert f"INDEX {index}" in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize("groups", [["model", "day"], ["day", "model"], ["model"], []])
def test_sums_by_model_and_day_read_an_index_in_its_order(backend, groups):
    """Sums, latencies and prices by model and day read one index, no row and no payload, and sort nothing."""
    backend.write([make_trace()])
    uses = (backend.stats, backend.measures, lambda names: backend.price_bounds(names, None, by_host=False))
    for use in uses:
        (sql,) = statements(backend, lambda use=use: use(groups))
        with backend._reader.use() as connection:
            plan = " / ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}"))
        assert "SCAN provider_traces USING COVERING INDEX provider_traces_groups" in plan
        assert plan.count("provider_traces ") == 1
        assert "FOR GROUP BY" not in plan


def test_rows_of_earlier_versions_have_the_same_sums(backend):
    """Rows without the columns of prices, as earlier versions wrote them, cost what they cost with them."""
    pytest.importorskip("genai_prices")
    usages = [Usage(input_tokens=at, output_tokens=1, source="provider") for at in (5, 300_000)]
    records = [make_trace(request_model=model, usage=usage) for model in ("gpt-5", "gpt-5.4") for usage in usages]
    backend.write(records)
    reader = Reader(backend)
    expected = reader.costs(["model", "day"])
    assert sum(bill.priced for bill in expected.values()) == len(records)
    with backend._writer.use() as connection:
        connection.execute(
            "UPDATE provider_traces SET price_facts = NULL WHERE input_tokens > 5 OR request_model = 'gpt-5'"
        )
    assert reader.costs(["model", "day"]) == expected


def test_later_pages_use_the_index(backend):
    """The page after a cursor is found through the index, not by counting from the newest."""
    backend.write([make_trace() for _ in range(3)])
    cursor = backend.list(limit=1).next_cursor
    (sql,) = statements(backend, lambda: backend.list(limit=1, cursor=cursor))
    with backend._reader.use() as connection:
        plan = " / ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}"))
    assert "SEARCH provider_traces USING INDEX provider_traces_started_at" in plan


def test_listing_never_reads_a_payload(backend):
    """SQLite itself attests that listing and statistics touch no payload column, and that ``get`` does."""
    backend.write([full_trace()])
    read: set[str | None] = set()

    def watch(action: int, _table: str | None, column: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ:
            read.add(column)
        return sqlite3.SQLITE_OK

    with backend._reader.use() as connection:
        connection.set_authorizer(watch)
    cursor = backend.list(Filters(step_id="step-1"), limit=1).next_cursor
    backend.list(cursor=cursor)
    backend.stats(["model", "day"])
    assert read >= set(KEYS) - {"request_json", "response_json"}
    assert not read & {"request_json", "response_json"}
    backend.get("x")
    assert read >= {"request_json", "response_json"}
