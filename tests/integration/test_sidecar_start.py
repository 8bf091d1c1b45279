"""A sidecar that takes long to start: senders that wait for it lose nothing, and signals end it with 0."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmspan.backends.socket import SocketBackend
from llmspan.backends.socket import backend as socket_backend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.pipeline import Pipeline
from llmspan.settings import Settings
from polling import until
from records import make_trace
from scripted import Ready
from stores import shutting_down
from stores.sidecar import SidecarProcess, short_directory

#: seconds that a process may take to start on a machine under load
PATIENCE = 300.0
IDS = [f"id-{at:02}" for at in range(50)]


@pytest.fixture
def path() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "s.sock"


@pytest.fixture
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that listens, as systemd opens it: senders connect, and nobody answers yet."""
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))
        opened.listen()
        yield opened


@pytest.fixture
def pipeline(path: Path, listening: socket.socket) -> Iterator[Pipeline]:
    """What a program has that writes to the socket; its records are under way before there is a sidecar."""
    sending = Pipeline()
    sending.configure(Settings())
    sending.add(SocketBackend(path))
    for name in IDS:
        sending.submit(Ready(make_trace(id=name)))
    yield sending
    sending.close(1.0)


@contextmanager
def activated(listening: socket.socket, database: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A sidecar to which systemd hands over the socket. LISTEN_PID is the pid of the shell, which becomes it."""
    script = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
    words = ["-m", "llmspan.cli", "sidecar", "--listen", "/nowhere/s.sock", "--db", str(database)]
    process = subprocess.Popen(
        ["/bin/sh", "-c", script, "sh", sys.executable, *words],
        stderr=subprocess.PIPE, pass_fds=(3,), preexec_fn=lambda: os.dup2(listening.fileno(), 3),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def stored(database: Path) -> list[str]:
    with shutting_down(SQLiteBackend(database)) as backend:
        return list(backend.ids_with_prefix("", 1000))


# -- senders that wait ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_it_takes_the_socket_of_systemd(path, listening, pipeline, tmp_path) -> None:
    """A socket that was opened for it is used, whatever --listen says, and stays when it ends."""
    with activated(listening, tmp_path / "t.db") as process:
        assert pipeline.flush(PATIENCE)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert stored(tmp_path / "t.db") == IDS
    assert path.is_socket()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_senders_that_gave_up_waiting_lose_nothing(listening, pipeline, tmp_path, monkeypatch) -> None:
    """It starts after several tries had no answer in time: the next try stores all, once."""
    with monkeypatch.context() as patch:
        patch.setattr(socket_backend, "_GREETING", 0.01)
        until(lambda: pipeline.status()[0].failed_writes >= 3)
    with activated(listening, tmp_path / "t.db"):
        assert pipeline.flush(PATIENCE)
    (status,) = pipeline.status()
    assert (status.delivered, status.dropped, status.dead_lettered) == (len(IDS), {}, 0)
    assert "no answer to the greeting" in (status.last_error or "")
    assert stored(tmp_path / "t.db") == IDS


# -- signals ----------------------------------------------------------------------------------------------------------

WAITING = """
import sys, threading
print("the module is being imported", file=sys.stderr, flush=True)
threading.Event().wait()
"""
SWALLOWING = """
import sys, threading
print("the module is being imported", file=sys.stderr, flush=True)
try:
    threading.Event().wait()
except BaseException:
    pass
def mask(value):
    return value
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("source", [WAITING, SWALLOWING], ids=["waiting", "swallowing"])
def test_a_signal_while_modules_are_imported(source, number, path, tmp_path) -> None:
    """Exit code 0 and no socket file, also if the module has swallowed the exit."""
    (tmp_path / "slow.py").write_text(source)
    environment = {"LLMSPAN_REDACT": "slow:mask", "PYTHONPATH": str(tmp_path)}
    sidecar = SidecarProcess(path, tmp_path / "t.db", wait=False, env=environment)
    try:
        sidecar.until("the module is being imported")
        assert sidecar.end(number) == 0
    finally:
        sidecar.remove()
    assert not path.exists()
    assert "Traceback" not in "".join(sidecar.told)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_connects_to_a_store(number, path, tmp_path) -> None:
    """A database that takes the connection and never answers does not keep it from ending."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        environment = {"LLMSPAN_POSTGRES_DSN": f"postgresql://u@127.0.0.1:{server.getsockname()[1]}/db?sslmode=disable"}
        sidecar = SidecarProcess(path, tmp_path / "t.db", "--backends", "postgres", wait=False, env=environment)
        try:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(1)
                assert sidecar.end(number) == 0
        finally:
            sidecar.remove()
    assert not path.exists()
    assert "Traceback" not in "".join(sidecar.told)
