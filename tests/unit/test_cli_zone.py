"""Times of the command line: local with the offset beside or above them, or UTC; printed, and in options."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main, options
from llmspan.usage import Usage
from records import make_trace

NEW_YORK = "EST5EDT,M3.2.0,M11.1.0"
NEPAL = "NPT-5:45"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


@pytest.fixture(params=[NEW_YORK])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def store(path: Path, *times: str, **facts: Any) -> str:
    backend = SQLiteBackend(path)
    backend.write([make_trace(started_at=at(text), **facts) for text in times])
    backend.shutdown()
    return str(path)


def run(*words: str) -> str:
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def days(db: str, *words: str) -> dict[str, int]:
    rows = [json.loads(line) for line in run("stats", "--db", db, "--by", "day", "--json", *words).splitlines()]
    return {row["day"]: row["calls"] for row in rows}


@pytest.mark.usefixtures("zone")
def test_days_are_local_or_utc(tmp_path: Path) -> None:
    """A call belongs to the day that its time is printed with, and the head says of which zone that is."""
    db = store(tmp_path / "a.db", "2026-01-31T04:59:59", "2026-01-31T05:00:00", "2026-02-01T04:59:59")
    assert days(db) == {"2026-01-30": 1, "2026-01-31": 2}
    assert days(db, "--utc") == {"2026-01-31": 2, "2026-02-01": 1}
    assert run("stats", "--db", db, "--by", "model,day").split()[:3] == ["model", "day", "-05:00"]
    assert run("stats", "--db", db, "--by", "day", "--utc").split()[:2] == ["day", "UTC"]


@pytest.mark.parametrize("zone", [NEPAL], indirect=True)
def test_offsets_of_quarters_of_an_hour(zone: str, tmp_path: Path) -> None:
    """Days begin where the clock says so."""
    db = store(tmp_path / "a.db", "2026-01-30T18:14:59", "2026-01-30T18:15:00")
    assert days(db) == {"2026-01-30": 1, "2026-01-31": 1}
    assert "time +05:45" in run("tail", "--once", "--db", db)
    assert zone == NEPAL


@pytest.mark.usefixtures("zone")
def test_days_on_which_clocks_are_changed(tmp_path: Path) -> None:
    """They have 23 and 25 hours, each call is in one day, and the head has both offsets."""
    spring, autumn = "2026-03-08", "2026-11-01"
    times = [f"{spring}T04:59:59", f"{spring}T05:00:00", "2026-03-09T03:59:59", "2026-03-09T04:00:00",
             f"{autumn}T03:59:59", f"{autumn}T04:00:00", "2026-11-02T04:59:59", "2026-11-02T05:00:00"]  # fmt: skip
    db = store(tmp_path / "a.db", *times)
    assert days(db) == {
        "2026-03-07": 1, spring: 2, "2026-03-09": 1, "2026-10-31": 1, autumn: 2, "2026-11-02": 1,
    }  # fmt: skip
    assert "day -05:00/-04:00" in run("stats", "--db", db, "--by", "day").splitlines()[0]


@pytest.mark.usefixtures("zone")
def test_hours_weeks_and_months_are_local(tmp_path: Path) -> None:
    """The other periods are those of the zone as well, and their latencies are of the local period."""
    db = store(tmp_path / "a.db", "2026-02-01T04:30:00", "2026-02-01T05:30:00", "2026-02-02T04:59:59",
               "2026-02-02T05:00:00", "2026-03-01T04:59:59")  # fmt: skip

    def by(name: str, *words: str) -> dict[str, int]:
        rows = [json.loads(line) for line in run("stats", "--db", db, "--by", name, "--json", *words).splitlines()]
        return {row[name]: row["calls"] for row in rows}

    assert by("month") == {"2026-01": 1, "2026-02": 4}
    assert by("month", "--utc") == {"2026-02": 4, "2026-03": 1}
    assert by("week") == {"2026-01-26": 3, "2026-02-02": 1, "2026-02-23": 1}
    assert by("hour", "--until", "2026-02-02") == {"2026-01-31T23:00": 1, "2026-02-01T00:00": 1, "2026-02-01T23:00": 1}
    filled = by("week", "--fill", "--percentiles", "--since", "2026-01-20")
    assert filled == {
        "2026-01-19": 0,
        "2026-01-26": 3,
        "2026-02-02": 1,
        "2026-02-09": 0,
        "2026-02-16": 0,
        "2026-02-23": 1,
    }
    assert "month -05:00" in run("stats", "--db", db, "--by", "month").splitlines()[0]


@pytest.mark.usefixtures("zone")
def test_groups_beside_days(tmp_path: Path) -> None:
    """Sums, prices and estimates are of the local day, in the order of the groups."""
    pytest.importorskip("genai_prices")
    usage = Usage(input_tokens=1_000_000, output_tokens=0, source="provider")
    backend = SQLiteBackend(tmp_path / "a.db")
    for number, model in enumerate(["gpt-5", "gpt-4.1", "gpt-5"]):
        started = at(f"2026-01-{30 + number // 2}T2{number}:00:00") + number
        backend.write([make_trace(request_model=model, response_model=None, started_at=started, usage=usage)])
    backend.write(
        [make_trace(started_at=at("2026-02-01T03:00:00"), usage=Usage(details={"estimated_input_tokens": 7}))]
    )
    backend.shutdown()
    words = ["stats", "--db", str(tmp_path / "a.db"), "--by", "model,day", "--cost", "--with-estimates", "--json"]
    rows = [json.loads(line) for line in run(*words).splitlines()]
    assert [(row["model"], row["day"], row["calls"], row["input_tokens"], row["cost_usd"]) for row in rows] == [
        ("gpt-4.1", "2026-01-30", 1, 1_000_000, "2"),
        ("gpt-5", "2026-01-30", 1, 1_000_000, "1.25"),
        ("gpt-5", "2026-01-31", 2, 1_000_007, "1.25"),
    ]
    assert rows[2]["without_price"] == {"no usage": 1}


@pytest.mark.usefixtures("zone")
def test_times_of_options_are_of_the_same_zone(tmp_path: Path) -> None:
    """What ``tail`` prints can be given to ``--since``; an offset in the text wins."""
    db = store(tmp_path / "a.db", "2026-01-31T04:59:59", "2026-01-31T05:00:00")
    chosen = ("tail", "--once", "--json", "--db", db)
    assert len(run(*chosen, "--since", "2026-01-31").splitlines()) == 1
    assert len(run(*chosen, "--since", "2026-01-31", "--utc").splitlines()) == 2
    assert len(run(*chosen, "--since", "2026-01-31T05:00+00:00").splitlines()) == 1
    assert len(run(*chosen, "--until", "2026-01-31T00:00:00-05:00", "--utc").splitlines()) == 1
    assert days(db, "--until", "2026-01-31") == {"2026-01-30": 1}
    assert days(db, "--since", "2026-01-30T23:59:59", "--until", "2026-01-31T00:00:01") == days(db)
    assert days(db, "--since", "2026-01-31T00:00:01") == {}
    twice = store(tmp_path / "b.db", "2026-01-31T05:00:00", "2026-01-31T06:00:00")
    assert days(twice, "--since", "2026-01-31T00:30") == {"2026-01-31": 1}


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31T23:59:59"])
@pytest.mark.parametrize("zone", [NEW_YORK, NEPAL], indirect=True)
def test_times_without_an_offset_of_their_own(zone: str, text: str) -> None:
    """Times for which the system has no local offset are UTC."""
    utc = datetime.fromisoformat(text).replace(tzinfo=UTC)
    assert abs(options.parse_time(text) - (utc - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e9) < 86_400e9
    assert zone


@pytest.mark.usefixtures("zone")
def test_every_printed_time_has_its_zone(tmp_path: Path) -> None:
    """In ``show`` beside it, in ``tail`` above it; JSON is UTC."""
    db = store(tmp_path / "a.db", "2026-07-01T02:00:00")
    assert "2026-06-30 22:00:00 -04:00" in run("show", "--db", db)
    assert "2026-07-01 02:00:00 UTC" in run("show", "--db", db, "--utc")
    head, line = run("tail", "--once", "--db", db).splitlines()
    assert (head.split()[1], line[:19]) in [
        ("-04:00", "2026-06-30 22:00:00"),
        ("-05:00", "2026-06-30 21:00:00"),
    ]
    head, line = run("tail", "--once", "--db", db, "--utc").splitlines()
    assert (head.split()[1], line[:19]) == ("UTC", "2026-07-01 02:00:00")
    assert json.loads(run("tail", "--once", "--json", "--db", db))["started_at"] == "2026-07-01T02:00:00.000000000Z"
