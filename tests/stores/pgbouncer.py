"""A real PgBouncer for tests, in front of the tests' Postgres; as somebody else where root runs the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from .postgres import free_port, someone_else, superuser

_tested: str | None = None


class Pooler:
    """One process, which tests may stop, kill and start anew with other settings."""

    def __init__(self, mode: str = "transaction", *, server: str | None = None, **settings: Any) -> None:
        """``server``: the DSN of a server and its superuser; ``settings``: of the section ``[pgbouncer]``."""
        self._program = _program()
        self._server = conninfo_to_dict(server or superuser())
        self._folder = Path(tempfile.mkdtemp(prefix="llmspan-pgbouncer-"))
        self._user = someone_else()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.databases = {"*": ""}
        self.password = self._server["password"]
        self.settings: dict[str, Any] = {"pool_mode": mode, "default_pool_size": 5, **settings}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> Self:
        self._configure()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, self._folder / "pgbouncer.ini"], cwd=self._folder, stdout=log, stderr=log,
                user=self._user, extra_groups=[] if self._user else None,
            )  # fmt: skip
        self._wait_until_ready()
        return self

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """SIGTERM and SIGKILL: at once, whoever is connected; SIGINT: when all clients have gone."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(60)

    def restart(self, how: signal.Signals = signal.SIGTERM, **settings: Any) -> None:
        """Stop, and start at the same port with ``settings`` changed."""
        self.stop(how)
        self.settings |= settings
        self.start()

    def dsn(self, **changes: Any) -> str:
        """The superuser's DSN through the pooler."""
        return make_conninfo(**(self._server | {"host": "127.0.0.1", "port": self.port} | changes))

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def _configure(self) -> None:
        address = f"host={self._server['host']} port={self._server['port']}"
        settings = {
            "listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": "", "server_login_retry": 0,
            "auth_type": "scram-sha-256", "auth_file": self._folder / "users.txt", **self.settings,
        }  # fmt: skip
        lines = ["[databases]", *(f"{name} = {address} {more}" for name, more in self.databases.items())]
        lines += ["[pgbouncer]", *(f"{name} = {value}" for name, value in settings.items())]
        (self._folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        (self._folder / "users.txt").write_text(f'"{self._server["user"]}" "{self.password}"\n')
        for path in (self._folder, *self._folder.iterdir()):
            if self._user is not None:
                shutil.chown(path, self._user)

    def _wait_until_ready(self) -> None:
        """Until connections are taken."""
        for _ in range(2400):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=10).close()
            except ConnectionRefusedError:
                assert self._process is not None
                try:
                    self._process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
                raise RuntimeError(f"PgBouncer did not start: {self.log[-2000:]}") from None
            return
        raise RuntimeError(f"PgBouncer takes no connections: {self.log[-2000:]}")


def tested() -> str | None:
    """What was tested, for the closing lines of a test run; None if no test asked for PgBouncer."""
    return _tested


@cache
def _find() -> str | None:
    # Debian installs it where only root looks.
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def _program() -> str:
    global _tested
    found = _find()
    if found is None:
        _tested = "pgbouncer: NOT TESTED, there is none in PATH (the Debian package pgbouncer)"
        pytest.skip(_tested)
    _tested = _tested or f"pgbouncer: tested on {_version(found)}"
    return found


def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return said.partition("\n")[0].removeprefix("PgBouncer ")
