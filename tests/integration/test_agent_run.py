"""The example of an agent: its run is a tree of two providers' calls and a tool, from every store that keeps spans."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from integration.programs import ROOT, environment, run
from llmspan.backends.base import Backend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.demo.server import DemoServer
from stores import clickhouse, postgres
from stores.sidecar import RunningSidecar, short_directory

EXAMPLE = ROOT / "examples" / "agent_run.py"
SHAPE = [
    (0, "span", "invoke_agent planner"),
    (1, "call", "chat gpt-5.4"),
    (1, "span", "execute_tool get_weather"),
    (1, "call", "chat gpt-5.4"),
    (1, "call", "chat claude-opus-5"),
]


def settings_of(store: str, folder: Path) -> dict[str, str]:
    if store == "postgres":
        backend: Backend = postgres.make(folder)
        return {"LLMSPAN_BACKENDS": store, "LLMSPAN_POSTGRES_DSN": backend._dsn}  # type: ignore[attr-defined]
    if store == "clickhouse":
        return {
            "LLMSPAN_BACKENDS": store,
            "LLMSPAN_CLICKHOUSE_DSN": clickhouse.server_dsn(),
            "LLMSPAN_CLICKHOUSE_OTEL_TRACES": "1",
        }
    return {"LLMSPAN_BACKENDS": store}


@contextmanager
def sidecar_of(store: str, database: Path) -> Generator[dict[str, str]]:
    """A sidecar that writes to ``database``, and what a program needs to send to it; nothing for other stores."""
    if store != "sidecar":
        yield {}
        return
    with short_directory() as directory:
        sidecar = RunningSidecar(directory / "s.sock", SQLiteBackend(database))
        try:
            yield {"LLMSPAN_BACKENDS": "socket", "LLMSPAN_SOCKET": str(sidecar.path)}
        finally:
            sidecar.stop()


@pytest.mark.parametrize("store", ["sqlite", "postgres", "clickhouse", "sidecar"])
def test_the_run_is_a_tree(store: str, tmp_path: Path) -> None:
    """Agent, calls, tool and tokens; each call once, and the sums are those of the calls."""
    database = tmp_path / "traces.db"
    with DemoServer() as server:
        env = environment(server, database, **settings_of("sqlite" if store == "sidecar" else store, tmp_path))
        with sidecar_of(store, database) as sending:
            done = run(sys.executable, str(EXAMPLE), env=env | sending)
        assert (done.returncode, done.stderr) == (0, "")
        shown = run("llmspan", "show", "--run-id", "agent-run-1", "--json", env=env)
        drawn = run("llmspan", "show", "--run-id", "agent-run-1", env=env)
    assert shown.returncode == 0, shown.stderr
    tree = json.loads(shown.stdout)
    nodes = tree["nodes"]
    assert [(node["depth"], node["kind"], node["name"].partition("-20")[0]) for node in nodes] == SHAPE
    assert tree["sums"]["calls"] == 3
    calls = [node["sums"] for node in nodes if node["kind"] == "call"]
    assert tree["sums"]["input_tokens"] == sum(sums["input_tokens"] for sums in calls) > 0
    assert {node["provider"] for node in nodes if node["kind"] == "call"} == {"openai", "anthropic"}
    assert Decimal(tree["sums"]["cost"]["USD"]) == sum(Decimal(sums["cost"]["USD"]) for sums in calls) > 0
    assert "execute_tool get_weather" in drawn.stdout
    assert "not stored" not in drawn.stdout
