"""The limits of a SQLite file: what is too old or too much goes after a write, in small steps; nothing else does."""

from __future__ import annotations

import json
import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.backends.sqlite import backend as sqlite_module
from llmspan.backends.sqlite import retention as sqlite_retention
from llmspan.backends.sqlite.retention import Retention, _used_bytes
from llmspan.content import ContentPolicy
from llmspan.pipeline import Pipeline, PrebuiltRecord
from llmspan.settings import Settings
from llmspan.span_record import SpanRecord
from llmspan.trace import ProviderTrace
from records import DAY, make_trace
from stores import shutting_down

MIB = 1024 * 1024
NOW = time.time_ns()
HOUR = DAY // 24


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time, by the clock of the machine, as its last item."""
    times = [NOW]
    monkeypatch.setattr(sqlite_module, "time_ns", lambda: times[-1])
    return times


@pytest.fixture
def in_single_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write deletes one record at most."""
    monkeypatch.setattr(sqlite_retention, "_BUDGET", -1.0)
    monkeypatch.setattr(sqlite_retention, "_STEP_SECONDS", -1.0)


def write(path: Path, *traces: ProviderTrace, **limits: int) -> None:
    with shutting_down(SQLiteBackend(path, **limits)) as backend:
        backend.write(traces)


def ids(path: Path) -> set[str]:
    with shutting_down(SQLiteBackend(path)) as backend:
        return {trace.id for trace in backend.list(limit=1000).traces}


