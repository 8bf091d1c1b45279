"""Postgres that restarts, hangs, locks, cuts us off; processes that fork: nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.postgres import connection as postgres_driver
from llmspan.errors import PermanentError, RetryableError
from llmspan.trace import ProviderTrace
from records import make_trace, this_day
from scripted import Ready, pipeline_to, submit
from stores import shutting_down
from stores.postgres import Server, execute, locked, new_schema


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that tests may stop, with all of its safety on."""
    server = Server()
    yield server.start()
    server.remove()


@pytest.fixture
def own(server: Server) -> str:
    """The DSN of a new database on the server that may be stopped."""
    if not server.running:
        server.start()
    name = f"traces_{time.monotonic_ns()}"
    execute(server.dsn(), f"CREATE DATABASE {name}")
    return server.dsn(dbname=name)


@pytest.fixture
def backend() -> Iterator[PostgresBackend]:
    """A backend whose tables are there."""
    with shutting_down(PostgresBackend(new_schema())) as backend:
        backend.write([make_trace(id="first")])
        yield backend


def now(**values) -> ProviderTrace:
    return make_trace(started_at=this_day() + 1, **values)


def ids(dsn: str | None) -> list[str]:
    return [name for (name,) in execute(dsn or "", "SELECT id FROM provider_traces ORDER BY id")]


def until(dsn: str, query: str, waiting: Future[object] | None = None) -> list[tuple]:
    """Ask until there is an answer; a task that should bring it about may not end before."""
    deadline = time.monotonic() + 60
    while not (rows := execute(dsn, query)):
        assert time.monotonic() < deadline, query
        assert waiting is None or not waiting.done(), waiting
    return rows


@contextmanager
def running(function: Callable[[], object]) -> Iterator[Future[object]]:
    """``function`` in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(function)


def pid_of(backend: PostgresBackend) -> int:
    """The server's process of the connection that writes."""
    return backend._store._writer._connection.info.backend_pid


def cut_off(backend: PostgresBackend) -> None:
    """End the server's side of both connections, as a failover or an administrator does."""
    handles = (backend._store._writer, backend._store._reader)
    pids = [handle._connection.info.backend_pid for handle in handles if handle._connection is not None]
    for pid in pids:
        execute(backend._dsn, f"SELECT pg_terminate_backend({pid})")
    until(
        backend._dsn,
        f"SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid IN ({', '.join(map(str, pids))}))",
    )


BLOCKED = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'llmspan'"


# -- connections that go away


def test_cut_off_between_writes(backend):
    """A connection that was cut while nobody used it is replaced without anybody noticing, for writes and for reads."""
    assert backend.get("first").id == "first"
    cut_off(backend)
    backend.write([now(id="second")])
    assert backend.get("second").id == "second"
    cut_off(backend)
    assert backend.get("second").id == "second"


def test_cut_off_in_the_middle(backend):
    """A write that is cut off halfway is begun again on another connection: all of it is there, once."""
    batch = [now(id=f"{at}") for at in range(50)]
    backend.write(batch[:10])
    with (
        locked(backend._dsn, "LOCK TABLE provider_traces IN EXCLUSIVE MODE") as lock,
        running(lambda: backend.write(batch)) as writing,
    ):
        ((pid,),) = until(backend._dsn, BLOCKED, writing)
        execute(backend._dsn, f"SELECT pg_terminate_backend({pid})")
        until(backend._dsn, f"{BLOCKED} AND pid <> {pid}", writing)
        lock.rollback()
        writing.result(60)
    assert ids(backend._dsn) == sorted([*(trace.id for trace in batch), "first"])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_server_restarts(server, own, how):
    """While the server is away each write is for later; when it is back, all that was ever accepted is there, once."""
    batches = [[now(id=f"{batch}-{at}") for at in range(40)] for batch in range(6)]
    with shutting_down(PostgresBackend(own)) as backend:
        for batch in batches[:2]:
            backend.write(batch)
        server.stop(how)
        for _ in range(2):
            with pytest.raises(RetryableError, match="cannot be reached"):
                backend.write(batches[2])
        with pytest.raises(RetryableError):
            backend.list()
        server.start()
        for batch in batches[1:]:  # the second one again, as if its answer had been lost
            backend.open()
            backend.write(batch)
        assert len(backend.list_by_step_id("none")) == 0
    assert ids(own) == sorted(trace.id for batch in batches for trace in batch)


def test_failover(server, own):
    """Of several servers, the one that takes writes is written to; when that becomes another one, so is that."""
    other = Server().start()
    try:
        name = conninfo_to_dict(own)["dbname"]
        execute(other.dsn(), f"CREATE DATABASE {name}")
        both = make_conninfo(own, host="127.0.0.1,127.0.0.1", port=f"{server.port},{other.port}")
        standby = f"ALTER DATABASE {name} SET default_transaction_read_only = "
        for dsn in (own, other.dsn(dbname=name)):
            with shutting_down(PostgresBackend(dsn)) as one:
                one.open()
        with shutting_down(PostgresBackend(both)) as backend:
            execute(server.dsn(), f"{standby} on")
            backend.write([now(id="first")])
            execute(server.dsn(), f"{standby} off")
            other.stop()
            backend.write([now(id="second")])
            other.start()
        assert ids(other.dsn(dbname=name)) == ["first"]
        assert ids(own) == ["second"]
    finally:
        other.remove()


