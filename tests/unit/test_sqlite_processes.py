"""The SQLite file between processes: several at once, after a fork, as another user."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmspan.backends.sqlite import SQLiteBackend
from records import make_trace
from stores import shutting_down

PRELUDE = """
import os, sys, threading
from llmspan.backends.migrations import newest_version
from llmspan.backends.sqlite import connection as sqlite_file
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.errors import LlmspanError
from llmspan.trace import ProviderTrace

path, name = sys.argv[1:3]

def trace(id):
    return ProviderTrace(id=id, provider="p", operation="o", api="a", status="ok", started_at=0, duration_ns=0,
                         step_id=name, response_json='"' + "x" * 5000 + '"')

def child(function):
    pid = os.fork()
    if pid == 0:
        function()
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0

backend = SQLiteBackend(path)
"""


def start(script: str, path: Path, name: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + script, str(path), name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(*processes: subprocess.Popen[str]) -> list[str]:
    """Let all go on at once, and give what they printed once all have ended well."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


def ids(path: Path) -> set[str]:
    with shutting_down(SQLiteBackend(path)) as backend:
        return {trace.id for trace in backend.list(limit=10_000).traces}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that other users can enter, but not write to."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755 if os.geteuid() == 0 else 0o555)
        yield directory
        directory.chmod(0o755)


def test_processes_write_at_once(path):
    """Processes that make the file and write to it at the same time lose nothing, and nothing twice."""
    script = """
sys.stdin.readline()
for at in range(60):
    backend.write([trace(f"{name}-{at}-{n}") for n in range(5)] + [trace(f"all-{at}")])
    backend.get_by_step_id(name)
backend.shutdown()
"""
    finish(*(start(script, path, name) for name in "abcd"))
    own = {f"{name}-{at}-{n}" for name in "abcd" for at in range(60) for n in range(5)}
    assert ids(path) == own | {f"all-{at}" for at in range(60)}


def test_processes_make_the_file_at_once(tmp_path):
    """Whoever comes first makes the schema; all others wait for it and go on."""
    script = """
sys.stdin.readline()
for at in range(20):
    backend = SQLiteBackend(f"{path}-{at}")
    backend.write([trace(f"{name}-{at}")])
    backend.shutdown()
"""
    finish(*(start(script, tmp_path / "traces.db", name) for name in "abcdef"))
    for at in range(20):
        assert ids(tmp_path / f"traces.db-{at}") == {f"{name}-{at}" for name in "abcdef"}


def test_a_second_opening_keeps_the_locks(path):
    """Opening the file again in one process does not end SQLite's locks on it: no other process thinks it is alone."""
    with shutting_down(SQLiteBackend(path)) as first, shutting_down(SQLiteBackend(path)) as second:
        first.write([make_trace()])
        second.open()
        wal = path.with_name("traces.db-wal")
        assert wal.exists()
        finish(start("sys.stdin.readline(); backend.get('x'); backend.shutdown()", path))
        assert wal.exists()


def test_child_opens_its_own(path):
    """After a fork parent and child both go on writing and reading; neither uses the other's connection."""
    script = """
backend.write([trace("before")])
backend.get("before")
handles = (backend._writer, backend._reader._first, backend._reader._second)
with backend._reader.use(), backend._reader.use():
    pass
inherited = [handle._connection for handle in handles]
assert None not in inherited

def write():
    assert [handle._connection for handle in handles] == [None, None, None]
    backend.write([trace("child")])
    assert backend.get("before") and backend.get("child")
    assert not {id(handle._connection) for handle in handles if handle._connection} & {id(one) for one in inherited}
    backend.shutdown()

child(write)
assert [handle._connection for handle in handles] == inherited
backend.write([trace("after")])
child(lambda: backend.write([trace("second child")]))
assert backend.get("second child")
backend.shutdown()
"""
    finish(start(script, path))
    assert ids(path) == {"before", "child", "after", "second child"}


def test_fork_in_the_middle_of_a_transaction(path):
    """A child that ends while the parent is writing does not undo what the parent has written."""
    script = """
sqlite_file._FORK_TIMEOUT = 0.01
backend.open()
with backend._writer.use() as connection, sqlite_file.transaction(connection):
    connection.execute("UPDATE provider_traces SET step_id = NULL")
    from llmspan.backends.sqlite.backend import _INSERT, _row
    connection.execute(_INSERT, _row(trace("parent")))
    child(lambda: backend.get("x"))
backend.write([trace("after")])
backend.shutdown()
"""
    finish(start(script, path))
    assert ids(path) == {"parent", "after"}


