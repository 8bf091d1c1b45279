"""The SQLite backend beyond the contract: the file, its schema, what it refuses, how writes fail."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmspan.backends.migrations import Migration, missing_migrations, newest_version
from llmspan.backends.price_columns import PRICE_COLUMNS
from llmspan.backends.sqlite import connection as sqlite_file
from llmspan.backends.sqlite import groups_index
from llmspan.backends.sqlite.backend import SQLiteBackend, default_path
from llmspan.errors import PermanentError, RetryableError, SchemaError, SettingsError
from llmspan.settings import Settings
from llmspan.trace import KEYS, KINDS
from records import NOON, full_trace, make_trace
from stores import shutting_down

PACKAGE = "llmspan.backends.sqlite"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SQLiteBackend]:
    with shutting_down(SQLiteBackend(path)) as backend:
        yield backend


@contextlib.contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def ids(backend: SQLiteBackend) -> list[str]:
    return [trace.id for trace in reversed(backend.list(limit=1000).traces)]


def refused(path: Path, kind: type[Exception], *, is_missing: bool = False) -> str:
    """The message with which ``path`` is refused; it names the variable and the path.

    Reading finds nothing where ``is_missing``, and makes nothing there.
    """
    backend = SQLiteBackend(path, busy_timeout=0)
    uses = [backend.open, lambda: backend.write([make_trace()]), lambda: backend.get("x")]
    if is_missing:
        assert uses.pop()() is None
    for use in uses:
        with pytest.raises(kind) as caught:
            use()
        assert str(caught.value).startswith(f"LLMSPAN_SQLITE_PATH={path}: ")
    backend.shutdown()
    return str(caught.value)


# -- where


def test_default_path(monkeypatch, tmp_path):
    """The file is in ``$XDG_DATA_HOME``, or in ``~/.local/share`` where that is unset, empty or relative."""
    monkeypatch.setenv("HOME", str(tmp_path))
    at_home = tmp_path / ".local" / "share" / "llmspan" / "traces.db"
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_DATA_HOME", value)
        assert default_path() == at_home
    monkeypatch.delenv("XDG_DATA_HOME")
    assert SQLiteBackend.from_settings(Settings()).location == str(at_home)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_path() == Path("/data/llmspan/traces.db")


def test_nobody_without_a_home(monkeypatch, tmp_path):
    """Where there is no home, making the backend does not fail; opening says which variable to set."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(Path, "expanduser", lambda self: no_home())
    assert "Could not determine home" in refused(Path(SQLiteBackend().location), SettingsError, is_missing=True)
    assert list(tmp_path.iterdir()) == []


def test_making_it_makes_nothing(tmp_path):
    """``from_settings`` neither makes the file nor its directory."""
    settings = Settings(sqlite_path=tmp_path / "new" / "traces.db")
    assert SQLiteBackend.from_settings(settings).location == str(tmp_path / "new" / "traces.db")
    assert list(tmp_path.iterdir()) == []