def test_server_restarts_mid_stream(server, own):
    """Batches that are delivered until they succeed, while the server restarts again and again, are all there, once."""
    batches = [[now(id=f"{batch:03d}-{at}") for at in range(20)] for batch in range(60)]
    started, failures = threading.Event(), []

    def deliver(backend: PostgresBackend) -> None:
        for number, batch in enumerate(batches):
            while True:
                try:
                    backend.open()
                    backend.write(batch)
                    break
                except RetryableError as error:
                    failures.append(error)
            if number == 5:
                started.set()

    with shutting_down(PostgresBackend(own)) as backend, running(lambda: deliver(backend)) as delivering:
        assert started.wait(60)
        for how in (signal.SIGINT, signal.SIGQUIT):
            server.restart(how)
        delivering.result(120)
    assert ids(own) == [trace.id for batch in batches for trace in sorted(batch, key=lambda trace: trace.id)]


def test_answer_that_was_lost(backend, monkeypatch):
    """A batch that was stored although its writer heard nothing of it is delivered again, and stays as it was."""
    batch = [now(id=f"{at}", step_id="s") for at in range(5)]
    handle = backend._store._writer
    real = type(handle)._once

    def once(self, function):
        result = real(self, function)
        if self is handle:
            monkeypatch.setattr(type(handle), "_once", real)
            raise postgres_driver.psycopg.OperationalError("the connection is lost")
        return result

    monkeypatch.setattr(type(handle), "_once", once)
    backend.write(batch)
    assert len(backend.list_by_step_id("s")) == 5


# -- servers that do not answer


def test_a_lock_that_is_held(backend):
    """A write that waits for a lock longer than the timeout is for later, and has stored nothing."""
    batch = [now(id=f"{at}") for at in range(5)]
    with shutting_down(PostgresBackend(backend._dsn, write_timeout=0.2)) as impatient:
        impatient.write([now(id="second")])
        with (
            locked(backend._dsn, "LOCK TABLE provider_traces IN EXCLUSIVE MODE"),
            pytest.raises(RetryableError, match="statement timeout"),
        ):
            impatient.write(batch)
        assert ids(backend._dsn) == ["first", "second"]
        impatient.write(batch)
    assert len(ids(backend._dsn)) == 7


def test_a_server_that_hangs(backend, monkeypatch):
    """A server that says nothing at all, not even that the time is over, is left, for later, with its connection."""
    monkeypatch.setattr(postgres_driver, "_GRACE", 0.2)
    with shutting_down(PostgresBackend(backend._dsn, write_timeout=0.2)) as impatient:
        impatient.write([now(id="second")])
        pid = pid_of(impatient)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(RetryableError, match="did not answer in time"):
                impatient.write([now(id="third")])
            impatient.write([now(id="fourth")])
        finally:
            os.kill(pid, signal.SIGCONT)
    assert {"first", "second", "fourth"} <= set(ids(backend._dsn))


def test_too_many_connections(server, own):
    """A server that is full is for later."""
    name = own.rpartition("dbname=")[2].split()[0]
    execute(
        server.dsn(),
        "CREATE ROLE one LOGIN PASSWORD 'pw' CONNECTION LIMIT 1",
        f"GRANT CREATE ON DATABASE {name} TO one",
    )
    dsn = make_conninfo(own, user="one", password="pw")
    with locked(dsn, "SELECT 1"), pytest.raises(RetryableError, match="too many connections"):
        PostgresBackend(dsn).open()


# -- tables that are not as they should be


def test_no_partition_takes_it(backend):
    """If the default partition is gone, a record that needs it is for later: it is not the record's fault."""
    execute(backend._dsn, "ALTER TABLE provider_traces DETACH PARTITION provider_traces_default")
    with pytest.raises(RetryableError, match="no partition"):
        backend.write([make_trace(started_at=0)])
    backend.write([now()])
    execute(backend._dsn, "ALTER TABLE provider_traces ATTACH PARTITION provider_traces_default DEFAULT")
    backend.open()
    backend.write([make_trace(started_at=0)])


def test_a_rule_of_the_user(backend):
    """A record that breaks a rule which somebody added to the table can never be stored, and takes nobody with it."""
    execute(backend._dsn, "ALTER TABLE provider_traces ADD CONSTRAINT no_x CHECK (step_id <> 'x')")
    with pytest.raises(PermanentError, match="no_x"):
        backend.write([now(), now(step_id="x")])
    backend.write([now(id="second", step_id="y")])
    assert ids(backend._dsn) == ["first", "second"]


