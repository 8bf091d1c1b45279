"""Two threads that read from Postgres at the same time, as ``llmspan stats --cost`` does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from llmspan.backends.postgres import PostgresBackend
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
