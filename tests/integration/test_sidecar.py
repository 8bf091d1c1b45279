"""``llmspan sidecar`` as a process: killed, stopped, started twice, met by strangers."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmspan.backends.socket import SocketBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.errors import RetryableError, SettingsError
from llmspan.pipeline import Pipeline
from llmspan.settings import Settings
from llmspan.trace import ProviderTrace
from polling import until
from records import make_trace
from stores import shutting_down
from stores.sidecar import RunningSidecar, SidecarProcess, short_directory

Start = Callable[..., SidecarProcess]
PAYLOAD = '"' + "x" * 5000 + '"'
NOBODY = 65_534


@pytest.fixture
def path() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "run" / "s.sock"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


@pytest.fixture
def start(path: Path, database: Path) -> Iterator[Start]:
    started: list[SidecarProcess] = []

    def begin(*options: str, at: Path = path, **more: Any) -> SidecarProcess:
        started.append(SidecarProcess(at, database, *options, **more))
        return started[-1]

    yield begin
    for sidecar in started:
        sidecar.remove()


def stored(database: Path) -> list[str]:
    """The ids in the store, each as often as it is there."""
    with shutting_down(SQLiteBackend(database)) as backend:
        backend.open()
        return list(backend.ids_with_prefix("", 1_000_000))


class Made:
    """A record for a pipeline."""

    size = 6000

    def __init__(self, trace: ProviderTrace) -> None:
        self.trace = trace

    def build(self) -> ProviderTrace:
        return self.trace

    def publish(self, record: ProviderTrace) -> None:
        """Nothing."""

    def drop_payload(self) -> None:
        pytest.fail("there was room")


def sending(path: Path) -> Pipeline:
    """What a program has that writes to the socket."""
    line = Pipeline()
    line.configure(Settings(queue_max_bytes=2**30, queue_max_items=100_000))
    line.add(SocketBackend(path))
    return line


def submit(line: Pipeline, traces: list[ProviderTrace]) -> None:
    for trace in traces:
        line.submit(Made(trace))


def numbered(count: int, name: str = "id") -> list[ProviderTrace]:
    return [make_trace(id=f"{name}-{at:05}", request_json=PAYLOAD) for at in range(count)]


# -- killed on either side ------------------------------------------------------------------------------------------


def test_a_killed_sidecar_loses_nothing_and_doubles_nothing(start, path, database) -> None:
    """kill -9 in the middle of a batch, three times: after the last restart every record is there, once."""
    sidecar = start()
    line = sending(path)
    traces = numbered(6000)
    for at in range(3):
        before = len(stored(database))
        submit(line, traces[at * 2000 : (at + 1) * 2000])
        until(lambda: len(stored(database)) > before)  # noqa: B023 - called at once
        sidecar.end(signal.SIGKILL)
        sidecar = start()
    assert line.flush(120)
    assert stored(database) == [trace.id for trace in traces]
    (status,) = line.status()
    assert (status.accepted, status.delivered, status.dropped) == (6000, 6000, {})
    line.close(60)
    assert sidecar.end() == 0


def test_a_killed_sender_leaves_what_was_acknowledged(start, path, database) -> None:
    """kill -9 of a sender: what it was told is stored, nothing torn is, and others are served on."""
    start()
    script = """
import sys
from llmspan.backends.socket import SocketBackend
from records import make_trace
backend = SocketBackend(sys.argv[1])
for at in range(1_000_000):
    backend.write([make_trace(id=f"{at}-{n}", request_json='"' + "x" * 5000 + '"') for n in range(50)])
    print(at, flush=True)
"""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    sender = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True, env=environ)
    assert sender.stdout is not None
    told = [sender.stdout.readline() for _ in range(5)]
    sender.kill()
    told += sender.communicate()[0].splitlines()
    acknowledged = {f"{int(at)}-{n}" for at in told if at.strip() for n in range(50)}
    assert acknowledged <= set(stored(database))
    with shutting_down(SocketBackend(path)) as backend:
        backend.write([make_trace(id="after")])
    with shutting_down(SQLiteBackend(database)) as store:
        assert store.get("after") is not None
        assert all(trace.status == "ok" for trace in store.list(limit=500).traces)


# -- stopped --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_when_told_to(start, path, database, number) -> None:
    """SIGTERM and SIGINT: what was acknowledged is stored, the socket is gone, exit code 0, the counts are told."""
    sidecar = start()
    with shutting_down(SocketBackend(path)) as backend:
        backend.write(numbered(3))
        assert sidecar.end(number) == 0
        assert stored(database) == ["id-00000", "id-00001", "id-00002"]
        assert list(path.parent.iterdir()) == []
        assert sidecar.told[-1] == "llmspan: sqlite: 3 stored\n"
        with pytest.raises(RetryableError):
            backend.write(numbered(1))


def test_a_signal_stops_it_though_no_handler_has_run_in_its_thread(path, database) -> None:
    """A handler that waits for Python to go on would wait for ever: the thread that serves is not interrupted."""
    running = RunningSidecar(path, SQLiteBackend(database))
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with running.server.stopping_at_signals():
            signal.raise_signal(signal.SIGUSR1)
            running._thread.join(30)
        assert not running._thread.is_alive()
    finally:
        signal.signal(signal.SIGUSR1, previous)
        running.stop()


@pytest.mark.parametrize(("with_spool", "code"), [(True, 0), (False, 1)])
def test_it_ends_well_if_all_that_is_left_is_on_disk(start, path, database, tmp_path, with_spool, code) -> None:
    """A second store that is down is no failure of the sidecar's if its records wait in the spool; else it is told."""
    environment = {"LLMSPAN_POSTGRES_DSN": "postgresql://127.0.0.1:1/none", "LLMSPAN_EXIT_TIMEOUT": "0.5"}
    if with_spool:
        environment["LLMSPAN_SPOOL_DIR"] = str(tmp_path / "spool")
    sidecar = start("--backends", "sqlite,postgres", env=environment)
    with shutting_down(SocketBackend(path)) as backend:
        backend.write(numbered(3))
    assert sidecar.end() == code
    told = "".join(sidecar.told)
    assert "sqlite: 3 stored" in told
    assert ("postgres: 0 stored, 3 left in the spool" in told) == with_spool
    assert ("before everything was written" in told) != with_spool