def test_a_column_that_changed(backend):
    """A column that was dropped under a running writer is for later; once it is back, so are the writes."""
    execute(backend._dsn, "ALTER TABLE provider_traces RENAME COLUMN api TO gone")
    with pytest.raises(RetryableError, match="api"):
        backend.write([now()])
    execute(backend._dsn, "ALTER TABLE provider_traces RENAME COLUMN gone TO api")
    backend.open()
    backend.write([now(id="second")])
    assert ids(backend._dsn) == ["first", "second"]


# -- with the pipeline


def test_poison_in_the_pipeline(backend, tmp_path):
    """Of many records, only the one that Postgres can never store is set aside, and all others are there, once."""
    pipeline = pipeline_to(backend, dead_letter_dir=tmp_path)
    good = [now() for _ in range(60)]
    bad = now(request_json="{not JSON")
    for trace in [*good[:37], bad, *good[37:], *good[:5]]:
        pipeline.submit(Ready(trace))
    assert pipeline.flush(60)
    assert ids(backend._dsn) == sorted([*(trace.id for trace in good), "first"])
    (letters,) = tmp_path.glob("*.jsonl")
    assert letters.read_text().count(bad.id) >= 1
    assert all(trace.id not in letters.read_text() for trace in good)
    assert pipeline.close(60)


def test_table_dropped_under_the_pipeline(backend):
    """A table that is dropped under a program at work is made anew, and nothing that came after is lost."""
    pipeline = pipeline_to(backend)
    execute(backend._dsn, "DROP TABLE provider_traces")
    later = submit(pipeline, 30)
    assert pipeline.flush(60)
    assert ids(backend._dsn) == sorted(later)
    assert pipeline.close(60)


def test_restart_under_the_pipeline(server, own):
    """A server that is away for a while is waited for by the pipeline, which then delivers everything, once."""
    pipeline = pipeline_to(PostgresBackend(own))
    before = submit(pipeline, 30)
    assert pipeline.flush(60)
    server.stop()
    during = submit(pipeline, 30)
    assert not pipeline.flush(0.5)
    server.start()
    after = submit(pipeline, 30)
    assert pipeline.flush(60)
    assert ids(own) == sorted([*before, *during, *after])
    assert pipeline.close(60)


# -- forks


PRELUDE = """
import os, sys, threading
from llmspan.backends.postgres import PostgresBackend
from llmspan.trace import ProviderTrace

def trace(id):
    return ProviderTrace(id=id, provider="p", operation="o", api="a", status="ok", started_at=1, duration_ns=0)

def child(function):
    pid = os.fork()
    if pid == 0:
        function()
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0

def pids():
    store = backend._store
    return [handle._connection and handle._connection.info.backend_pid for handle in (store._writer, store._reader)]

backend = PostgresBackend(os.environ["DSN"])
"""


def script(code: str, dsn: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + code],
        env={**os.environ, "DSN": dsn}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_child_connects_for_itself():
    """After a fork parent and child both go on, with connections of their own, and the child ends only its own."""
    dsn = new_schema()
    script(
        """
backend.write([trace("before")])
backend.get("before")
inherited = pids()

def write():
    assert pids() == [None, None]
    backend.write([trace("child")])
    assert backend.get("before") and backend.get("child")
    assert not set(pids()) & set(inherited)
    backend.shutdown()

child(write)
assert pids() == inherited
backend.write([trace("after")])
child(lambda: backend.write([trace("second child")]) or os._exit(0))
assert backend.get("second child")
assert pids() == inherited
backend.shutdown()
""",
        dsn,
    )
    assert ids(dsn) == ["after", "before", "child", "second child"]


def test_fork_in_the_middle_of_a_write():
    """A child that is forked while a batch is under way does not wait for it, and does not end it."""
    dsn = new_schema()
    script(
        """
from llmspan.backends.postgres import store as postgres_store
backend.open()
middle, go_on = threading.Event(), threading.Event()
encode = postgres_store.encode

def slow(trace):
    if trace.id == "two":
        middle.set()
        go_on.wait()
    return encode(trace)

postgres_store.encode = slow
writer = threading.Thread(target=backend.write, args=[[trace("one"), trace("two")]])
writer.start()
middle.wait()
child(lambda: backend.write([trace("child")]) or backend.shutdown())
go_on.set()
writer.join()
backend.shutdown()
""",
        dsn,
    )
    assert ids(dsn) == ["child", "one", "two"]


def test_child_lets_go_of_the_parents_connection():
    """A child does not keep the parent's connection open after the parent has died."""
    dsn = new_schema()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + """
backend.write([trace("before")])
if os.fork() == 0:
    sys.stdin.read()
else:
    print(pids()[0], flush=True)
    os.kill(os.getpid(), 9)
"""], env={**os.environ, "DSN": dsn}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        until(dsn, f"SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")
