"""A PgBouncer that restarts, is full or cannot log in, a server that restarts behind it: each record is there once."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import llmspan
from llmspan import lifecycle
from llmspan.backends.postgres import PostgresBackend
from llmspan.errors import RefusedError, RetryableError
from polling import until
from records import make_trace, this_day
from replay import client_for, transport
from scripted import Ready, identity_holds, pipeline_to
from stores import shutting_down
from stores.pgbouncer import Pooler
from stores.postgres import Server, execute, superuser
from stores.postgres_partitions import days_ago
from streams import CHAT


@pytest.fixture
def database() -> Iterator[str]:
    """The name of a new database on the tests' server."""
    name = f"pooled_{uuid.uuid4().hex[:12]}"
    execute(superuser(), f"CREATE DATABASE {name}")
    yield name
    execute(superuser(), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of our own, to be stopped."""
    server = Server()
    yield server.start()
    server.remove()


def stored(dsn: str) -> list[str]:
    return [name for (name,) in execute(dsn, "SELECT id FROM provider_traces ORDER BY id")]


def call() -> None:
    client = client_for("openai", transport(200, {"content-type": "text/event-stream"}, list(CHAT.stream)))
    for _ in CHAT.method(client)(**CHAT.arguments, stream=True):
        pass


# -- statement mode


@pytest.mark.parametrize("spooled", [False, True])
def test_records_wait_until_the_mode_is_put_right(database, caplog, tmp_path: Path, spooled):
    """In statement mode, one line says what to set, records wait in queue or spool, and all come when it is set."""
    spool = {"spool_dir": tmp_path / "spool"} if spooled else {}
    lifecycle.close(0.1)
    with ExitStack() as stack:
        door = stack.enter_context(Pooler("statement"))
        stack.callback(lifecycle.close, 10)
        with caplog.at_level(logging.WARNING, "llmspan"):
            llmspan.instrument(backends="postgres", postgres_dsn=door.dsn(dbname=database), **spool)
            for _ in range(3):
                call()
            assert not llmspan.flush(3)
        lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(lines) == 1
        assert "set pool_mode to transaction or session" in lines[0]
        (status,) = llmspan.status()
        assert identity_holds(status)
        assert (status.accepted, status.delivered, status.dead_lettered, status.dropped) == (3, 0, 0, {})
        assert (status.queued, status.spooled) == ((0, 3) if spooled else (3, 0))
        assert "statement pooling mode" in str(status.last_error)
        door.restart(pool_mode="transaction")
        assert llmspan.flush(60)
        assert len(stored(make_conninfo(superuser(), dbname=database))) == 3


# -- restarts


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("options", ["", "-cwork_mem=5MB"])
def test_a_pooler_that_restarts(database, how, options):
    """A pooler that restarts between two writes is no event: the connection is made anew, and settings with it."""
    with Pooler() as door, shutting_down(PostgresBackend(door.dsn(dbname=database, options=options))) as backend:
        traces = [days_ago(0) for _ in range(3)]
        for trace in traces:
            backend.write([trace])
            assert backend.get(trace.id) == trace
            door.restart(how)
        assert len(backend.list().traces) == 3


def test_a_pooler_that_is_away(database):
    """Where no pooler listens, it is for later; when it is back, all goes on."""
    with Pooler() as door, shutting_down(PostgresBackend(door.dsn(dbname=database))) as backend:
        backend.write([days_ago(0)])
        door.stop()
        for use in (lambda: backend.write([days_ago(0)]), backend.list, backend.check):
            with pytest.raises(RetryableError, match="cannot be reached"):
                use()
        door.start()
        backend.write([days_ago(0)])
        assert backend.stats([])[0].calls == 2


def test_restarts_under_load(database):
    """However a pooler is stopped while records come: each record is there once, and none is lost."""
    direct = make_conninfo(superuser(), dbname=database)
    with Pooler(default_pool_size=2) as door:
        with shutting_down(PostgresBackend(direct)) as owner:
            owner.open()
        pipeline = pipeline_to(PostgresBackend(door.dsn(dbname=database)), queue_max_items=100_000)
        traces = [make_trace(started_at=this_day() + 1, request_json='"%s"' % ("x" * 2_000)) for _ in range(3_000)]
        restarted = threading.Event()

        def submit() -> None:
            for at, trace in enumerate(traces):
                pipeline.submit(Ready(trace))
                if at == 1_000:
                    restarted.wait()

        thread = threading.Thread(target=submit)
        thread.start()
        for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
            door.restart(how)
        restarted.set()
        thread.join()
        assert pipeline.flush(120)
        (status,) = pipeline.status()
        assert (status.delivered, status.dead_lettered, status.dropped) == (3_000, 0, {})
        pipeline.close(10)
    assert stored(direct) == sorted(trace.id for trace in traces)


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_server_that_restarts_behind_the_pooler(server, mode):
    """A server that restarts, or is away for a while, is for later, through a pooler as without one."""
    door = Pooler(mode, server=server.dsn(), server_connect_timeout=2, query_wait_timeout=5)
    with door, shutting_down(PostgresBackend(door.dsn())) as backend:
        first, second, third = (days_ago(0) for _ in range(3))
        backend.write([first])
        server.restart(signal.SIGQUIT)
        until_written(backend, second)
        server.stop()
        with pytest.raises(RetryableError):
            backend.write([third])
        server.start()
        until_written(backend, third)
        assert {trace.id for trace in backend.list().traces} == {first.id, second.id, third.id}


def until_written(backend: PostgresBackend, trace) -> None:
    """As the pipeline does: whatever is said that passes by itself, the same batch again."""

    def is_written() -> bool:
        with contextlib.suppress(RetryableError):
            backend.write([trace])
            return True
        return False

    until(is_written, "the server did not come back for the pooler")


# -- who cannot come in, and who has to wait


def refused(dsn: str) -> str:
    with shutting_down(PostgresBackend(dsn)) as backend, pytest.raises(RefusedError) as caught:
        backend.write([days_ago(0)])
    return str(caught.value)


def test_a_wrong_password(database):
    """A wrong password is refused with the remedy, and not shown."""
    with Pooler() as door:
        said = refused(door.dsn(dbname=database, password="pw-that-is-wrong"))
    assert said.endswith("give the right user and password")
    assert "pw-that-is-wrong" not in said


def test_an_unknown_user(database):
    """A user that the pooler does not know is refused with the remedy."""
    with Pooler() as door:
        assert "give the right user and password" in refused(door.dsn(dbname=database, user="nobody_there"))


def test_an_unknown_database(database):
    """A database that the pooler, or its server, does not know is refused with the remedy."""
    with Pooler() as door:
        assert refused(door.dsn(dbname="nowhere")).endswith("make the database, or name another")
        door.databases = {database: ""}
        door.restart()
        assert refused(door.dsn(dbname="nowhere")).endswith("make the database, or name another")
        with shutting_down(PostgresBackend(door.dsn(dbname=database))) as backend:
            backend.write([days_ago(0)])


def test_a_pooler_without_the_password_of_the_server(database):
    """A pooler that may not log in to its server is told of with the remedy, and waited for."""
    with Pooler(auth_type="any") as door:
        door.databases = {"*": f"user={conninfo_user()} password=pw-that-is-wrong"}
        door.restart()
        said = refused(door.dsn(dbname=database))
        assert "authentication failed" in said
        assert "pw-that-is-wrong" not in said
        door.databases = {"*": f"user={conninfo_user()} password={door.password}"}
        door.restart()
        with shutting_down(PostgresBackend(door.dsn(dbname=database))) as backend:
            backend.write([days_ago(0)])


def conninfo_user() -> str:
    return str(psycopg.conninfo.conninfo_to_dict(superuser())["user"])


def test_a_pooler_that_is_full(database):
    """A pooler that has no room for another client is for later."""
    with Pooler(max_client_conn=1) as door:
        backend = PostgresBackend(door.dsn(dbname=database))
        with psycopg.connect(door.dsn(dbname=database)), pytest.raises(RetryableError, match="no more connections"):
            backend.open()
        backend.write([days_ago(0)])
        backend.shutdown()


def test_a_pooler_whose_connections_are_all_in_use(database):
    """A pooler that has no connection to give for too long is for later, and takes the batch when it has one."""
    with Pooler(default_pool_size=1, query_wait_timeout=3) as door:
        backend, trace = PostgresBackend(door.dsn(dbname=database)), days_ago(0)
        backend.open()
        with psycopg.connect(door.dsn(dbname=database)) as other:
            other.execute("SELECT 1")  # in a transaction until the end of the block
            with pytest.raises(RetryableError, match="query_wait_timeout"):
                backend.write([trace])
        backend.write([trace])
        assert backend.get(trace.id) == trace
        backend.shutdown()


def test_a_child_of_a_fork(database):
    """A forked child makes a connection of its own, with the settings, and leaves the parent's alone."""
    with (
        Pooler() as door,
        shutting_down(PostgresBackend(door.dsn(dbname=database, options="-cwork_mem=5MB"))) as backend,
    ):
        mine, childs = days_ago(0), days_ago(0)
        backend.write([mine])
        child = os.fork()
        if child == 0:
            try:
                backend.write([childs])
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert {trace.id for trace in backend.list().traces} == {mine.id, childs.id}
