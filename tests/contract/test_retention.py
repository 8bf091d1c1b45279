"""Each store deletes old records by itself where its setting says so, and only these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmspan.backends import load_backends
from llmspan.backends.base import Backend, Filters
from llmspan.cli.doctor_checks import run_checks
from llmspan.settings import Settings
from records import DAY, make_trace, this_day
from stores import clickhouse, postgres, shutting_down


def merge(backend: Any) -> None:
    """ClickHouse deletes when it merges parts."""
    client = backend._client()
    client.command(f"OPTIMIZE TABLE {client.dsn.database}.provider_traces FINAL", {}, {})


def nothing(backend: Backend) -> None:
    """The other stores delete when they are written to."""


STORES: dict[str, tuple[Callable[[Path], dict[str, Any]], str, Callable[[Any], None]]] = {
    "sqlite": (lambda directory: {"sqlite_path": directory / "traces.db"}, "sqlite_retention_days", nothing),
    "postgres": (lambda _: {"postgres_dsn": postgres.new_schema()}, "postgres_retention_days", nothing),
    "clickhouse": (lambda _: {"clickhouse_dsn": clickhouse.server_dsn()}, "clickhouse_ttl", merge),
}


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("days", [1, 30])
def test_old_records_go(name: str, days: int, tmp_path: Path) -> None:
    """What is older by a day than the setting allows is gone after the next writes, and what is younger stays."""
    place, setting, settle = STORES[name]
    places = place(tmp_path)
    ages = {0, days - 1, days + 2, days + 40, 3_000}
    # with a time to live in place, ClickHouse leaves out old rows when they come, so they come without one
    (backend,) = load_backends(Settings.from_env({}, backends=name, **places | {"clickhouse_ttl": "none"}))
    with shutting_down(backend):
        backend.open()
        backend.write([make_trace(id=f"{age}", started_at=this_day() - age * DAY) for age in ages])
        assert len(backend.list(Filters()).traces) == len(ages)
    (backend,) = load_backends(Settings.from_env({}, backends=name, **places | {setting: str(days)}))
    with shutting_down(backend):
        backend.migrate()
        for number in range(2):
            backend.write([make_trace(id=f"new-{number}", started_at=this_day())])
        settle(backend)
        left = {trace.id for trace in backend.list(Filters()).traces}
    assert left == {"0", f"{days - 1}", "new-0", "new-1"}


@pytest.mark.parametrize("name", ["sqlite", "postgres"])
def test_doctor_deletes_nothing(name: str, tmp_path: Path) -> None:
    """What ``llmspan doctor`` writes to a store has no record deleted there, whatever the settings say."""
    place, setting, _ = STORES[name]
    settings = Settings.from_env({}, backends=name, **place(tmp_path))
    (backend,) = load_backends(settings)
    with shutting_down(backend):
        backend.open()
        backend.write([make_trace(id=f"{age}", started_at=this_day() - age * DAY) for age in (0, 5, 3_000)])
    settings = replace(settings, **{setting: 1})
    backends = load_backends(settings)
    (finding,) = [one for one in run_checks(settings, backends, {}) if one.check == f"backend {name}"]
    assert (finding.level, "wrote a record and read it back" in finding.message) == ("ok", True), finding.message
    with shutting_down(backend):
        assert {trace.id for trace in backend.list(Filters()).traces} == {"0", "5", "3000"}
