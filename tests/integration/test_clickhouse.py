"""The ClickHouse backend beyond the contract: what is in the table, what it refuses, how it is asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from llmspan.backends.base import Filters
from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.errors import SchemaError, SettingsError
from llmspan.settings import Settings
from llmspan.trace import KEYS
from records import DAY, NOON, full_trace, make_trace
from stores import clickhouse, shutting_down


@pytest.fixture
def backend() -> Iterator[ClickHouseBackend]:
    with shutting_down(clickhouse.embedded()) as backend:
        yield backend


def rows(backend: ClickHouseBackend, sql: str, **values: Any) -> list[dict[str, Any]]:
    return list(backend._client().rows(sql.format(table=backend._table("provider_traces")), values))


def same_place(backend: ClickHouseBackend, **settings: Any) -> ClickHouseBackend:
    return ClickHouseBackend.from_settings(clickhouse.settings(str(backend._dsn), **settings))


def test_making_it_makes_nothing(tmp_path):
    """``from_settings`` neither makes the directory nor connects."""
    settings = Settings(clickhouse_dsn=f"chdb://{tmp_path}/new")
    assert ClickHouseBackend.from_settings(settings).location == f"chdb://{tmp_path}/new"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dsn", [None, "localhost:8123"])
def test_bad_dsn_is_told_by_every_use(dsn):
    """With a DSN that names no place everything says so, and nothing else."""
    backend = ClickHouseBackend.from_settings(Settings(clickhouse_dsn=dsn))
    for use in (backend.open, backend.check, backend.migrate, backend.list, lambda: backend.write([make_trace()])):
        with pytest.raises(SettingsError, match="LLMSPAN_CLICKHOUSE_DSN"):
            use()
    backend.shutdown()


def test_check(backend):
    """``check`` tells product, version, schema and place, and changes nothing."""
    with pytest.raises(SchemaError, match="there is no database"):
        backend.check()
    backend.open()
    assert backend.check().startswith("chDB 2")
    assert backend.check().endswith(f", schema 1, {backend.location}")


def test_migrate_tells_what_it_did(backend):
    """``migrate`` names what it made, and makes nothing twice."""
    database = backend._client().dsn.database
    assert backend.migrate() == [f"database {database}", "provider_traces", "llmspan_annotations"]
    assert backend.migrate() == []


def test_migrate_adds_the_span_tables_later(backend):
    """Who asks for ``otel_traces`` later gets what is missing, and keeps the records."""
    backend.open()
    backend.write([make_trace(id="x")])
    with shutting_down(same_place(backend, clickhouse_otel_traces=True)) as other:
        assert other.migrate() == [
            "otel_traces", "otel_traces_trace_id_ts", "otel_traces_trace_id_ts_mv", "provider_traces_from_otel",
        ]  # fmt: skip
        assert other.get("x") is not None


def test_migrate_changes_how_long_records_stay(backend):
    """``migrate`` follows the setting in both directions; ``open`` leaves a table as it is."""
    backend.open()
    for days, done in ((7, "MODIFY TTL toDateTime(timestamp) + INTERVAL 7 DAY"), (None, "REMOVE TTL")):
        with shutting_down(same_place(backend, clickhouse_ttl=days)) as other:
            other.open()
            assert other.migrate() == [f"llmspan_annotations: {done}", f"provider_traces: {done}"]
            assert other.migrate() == []


def test_old_records_go(backend):
    """A record older than the days to keep is gone after a merge; one of today stays."""
    with shutting_down(same_place(backend, clickhouse_ttl=30)) as kept:
        kept.open()
        kept.write([make_trace(id="old", started_at=NOON - 300 * DAY), make_trace(id="new", started_at=time.time_ns())])
        kept._client().command(f"OPTIMIZE TABLE {kept._table('provider_traces')} FINAL")
        assert kept.get("old") is None
        assert [trace.id for trace in kept.list().traces] == ["new"]


@pytest.mark.parametrize("days", [2_227, 2_228, 3_650, 20_000, 30_000, 36_500, 49_709, 49_710, 10**6])
def test_records_stay_for_as_long_as_is_asked(backend, days):
    """However many days records are to stay, none goes before, whatever its time: sums do not begin anew in 1970."""
    times = {
        "now": time.time_ns(),
        "old": time.time_ns() - 2_000 * DAY,
        "far": 2**63 - 1,
        "2099": 4_102_358_400 * 10**9,
    }
    with shutting_down(same_place(backend, clickhouse_ttl=days, clickhouse_otel_traces=True)) as kept:
        kept.open()
        kept.write([make_trace(id=name, started_at=at) for name, at in times.items()])
        kept._client().command(f"OPTIMIZE TABLE {kept._table('provider_traces')} FINAL")
        assert {trace.id for trace in kept.list().traces} == set(times)
        assert kept.migrate() == []


@pytest.mark.parametrize("days", [3_650, 30_000])
def test_a_sum_that_began_anew_is_put_right(backend, days):
    """``migrate`` gives the safe form to a table that has the one whose sums begin anew in 1970."""
    table = backend._table("provider_traces")
    backend.open()
    backend._client().command(f"ALTER TABLE {table} MODIFY TTL toDateTime(timestamp) + INTERVAL {days} DAY")
    with shutting_down(same_place(backend, clickhouse_ttl=days)) as other:
        (done,) = (change for change in other.migrate() if change.startswith("provider_traces"))
        assert "least(toUnixTimestamp(timestamp)" in done
        assert other.migrate() == []
    with shutting_down(same_place(backend, clickhouse_ttl=None)) as other:
        assert "provider_traces: REMOVE TTL" in other.migrate()


@pytest.mark.parametrize("clock", [20, -20, 36_500])
def test_a_writer_whose_clock_is_wrong(backend, clock, monkeypatch):
    """The server's clock says what is old: a writer whose clock is days off takes nothing that others wrote."""
    real = time.time_ns
    history = {f"{days}": real() - days * DAY for days in (1, 12, 29, 32, 60)}
    with shutting_down(same_place(backend, clickhouse_ttl=30)) as kept:
        kept.open()
        kept.write([make_trace(id=name, started_at=at) for name, at in history.items()])
        monkeypatch.setattr(time, "time_ns", lambda: real() + clock * DAY)
        kept.write([make_trace(id="own", started_at=time.time_ns())])
        kept.migrate()
        kept._client().command(f"OPTIMIZE TABLE {kept._table('provider_traces')} FINAL")
        assert {trace.id for trace in kept.list().traces} == {"1", "12", "29", "own"}


