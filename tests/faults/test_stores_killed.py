"""Stores that are killed in the middle of a batch and come back: nothing is lost, with a spool and without."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.ledger import SEEDS, enter
from llmspan.backends.base import Backend
from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.socket import SocketBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.pipeline import Pipeline
from llmspan.settings import Settings
from records import make_trace
from scripted import Ready, identity_holds, until
from stores import clickhouse, postgres
from stores.clickhouse_http import drop, drop_before
from stores.sidecar import RunningSidecar, short_directory

PAYLOAD = '"' + "x" * 3000 + '"'
RECORDS = 1500


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    try:
        made = postgres.Server().start()
    except postgres.NoServerError as error:
        pytest.fail(str(error))
    yield made
    made.remove()


def pipeline_for(backend: Backend, spool: Path | None) -> Pipeline:
    pipeline = Pipeline()
    pipeline.configure(Settings(spool_dir=spool))
    pipeline.add(backend)
    return pipeline


def feed(pipeline: Pipeline, seed: int) -> list[str]:
    draw = random.Random(seed)
    ids: list[str] = []
    for _ in range(RECORDS):
        trace = make_trace(request_json=PAYLOAD[: draw.randint(10, 3000)] + '"')
        pipeline.accept(Ready(trace))
        ids.append(trace.id)
    return ids


def stored(backend: Backend) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = backend.list(limit=500, cursor=cursor)
        found += [trace.id for trace in page.traces]
        cursor = page.next_cursor
        if cursor is None:
            return found


def check(fault: str, pipeline: Pipeline, ids: list[str], backend: Backend) -> None:
    assert pipeline.flush(120)
    (status,) = pipeline.status()
    assert identity_holds(status)
    assert (status.delivered, status.dropped, status.dead_lettered) == (len(ids), {}, 0)
    enter(fault, ids, stored(backend))
    assert pipeline.close(60)


@pytest.mark.parametrize("with_spool", [False, True])
@pytest.mark.parametrize("seed", range(min(SEEDS, 10)))
def test_postgres_is_killed(seed: int, with_spool: bool, server: postgres.Server, tmp_path: Path) -> None:
    """A crash of the whole server (SIGQUIT) while batches are written; it recovers, and every record is there once."""
    backend = PostgresBackend(server.dsn())
    pipeline = pipeline_for(backend, tmp_path / "spool" if with_spool else None)
    first = feed(pipeline, seed)
    until(lambda: pipeline.status()[0].delivered > 0)
    server.restart(signal.SIGQUIT)
    ids = first + feed(pipeline, seed + 1)
    assert pipeline.flush(120)
    everything = stored(backend)
    ours = set(ids)
    enter("SIGQUIT of Postgres", ids, [id_ for id_ in everything if id_ in ours])
    assert identity_holds(pipeline.status()[0])
    assert pipeline.close(60)


@pytest.mark.parametrize("with_spool", [False, True])
@pytest.mark.parametrize("seed", range(min(SEEDS, 10)))
def test_clickhouse_resets(seed: int, with_spool: bool, tmp_path: Path) -> None:
    """Connections are reset before and after inserts are executed: every record is there once."""
    backend = ClickHouseBackend.from_settings(clickhouse.settings(clickhouse.server_dsn()))
    pipeline = pipeline_for(backend, tmp_path / "spool" if with_spool else None)
    with clickhouse.front().failing(drop, times=3), clickhouse.front().failing(drop_before, times=2):
        ids = feed(pipeline, seed)
        until(lambda: pipeline.status()[0].delivered > 0, 120)
    check("connections to ClickHouse reset", pipeline, ids, backend)


@pytest.mark.parametrize("with_spool", [False, True])
@pytest.mark.parametrize("seed", range(min(SEEDS, 10)))
def test_the_sidecar_goes_away(seed: int, with_spool: bool, tmp_path: Path) -> None:
    """The sidecar ends in the middle and another one takes its place: every record is there once."""
    store = SQLiteBackend(tmp_path / "traces.db")
    with short_directory() as directory:
        sidecar = RunningSidecar(directory / "s", store)
        backend = SocketBackend(directory / "s")
        pipeline = pipeline_for(backend, tmp_path / "spool" if with_spool else None)
        feeding = threading.Thread(target=lambda: ids.extend(feed(pipeline, seed)))
        ids: list[str] = []
        feeding.start()
        until(lambda: pipeline.status()[0].delivered > 0)
        sidecar.stop()
        feeding.join(60)
        again = RunningSidecar(directory / "s", SQLiteBackend(tmp_path / "traces.db"))
        assert pipeline.flush(120)
        again.stop()
        assert identity_holds(pipeline.status()[0])
        enter("sidecar restarted", ids, stored(SQLiteBackend(tmp_path / "traces.db")))
        pipeline.close(10)
