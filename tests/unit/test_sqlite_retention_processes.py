"""Limits of a SQLite file in several processes, in one that is killed while it deletes, and in a sidecar."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from llmspan.backends.base import Filters
from llmspan.backends.socket import SocketBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.backends.sqlite.retention import _used_bytes
from llmspan.trace import ProviderTrace
from records import DAY, make_trace
from stores import shutting_down
from stores.sidecar import SidecarProcess, short_directory

MIB = 1024 * 1024
NOW = time.time_ns()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


def write(path: Path, *traces: ProviderTrace, **limits: int) -> None:
    with shutting_down(SQLiteBackend(path, **limits)) as backend:
        backend.write(traces)


def ids(path: Path) -> set[str]:
    with shutting_down(SQLiteBackend(path)) as backend:
        return {trace.id for trace in backend.list(limit=1000).traces}


def used(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return _used_bytes(connection)


def large(name: str, at: int) -> ProviderTrace:
    """A record whose payload takes 20,000 bytes, which it does not say."""
    return make_trace(id=name, started_at=at, request_json=json.dumps("x" * 20_000))


PROGRAM = """
import json, sys, time
from llmspan.backends.sqlite import retention as sqlite_retention
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.trace import ProviderTrace
path, name, count, limits = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
backend = SQLiteBackend(path, **limits)
delete = sqlite_retention._delete_oldest
def wait_after(*words):
    deleted = delete(*words)
    print("deleted", flush=True)
    sys.stdin.readline()
    return deleted
if name == "waits":
    sqlite_retention._delete_oldest = wait_after
print("ready", flush=True)
sys.stdin.readline()
for at in range(count):
    backend.write([ProviderTrace(id=f"{name}-{at}", provider="p", operation="o", api="a", status="ok", duration_ns=1,
                                 started_at=time.time_ns(), response_json='"' + "x" * 20_000 + '"')])
    print(f"{name}-{at}", flush=True)
backend.shutdown()
"""


def start(path: Path, name: str, count: int, **limits: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", PROGRAM, str(path), name, str(count), json.dumps(limits)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_several_processes_with_one_limit(path: Path) -> None:
    """Processes that write and delete at once do not fail each other, and delete no more than one would."""
    write(path, *(large(f"old-{at}", at) for at in range(200)))
    limits = {"retention_days": 30, "max_bytes": 2 * MIB}
    processes = [start(path, f"p{number}", 100, **limits) for number in range(3)]
    for process in processes:
        go(process)
    for process in processes:
        process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [0, 0, 0]
    write(path, make_trace(id="last", started_at=time.time_ns()), max_bytes=2 * MIB)
    assert 1.8 * MIB < used(path) <= 2 * MIB
    left = ids(path)
    assert not any(name.startswith("old") for name in left)
    assert len(left) > 80


@pytest.mark.parametrize("limits", [{"retention_days": 30}, {"max_bytes": 3 * MIB}])
def test_killed_while_deleting(path: Path, limits: dict[str, int]) -> None:
    """A process that is killed amid a step leaves a whole file, with its write; the next one deletes the others."""
    before = {f"{kind}-{at}" for kind in ("old", "young") for at in range(100)}
    write(path, *(large(name, NOW if name.startswith("young") else 0) for name in sorted(before)))
    process = start(path, "waits", 1, **limits)
    go(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "deleted\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert path.with_name("traces.db-wal").stat().st_size > 0
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert ids(path) == before | {"waits-0"}
    with shutting_down(SQLiteBackend(path, **limits)) as backend:
        for _ in range(20):
            backend.write([make_trace(id="last", started_at=NOW)])
        assert backend.count(Filters(until=NOW - DAY)) < 60
        assert backend.count(Filters(since=NOW - DAY)) == 102


def test_a_sidecar(path: Path) -> None:
    """The sidecar keeps the limits of its settings, for what it receives and for what was there."""
    write(path, make_trace(id="old", started_at=0), make_trace(id="young", started_at=NOW))
    with short_directory() as directory:
        environment = {"LLMSPAN_SQLITE_RETENTION_DAYS": "30"}
        sidecar = SidecarProcess(directory / "s.sock", path, env=environment)
        try:
            with shutting_down(SocketBackend(directory / "s.sock")) as backend:
                backend.write([make_trace(id="late", started_at=1), make_trace(id="new", started_at=NOW)])
            assert sidecar.end() == 0
        finally:
            sidecar.remove()
    assert ids(path) == {"young", "new"}
