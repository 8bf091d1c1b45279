"""A store elsewhere that refuses us as it is now: the program starts, its records wait, one line says the remedy."""

from __future__ import annotations

import logging
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

import llmspan
from llmspan import lifecycle
from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main, trial
from llmspan.cli.run import prepare
from llmspan.errors import PermanentError
from llmspan.settings import Settings
from llmspan.sidecar.record_store import RecordStore
from records import make_trace
from replay import client_for, transport
from stores import clickhouse, clickhouse_http, shutting_down
from stores.postgres import execute, new_schema
from stores.sidecar import SidecarProcess, short_directory
from streams import CHAT

SECRET = "pw-that-is-wrong"


def postgres(**changes: str) -> dict[str, Any]:
    return {"backends": "postgres", "postgres_dsn": make_conninfo(new_schema(), **changes)}


def newer_schema() -> dict[str, Any]:
    dsn = new_schema()
    with shutting_down(PostgresBackend(dsn)) as backend:
        backend.open()
    execute(dsn, "INSERT INTO llmspan_schema (version, name) VALUES (99, 'of the future')")
    return {"backends": "postgres", "postgres_dsn": dsn}


def foreign_table() -> dict[str, Any]:
    dsn = new_schema()
    execute(dsn, "CREATE TABLE provider_traces (whose text)")
    return {"backends": "postgres", "postgres_dsn": dsn}


def over_clickhouse(dsn: str) -> dict[str, Any]:
    return {"backends": "clickhouse", "clickhouse_dsn": dsn}


def no_socket() -> dict[str, Any]:
    return {"backends": "socket", "socket": "/dev/null/llmspan.sock"}


def closed_port() -> int:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return reserved.getsockname()[1]


