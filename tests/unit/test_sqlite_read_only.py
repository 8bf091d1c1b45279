"""A SQLite file that may only be read, or in such a directory: read whole, and left as it is."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from llmspan import AsyncReader, Reader
from llmspan.backends.price_columns import PRICE_COLUMNS
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main
from llmspan.errors import SchemaError
from records import make_trace
from stores import shutting_down

COMMANDS = [["show", "--last"], ["show", "--step-id", "old"], ["tail", "--once"], ["stats"], ["export"]]


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that other users can enter."""
    with tempfile.TemporaryDirectory() as name:
        made = Path(name, "store")
        made.mkdir()
        Path(name).chmod(0o755)
        yield made
        made.chmod(0o755)


def write(path: Path, *, left_open: bool) -> None:
    """Two records; with ``left_open`` by a process that dies, so that the second one is in the log only."""
    script = f"""
import os
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.trace import ProviderTrace
backend = SQLiteBackend({str(path)!r})
def trace(name, at):
    return ProviderTrace(id=name * 8, step_id=name, provider="openai", operation="chat", api="a", status="ok",
                         started_at=at, duration_ns=1)
backend.write([trace("old", 1)])
with backend._writer.use() as connection:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
backend.write([trace("new", 2)])
if {left_open}:
    os._exit(0)
backend.shutdown()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def close(directory: Path, *, file_mode: int, directory_mode: int) -> dict[str, bytes]:
    """Take the rights away; what is there."""
    for file in directory.iterdir():
        file.chmod(file_mode)
    directory.chmod(directory_mode)
    return contents(directory)


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir() if not file.name.endswith("-shm")} | {
        file.name: b"" for file in directory.iterdir() if file.name.endswith("-shm")
    }


def as_nobody(folder: Path, paths: list[Path]) -> list[str]:
    """What the commands print about each file, run by a user who owns nothing."""
    script = f"""
import os, sys
from llmspan.cli import main
def run(path):
    for words in {COMMANDS!r}:
        main.main([*words, "--db", path], standalone_mode=False)
with open(os.devnull, "w") as sys.stdout:
    run({str(folder / "other.db")!r})  # imports all that is needed
sys.stdout = sys.__stdout__
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for path in {[str(path) for path in paths]!r}:
    run(path)
    print("-- end")
"""
    with shutting_down(SQLiteBackend(folder / "other.db")) as other:
        other.write([make_trace(step_id="old")])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("-- end\n")[:-1]


@pytest.mark.parametrize("state", ["closed", "left open", "without its index"])
def test_every_command_reads_it(directory, state):
    """Each reading command shows all records, those in the log too, and neither makes nor changes a file."""
    write(directory / "traces.db", left_open=state != "closed")
    if state == "without its index":
        (directory / "traces.db-shm").unlink()
    before: dict[Path, dict[str, bytes]] = {}
    for modes in ((0o444, 0o777), (0o444, 0o555), (0o666, 0o555)):
        copy = directory.parent / f"{modes[0]:o}-{modes[1]:o}"
        shutil.copytree(directory, copy)
        before[copy] = close(copy, file_mode=modes[0], directory_mode=modes[1])
        assert ("traces.db-wal" in before[copy]) == (state != "closed")
    for output in as_nobody(directory.parent, [copy / "traces.db" for copy in before]):
        assert output.count("newnewnew") == output.count("oldoldold") == 6
    assert {copy: contents(copy) for copy in before} == before


@pytest.mark.parametrize("command", COMMANDS)
def test_closed_to_all(directory, command):
    """A file that nobody may write to is left as it is by root, too, though root could."""
    path = directory / "traces.db"
    write(path, left_open=False)
    before = close(directory, file_mode=0o444, directory_mode=0o555)
    result = CliRunner().invoke(main, [*command, "--db", str(path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert contents(directory) == before


@pytest.mark.parametrize("command", [*COMMANDS, ["stats", "--by", "model", "--cost"]])
def test_one_of_an_earlier_version(directory, command):
    """An archive that nobody may bring to the newest schema is read as it is, sums and costs too."""
    path = directory / "traces.db"
    write(path, left_open=False)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP INDEX provider_traces_groups")
        for name in PRICE_COLUMNS:
            connection.execute(f"ALTER TABLE provider_traces DROP COLUMN {name}")
        connection.execute("PRAGMA user_version = 3")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    before = close(directory, file_mode=0o444, directory_mode=0o555)
    result = CliRunner().invoke(main, [*command, "--db", str(path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert contents(directory) == before


def test_readers_in_python(directory):
    """``Reader`` and ``AsyncReader`` open it as well, make nothing meanwhile, and see what is written later."""
    import asyncio

    path = directory / "traces.db"
    write(path, left_open=False)
    before = close(directory, file_mode=0o444, directory_mode=0o555)

    async def read() -> str | None:
        async with AsyncReader.from_env(backends="sqlite", sqlite_path=path) as reader:
            found = await reader.get("new" * 8)
            return found and found.step_id

    assert asyncio.run(read()) == "new"
    with Reader.from_env(backends="sqlite", sqlite_path=path) as reader:
        assert len(reader.list().traces) == 2
        assert contents(directory) == before
        directory.chmod(0o755)
        path.chmod(0o644)
        with shutting_down(SQLiteBackend(path)) as writer:
            writer.write([make_trace()])
        close(directory, file_mode=0o444, directory_mode=0o555)
        assert len(reader.list().traces) == 3


def test_while_somebody_writes(directory):
    """Who may only read sees what another process has just written, as often as it looks."""
    path = directory / "traces.db"
    with shutting_down(SQLiteBackend(path)) as writer, shutting_down(SQLiteBackend(path)) as reader:
        writer.write([make_trace()])
        close(directory, file_mode=0o444, directory_mode=0o755)
        for number in (1, 2, 3):
            assert reader.stats([])[0].calls == number
            writer.write([make_trace()])


def test_empty_or_missing(directory):
    """A file without a byte, and a directory without a file, are stores without records; nothing is made."""
    directory.chmod(0o555)
    result = CliRunner().invoke(
        main, ["stats", "--backend", "sqlite"], env={"LLMSPAN_SQLITE_PATH": str(directory / "x")}
    )
    assert "no calls" in result.output
    directory.chmod(0o755)
    (directory / "traces.db").touch(0o444)
    directory.chmod(0o555)
    result = CliRunner().invoke(main, ["stats", "--db", str(directory / "traces.db")])
    assert "no calls" in result.output
    assert contents(directory) == {"traces.db": b""}


def test_not_ours(directory):
    """What is refused where it may be written is refused here."""
    path = directory / "traces.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title)")
    path.chmod(0o444)
    backend = SQLiteBackend(path)
    with pytest.raises(SchemaError, match="not a file of llmspan"):
        backend.get("x")
    path.chmod(0o644)
    path.write_bytes(b"something else entirely, " * 100)
    path.chmod(0o444)
    with pytest.raises(SchemaError, match="not a file of llmspan"):
        backend.get("x")
    path.chmod(0o644)
    path.unlink()
    write(path, left_open=False)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1000")
    path.chmod(0o444)
    with pytest.raises(SchemaError, match="upgrade llmspan"):
        backend.get("x")


def test_odd_names(directory):
    """Characters that mean something in a URL are part of the name."""
    path = directory / "a b?mode=rwc#%41\udce4.db"
    write(directory / "traces.db", left_open=False)
    shutil.move(directory / "traces.db", path)
    before = close(directory, file_mode=0o444, directory_mode=0o555)
    assert SQLiteBackend(path).get("new" * 8) is not None
    assert contents(directory) == before
