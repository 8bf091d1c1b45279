"""A server, a pooler or a proxy that repeats the password of a DSN: no error, log line, status or command shows it."""

from __future__ import annotations

import base64
import json
import logging
import socket
import struct
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

import llmspan
from llmspan import lifecycle
from llmspan.backends import load_backend
from llmspan.backends.base import Backend
from llmspan.backends.driver_errors import masked_errors
from llmspan.backends.postgres import PostgresBackend
from llmspan.cli import main, trial
from llmspan.errors import LlmspanError, RetryableError
from llmspan.settings import Settings
from planted import marks
from planted.sinks import LogLines
from records import make_trace
from stores import clickhouse
from stores.clickhouse_http import Front, status
from stores.postgres import execute, new_schema

PASSWORD = f'{marks.opaque(1)}"<&\\é'
#: how a message may repeat it
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in a URL": lambda text: f"http://u:{quote(text, safe='')}@h/d",
    "in JSON": lambda text: json.dumps({"password": text}),
    "as a header": lambda text: f"Basic {base64.b64encode(f'default:{text}'.encode()).decode()}",
    "on the second line": lambda text: f"refused\nDETAIL: {text}",
    "before what is left out": lambda text: f"{text} (version 1.2 ({text}))",
    "many times": lambda text: " ".join([text] * 40),
    "many times, and some more": lambda text: "x" * 14 + " ".join([text] * 40),
}
LOGGERS = ("llmspan", "psycopg", "clickhouse_connect", "urllib3", "chdb")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(trial, "_run", lambda sdks, environ: {})
    lifecycle.close(0.1)
    yield
    lifecycle.close(0.1)


@pytest.fixture
def log() -> Iterator[LogLines]:
    """All that we and the drivers log, at any level."""
    lines = LogLines()
    loggers = [logging.getLogger(name) for name in LOGGERS]
    names = [name for name in logging.root.manager.loggerDict if name.startswith(LOGGERS[1:])]
    loggers += map(logging.getLogger, names)
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(lines)
    yield lines
    logging.getLogger().removeHandler(lines)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    server = Front(clickhouse.engine(), password=PASSWORD)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def writer(front: Front) -> Iterator[Backend]:
    dsn = front.dsn(clickhouse.new_database(), f"default:{quote(PASSWORD, safe='')}@")
    backend = load_backend("clickhouse", Settings(clickhouse_dsn=dsn, clickhouse_ttl=None), named_by="a test")
    backend.open()
    yield backend
    backend.shutdown()


class Refusing:
    """A pooler that answers every start of a session with one FATAL message."""

    def __init__(self, message: str) -> None:
        fields = {"S": "FATAL", "C": "XX000", "M": message}
        body = b"".join(key.encode() + text.encode() + b"\0" for key, text in fields.items()) + b"\0"
        self._answer = b"E" + struct.pack("!I", len(body) + 4) + body
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    while self._is_request_for_encryption(connection):
                        connection.sendall(b"N")
                    connection.sendall(self._answer)

    @staticmethod
    def _is_request_for_encryption(connection: socket.socket) -> bool:
        (length,) = struct.unpack("!I", connection.recv(4, socket.MSG_WAITALL))
        return connection.recv(length - 4, socket.MSG_WAITALL)[:2] == b"\x04\xd2"


def shown_by(function: Callable[[], Any]) -> str:
    """What a program could print of the error that ``function`` raises."""
    with pytest.raises(LlmspanError) as caught:
        function()
    return "\n".join([str(caught.value), repr(caught.value), *traceback.format_exception(caught.value)])


