"""The queries in ``docs/clickhouse.md``: each one runs, and says what is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.cost import cost_of
from llmspan.usage import Usage
from records import NOON, full_trace, make_trace
from stores import clickhouse, shutting_down

TEXT = (Path(__file__).parents[2] / "docs" / "clickhouse.md").read_text("utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)


def usage(read: int | None, total: int, output: int) -> Usage:
    details = {"cache_write_1h_tokens": 9}
    return Usage(input_tokens=total, output_tokens=output, cache_read_tokens=read, source="provider", details=details)


CACHED = Usage(
    input_tokens=1_000_000, output_tokens=100_000, cache_read_tokens=400_000, cache_write_tokens=100_000,
    details={"cache_write_5m_tokens": 60_000, "cache_write_1h_tokens": 40_000}, source="provider",
)  # fmt: skip
COSTS = [
    make_trace(id="c1", provider="anthropic", request_model="claude-opus-5", service_tier="standard", usage=CACHED),
    make_trace(id="c2", provider="anthropic", request_model="claude-opus-5", service_tier="batch", usage=CACHED),
    make_trace(id="c3", request_model="gpt-5.4", usage=Usage(input_tokens=200_000, output_tokens=7, source="provider")),
]


@pytest.fixture(scope="module")
def backend() -> Iterator[ClickHouseBackend]:
    with shutting_down(clickhouse.embedded()) as backend:
        backend.open()
        slow = {"stream": True, "time_to_first_chunk_ns": 500_000_000, "duration_ns": 2_500_000_000}
        records = [
            full_trace(id="1"),
            make_trace(id="2", run_id="run-1", usage=usage(30, 100, 10), started_at=NOON + 1, **slow),
            make_trace(id="3", run_id="run-1", usage=usage(30, 140, 30), started_at=NOON + 2, **slow),
            *COSTS,
            make_trace(id="4", usage=Usage(), status="incomplete", request_model="other", attempts=2),
        ]
        backend.write(records)
        backend.write(records[1:3])  # FINAL has something to do
        yield backend


def answers(backend: ClickHouseBackend, word: str) -> list[dict[str, Any]]:
    (sql,) = (sql for sql in QUERIES if word in sql)
    return list(backend._client().rows(sql.replace("FROM ", f"FROM {backend._client().dsn.database}.")))


@pytest.mark.parametrize("sql", QUERIES, ids=range(len(QUERIES)))
def test_runs(backend, sql):
    """Each block is a query that runs on the table as we make it, and finds something there."""
    assert "FINAL" in sql
    assert backend._client().rows(sql.replace("FROM ", f"FROM {backend._client().dsn.database}."))


def test_sums(backend):
    """What is summed is each call, once."""
    assert [(row["input_tokens"], row["tokens_so_far"]) for row in answers(backend, "tokens_so_far")] == [
        (100, 110), (140, 280), (1, 283),
    ]  # fmt: skip
    assert {row["model"]: row["hit_ratio"] for row in answers(backend, "hit_ratio")}["gpt-5"] == 0.25
    assert {row["model"]: row["tokens_per_second"] for row in answers(backend, "tokens_per_second")} == {"gpt-5": 10.0}
    assert {row["model"]: row["p95_ms"] for row in answers(backend, "p95_ms")}["gpt-5"] == 500.0
    assert {row["model"]: row["input"] for row in answers(backend, "AS input,")}["gpt-5"] == 240
    assert {row["model"]: row["written_for_an_hour"] for row in answers(backend, "an_hour")}["gpt-5"] == 18
    assert [row["calls"] for row in answers(backend, "for_example")] == [1, 1]
    assert sum(row["retried"] for row in answers(backend, "retried")) == 2


def test_the_cost(backend):
    """The query for cost says what `cost_of` says of the same calls, and leaves out those of other tiers."""
    pytest.importorskip("genai_prices")
    expected = {record.request_model: float(cost_of(record).amount or 0) for record in COSTS if record.id != "c2"}
    assert expected["claude-opus-5"] == 0.5 * 5 + 0.4 * 0.5 + 0.06 * 6.25 + 0.04 * 10 + 0.1 * 25
    found = {row["model"]: row["usd"] for row in answers(backend, "AS usd")}
    assert found == pytest.approx(expected, abs=0.00005)