STATES: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "wrong password": (lambda: postgres(password=SECRET), "give the right user and password"),
    "no such database": (lambda: postgres(dbname="nowhere"), "make the database, or name another"),
    "no such role": (lambda: postgres(user="nobody_there", password=SECRET), "give the right user and password"),
    "no TLS": (lambda: postgres(sslmode="require"), "see sslmode and its certificates"),
    "no certificate": (
        lambda: postgres(sslmode="verify-full", sslrootcert="/nowhere/root.crt"), "see sslmode and its certificates"
    ),
    "no such host": (lambda: postgres(host="host.invalid"), "cannot be reached"),
    "no such schema": (lambda: postgres(options="-csearch_path=not_there"), "CREATE SCHEMA, or name another"),
    "newer tables": (newer_schema, "upgrade llmspan, or name another schema"),
    "somebody else's tables": (foreign_table, "name another schema with"),
    "clickhouse: no such host": (lambda: over_clickhouse("http://host.invalid:8123/x"), "ClickHouse http://host.invalid"),
    "clickhouse: down": (lambda: over_clickhouse(f"http://127.0.0.1:{closed_port()}/x"), "ClickHouse http://127.0.0.1"),
    "socket: no place": (no_socket, "it must be a socket that this user"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test sets up anew and leaves nothing behind."""
    monkeypatch.setattr(trial, "_run", lambda sdks, environ: {})
    lifecycle.close(0.1)
    yield
    lifecycle.close(0.1)


@pytest.fixture
def front() -> Iterator[clickhouse_http.Front]:
    made = clickhouse_http.Front(clickhouse.engine())
    made.start()
    yield made
    made.stop()


def call() -> None:
    client = client_for("openai", transport(200, {"content-type": "text/event-stream"}, list(CHAT.stream)))
    for _ in CHAT.method(client)(**CHAT.arguments, stream=True):
        pass


def environment(settings: dict[str, Any]) -> dict[str, str]:
    return {f"LLMSPAN_{name.upper()}": f"{value}" for name, value in settings.items()}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """All lines, those of drivers too."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("state", STATES)
def test_no_state_of_a_store_stops_the_program(
    state: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting never fails for it, by call or by command; one line names the remedy, and ``doctor`` tells the same."""
    make, remedy = STATES[state]
    settings = make()
    prepare(environment(settings), ["app.py"])
    with caplog.at_level(logging.WARNING, "llmspan"):
        llmspan.instrument(**settings)
        call()
        llmspan.flush(0.3)
    (line,) = warnings(caplog)
    assert remedy in line
    assert SECRET not in caplog.text
    (status,) = llmspan.status()
    assert (status.accepted, status.delivered, status.dead_lettered, status.dropped) == (1, 0, 0, {})
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    told = CliRunner().invoke(main, ["doctor"], prog_name="llmspan")
    assert told.exit_code == 1
    assert f"backend {settings['backends']}: " in told.output
    assert remedy in " ".join(told.output.split())
    assert SECRET not in told.output


@pytest.mark.parametrize("spooled", [False, True])
def test_records_wait_until_the_password_is_put_right(spooled: bool, tmp_path: Path) -> None:
    """What is accepted meanwhile is delivered, once and in full, when the store lets us in."""
    owner, name = new_schema(), f"role_{uuid.uuid4().hex[:12]}"
    execute(owner, f"CREATE ROLE {name} LOGIN SUPERUSER PASSWORD 'another'")
    spool = {"spool_dir": tmp_path / "spool"} if spooled else {}
    dsn = make_conninfo(owner, user=name, password=SECRET)
    llmspan.instrument(backends="postgres", postgres_dsn=dsn, **spool)
    for _ in range(3):
        call()
    assert not llmspan.flush(0.2)
    execute(owner, f"ALTER ROLE {name} PASSWORD '{SECRET}'")
    assert llmspan.flush(60)
    with shutting_down(PostgresBackend(owner)) as backend:
        assert backend.stats([])[0].calls == 3
    lifecycle.close(10)
    execute(owner, f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (400, None, "Client sent an HTTP request to an HTTPS server."),
        (405, None, "Method Not Allowed"),
        (500, 516, "Code: 516. DB::Exception: someone: Authentication failed. (AUTHENTICATION_FAILED)"),
        (500, 497, "Code: 497. DB::Exception: someone: Not enough privileges. (ACCESS_DENIED)"),
        (500, 48, "Code: 48. DB::Exception: it is not implemented. (NOT_IMPLEMENTED)"),
    ],
)
def test_no_answer_at_the_door_costs_a_record(
    front: clickhouse_http.Front, status: int, code: int | None, text: str, tmp_path: Path
) -> None:
    """Whatever is said before a record was sent, records wait, and go on when it is right: none is set aside."""
    dsn = front.dsn(clickhouse.new_database())
    with front.failing(clickhouse_http.status(status, code, text), where="", times=10_000):
        llmspan.instrument(**over_clickhouse(dsn), dead_letter_dir=tmp_path)
        call()
        assert not llmspan.flush(0.2)
    assert llmspan.flush(60)
    (told,) = llmspan.status()
    assert (told.delivered, told.dead_lettered) == (1, 0)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"backends": "postgres", "postgres_dsn": "postgresql://u:p@[half/d"}, "LLMSPAN_POSTGRES_DSN cannot be read"),
        ({"backends": "postgres", "postgres_dsn": "host=127.0.0.1 sslmode=sometimes"}, "sslmode"),
        ({"backends": "clickhouse", "clickhouse_dsn": "tcp://h:9000/d"}, "LLMSPAN_CLICKHOUSE_DSN="),
        ({"backends": "socket", "socket": "/" + "x" * 200}, "the path has 201 bytes"),
        ({"backends": "nothing"}, "unknown backend 'nothing'"),
    ],
)
def test_what_cannot_be_read_is_an_error_at_start(settings: dict[str, Any], told: str) -> None:
    """A text that means no place at all is told at once: no waiting makes sense of it."""
    with pytest.raises(llmspan.SettingsError, match=told.replace("(", r"\(")):
        llmspan.instrument(**settings)
    with pytest.raises(llmspan.SettingsError):
        prepare(environment(settings), ["app.py"])


def test_a_local_file_is_an_error_at_start(tmp_path: Path) -> None:
    """A SQLite file is chosen by whoever starts the program, who is told at once: no file, not ours, a newer one."""
    (tmp_path / "text.db").write_text("no database " * 200)
    newer = tmp_path / "newer.db"
    with shutting_down(SQLiteBackend(newer)) as backend:
        backend.open()
        with backend._writer.use() as connection:
            connection.execute("PRAGMA user_version = 99")
    for path in (tmp_path, tmp_path / "text.db", newer, tmp_path / "text.db" / "below.db"):
        with pytest.raises(llmspan.SettingsError, match="LLMSPAN_SQLITE_PATH="):
            llmspan.instrument(backends="sqlite", sqlite_path=path)


def test_beside_a_sidecar_the_socket_is_enough(tmp_path: Path) -> None:
    """A program needs no store of its own: its calls are in the sidecar's, read with ``--db``."""
    database = tmp_path / "of-the-sidecar.db"
    with short_directory() as directory:
        sidecar = SidecarProcess(directory / "s.sock", database)
        llmspan.instrument(backends="socket", socket=directory / "s.sock")
        call()
        assert llmspan.flush(60)
        assert [status.backend for status in llmspan.status()] == ["socket"]
        sidecar.remove()
    told = CliRunner().invoke(main, ["export", "--db", f"{database}"], prog_name="llmspan")
    assert told.output.count("\n") == 1


def test_a_sidecar_takes_nothing_back() -> None:
    """A sidecar whose store cannot be opened, whatever the error, asks for another try and rejects no record."""

    class Closed(PostgresBackend):
        def open(self) -> None:
            raise PermanentError("a door that is shut")

    archive = RecordStore([Closed("host=h")], Settings())
    with pytest.raises(llmspan.BackendError, match="cannot be opened: PermanentError: a door that is shut"):
        archive.store([make_trace()])
    assert archive.status()[0].dropped == {}
