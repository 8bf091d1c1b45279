"""Deleting from a SQLite file: the bytes are gone from it and from its log, and other processes go on."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from llmspan.backends.base import Filters
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.backends.sqlite import backend as sqlite_module
from llmspan.backends.sqlite import deletion as sqlite_delete
from llmspan.errors import RetryableError, SettingsError
from records import NOON, make_trace
from stores import shutting_down

#: payloads that stay in the page of their row, that leave it, and that take many pages
SIZES = [10, 300, 3_000, 30_000, 300_000]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SQLiteBackend]:
    with shutting_down(SQLiteBackend(path)) as backend:
        yield backend


def secret(user: str, size: int) -> dict[str, object]:
    """What a record of ``user`` has in all places that filters do not name."""
    text = f"{user}-SECRET " * (size // len(f"{user}-SECRET ") + 1)
    payload = json.dumps({"text": text})
    return {
        "user_id": f"{user}-SECRET",
        "attributes": {"of": f"{user}-SECRET"},
        "error_message": f"{user}-SECRET",
        "request_json": payload,
        "response_json": payload,
        "request_bytes": len(payload),
        "response_bytes": len(payload),
    }


def left_of(path: Path, user: str) -> int:
    """How often something of ``user`` is in the file and in what is beside it; pieces of a text count, too."""
    return sum(len(re.findall(f"{user}-S".encode(), file.read_bytes())) for file in path.parent.iterdir())


def test_nothing_is_left(backend, path):
    """After a deletion neither the file nor what is beside it has anything of the records, whatever their size."""
    backend.write([make_trace(**secret(f"U{at % 3}", SIZES[at % 5])) for at in range(60)])
    assert left_of(path, "U1") > 60
    assert backend.delete(Filters(user_id="U1-SECRET")) == 20
    assert left_of(path, "U1") == 0
    assert left_of(path, "U2") > 60
    assert path.with_name("traces.db-wal").stat().st_size == 0


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_left_in_shared_pages(backend, path, seed):
    """Nor have pages that they shared with records which were deleted before, or moved, or written later."""
    numbers = random.Random(seed)
    alive = {f"U{number:02}" for number in range(10)}
    sizes = numbers.choice([[10], [100, 300], [10, 800], [100, 5_000]])
    for _ in range(5):
        users = sorted(alive)
        records = [secret(numbers.choice(users), numbers.choice(sizes)) for _ in range(100)]
        backend.write([make_trace(started_at=numbers.randrange(10**9), **record) for record in records])
        user = numbers.choice(users)
        alive.discard(user)
        backend.delete(Filters(user_id=f"{user}-SECRET"))
        assert left_of(path, user) == 0


def test_nothing_is_left_of_the_old(backend, path):
    """Without rewriting the file, payloads go from it and from its log all the same, and it gets smaller."""
    backend.write([make_trace(started_at=at, **secret("OLD" if at < 80 else "NEW", 20_000)) for at in range(100)])
    before = path.stat().st_size + path.with_name("traces.db-wal").stat().st_size
    assert backend.delete(Filters(until=80), thorough=False) == 80
    assert left_of(path, "OLD") == 0
    assert path.stat().st_size < before / 3
    assert path.with_name("traces.db-wal").stat().st_size == 0


def test_a_file_of_before(path):
    """A file that was made without auto_vacuum, and has deleted records in free pages, is cleared as well."""
    with shutting_down(SQLiteBackend(path)) as backend:
        backend.open()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
    with shutting_down(SQLiteBackend(path)) as backend:
        backend.write([make_trace(started_at=at, **secret(f"U{at % 4}", 20_000)) for at in range(100)])
        assert backend.delete(Filters(user_id="U1-SECRET"), thorough=False) == 25
        assert left_of(path, "U1") == 0
        before = path.stat().st_size
        with backend._writer.use() as connection:
            assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
            connection.execute("PRAGMA secure_delete = OFF").fetchall()
            connection.execute("DELETE FROM provider_traces WHERE user_id = 'U0-SECRET'")
            connection.execute("PRAGMA secure_delete = ON").fetchall()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        assert path.stat().st_size == before
        assert left_of(path, "U0") > 0
        assert backend.delete(Filters(user_id="U2-SECRET")) == 25
        assert [left_of(path, user) for user in ("U0", "U1", "U2")] == [0, 0, 0]
        assert path.stat().st_size < before / 2
        with backend._writer.use() as connection:
            assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_migration_of_a_file_of_before(path):
    """``migrate`` has such a file shrink from then on, once, and keeps its records."""
    trace = make_trace()
    with shutting_down(SQLiteBackend(path)) as backend:
        backend.write([trace])
        with backend._writer.use() as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA auto_vacuum = NONE")
            connection.execute("VACUUM")
    with shutting_down(SQLiteBackend(path)) as backend:
        assert backend.migrate() == ["auto_vacuum"]
        assert backend.migrate() == []
        assert backend.get(trace.id) == trace


def test_other_processes_go_on(backend, path):
    """Processes that write during deletions lose nothing and never wait for long."""
    script = """