def in_use(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the pipeline and ``doctor`` say of a store."""
    llmspan.instrument(**settings)
    llmspan.record(provider="openai")
    llmspan.flush(0.2)
    shown = repr(llmspan.status())
    for name, value in settings.items():
        monkeypatch.setenv(f"LLMSPAN_{name.upper()}", str(value))
    doctor = CliRunner().invoke(main, ["doctor"], prog_name="llmspan")
    assert doctor.exit_code == 1
    return f"{shown}\n{doctor.output}"


def assert_silent(*texts: str) -> None:
    for text in texts:
        assert marks.leaks(text.encode()) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_pooler(form: str, log: LogLines, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes instead of a session of Postgres."""
    pooler = Refusing(f"cannot log in with {FORMS[form](PASSWORD)}")
    try:
        dsn = make_conninfo(host="127.0.0.1", port=pooler.port, user="ann", dbname="d", password=PASSWORD)
        backend = PostgresBackend(dsn)
        shown = shown_by(backend.open)
        backend.shutdown()
        used = in_use({"backends": "postgres", "postgres_dsn": dsn}, monkeypatch)
        letta = CliRunner().invoke(main, ["import-letta", "--dsn", dsn, "--dry-run"], prog_name="llmspan")
        assert letta.exit_code != 0
    finally:
        lifecycle.close(0.1)
        pooler.stop()
    assert "cannot log in with" in shown
    assert "cannot log in with" in log.text
    assert_silent(shown, used, letta.output, log.text)


@pytest.mark.parametrize("source", ["PGPASSWORD", "password file"])
def test_a_password_from_elsewhere(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libpq has the password from its environment or its file."""
    pooler = Refusing(f"cannot log in with {PASSWORD}")
    if source == "PGPASSWORD":
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
    else:
        file = tmp_path / "pgpass"
        file.write_text("*:*:*:*:" + PASSWORD.replace("\\", "\\\\") + "\n")
        file.chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(file))
    try:
        shown = shown_by(PostgresBackend(f"postgresql://ann@127.0.0.1:{pooler.port}/d").open)
    finally:
        pooler.stop()
    assert_silent(shown)


def test_a_trigger(log: LogLines) -> None:
    """What Postgres says of a statement: a trigger of the user's says the password."""
    owner, role = new_schema(), f"repeats_{uuid.uuid4().hex[:12]}"
    quoted = PASSWORD.replace("'", "''")
    execute(owner, f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{quoted}'")
    backend = PostgresBackend(make_conninfo(owner, user=role, password=PASSWORD))
    try:
        backend.open()
        backend.write([make_trace()])
        (table,) = execute(owner, "SELECT c.oid::regclass::text FROM pg_class c WHERE relname = 'provider_traces'"
                           " AND relnamespace = current_schema()::regnamespace")[0]  # fmt: skip
        execute(owner, "CREATE FUNCTION says() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$BEGIN RAISE EXCEPTION 'user=% sent %', current_user, '{quoted}'; END$$",
                f"CREATE TRIGGER says BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION says()")  # fmt: skip
        shown = shown_by(lambda: backend.write([make_trace()]))
    finally:
        backend.shutdown()
        execute(owner, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")
    assert f"user={role} sent" in shown
    assert_silent(shown, log.text)


@pytest.mark.parametrize(
    ("code", "exception"),
    [(500, 1), (500, 241), (500, 252), (404, 60), (403, 497), (500, 16), (401, None), (404, None), (429, None),
     (400, None), (413, None), (503, None)]
)  # fmt: skip
def test_clickhouse(code: int, exception: int | None, front: Front, writer: Backend, log: LogLines) -> None:
    """What a server, or a proxy before it, answers to an insert."""
    beginning = f"Code: {exception}. DB::Exception: got " if exception else ""
    for form in FORMS.values():
        with front.failing(status(code, exception, f"{beginning}{form(PASSWORD)}"), times=5):
            assert_silent(shown_by(lambda: writer.write([make_trace()])))
    assert_silent(log.text)


def test_clickhouse_in_use(front: Front, log: LogLines, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pipeline and ``doctor`` say of such answers, from the first one on."""
    dsn = front.dsn("d", f"default:{quote(PASSWORD, safe='')}@")
    with front.failing(status(403, None, f"you sent {PASSWORD}"), where="", times=10_000):
        used = in_use({"backends": "clickhouse", "clickhouse_dsn": dsn}, monkeypatch)
        lifecycle.close(0.1)
    assert "you sent" in log.text
    assert_silent(used, log.text)


def test_what_the_location_shows_stays() -> None:
    """A password that is the user's name hides nothing, and a location is never torn."""
    location = "postgresql://ann@db.example:5432/traces"
    with pytest.raises(RetryableError) as caught, masked_errors(("ann", "trace", None, ""), location):
        raise RetryableError(f"Postgres at {location}: no trace of ann")
    assert str(caught.value) == f"Postgres at {location}: no [masked by llmspan] of ann"


def test_causes() -> None:
    """A cause stays unless one of the chain repeats the password."""

    def cause_of(message: str) -> BaseException | None:
        error = RetryableError("yes")
        error.__cause__ = ValueError("no")
        error.__cause__.__context__ = OSError(message)
        with pytest.raises(RetryableError) as caught, masked_errors(("planted",), ""):
            raise error
        return caught.value.__cause__

    assert isinstance(cause_of("else"), ValueError)
    assert cause_of("planted") is None
