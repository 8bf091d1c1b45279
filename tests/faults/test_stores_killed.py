"""Stores that are killed in the middle of a batch and come back: nothing is lost, with a spool and without.

Without a spool too, as the program lives: what the store has not confirmed waits in the queue.
"""

from __future__ import annotations

import random
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from faults.children import PATIENCE
from faults.ledger import SEEDS, enter
from llmspan.backends.base import Backend
from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.socket import SocketBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.pipeline import Pipeline
from llmspan.settings import Settings
from polling import until
from records import make_trace
from scripted import Ready
from stores import clickhouse, postgres, shutting_down
from stores.clickhouse_http import drop, drop_before
from stores.clickhouse_process import FrontProcess
from stores.sidecar import RunningSidecar, SidecarProcess, short_directory

PAYLOAD = '"' + "x" * 3000 + '"'
RECORDS = 1500
Start = Callable[..., SidecarProcess]
LIVES = 2

often = pytest.mark.parametrize("seed", range(max(1, SEEDS // 10)))
either = pytest.mark.parametrize("with_spool", [False, True])


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    try:
        made = postgres.Server().start()
    except postgres.NoServerError as error:
        pytest.fail(str(error))
    yield made
    made.remove()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontProcess]:
    made = FrontProcess(tmp_path_factory.mktemp("clickhouse")).start()
    yield made
    made.kill()


@pytest.fixture
def socket() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "s"


@pytest.fixture
def start(socket: Path, tmp_path: Path) -> Iterator[Start]:
    """Start a sidecar, again and again."""
    started: list[SidecarProcess] = []

    def begin(*options: str, **more: Any) -> SidecarProcess:
        started.append(SidecarProcess(socket, tmp_path / "traces.db", *options, **more))
        return started[-1]

    yield begin
    for sidecar in started:
        sidecar.remove()


def in_new_schema(server: postgres.Server) -> str:
    """A DSN of a place where nothing is yet."""
    schema = f"s{uuid.uuid4().hex}"
    postgres.execute(server.dsn(), f"CREATE SCHEMA {schema}")
    return server.dsn(options=f"-csearch_path={schema}")


def pipeline_for(backend: Backend, spool: Path | None) -> Pipeline:
    pipeline = Pipeline()
    pipeline.configure(Settings(spool_dir=spool, queue_max_items=100_000))
    pipeline.add(backend)
    return pipeline


def feed(pipeline: Pipeline, draw: random.Random) -> list[str]:
    ids: list[str] = []
    for _ in range(draw.randint(RECORDS // 2, RECORDS)):
        trace = make_trace(request_json=PAYLOAD[: draw.randint(10, 3000)] + '"')
        pipeline.submit(Ready(trace))
        ids.append(trace.id)
    return ids


def fed_and_killed(pipeline: Pipeline, seed: int, kill: Callable[[], None]) -> list[str]:
    """Records come in, and when the store has some of them, it is killed; twice, and then there are more."""
    draw = random.Random(seed)
    ids: list[str] = []
    for _ in range(LIVES):
        delivered = pipeline.status()[0].delivered
        feeding = threading.Thread(target=lambda: ids.extend(feed(pipeline, draw)))
        feeding.start()
        until(partial(has_more, pipeline, delivered))
        kill()
        feeding.join()
    return ids + feed(pipeline, draw)


def has_more(pipeline: Pipeline, delivered: int) -> bool:
    pipeline.flush(0.01)  # while somebody waits, pauses between tries are short
    return pipeline.status()[0].delivered > delivered


def stored(backend: Backend) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = backend.list(limit=500, cursor=cursor)
        found += [trace.id for trace in page.traces]
        cursor = page.next_cursor
        if cursor is None:
            return found


def check(fault: str, pipeline: Pipeline, ids: list[str], backend: Backend, *, with_spool: bool) -> None:
    """All are delivered, says the pipeline, and there, says the store."""
    assert pipeline.flush(PATIENCE)
    (status,) = pipeline.status()
    assert (status.delivered, status.dropped, status.dead_lettered) == (len(ids), {}, 0)
    enter(fault, ids, stored(backend), [status], spool="yes" if with_spool else "no")
    assert pipeline.close(PATIENCE)


@either
@often
@pytest.mark.parametrize("how", ["SIGKILL", "SIGQUIT", "SIGKILL of a backend of"])
def test_postgres_is_killed(how: str, seed: int, with_spool: bool, server: postgres.Server, tmp_path: Path) -> None:
    """The server, or one of its processes, dies while batches are written; each record is there once."""

    def kill() -> None:
        if how == "SIGQUIT":
            server.restart(signal.SIGQUIT)
        elif how == "SIGKILL":
            server.kill()
            server.start()
        else:
            server.kill_backend()

    backend = PostgresBackend(in_new_schema(server))
    pipeline = pipeline_for(backend, tmp_path / "spool" if with_spool else None)
    ids = fed_and_killed(pipeline, seed, kill)
    check(f"{how}{'' if how.endswith('of') else ' of'} Postgres", pipeline, ids, backend, with_spool=with_spool)


@either
@often
def test_clickhouse_is_killed(seed: int, with_spool: bool, front: FrontProcess, tmp_path: Path) -> None:
    """SIGKILL of the server, engine and HTTP interface, while batches are inserted: each record is there once."""
    dsn = front.dsn(f"killed_{seed}_{with_spool}")
    backend = ClickHouseBackend.from_settings(clickhouse.settings(dsn))
    pipeline = pipeline_for(backend, tmp_path / "spool" if with_spool else None)

    def kill() -> None:
        front.kill()
        front.start()

    ids = fed_and_killed(pipeline, seed, kill)
    check("SIGKILL of ClickHouse", pipeline, ids, backend, with_spool=with_spool)


@either
@often
def test_clickhouse_resets(seed: int, with_spool: bool, tmp_path: Path) -> None:
    """Connections are reset before and after inserts are executed: every record is there once."""
    backend = ClickHouseBackend.from_settings(clickhouse.settings(clickhouse.server_dsn()))
    pipeline = pipeline_for(backend, tmp_path / "spool" if with_spool else None)
    with clickhouse.front().failing(drop, times=3), clickhouse.front().failing(drop_before, times=2):
        ids = feed(pipeline, random.Random(seed))
        until(lambda: pipeline.status()[0].delivered > 0)
    check("connections to ClickHouse reset", pipeline, ids, backend, with_spool=with_spool)


@either
@often
def test_the_sidecar_is_killed(seed: int, with_spool: bool, start: Start, socket: Path, tmp_path: Path) -> None:
    """SIGKILL of the sidecar's process while it takes batches: what it had not acknowledged is still the program's."""
    sidecar = start()

    def kill() -> None:
        nonlocal sidecar
        sidecar.end(signal.SIGKILL)
        sidecar = start()

    pipeline = pipeline_for(SocketBackend(socket), tmp_path / "spool" if with_spool else None)
    ids = fed_and_killed(pipeline, seed, kill)
    with shutting_down(SQLiteBackend(tmp_path / "traces.db")) as store:
        store.open()
        check("SIGKILL of the sidecar", pipeline, ids, store, with_spool=with_spool)
    assert sidecar.end() == 0


@often
def test_a_sidecar_with_two_stores_is_killed(
    seed: int, server: postgres.Server, start: Start, socket: Path, tmp_path: Path
) -> None:
    """With a spool of its own a sidecar can be killed: what only second store was to get is not lost either."""
    dsn = in_new_schema(server)
    environment = {"LLMSPAN_SPOOL_DIR": str(tmp_path / "spool"), "LLMSPAN_POSTGRES_DSN": dsn}
    start_it = partial(start, "--backends", "sqlite,postgres", env=environment)
    sidecar = start_it()
    server.stop()

    def kill() -> None:
        nonlocal sidecar
        sidecar.end(signal.SIGKILL)
        sidecar = start_it()
        if not server.running:
            server.start()

    pipeline = pipeline_for(SocketBackend(socket), None)
    ids = fed_and_killed(pipeline, seed, kill)
    assert pipeline.flush(PATIENCE)
    statuses = pipeline.status()
    pipeline.close(PATIENCE)
    second = PostgresBackend(dsn)
    with shutting_down(SQLiteBackend(tmp_path / "traces.db")) as first, shutting_down(second):
        first.open()
        second.open()
        until(lambda: len(second.ids_with_prefix("", 1_000_000)) == len(ids))
        enter("SIGKILL of a sidecar with a spool: first store", ids, stored(first), statuses)
        enter("SIGKILL of a sidecar with a spool: second store", ids, stored(second), statuses)
    assert sidecar.end() == 0


@either
@often
def test_the_sidecar_goes_away(seed: int, with_spool: bool, socket: Path, tmp_path: Path) -> None:
    """The sidecar ends in the middle and another one takes its place: every record is there once."""
    running = RunningSidecar(socket, SQLiteBackend(tmp_path / "traces.db"))

    def replace() -> None:
        nonlocal running
        running.stop()
        running = RunningSidecar(socket, SQLiteBackend(tmp_path / "traces.db"))

    pipeline = pipeline_for(SocketBackend(socket), tmp_path / "spool" if with_spool else None)
    ids = fed_and_killed(pipeline, seed, replace)
    with shutting_down(SQLiteBackend(tmp_path / "traces.db")) as store:
        store.open()
        check("sidecar ended and started", pipeline, ids, store, with_spool=with_spool)
    running.stop()