def test_it_ends_under_load_without_losing_what_it_acknowledged(start, path, database) -> None:
    """SIGTERM while senders send: it ends, and their deliveries go on with the next one."""
    sidecar = start()
    line = sending(path)
    traces = numbered(3000)
    submit(line, traces)
    until(lambda: len(stored(database)) > 0)
    assert sidecar.end() == 0
    start()
    assert line.flush(120)
    assert stored(database) == [trace.id for trace in traces]
    line.close(60)


# -- the socket file ------------------------------------------------------------------------------------------------


def test_only_the_group_may_connect(start, path) -> None:
    """The socket is 0660 in a directory of 0750, whatever the umask."""
    start(umask=0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


def test_a_socket_of_the_dead_is_taken_over(start, path, database) -> None:
    """After kill -9 the socket file is left; the next sidecar replaces it."""
    start().end(signal.SIGKILL)
    assert path.is_socket()
    start()
    with shutting_down(SocketBackend(path)) as backend:
        backend.write(numbered(1))
    assert len(stored(database)) == 1


def test_a_file_that_is_no_socket_is_left_alone(start, path) -> None:
    """A file of somebody else's is an error with exit code 2, and stays as it is."""
    path.parent.mkdir()
    path.write_text("precious")
    sidecar = start(wait=False)
    assert sidecar.wait() == 2
    assert f"cannot listen at {path}: there is a file that is no socket" in sidecar.told[-1]
    assert path.read_text() == "precious"


def test_a_second_sidecar_is_a_clear_error(start, path, database) -> None:
    """The second one ends with exit code 2 and says why; the first one goes on."""
    start()
    second = start(wait=False)
    assert second.wait() == 2
    assert f"cannot listen at {path}: another sidecar listens there" in second.told[-1]
    with shutting_down(SocketBackend(path)) as backend:
        backend.write(numbered(1))
    assert len(stored(database)) == 1


def test_of_several_that_start_at_once_one_serves(start, path) -> None:
    """Over the socket of a dead one, exactly one of several takes over."""
    start().end(signal.SIGKILL)
    rivals = [start(wait=False) for _ in range(4)]
    until(lambda: sum(rival.process.poll() is None for rival in rivals) == 1)
    with shutting_down(SocketBackend(path)) as backend:
        until(lambda: _opens(backend))
    assert sorted(rival.process.poll() or 0 for rival in rivals) == [0, 2, 2, 2]


def test_a_socket_of_another_program_is_left_alone(start, path) -> None:
    """A program that listens there without our lock is not pushed aside."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        sidecar = start(wait=False)
        assert sidecar.wait() == 2
        assert "another program listens there" in sidecar.told[-1]
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))


# -- who may send ---------------------------------------------------------------------------------------------------


def as_nobody(path: Path) -> str:
    """What a process of another user is told when it opens the socket; root only."""
    script = f"""
import os, sys
from llmspan.backends.socket import SocketBackend
from llmspan.errors import LlmspanError
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
try:
    SocketBackend(sys.argv[1]).open()
except LlmspanError as error:
    print(type(error).__name__, error)
else:
    print("welcome")
"""
    return subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True).stdout


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED without root: who another user is")


@needs_root
def test_another_user_cannot_even_connect(start, path) -> None:
    """The modes of directory and socket keep other users out; what they are told names the setting."""
    start()
    path.parent.parent.chmod(0o755)
    assert as_nobody(path).startswith(f"RefusedError LLMSPAN_SOCKET={path}: Permission denied; it must be a socket")


@needs_root
@pytest.mark.parametrize("allowed", [False, True])
def test_the_system_says_who_it_is(start, path, allowed) -> None:
    """Where the modes let everybody in, the user id decides; the answer says how to allow it."""
    start(*(["--allow-uid", str(NOBODY)] if allowed else []))
    for place in (path.parent.parent, path.parent):
        place.chmod(0o755)
    path.chmod(0o666)
    told = as_nobody(path)
    if allowed:
        assert told == "welcome\n"
    else:
        assert told.startswith(f"RefusedError LLMSPAN_SOCKET={path}: uid {NOBODY} (pid ")
        assert f"may not send here; start the sidecar with --allow-uid {NOBODY}" in told


# -- settings -------------------------------------------------------------------------------------------------------


def test_it_does_not_send_to_itself(start, path) -> None:
    """A list of backends that holds the very socket is an error."""
    environ = {"LLMSPAN_BACKENDS": "sqlite,socket", "LLMSPAN_SOCKET": str(path)}
    sidecar = start(wait=False, env=environ)
    assert sidecar.wait() == 2
    assert "would send to itself" in sidecar.told[-1]


def test_a_path_that_is_too_long_is_told(start) -> None:
    """The system's limit is in the message."""
    sidecar = start(at=Path("/tmp", "x" * 120, "s.sock"), wait=False)
    assert sidecar.wait() == 2
    assert "and the system takes 107" in sidecar.told[-1]


def _opens(backend: SocketBackend) -> bool:
    try:
        backend.open()
    except (RetryableError, SettingsError):
        return False
    return True
