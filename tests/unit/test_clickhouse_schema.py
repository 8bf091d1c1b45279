"""The statements that make the tables in ClickHouse, as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmspan.backends.clickhouse.schema import Schema
from llmspan.errors import SettingsError
from llmspan.trace import KEYS
from stores import clickhouse

GOLDEN = Path(__file__).parents[1] / "golden"
REPLICA = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
SCHEMAS = {
    "clickhouse_single.sql": Schema(database="llm", ttl_days=30, otel_traces=True),
    "clickhouse_cluster.sql": Schema(database="llm", cluster="prod", ttl_days=30, otel_traces=True, version="25.8.1.1"),
}


def text(schema: Schema) -> str:
    return "".join(f"{statement};\n\n" for statement in schema.statements().values())


@pytest.mark.parametrize("file", SCHEMAS)
def test_golden(file):
    """The statements, on one machine and on a cluster, are those that were looked at."""
    assert text(SCHEMAS[file]) == (GOLDEN / file).read_text("utf-8")


@pytest.mark.parametrize("file", SCHEMAS)
def test_statements_are_sql(file):
    """ClickHouse reads each statement; a cluster is not needed for that."""
    for statement in SCHEMAS[file].statements().values():
        clickhouse.engine().query(f"EXPLAIN AST {statement}")


def test_tables_by_settings():
    """One table if nothing else is asked for; on a cluster a local one and, in front of it, the one that is used."""
    one = Schema(database="d", ttl_days=30, version="26.9.1.1")
    assert list(one.statements()) == ["provider_traces", "llmspan_annotations"]
    assert list(Schema(database="d", cluster="c", version="26.9").statements()) == [
        "provider_traces_local", "provider_traces", "llmspan_annotations_local", "llmspan_annotations",
    ]  # fmt: skip
    assert "TTL toDateTime(timestamp) + INTERVAL 30 DAY\n" in text(one)
    assert "TTL" not in text(Schema(database="d", ttl_days=None, version="26.9"))


def test_every_key_has_a_column():
    """The table has a column for each key of the record, under its name and in that order."""
    lines = [line.strip() for line in text(Schema(database="d")).splitlines() if line.startswith("    ")]
    assert [line.partition(" ")[0] for line in lines][: len(KEYS)] == list(KEYS)


def test_names_are_quoted():
    """Odd names of databases and clusters are names, not statements."""
    made = text(Schema(database="a`b", cluster="c\\d"))
    assert "`a\\`b`.provider_traces" in made
    assert "ON CLUSTER `c\\\\d`" in made


ENGINES = {
    None: "ReplacingMergeTree(precedence)",
    "ReplacingMergeTree": "ReplacingMergeTree(precedence)",
    " ReplacingMergeTree() ": "ReplacingMergeTree(precedence)",
    "ReplacingMergeTree(precedence)": "ReplacingMergeTree(precedence)",
    "SharedReplacingMergeTree": "SharedReplacingMergeTree(precedence)",
    "ReplicatedReplacingMergeTree": "ReplicatedReplacingMergeTree(precedence)",
    f"ReplicatedReplacingMergeTree({REPLICA})": f"ReplicatedReplacingMergeTree({REPLICA}, precedence)",
}


@pytest.mark.parametrize("given", ENGINES)
def test_engines(given):
    """Whatever the engine replicates by, its version is the column that lets the first delivery win."""
    assert f"ENGINE = {ENGINES[given]}\n" in text(Schema(database="d", engine=given))


def test_span_tables_replicate_alike():
    """The span tables replicate as the records do, without the version column."""
    made = text(Schema(database="d", otel_traces=True, engine=f"ReplicatedReplacingMergeTree({REPLICA})"))
    assert f"ENGINE = ReplicatedMergeTree({REPLICA})\n" in made
    assert f"ENGINE = ReplicatedAggregatingMergeTree({REPLICA})\n" in made


@pytest.mark.parametrize("engine", ["MergeTree", "ReplacingMergeTree) SETTINGS x = (1", "Log", "Memory()"])
def test_other_engines_are_refused(engine):
    """An engine that would keep a record twice is refused with one that would not."""
    with pytest.raises(SettingsError, match=r"expected a ReplacingMergeTree, .* such as Replicated") as caught:
        Schema(database="d", engine=engine).statements()
    assert str(caught.value).startswith(f"LLMSPAN_CLICKHOUSE_ENGINE={engine}: ")


@pytest.mark.parametrize(
    ("version", "full_text"), [("26.2.1.1", True), ("26.1.9", False), ("25.8", False), ("27.1", True)]
)
def test_indexes_by_version(version, full_text):
    """The indexes of ``otel_traces`` are those that the Collector's exporter makes on that version."""
    made = text(Schema(database="d", otel_traces=True, version=version))
    assert ("TYPE text" in made) is full_text
    assert ("idx_span_attr_value" in made) is not full_text