def used(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return _used_bytes(connection)


def large(name: str, at: int, size: int = 20_000) -> ProviderTrace:
    """A record whose payload takes ``size`` bytes, which it does not say."""
    return make_trace(id=name, started_at=at, request_json=json.dumps("x" * size))


def test_a_frozen_clock_deletes_nothing(path: Path) -> None:
    """A program's test that holds the time two days ahead, which no doubt of the clock would stop."""
    write(path, make_trace(id="of today", started_at=NOW), retention_days=3)
    write(path, make_trace(id="of two days ago", started_at=NOW - 2 * DAY), retention_days=3)
    with freeze_time(datetime.now(UTC) + timedelta(days=2)):
        write(path, make_trace(id="new", started_at=NOW), retention_days=3)
    assert ids(path) == {"of today", "of two days ago", "new"}


# -- age ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [1, 30, 365, 10**9])
def test_age(path: Path, clock: list[int], days: int) -> None:
    """A record goes when it is older than so many days, and not before; times of all kinds are old or young."""
    times = {
        "first": -(2**63),
        "1970": 0,
        "old": NOW - days * DAY - 1,
        "just": NOW - days * DAY,
        "ahead": NOW + 99 * DAY,
    }
    known = {name: max(-(2**63), at) for name, at in times.items()}
    write(path, *(make_trace(id=name, started_at=at) for name, at in known.items()), retention_days=days)
    expected = {name for name, at in known.items() if at >= NOW - days * DAY}
    assert ids(path) == expected
    clock.append(NOW + HOUR)
    write(path, make_trace(id="new", started_at=NOW + HOUR), retention_days=days)
    assert ids(path) == (expected | {"new"}) - ({"just"} if days < 10**6 else set())


def test_everything_stays_by_default(path: Path) -> None:
    """Without a limit nothing is deleted, and nothing is written down about it."""
    write(path, make_trace(id="a", started_at=0), make_trace(id="b", started_at=-(2**63)))
    assert ids(path) == {"a", "b"}
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert sorted(tables) == [("annotations",), ("provider_traces",), ("spans",)]


def test_a_file_of_before(path: Path) -> None:
    """Records that were there before the limit was set go with the next write."""
    write(path, *(make_trace(id=f"{at}", started_at=NOW - at * DAY) for at in range(40)))
    write(path, make_trace(id="new", started_at=NOW), retention_days=10)
    assert ids(path) >= {"new", *(f"{at}" for at in range(9))}
    assert len(ids(path)) <= 12


def test_a_few_at_a_time(path: Path, in_single_steps: None) -> None:
    """One write deletes only some of many, the oldest first; the following writes delete the others."""
    write(path, *(make_trace(id=f"{at}", started_at=at) for at in range(5)))
    with shutting_down(SQLiteBackend(path, retention_days=1)) as backend:
        for deleted in range(1, 6):
            backend.write([make_trace(id="new", started_at=time.time_ns())])
            assert ids(path) == {"new", *(f"{at}" for at in range(deleted, 5))}


# -- size -----------------------------------------------------------------------------------------------------------


def test_size(path: Path) -> None:
    """The file holds what is allowed and not much less: the oldest go, whatever records say of their size."""
    with shutting_down(SQLiteBackend(path, max_bytes=2 * MIB)) as backend:
        for at in range(0, 400, 10):
            numbers = random.Random(at).sample(range(at, at + 10), 10)
            backend.write([large(f"{number}", NOW + number) for number in numbers])
            assert used(path) <= 2 * MIB
    left = sorted(int(name) for name in ids(path))
    assert left == list(range(left[0], 400))
    assert used(path) > 2 * MIB - 100_000
    assert path.stat().st_size < 2.4 * MIB


def test_a_lower_limit_makes_the_file_smaller(path: Path) -> None:
    """Where the limit is lowered, the file becomes smaller with the following writes."""
    write(path, *(large(f"{at}", at) for at in range(600)))
    assert path.stat().st_size > 11 * MIB
    for _ in range(30):
        write(path, make_trace(id="new", started_at=NOW), max_bytes=MIB)
    assert MIB * 0.9 < used(path) <= MIB
    assert path.stat().st_size < 1.3 * MIB
    assert max(ids(path)) == "new"


def test_a_file_that_cannot_shrink(path: Path) -> None:
    """A file that an earlier version made, without auto_vacuum, uses its free pages again and does not grow."""
    with shutting_down(SQLiteBackend(path)) as backend:
        backend.open()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
    write(path, *(large(f"{at}", at) for at in range(100)))
    before = path.stat().st_size
    for at in range(20):
        write(path, *(large(f"{at}-{number}", NOW + at) for number in range(10)), max_bytes=MIB)
        assert used(path) <= MIB
    assert path.stat().st_size < before + 0.5 * MIB


def test_what_a_wrong_clock_wrote_goes_first(path: Path) -> None:
    """Records from far ahead, which would outlive all others, go before the oldest ones."""
    ahead = [large(f"ahead-{at}", NOW + (at + 500) * DAY) for at in range(30)]
    write(path, *ahead, *(large(f"{at}", NOW - (at + 1) * HOUR) for at in range(10)))
    write(path, large("new", NOW), max_bytes=512 * 1024)
    assert ids(path) >= {"new", *(f"{at}" for at in range(10))}
    assert len(ids(path)) < 30


def test_a_record_larger_than_the_limit(path: Path) -> None:
    """A limit that a single record exceeds leaves none, and is no failure."""
    write(path, large("huge", NOW, 3 * MIB), make_trace(id="small", started_at=NOW - 1), max_bytes=MIB)
    assert ids(path) == set()


# -- the clock ------------------------------------------------------------------------------------------------------

JUMPS = [2099, 1970, 2027, 2260]


def year(number: int) -> int:
    return (number - 1970) * 365 * DAY + 250 * DAY


@pytest.mark.parametrize("number", JUMPS)
def test_a_clock_that_jumps(path: Path, clock: list[int], caplog: pytest.LogCaptureFixture, number: int) -> None:
    """Nothing is deleted by a clock that has jumped, also by other processes; one line says so. Back, all goes on."""
    write(path, make_trace(id="young", started_at=NOW - DAY), retention_days=30)
    clock.append(year(number))
    with shutting_down(SQLiteBackend(path, retention_days=30)) as backend:
        for at in range(5):
            clock.append(clock[-1] + at * HOUR)
            backend.write([make_trace(id=f"odd-{at}", started_at=clock[-1])])
        assert "nothing is deleted by age now, as this machine's clock has jumped to" in backend.check()
    write(path, make_trace(id="old", started_at=NOW - 31 * DAY), retention_days=30)
    assert ids(path) == {"young", "old", *(f"odd-{at}" for at in range(5))}
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2  # one for each process
    assert f"{time.strftime('%Y-%m-%d', time.gmtime(NOW // 10**9))} when {path} was looked at last" in lines[0]
    assert "`llmspan prune --older-than 30d` deletes them now" in lines[0]
    clock.append(NOW + HOUR)
    write(path, make_trace(id="new", started_at=NOW), retention_days=30)
    assert ids(path) >= {"young", "new"}
    assert "old" not in ids(path)
    assert len(caplog.records) == 2


@pytest.mark.parametrize("numbers", [(1970, 2099), (2260, 2099), (1970, 2028, 1980, 2100)])
def test_a_clock_that_jumps_again(path: Path, clock: list[int], numbers: tuple[int, ...]) -> None:
    """A clock that has jumped once more has not stayed for a day, however much later it is."""
    write(path, make_trace(id="young", started_at=NOW - DAY), retention_days=30)
    for number in numbers:
        clock.append(year(number))
        write(path, make_trace(id=f"{number}", started_at=clock[-1]), retention_days=30)
    assert ids(path) == {"young", *(f"{number}" for number in numbers)}


@pytest.mark.parametrize("number", [2099, 2260])
def test_the_first_clock_is_wrong(path: Path, clock: list[int], caplog: pytest.LogCaptureFixture, number: int) -> None:
    """A file from before the limit was set says itself when it was changed last."""
    write(path, make_trace(id="young", started_at=NOW - DAY))
    clock.append(year(number))
    for at in range(3):
        write(path, make_trace(id=f"odd-{at}", started_at=clock[-1]), retention_days=30)
    assert ids(path) == {"young", "odd-0", "odd-1", "odd-2"}
    assert "Set the clock if it is wrong" in caplog.text


@pytest.mark.parametrize("pause", [20, 90, 1000])
def test_a_clock_that_has_stayed(path: Path, clock: list[int], caplog: pytest.LogCaptureFixture, pause: int) -> None:
    """After a long pause the clock is believed when it has stayed for a day; old records go then."""
    write(path, make_trace(id="old", started_at=NOW), retention_days=10)
    for hours in (0, 5, 23):
        clock.append(NOW + pause * DAY + hours * HOUR)
        write(path, make_trace(id=f"{hours}", started_at=clock[-1]), retention_days=10)
        assert "old" in ids(path)
    clock.append(NOW + pause * DAY + 24 * HOUR)
    write(path, make_trace(id="24", started_at=clock[-1]), retention_days=10)
    assert ids(path) == {"0", "5", "23", "24"}


def test_a_program_that_runs_once_a_month(path: Path, clock: list[int]) -> None:
    """Pauses of months do not keep records for ever: by the next run the clock has stayed."""
    for month in range(6):
        clock.append(NOW + month * 31 * DAY)
        write(path, make_trace(id=f"{month}", started_at=clock[-1]), retention_days=5)
    assert "0" not in ids(path)
    assert "5" in ids(path)


def test_usual_pauses(path: Path, clock: list[int], caplog: pytest.LogCaptureFixture) -> None:
    """A program that stands still over a week-end, or is a time zone off, deletes as ever."""
    for day, hours in ((0, 0), (3, 0), (10, 0), (10, -14), (11, 0)):
        clock.append(NOW + day * DAY + hours * HOUR)
        write(path, make_trace(id=f"{day} {hours}", started_at=clock[-1]), retention_days=9)
    assert ids(path) == {"3 0", "10 0", "10 -14", "11 0"}
    assert not caplog.records


def test_a_short_age_makes_for_a_short_pause(path: Path, clock: list[int]) -> None:
    """Where a jump of days would make all records old, it is doubted."""
    write(path, make_trace(id="young", started_at=NOW), retention_days=2)
    clock.append(NOW + 5 * DAY)
    write(path, make_trace(id="new", started_at=clock[-1]), retention_days=2)
    assert ids(path) == {"young", "new"}


def test_the_size_does_not_depend_on_the_clock(path: Path, clock: list[int]) -> None:
    """Also by a wrong clock the oldest records go where there are too many."""
    write(path, *(large(f"{at}", NOW + at) for at in range(80)), max_bytes=MIB, retention_days=30)
    clock.append(0)
    write(path, large("1970", 0), max_bytes=MIB, retention_days=30)
    assert used(path) <= MIB
    assert ids(path) >= {"79", "78", "1970"}


# -- others, and faults ---------------------------------------------------------------------------------------------


def test_another_process_holds_the_lock(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where somebody else writes, deleting waits for the next write; nothing fails, and nothing is logged."""

    class Held(SQLiteBackend):
        """Somebody has the lock when the write is done."""

        def now(self) -> int:
            other.execute("BEGIN IMMEDIATE")
            return super().now()

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        with shutting_down(Held(path, retention_days=1, max_bytes=256 * 1024)) as backend:
            backend.write([make_trace(id="old", started_at=0)])
        other.execute("ROLLBACK")
    assert ids(path) == {"old"}
    assert not caplog.records
    write(path, make_trace(id="new", started_at=NOW), retention_days=1)
    assert ids(path) == {"new"}


def test_deleting_fails(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What keeps records from being deleted fails no write, is logged, and is not met again for some minutes."""
    with shutting_down(SQLiteBackend(path, retention_days=1)) as backend:
        backend.open()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(
                "CREATE TRIGGER no BEFORE DELETE ON provider_traces BEGIN SELECT RAISE(ABORT, 'not today'); END"
            )
        for at in range(5):
            backend.write([make_trace(id=f"{at}", started_at=at)])
    assert len(ids(path)) == 5
    assert [record.getMessage() for record in caplog.records] == [
        f"llmspan: sqlite: old records could not be deleted from {path}, which is tried again in 10 minutes: not today"
    ]


def test_on_the_worker_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is deleted on the thread that makes calls."""
    threads: set[int] = set()
    delete: Callable[..., None] = Retention.after_write

    def noted(self: Retention, *words: object) -> None:
        threads.add(threading.get_ident())
        delete(self, *words)

    monkeypatch.setattr(Retention, "after_write", noted)
    pipeline = Pipeline()
    pipeline.add(SQLiteBackend(path, retention_days=1))
    pipeline.submit(PrebuiltRecord(lambda: make_trace(id="old", started_at=0), ContentPolicy(), 0))
    assert pipeline.flush(30)
    assert pipeline.close(30)
    assert pipeline.status()[0].delivered == 1
    assert threads
    assert threading.get_ident() not in threads
    assert ids(path) == set()


# -- settings -------------------------------------------------------------------------------------------------------


def test_settings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables are what limits the file, and ``check``, which ``llmspan doctor`` shows, says them."""
    assert "keeps everything, holds 84 KiB" in checked(path)
    monkeypatch.setenv("LLMSPAN_SQLITE_RETENTION_DAYS", "1")
    assert "keeps 1 day, holds" in checked(path)
    monkeypatch.setenv("LLMSPAN_SQLITE_RETENTION_DAYS", "30")
    monkeypatch.setenv("LLMSPAN_SQLITE_MAX_BYTES", "1GiB")
    assert "keeps 30 days and at most 1 GiB, holds " in checked(path)
    with shutting_down(SQLiteBackend.from_settings(Settings.from_env(sqlite_path=path))) as backend:
        backend.write([make_trace(id="old", started_at=0), make_trace(id="new", started_at=NOW)])
    assert ids(path) == {"new"}


def checked(path: Path) -> str:
    with shutting_down(SQLiteBackend.from_settings(Settings.from_env(sqlite_path=path))) as backend:
        return backend.check()


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("LLMSPAN_")]:
        monkeypatch.delenv(name)
    with caplog.at_level(logging.WARNING, "llmspan"):
        yield


def test_spans_without_records_go_before_new_records(path: Path) -> None:
    """Spans whose records are gone are no reason to delete new records; the file falls below its limit."""
    backend = SQLiteBackend(path, max_bytes=2 * MIB)
    with shutting_down(backend):
        backend.open()
        for batch in range(30):
            backend.write_spans(
                [
                    SpanRecord(
                        trace_id=f"{batch * 100 + number + 1:032x}", span_id="00000000000000ab", name="agent",
                        started_at=NOW + batch, duration_ns=1, attributes={"text": "x" * 2000},
                    )
                    for number in range(50)
                ]
            )  # fmt: skip
        ids = [f"0190a000-0000-7000-8000-00000000000{number}" for number in range(5)]
        for record_id in ids:
            backend.write([make_trace(id=record_id, started_at=NOW + DAY // 24)])
        assert [backend.get(record_id) is not None for record_id in ids] == [True] * 5
        with backend._writer.use() as connection:
            assert _used_bytes(connection) <= 2 * MIB


def test_spans_of_records_that_are_there_stay(path: Path) -> None:
    """The root of a trace begins before its calls: it is older than all records, and no orphan."""
    backend = SQLiteBackend(path, max_bytes=MIB)
    with shutting_down(backend):
        backend.open()
        backend.write([make_trace(trace_id="a" * 32, started_at=NOW)])
        root = SpanRecord(trace_id="a" * 32, span_id="1" * 16, name="agent", started_at=NOW - 5, duration_ns=9)
        orphans = [
            SpanRecord(
                trace_id="b" * 32, span_id=f"{number:016x}", name="agent", started_at=NOW - 9, duration_ns=1,
                attributes={"text": "x" * 10_000},
            )
            for number in range(1, 200)
        ]  # fmt: skip
        backend.write_spans([root, *orphans])
        assert backend.spans(["a" * 32], 9) == [root]
        assert backend.spans(["b" * 32], 9) == []
