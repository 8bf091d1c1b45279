"""Sums in Postgres: by two threads at the same time, and with settings that hold for their query alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.query import Query
from records import make_trace
from stores import shutting_down
from stores.postgres import new_schema


def test_the_second_reader_has_a_connection_of_its_own() -> None:
    """While one thread reads, another one does not wait for it; alone, it opens no second connection."""
    with shutting_down(PostgresBackend(new_schema())) as backend, ThreadPoolExecutor(1) as pool:
        backend.write([make_trace()])
        store = backend._store
        assert len(backend.stats(["day"])) == 1
        assert store._second_reader._connection is None
        with store._reader._lock:
            (row,) = pool.submit(backend.stats, ["day"]).result(timeout=300)
        assert row.calls == 1
        assert store._second_reader._connection is not None
    assert store._reader._connection is None
    assert store._second_reader._connection is None


@pytest.mark.parametrize(("given", "expected"), [("4MB", "64MB"), ("256MB", "256MB")])
def test_settings_of_sums_end_with_their_query(given: str, expected: str) -> None:
    """Sums have some memory at least, and what the user has set if that is more; the session keeps its settings."""
    schema = new_schema()
    dsn = make_conninfo(schema, options=f"{conninfo_to_dict(schema)['options']} -cwork_mem={given}")
    with shutting_down(PostgresBackend(dsn)) as backend:
        backend.write([make_trace()])
        assert len(backend.stats(["day"])) == 1
        shown = "SELECT current_setting('enable_sort') AS sort, current_setting('work_mem') AS memory"
        store = backend._store
        assert store.rows(lambda _: Query(shown, {}, is_grouped=True)) == [{"sort": "off", "memory": expected}]
        assert store.rows(lambda _: Query(shown, {})) == [{"sort": "on", "memory": given}]