def test_newer_schema(backend):
    """A table of a newer version is refused, with both versions and the remedy."""
    backend.open()
    backend._client().command(f"ALTER TABLE {backend._table('provider_traces')} MODIFY COMMENT 'llmspan 99'")
    with shutting_down(same_place(backend)) as other:
        for use in (other.open, other.migrate, other.check):
            with pytest.raises(SchemaError, match="is version 99, this llmspan supports 1; upgrade llmspan, or"):
                use()


def test_table_of_somebody_else(backend):
    """A table of that name with other columns is refused and left as it is."""
    database = backend._client().dsn.database
    backend._client().command(f"CREATE DATABASE {database}")
    backend._client().command(f"CREATE TABLE {database}.provider_traces (a UInt8) ENGINE = Memory")
    for use in (backend.open, backend.migrate, backend.check):
        with pytest.raises(SchemaError, match=r"not one of llmspan \(it has no column id\), and is left as it is"):
            use()
    assert [row["name"] for row in rows(backend, "DESCRIBE {table}")] == ["a"]


def test_columns_are_typed(backend):
    """Numbers are numbers, lists are lists, what was not reported is NULL, and the time is a time: SQL can use them."""
    backend.open()
    backend.write([full_trace(id="full"), make_trace(id="least")])
    sql = (
        "SELECT input_tokens + output_tokens AS tokens, cache_read_tokens, agent_tags, finish_reasons, stream,"
        " JSONExtractInt(usage_details, 'cache_write_5m_tokens') AS written, toString(timestamp) AS at, step_id"
        " FROM {table} FINAL ORDER BY id"
    )
    full, least = rows(backend, sql)
    assert full == {
        "tokens": 3, "cache_read_tokens": 3, "agent_tags": ["a", "", "ü"], "finish_reasons": ["stop", None, "length"],
        "stream": True, "written": 6, "at": "2026-01-31 12:00:00.123456789", "step_id": "step-1",
    }  # fmt: skip
    assert (least["tokens"], least["cache_read_tokens"], least["step_id"], least["stream"]) == (15, None, None, False)


def test_sent_columns_are_the_keys(backend):
    """The table has the record's keys, in their order, and three columns that follow from them."""
    backend.open()
    assert [row["name"] for row in rows(backend, "DESCRIBE {table}")] == [
        *KEYS, "timestamp", "inserted_at", "precedence",
    ]  # fmt: skip


def test_a_batch_of_many_days(backend):
    """An import of records of more days than ClickHouse takes at once by itself is one write."""
    backend.open()
    backend.write([make_trace(id=f"{at:03}", started_at=NOON - at * DAY) for at in range(150)])
    assert backend.stats([])[0].calls == 150


def plan(backend: ClickHouseBackend, use: Any) -> str:
    """How the engine would run the query that ``use`` makes."""
    seen: list[tuple[str, Any]] = []
    client = backend._client()
    ask = client.rows
    client.rows = lambda sql, values=None: seen.append((sql, values)) or ask(sql, values)  # type: ignore[method-assign]
    use()
    del client.rows
    sql, values = seen[-1]
    return "\n".join(row["explain"] for row in client.rows(f"EXPLAIN indexes = 1 {sql}", values))


INDEXES = {
    "idx_step_id": lambda backend: backend.get_by_step_id("s7"),
    "idx_trace_id": lambda backend: backend.list(Filters(trace_id="t7")),
    "idx_run_id": lambda backend: backend.list(Filters(run_id="r7")),
    "idx_agent_id": lambda backend: backend.list(Filters(agent_id="a7")),
    "PrimaryKey": lambda backend: backend.get("id-7"),
    "idx_started_at": lambda backend: backend.list(Filters(since=NOON + 7 * DAY, until=NOON + 8 * DAY)),
}


@pytest.mark.parametrize("index", INDEXES)
def test_look_ups_read_little(backend, index):
    """Each look-up leaves most of the table unread, FINAL or not: by its index, by the id, by the time."""
    backend.open()
    for at in range(10):
        names = {"step_id": f"s{at}", "trace_id": f"t{at}", "run_id": f"r{at}", "agent_id": f"a{at}"}
        backend.write([make_trace(id=f"id-{at}", started_at=NOON + at * DAY, **names)])
    lines = [line.strip("│├└─ ") for line in plan(backend, lambda: INDEXES[index](backend)).splitlines()]
    at = next(at for at, line in enumerate(lines) if index in line)
    granules = next(line for line in lines[at:] if line.startswith("Granules: "))
    assert granules == "Granules: 1/10"


def test_listing_reads_no_payload(backend):
    """A listing never names a payload column."""
    backend.open()
    assert "request_json" not in plan(backend, backend.list)
    assert "request_json" not in plan(backend, lambda: backend.list(Filters(step_id="s")))
