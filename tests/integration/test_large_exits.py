"""A program that ends with large records still on the way loses none of them, whatever they are written to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.programs import environment, run
from llmspan import Reader
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.demo.server import DemoServer
from stores import clickhouse, postgres
from stores.sidecar import RunningSidecar, short_directory

RECORDS, BYTES = 50, 2_000_000
PROGRAM = f"""
import llmspan
llmspan.instrument()
for number in range({RECORDS}):
    llmspan.record(provider="acme", model="m", request={{"n": number, "text": "x" * {BYTES}}})
"""
#: where to write, by environment, and where to read
Place = tuple[dict[str, str], dict[str, str]]


@contextmanager
def sqlite(folder: Path) -> Iterator[Place]:
    yield {"LLMSPAN_BACKENDS": "sqlite"}, {"backends": "sqlite", "sqlite_path": str(folder / "traces.db")}


@contextmanager
def in_postgres(_: Path) -> Iterator[Place]:
    dsn = postgres.new_schema()
    written = {"LLMSPAN_BACKENDS": "postgres", "LLMSPAN_POSTGRES_DSN": dsn}
    yield written, {"backends": "postgres", "postgres_dsn": dsn}


@contextmanager
def in_clickhouse(_: Path) -> Iterator[Place]:
    dsn = clickhouse.server_dsn()
    written = {"LLMSPAN_BACKENDS": "clickhouse", "LLMSPAN_CLICKHOUSE_DSN": dsn}
    yield written, {"backends": "clickhouse", "clickhouse_dsn": dsn}


@contextmanager
def over_the_socket(folder: Path) -> Iterator[Place]:
    database = folder / "sidecar.db"
    with short_directory() as directory:
        sidecar = RunningSidecar(directory / "s.sock", SQLiteBackend(database))
        # a socket cannot be read: the program's primary is SQLite, and what the sidecar stored is counted
        yield (
            {"LLMSPAN_BACKENDS": "sqlite,socket", "LLMSPAN_SOCKET": str(directory / "s.sock")},
            {"backends": "sqlite", "sqlite_path": str(database)},
        )
        sidecar.stop()


@pytest.mark.parametrize("place", [sqlite, in_postgres, in_clickhouse, over_the_socket])
def test_large_records_arrive_before_the_end(place: Callable[[Path], object], tmp_path: Path) -> None:
    """50 records of 2 MB, handed over in one go before the program's last line, are all there, and whole."""
    with place(tmp_path) as (variables, settings), DemoServer() as server:  # pyright: ignore[reportGeneralTypeIssues]
        limits = {"LLMSPAN_QUEUE_MAX_BYTES": "512MiB", "LLMSPAN_EXIT_TIMEOUT": "120"}
        env = environment(server, tmp_path / "traces.db", **limits, **variables)
        done = run(sys.executable, "-c", PROGRAM, env=env, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        with Reader.from_env(**settings) as reader:
            found = list(reader.iterate())
            assert len(found) == RECORDS
            assert {trace.content for trace in found} == {"full"}
            assert all((trace.request_bytes or 0) > BYTES for trace in found)
            assert len(reader.get(found[0].id).request_json) > BYTES  # pyright: ignore[reportOptionalMemberAccess]
