"""``llmspan ui`` as a process: the address that it prints, what it refuses to start with, how it ends."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main
from records import make_trace


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("LLMSPAN_", "OTEL_", "LETTA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@contextmanager
def started(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command as a process, and the address that it prints; ended by Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "llmspan", "ui", "--port", "0", "--no-open", *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline(), process.stdout.readline()]
        match = re.search(r"http://\S+", lines[1])
        assert match, lines
        yield process, match[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        process.stdout.close()


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str


def ask(address: str, **headers: str) -> Answer:
    _, _, rest = address.partition("://")
    host, _, path = rest.partition("/")
    with closing(http.client.HTTPConnection(host, timeout=30)) as connection:
        connection.request("GET", f"/{path}", headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read().decode())


def test_the_address_lets_in(tmp_path: Path) -> None:
    """From the command to the first page: the token's address, the cookie, the calls; Ctrl-C ends it quietly."""
    path = tmp_path / "some.db"
    backend = SQLiteBackend(path)
    backend.open()
    backend.write([make_trace(response_model="model-of-the-file")])
    backend.shutdown()
    with started("--db", str(path)) as (process, address):
        first = ask(address)
        assert first.status == 303
        cookie = first.headers["set-cookie"].partition(";")[0]
        page = ask(address.partition("?")[0], Cookie=cookie)
        assert (page.status, "model-of-the-file" in page.text) == (200, True)
    assert process.returncode == 0


def test_without_a_store(tmp_path: Path) -> None:
    """A store that is not there yet is read as an empty one, and is not made."""
    with started() as (_, address):
        cookie = ask(address).headers["set-cookie"].partition(";")[0]
        page = ask(address.partition("?")[0], Cookie=cookie)
        assert (page.status, "no calls in this store yet" in page.text) == (200, True)
        assert ask(address.replace("/?", "/health?"), Cookie=cookie).status in (200, 303)
    assert not list(tmp_path.rglob("*.db"))


def call(*words: str) -> Result:
    return CliRunner().invoke(main, ["ui", "--no-open", *words], catch_exceptions=False, prog_name="llmspan")


def test_a_port_that_is_taken() -> None:
    """One line that names the port and the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = call("--port", str(port))
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in result.output
    assert "--port 0" in result.output


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.2"])
def test_others_need_more_than_an_address(host: str) -> None:
    """An address that others can reach is refused without a password or a proxy's header."""
    result = call("--host", host, "--port", "0")
    assert (result.exit_code, "LLMSPAN_UI_PASSWORD" in result.output) == (2, True)


def test_one_way_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password and a proxy's header together leave open which one counts; the password is not printed."""
    monkeypatch.setenv("LLMSPAN_UI_PASSWORD", "open-sesame")
    result = call("--auth-header", "X-User", "--port", "0")
    assert (result.exit_code, "exclude each other" in result.output) == (2, True)
    assert "open-sesame" not in result.output


def test_with_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address has no token then, and the password is not printed."""
    monkeypatch.setenv("LLMSPAN_UI_PASSWORD", "open-sesame")
    with started() as (_, address):
        assert "token" not in address
        assert ask(address).status == 401


def test_a_store_that_cannot_be_read_back() -> None:
    """A socket takes records only: the viewer does not start on it."""
    result = call("--backend", "socket", "--port", "0")
    assert result.exit_code == 2
    assert "socket" in result.output
