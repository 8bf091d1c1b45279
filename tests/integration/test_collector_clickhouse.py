"""The Collector's ClickHouse exporter, clickhouse.sql, and our reader: what goes in there comes out here."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import otelcol
from integration.exporters_clickhouse import ExportersClickHouse
from integration.programs import environment, run
from integration.test_agent_run import EXAMPLE as AGENT
from integration.test_agent_run import SHAPE
from integration.test_collector import records_in
from interaction import RECORDINGS, interaction_ids
from llmspan import Reader
from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.demo.server import DemoServer
from llmspan.query.tree import Node
from llmspan.trace import ProviderTrace
from otelcol import Collector
from polling import until
from stores import clickhouse as store

SQL = otelcol.CONFIG / "clickhouse.sql"


@pytest.fixture
def database() -> str:
    """A new database with the tables of clickhouse.sql, which is written for one called otel."""
    name = store.new_database()
    text = re.sub(r"^--.*$", "", SQL.read_text(), flags=re.MULTILINE)
    text = re.sub(r"(?<=DATABASE IF NOT EXISTS )otel\b|`otel`", f"`{name}`", text)
    for statement in text.split(";\n"):
        if statement.strip():
            store.engine().query(statement)
    return name


@pytest.fixture
def server(database: str) -> Iterator[ExportersClickHouse]:
    def execute(statement: str) -> bytes:
        return store.engine().query(re.sub(r'"otel"', f'"{database}"', statement), "Native").bytes() or b""

    with ExportersClickHouse(execute) as made:
        yield made


def backend(database: str) -> ClickHouseBackend:
    return ClickHouseBackend.from_settings(store.settings(store.embedded_dsn(database)))


def collector(folder: Path, server: ExportersClickHouse, database: str) -> Collector:
    return Collector(
        folder,
        "clickhouse",
        CLICKHOUSE_ENDPOINT=server.endpoint,
        CLICKHOUSE_DATABASE=database,
        CLICKHOUSE_COMPRESS="none",
    )


def program(provider: DemoServer, database: Path, hop: Collector) -> dict[str, str]:
    return environment(
        provider,
        database,
        OTEL_TRACES_EXPORTER="llmspan_otlp",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_EXPORTER_OTLP_ENDPOINT=hop.grpc,
        OTEL_SERVICE_NAME="shop",
    )


def test_clickhouse_sql_is_up_to_date() -> None:
    """The file is what llmspan's own statements make of it."""
    subprocess.run([sys.executable, otelcol.CONFIG / "clickhouse_sql.py", "--check"], check=True)


@pytest.mark.collector
def test_records_come_back_from_what_the_collector_wrote(
    tmp_path: Path, server: ExportersClickHouse, database: str
) -> None:
    """Calls that went through the real exporter into otel_traces are read as the records of the direct backend.

    All of it but what never is on a span: payloads, JSON values, the number of chunks.
    """
    every = 5
    direct = tmp_path / "traces.db"
    with DemoServer() as provider, collector(tmp_path / "collector", server, database) as hop:
        script = str(Path(__file__).with_name("replaying.py"))
        command = ("opentelemetry-instrument", sys.executable, script, str(every))
        done = run(*command, env={**program(provider, direct, hop), "LLMSPAN_TEST_RECORDINGS": str(RECORDINGS)})
        assert done.returncode == 0, done.stderr
        made = len(interaction_ids()[::every])
        until(lambda: written(database) >= made)
    expected = {trace.id: as_from_a_span(trace) for trace in records_in(direct).values()}
    found = backend(database)
    for record_id, record in expected.items():
        came_back = found.get(record_id)
        assert came_back is not None
        if (
            record.call_type == "background"
        ):  # whose record has the time of the response, and whose span that of the call
            continue
        if came_back.finish_reasons == (None,) and not record.finish_reasons:  # one was to be expected on a span
            came_back = replace(came_back, finish_reasons=())
        assert came_back.to_dict() == record.to_dict()
    assert len(expected) == written(database) == made


@pytest.mark.collector
def test_it_waits_while_the_database_is_down(tmp_path: Path, server: ExportersClickHouse, database: str) -> None:
    """ClickHouse refuses, the Collector is killed, ClickHouse comes back: the span is there, once, for the reader."""
    server.refusing.set()
    with DemoServer() as provider:
        hop = collector(tmp_path / "collector", server, database)
        command = ("opentelemetry-instrument", sys.executable, "examples/openai_stream.py")
        done = run(*command, env=program(provider, tmp_path / "traces.db", hop))
        assert done.returncode == 0, done.stderr
        until(lambda: server.refused > 0)
        hop.kill()
        with collector(tmp_path / "collector", server, database):
            server.refusing.clear()
            until(lambda: written(database) == 1)


@pytest.mark.collector
def test_a_run_that_came_through_the_collector_is_a_tree(
    tmp_path: Path, server: ExportersClickHouse, database: str
) -> None:
    """Agent, calls and tool in their places, each call once, tokens and cost as in the store that got them directly."""
    direct = tmp_path / "traces.db"
    with DemoServer() as provider, collector(tmp_path / "collector", server, database) as hop:
        script = str(Path(__file__).with_name("exporting_provider.py"))
        done = run(sys.executable, script, str(AGENT), env=program(provider, direct, hop))
        assert (done.returncode, done.stderr) == (0, "")
        until(lambda: spans_in(database) >= len(SHAPE))
    with Reader(backend(database)) as reader, Reader(SQLiteBackend(direct)) as expected:
        tree, wanted = (one.tree(run_id="agent-run-1") for one in (reader, expected))
        assert [(node.depth, *kind_and_name(node)) for node in tree.nodes] == SHAPE
        assert tree.sums == wanted.sums
        assert tree.sums.calls == 3
        assert reader.tree_costs(tree)[0].amounts == expected.tree_costs(wanted)[0].amounts != {}


def kind_and_name(node: Node) -> tuple[str, str]:
    return "span" if node.record is None else "call", node.name.partition("-20")[0]


def spans_in(database: str) -> int:
    """How many spans the Collector has written."""
    return int(store.engine().query(f"SELECT count() FROM `{database}`.otel_traces", "TSV").data())


def written(database: str) -> int:
    """How many records there are."""
    return sum(row.calls for row in backend(database).stats([]))


def as_from_a_span(trace: ProviderTrace) -> ProviderTrace:
    """A record as its span tells it."""
    return replace(
        trace,
        usage=replace(trace.usage, raw=None),
        finish_reasons=tuple(reason or None for reason in trace.finish_reasons),  # none and "" are "error" there
        request_json=None,
        response_json=None,
        error_json=None,
        content="metadata",
        chunk_count=None,
        llm_config=None,
        compaction_settings=None,
        billing_context=None,
    )