def test_fork_while_another_thread_writes(path):
    """A child is not stuck on a lock that a thread held which does not exist in it."""
    script = """
sqlite_file._FORK_TIMEOUT = 0.01
inside, leave = threading.Event(), threading.Event()

def hold():
    with backend._writer.use():
        inside.set()
        leave.wait()

thread = threading.Thread(target=hold)
thread.start()
inside.wait()
child(lambda: (backend.write([trace("child")]), backend.shutdown()))
leave.set()
thread.join()
backend.write([trace("parent")])
backend.shutdown()
"""
    finish(start(script, path))
    assert ids(path) == {"child", "parent"}


def test_fork_waits_for_a_statement(path):
    """A fork comes after the statement that another thread runs, so that no lock of SQLite's is held in the child."""
    script = """
sqlite_file._FORK_TIMEOUT = 60
inside, forking = threading.Event(), threading.Event()
os.register_at_fork(before=forking.set)  # runs before ours: the last registered is the first
order = []

def hold():
    with backend._writer.use():
        inside.set()
        forking.wait()
        order.append("statement")

thread = threading.Thread(target=hold)
thread.start()
inside.wait()
def look():
    assert order == ["statement"]
child(look)
thread.join()
backend.shutdown()
"""
    finish(start(script, path))


def test_a_statement_that_hangs_holds_up_one_fork(path):
    """A fork waits for a statement that has begun; the next ones do not wait for the same one again."""
    script = """
from llmspan.backends.sqlite import connection as module
clock = [100.0]
module.monotonic = lambda: clock[0]
waits = []

class Watched(type(backend._writer._lock)):
    def acquire(self, timeout=None):
        waits.append(timeout)
        clock[0] += timeout or 0
        return self._lock.acquire(blocking=False)

backend._writer._lock = Watched()
with backend._writer.use():
    child(lambda: None)
    first = len(waits)
    assert sum(waits) >= module._FORK_TIMEOUT
    child(lambda: None)
    assert len(waits) == first + 1
backend.write([trace("after")])
backend.shutdown()
"""
    finish(start(script, path))
    assert ids(path) == {"after"}


def test_dropped_backends_are_not_kept(path):
    """The fork hooks do not keep a backend alive that nobody uses."""
    script = """
import gc, weakref
backend.open()
backend.shutdown()
handle = weakref.ref(backend._writer)
del backend
gc.collect()
assert handle() is None
child(lambda: None)
"""
    finish(start(script, path))


AS_NOBODY = """
newest_version("llmspan.backends.sqlite")  # nobody may be unable to import more
if os.geteuid() == 0:
    os.setuid(65534)
try:
    backend.open()
except LlmspanError as error:
    print(type(error).__name__, error)
"""


def test_directory_of_somebody_else(public):
    """A directory that the user may not write to is a wrong setting; the message says what to do."""
    (output,) = finish(start(AS_NOBODY, public / "traces.db"))
    assert output.startswith(f"SettingsError LLMSPAN_SQLITE_PATH={public}/traces.db: Permission denied; set it to a ")


def test_file_of_somebody_else(public):
    """A file that the user may not write to is refused at once, not at the first record."""
    path = public / "traces.db"
    public.chmod(0o755)
    with shutting_down(SQLiteBackend(path)) as backend:
        backend.open()
    path.chmod(0o444)
    (output,) = finish(start(AS_NOBODY, path))
    assert output.startswith(f"SettingsError LLMSPAN_SQLITE_PATH={path}: ")
    assert "can be read and written" in output


def test_file_in_a_directory_of_somebody_else(public):
    """A file that may be written, but beside which SQLite can put nothing, is refused too."""
    path = public / "traces.db"
    public.chmod(0o755)
    path.touch()
    path.chmod(0o666)
    public.chmod(0o755 if os.geteuid() == 0 else 0o555)
    (output,) = finish(start(AS_NOBODY, path))
    assert output.startswith(f"SettingsError LLMSPAN_SQLITE_PATH={path}: ")
