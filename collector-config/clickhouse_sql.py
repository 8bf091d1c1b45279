"""Writes clickhouse.sql out of llmspan's own statements; ``--check`` only says whether it is up to date.

uv run python collector-config/clickhouse_sql.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from llmspan.backends.clickhouse.schema import Schema

FILE = Path(__file__).with_suffix("").with_name("clickhouse.sql")
HEAD = """\
-- What clickhouse.yaml writes into, and what llmspan reads: run it once, before the Collector starts.
--
--   clickhouse-client --multiquery < clickhouse.sql
--
-- Written by clickhouse_sql.py from the statements of `llmspan migrate --backend clickhouse`, for the database `otel`
-- on one server of ClickHouse 26.2 or later; with LLMSPAN_CLICKHOUSE_OTEL_TRACES=1 that command makes the same tables,
-- and knows clusters, other engines and older servers too.
--
-- otel_traces is the table of the Collector's exporter. provider_traces_from_otel makes records of its GenAI spans: all
-- that a span tells, no payloads. A record that llmspan's own backend writes too stays one record, with the payload.
-- Rows leave after 30 days.

CREATE DATABASE IF NOT EXISTS otel;
"""


def text() -> str:
    """The whole file."""
    schema = Schema(database="otel", otel_traces=True, ttl_days=30)
    return HEAD + "".join(f"\n{statement};\n" for statement in schema.statements().values())


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if FILE.read_text() == text() else f"{FILE.name} is out of date: run {Path(__file__).name}")
    FILE.write_text(text())