def test_relative_path(monkeypatch, tmp_path):
    """A relative path is meant from where the program was when the backend was made."""
    monkeypatch.chdir(tmp_path)
    backend = SQLiteBackend("traces.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    backend.open()
    backend.shutdown()
    assert backend.location == str(tmp_path / "traces.db")
    assert (tmp_path / "traces.db").is_file()


# -- privacy


def test_file_is_private(tmp_path):
    """The file and what SQLite puts beside it are 0600 and a directory that we make 0700, whatever the umask."""
    before = os.umask(0)
    try:
        with shutting_down(SQLiteBackend(tmp_path / "new" / "traces.db")) as backend:
            backend.write([make_trace()])
            found = {file.name: mode(file) for file in (tmp_path / "new").iterdir()}
    finally:
        os.umask(before)
    assert found == {"traces.db": 0o600, "traces.db-wal": 0o600, "traces.db-shm": 0o600}
    assert mode(tmp_path / "new") == 0o700


def test_private_behind_a_link(tmp_path):
    """A link to a file that is not there yet makes that file, private too."""
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    with shutting_down(SQLiteBackend(tmp_path / "link.db")) as backend:
        backend.open()
    assert mode(tmp_path / "real.db") == 0o600


def test_existing_modes_are_left(tmp_path):
    """The modes of a directory and a file that are there are the user's choice."""
    tmp_path.chmod(0o755)
    path = tmp_path / "traces.db"
    path.touch()
    path.chmod(0o640)
    with shutting_down(SQLiteBackend(path)) as backend:
        backend.write([make_trace()])
    assert (mode(path), mode(tmp_path)) == (0o640, 0o755)


# -- refusals


def test_path_is_a_directory(tmp_path):
    """A directory is no file."""
    assert "set it to a file" in refused(tmp_path, SettingsError)


def test_parent_is_a_file(tmp_path):
    """A path that leads through a file is refused."""
    (tmp_path / "file").touch()
    assert "set it to a file" in refused(tmp_path / "file" / "traces.db", SettingsError)
    assert "set it to a file" in refused(tmp_path / "file" / "deeper" / "traces.db", SettingsError)


def test_directory_that_nobody_can_make():
    """Where no directory can be made, not even by root, the path is refused."""
    assert "set it to a file" in refused(Path("/proc/llmspan/traces.db"), SettingsError, is_missing=True)


def test_something_is_in_the_way(path):
    """Where SQLite cannot make the files that it needs beside its own, the path is refused."""
    path.with_name("traces.db-journal").mkdir()
    assert "unable to open database file" in refused(path, SettingsError, is_missing=True)


def test_full_disk_may_pass(path, monkeypatch):
    """A disk that is full when the file is made is no wrong setting: it can be tried again."""

    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    backend = SQLiteBackend(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(RetryableError, match="No space left"):
            backend.open()
    backend.open()
    backend.shutdown()


def test_not_a_database(path):
    """A file that is no database is refused and left as it is."""
    path.write_bytes(b"something else entirely, " * 100)
    assert "set it to a file of its own" in refused(path, SchemaError)
    assert path.read_bytes() == b"something else entirely, " * 100


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("CREATE TABLE songs (title)", "it holds songs"),
        ("CREATE TABLE provider_traces (id)", "it holds provider_traces"),
        ("CREATE TABLE songs (title); PRAGMA user_version = 1", "no column id in a table provider_traces"),
        ("CREATE TABLE provider_traces (id); PRAGMA user_version = 1", "no column trace_id"),
    ],
)
def test_a_database_that_is_not_ours(path, script, reason):
    """Another program's database, even one with a table of that name, is refused and not changed in a single byte."""
    with raw(path) as connection:
        connection.executescript(script)
    before = path.read_bytes()
    message = refused(path, SchemaError)
    assert reason in message
    assert "set it to a file of its own" in message
    assert path.read_bytes() == before


def test_newer_schema(backend, path):
    """A file of a newer llmspan is refused with both versions and the remedy, and not changed."""
    backend.open()
    backend.shutdown()
    with raw(path) as connection:
        connection.execute("PRAGMA user_version = 1000")
    message = refused(path, SchemaError)
    assert f"version 1000, this llmspan supports {newest_version(PACKAGE)}; upgrade llmspan" in message
    with raw(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1000,)


# -- the schema


def test_columns_are_the_keys(backend, path):
    """The table has one column for each key, in their order, of the type that the key has; then those of prices."""
    backend.open()
    with raw(path) as connection:
        columns = [(row[1], row[2]) for row in connection.execute("PRAGMA table_info(provider_traces)")]
    types = {"integer": "INTEGER", "boolean": "INTEGER"}
    assert columns[: len(KEYS)] == [(key, types.get(KINDS[key], "TEXT")) for key in KEYS]
    assert tuple(name for name, _ in columns[len(KEYS) :]) == PRICE_COLUMNS


