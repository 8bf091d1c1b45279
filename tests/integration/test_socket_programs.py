"""Whole programs that send to a sidecar, and sidecars that write to real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.programs import BIN, NO_OTLP, environment, run
from llmspan.backends.base import Backend
from llmspan.backends.socket import SocketBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.demo.server import DemoServer
from llmspan.reader import Reader
from llmspan.trace import ProviderTrace
from records import full_trace, make_trace, newest_first
from stores import clickhouse, postgres, shutting_down
from stores.sidecar import RunningSidecar, short_directory

PROGRAM = """
from openai import OpenAI
from anthropic import Anthropic
OpenAI().responses.create(model="gpt-5", input="hello")
with Anthropic().messages.stream(model="claude", max_tokens=9, messages=[{"role": "user", "content": "hi"}]) as stream:
    stream.get_final_text()
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[DemoServer]:
    with DemoServer() as server:
        yield server


@pytest.fixture
def path() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "s.sock"


@pytest.fixture
def program(tmp_path: Path) -> str:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    return str(file)


def everything(backend: Backend) -> list[ProviderTrace]:
    with Reader(backend) as reader:
        return [trace for found in reader.iterate() if (trace := reader.get(found.id)) is not None]


def test_a_program_s_records_are_the_same_at_both_ends(provider, path, program, tmp_path) -> None:
    """What the program stores itself and what the sidecar stores are equal, record by record."""
    here, there = tmp_path / "here.db", tmp_path / "there.db"
    sidecar = RunningSidecar(path, SQLiteBackend(there))
    environ = environment(provider, here, **NO_OTLP, LLMSPAN_BACKENDS="sqlite,socket", LLMSPAN_SOCKET=str(path))
    done = run(f"{BIN}/llmspan", "run", program, env=environ)
    assert sidecar.stop()
    assert done.returncode == 0, done.stderr
    found = everything(SQLiteBackend(there))
    assert len(found) == 2
    assert found == everything(SQLiteBackend(here))


def test_the_exporter_alone_is_enough(provider, path, program, tmp_path) -> None:
    """Named as a span exporter, the socket gets whole records, and the program needs no store of its own."""
    here, there = tmp_path / "here.db", tmp_path / "there.db"
    sidecar = RunningSidecar(path, SQLiteBackend(there))
    chosen = NO_OTLP | {"OTEL_TRACES_EXPORTER": "llmspan_socket", "LLMSPAN_SOCKET": str(path)}
    done = run(f"{BIN}/opentelemetry-instrument", "python", program, env=environment(provider, here, **chosen))
    assert sidecar.stop()
    assert done.returncode == 0, done.stderr
    assert sorted(trace.api for trace in everything(SQLiteBackend(there))) == ["messages", "responses"]
    assert all(trace.request_json for trace in everything(SQLiteBackend(there)))
    assert not here.exists()


def test_without_a_sidecar_the_program_is_unharmed(provider, path, program, tmp_path) -> None:
    """Nobody listens: the program runs as ever, its own store is complete, and a line says what is missing."""
    here = tmp_path / "here.db"
    more = {"LLMSPAN_BACKENDS": "sqlite,socket", "LLMSPAN_SOCKET": str(path), "LLMSPAN_EXIT_TIMEOUT": "0.5"}
    done = run(f"{BIN}/llmspan", "run", program, env=environment(provider, here, **NO_OTLP, **more))
    assert done.returncode == 0, done.stderr
    assert len(everything(SQLiteBackend(here))) == 2
    assert "no process listens there; start `llmspan sidecar`" in done.stderr


def test_a_sidecar_writes_to_postgres_and_clickhouse(path) -> None:
    """With a server in front and another behind, both hold the same records, once, however often they came."""
    traces = [full_trace(id="full"), *(make_trace(id=f"id-{at}", started_at=at) for at in range(50))]
    dsn = postgres.new_schema()
    behind = clickhouse.embedded_dsn()
    first = postgres.PostgresBackend(dsn)
    second = clickhouse.ClickHouseBackend.from_settings(clickhouse.settings(behind))
    sidecar = RunningSidecar(path, first, second)
    with shutting_down(SocketBackend(path)) as backend:
        backend.write(traces[:30])
        backend.write(traces)
    assert sidecar.stop()
    assert everything(postgres.PostgresBackend(dsn)) == newest_first(traces)
    assert everything(clickhouse.ClickHouseBackend.from_settings(clickhouse.settings(behind))) == newest_first(traces)