import sys, time
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.trace import ProviderTrace, new_id
backend = SQLiteBackend(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for at in range(150):
    backend.write([ProviderTrace(id=new_id(), user_id="bob", provider="p", operation="o", api="a", status="ok",
                                 started_at=at, duration_ns=1, response_json='"' + "x" * 20_000 + '"')])
backend.shutdown()
"""
    backend.write([make_trace(started_at=at, **secret("ANN", 20_000)) for at in range(400)])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    deleted = backend.delete(Filters(user_id="ANN-SECRET"), thorough=False)
    for writer in writers:
        writer.communicate(timeout=120)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert deleted == 400
    assert backend.count() == backend.count(Filters(user_id="bob")) == 300
    assert left_of(path, "ANN") == 0


def test_somebody_reads_all_the_time(backend, path, monkeypatch):
    """Where a reader keeps the log from being emptied, that is an error which says so, and doing it again does it."""
    monkeypatch.setattr(sqlite_module, "_LOG_TIMEOUT", 0.0)
    backend.write([make_trace(**secret("ANN", 1_000))])
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM provider_traces").fetchall()
        with pytest.raises(RetryableError, match=r"are deleted, but its log still has them.*; delete again"):
            backend.delete(Filters(user_id="ANN-SECRET"))
        assert backend.count() == 0
        assert left_of(path, "ANN") > 0
    assert backend.delete(Filters(user_id="ANN-SECRET")) == 0
    assert left_of(path, "ANN") == 0


def test_no_room_to_rewrite(backend, monkeypatch):
    """Where the file cannot be rewritten, the records are deleted, and the error says what may be left."""

    def full(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    backend.write([make_trace(), make_trace(user_id="ann")])
    monkeypatch.setattr(sqlite_module, "rewrite", full)
    with pytest.raises(RetryableError, match=r"could not be rewritten \(database or disk is full\).*VACUUM"):
        backend.delete(Filters(user_id="ann"))
    assert backend.count() == 1


def test_locked(path):
    """A file that another process keeps locked is an error for now, and nothing is deleted."""
    with shutting_down(SQLiteBackend(path, busy_timeout=0)) as backend:
        backend.write([make_trace()])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(RetryableError, match="database is locked"):
                backend.delete(Filters())
        assert backend.count() == 1


def test_missing_or_read_only(tmp_path):
    """Deleting makes no file, and refuses one that may only be read."""
    backend = SQLiteBackend(tmp_path / "nope.db")
    assert (backend.count(), backend.delete(Filters())) == (0, 0)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "directory").mkdir()
    with pytest.raises(SettingsError, match="not a file that can be read and written"):
        SQLiteBackend(tmp_path / "directory").delete(Filters())


def test_another_programs_file_keeps_its_mode(tmp_path):
    """A database of another program is refused without a byte of it being changed, though it vacuums itself."""
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = FULL")
        connection.execute("CREATE TABLE songs (title)")
    before = path.read_bytes()
    with pytest.raises(Exception, match="not a file of llmspan"):
        SQLiteBackend(path).delete(Filters())
    assert path.read_bytes() == before


def test_steps_adapt():
    """A step that held the lock for long makes the next one smaller, a quick one makes it larger, within bounds."""
    size = sqlite_module.StepSize()
    for _ in range(20):
        size.took(0.0, size.rows)
    most = size.rows
    size.took(10.0, most)
    assert size.rows == most // 2
    size.took(0.0, 3)  # the bytes were the limit
    assert size.rows == most // 2
    for _ in range(20):
        size.took(10.0, size.rows)
    assert size.rows == 1


def test_a_step_has_few_bytes(backend, monkeypatch):
    """Large payloads make steps of few records; one is always deleted, however large it is."""
    monkeypatch.setattr(sqlite_delete, "monotonic", lambda: 0.0)
    backend.write([make_trace(started_at=NOON + at, **secret("ANN", 1_500_000)) for at in range(9)])
    steps: list[int] = []
    assert backend.delete(Filters(), progress=steps.append) == 9
    assert steps == [2, 2, 2, 2, 1]