def test_cells_are_what_people_expect(backend, path):
    """Who opens the file with another program finds numbers as numbers, lists and maps as JSON, unknown as NULL."""
    backend.write([full_trace(user_id=None)])
    with raw(path) as connection:
        row = connection.execute(
            "SELECT started_at, typeof(started_at), stream, finish_reasons, attributes, user_id, request_json"
            " FROM provider_traces"
        ).fetchone()
    assert row == (
        NOON + 123_456_789, "integer", 1, '["stop",null,"length"]', '{"a":1,"b":[true,null,1.5],"ü":{"\\u0000":""}}',
        None, '{"model":"gpt-5"}',
    )  # fmt: skip


def test_settings_of_the_connections(backend):
    """The file is in WAL mode with synchronous=NORMAL, and the connection that reads cannot write."""
    backend.write([make_trace()])
    with backend._writer.use() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (5000,)
    with backend._reader.use() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM provider_traces")


def test_two_threads_read_at_the_same_time(backend):
    """A query of one thread does not wait for that of another, and both are ended by a cancellation."""
    backend.write([make_trace()])
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

    def read(is_reading: threading.Event) -> sqlite3.Connection:
        with backend._reader.use() as connection:
            is_reading.set()
            with pytest.raises(sqlite3.OperationalError, match="interrupted"):
                connection.execute(endless)
            return connection

    with ThreadPoolExecutor(2) as pool:
        starts = [threading.Event() for _ in range(2)]
        readings = [pool.submit(read, starts[0])]
        assert starts[0].wait(60)
        readings.append(pool.submit(read, starts[1]))
        together = starts[1].wait(60)
        while not all(reading.done() for reading in readings):
            backend.cancel()
    assert together
    assert readings[0].result() is not readings[1].result()


def test_waits_for_its_turn_to_change_the_mode(backend, path, monkeypatch):
    """A file that another process writes to while its mode is to be changed is waited for: SQLite would not."""
    backend.open()
    backend.shutdown()
    with raw(path) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(sqlite_file, "sleep", lambda _: other.execute("COMMIT"))
        backend.open()
    with backend._writer.use() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_migrations_in_order(backend, path, monkeypatch):
    """An older file gets the migrations that it lacks, and keeps its records."""
    trace = make_trace()
    backend.write([trace])
    backend.shutdown()
    newest = newest_version(PACKAGE)
    add_migrations(
        monkeypatch,
        Migration(newest + 1, "later.sql", "ALTER TABLE provider_traces ADD COLUMN later;"),
        Migration(newest + 2, "yes.sql", "UPDATE provider_traces SET later = 'yes';"),
    )
    assert backend.get(trace.id) == trace
    with raw(path) as connection:
        assert connection.execute("SELECT later FROM provider_traces").fetchall() == [("yes",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (newest + 2,)


def test_migration_that_fails(backend, path, monkeypatch):
    """A migration that fails halfway leaves nothing of itself behind."""
    backend.open()
    backend.shutdown()
    broken = "CREATE TABLE half (id);\n-- and then; a comment\nINSERT INTO nowhere VALUES (1);\n"
    newest = newest_version(PACKAGE)
    add_migrations(monkeypatch, Migration(newest + 1, "broken.sql", broken))
    with pytest.raises(RetryableError, match="no such table: nowhere"):
        backend.open()
    with raw(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (newest,)
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'half'").fetchall() == []


@pytest.mark.parametrize("package", [PACKAGE, "llmspan.backends.postgres"])
def test_migrations_are_numbered(package):
    """The packaged migrations have the versions 1, 2, 3 ... without a gap."""
    versions = [migration.version for migration in missing_migrations(package, 0)]
    assert versions == list(range(1, newest_version(package) + 1))


def add_migrations(monkeypatch, *migrations):
    """Let the package have more migrations than it has."""
    known = [*missing_migrations(PACKAGE, 0), *migrations]
    monkeypatch.setattr("llmspan.backends.migrations._migrations", lambda package: known)


def test_a_large_file_gets_its_index_by_migrate(backend, path, monkeypatch):
    """Opening a large file of an earlier version makes no index, which would take long; `migrate` makes it, once."""
    backend.write([make_trace()])
    backend.shutdown()
    with raw(path) as connection:
        connection.execute("DROP INDEX provider_traces_groups")
    monkeypatch.setattr(groups_index, "_SMALL", 1000)
    backend.write([make_trace(id="later")])
    assert len(backend.list().traces) == backend.stats(["model", "day"])[0].calls == 2
    assert [backend.migrate(), backend.migrate()] == [["provider_traces_groups"], []]


def test_sums_of_prices_make_no_file(backend, path):
    """What costs are made of is nothing where there is no file, and there is none afterwards."""
    assert backend.price_bounds(["model"], None, by_host=False) == []
    assert not path.exists()


# -- failures of writes


def test_locked_is_retryable(path, tmp_path):
    """A file that another process keeps locked is a failure for now: nothing is stored, later it is."""
    with shutting_down(SQLiteBackend(path, busy_timeout=0)) as backend, raw(path) as other:
        backend.open()
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RetryableError, match=rf"{path}: database is locked"):
            backend.write([make_trace()])
        other.execute("COMMIT")
        trace = make_trace()
        backend.write([trace])
        assert ids(backend) == [trace.id]


def test_locked_at_open_is_retryable(path):
    """A new file that is locked before it has a schema is a failure for now."""
    with shutting_down(SQLiteBackend(path, busy_timeout=0)) as backend, raw(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RetryableError, match="database is locked"):
            backend.open()
        other.execute("COMMIT")
        backend.open()


def test_full_is_retryable_and_stores_nothing(backend):
    """A disk that fills up within a batch is a failure for now, and leaves nothing of the batch."""
    backend.write([make_trace(id="first")])
    with backend._writer.use() as connection:
        connection.execute("PRAGMA max_page_count = 20")
    batch = [make_trace(id="second"), make_trace(id="third", response_json=f'"{"x" * 1_000_000}"')]
    with pytest.raises(RetryableError, match="full"):
        backend.write(batch)
    assert ids(backend) == ["first"]
    with backend._writer.use() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    backend.write(batch)
    assert ids(backend) == ["first", "second", "third"]


def test_a_row_that_breaks_a_rule_is_permanent(backend):
    """A row that the table does not take fails the batch for good; it is not skipped in silence."""
    with backend._writer.use() as connection:
        connection.execute("CREATE UNIQUE INDEX one_each ON provider_traces (response_id)")
    backend.write([make_trace(response_id="r")])
    with pytest.raises(PermanentError, match="UNIQUE"):
        backend.write([make_trace(), make_trace(response_id="r")])
    assert len(ids(backend)) == 1


def test_missing_table_is_permanent(backend, path):
    """A table that somebody dropped under us is no reason to try again."""
    backend.open()
    with raw(path) as other:
        other.execute("DROP TABLE provider_traces")
    with pytest.raises(PermanentError, match="no such table"):
        backend.write([make_trace()])


def test_broken_file_keeps_the_records(backend, path):
    """A file that was overwritten is not the records' fault: they are kept, and go to a new file once it is moved."""
    backend.write([make_trace()])
    backend.shutdown()
    backend.open()
    with path.open("r+b") as file:
        file.write(b"\0" * 8 * 4096)
    with pytest.raises(RetryableError, match="move the file away"):
        backend.write([make_trace()])
    path.unlink()
    trace = make_trace()
    backend.write([trace])
    assert ids(backend) == [trace.id]


@pytest.mark.parametrize("suffixes", [("",), ("", "-wal", "-shm")])
def test_deleted_file_is_made_again(backend, path, suffixes):
    """Who deletes the file to start afresh, under a running program, finds the next records in a new one."""
    backend.write([make_trace()])
    assert len(ids(backend)) == 1
    for suffix in suffixes:
        path.with_name(path.name + suffix).unlink()
    trace = make_trace()
    backend.write([trace])
    assert ids(backend) == [trace.id]
    with shutting_down(SQLiteBackend(path)) as other:
        assert ids(other) == [trace.id]
