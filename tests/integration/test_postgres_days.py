"""The days in Postgres: their partitions, and retention, by the server's clock and by nobody else's."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.resources import files

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from llmspan.backends.base import Filters
from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.postgres import partitions as postgres_days
from llmspan.errors import BackendError
from records import DAY, make_trace, this_day
from stores.postgres import execute, locked, new_schema
from stores.postgres_partitions import days_ago, named, partition_of, partitions

ODD_TIMES = [0, -1, 1_999, -1_999, 2**63 - 1, -(2**63)]
MIGRATIONS = ["0001_provider_traces.sql", "0002_days_by_the_servers_clock.sql", "0003_spans.sql",
        "0004_annotations.sql",
        "0005_price_columns.sql",
    ]  # fmt: skip


@pytest.fixture
def dsn() -> str:
    """A new, empty schema."""
    return new_schema()


@pytest.fixture
def make(dsn: str) -> Iterator[Callable[..., PostgresBackend]]:
    """Backends of the same schema, shut down at the end."""
    with ExitStack() as stack:

        def make(**options) -> PostgresBackend:
            backend = PostgresBackend(dsn, **options)
            stack.callback(backend.shutdown)
            return backend

        yield make


@pytest.fixture
def tomorrow(monkeypatch) -> Callable[[], None]:
    """Have it be tomorrow, for the server as for us."""

    def begin() -> None:
        real = postgres_days.server_time
        monkeypatch.setattr(postgres_days, "server_time", lambda connection: real(connection) + 86_400)
        monotonic = postgres_days.monotonic
        monkeypatch.setattr(postgres_days, "monotonic", lambda: monotonic() + 86_400)

    return begin


# -- partitions


def test_a_day_has_its_partition(dsn, make):
    """Records of today, of the days before and of those not far ahead are in the partitions of their days."""
    traces = [days_ago(days) for days in (0, 1, 30, 400, -3)]
    make().write(traces)
    assert [partition_of(dsn, trace) for trace in traces] == [named(trace.started_at) for trace in traces]


@pytest.mark.parametrize("at", [*ODD_TIMES, this_day() - 402 * DAY, this_day() + 6 * DAY])
def test_odd_times_have_no_partition(dsn, make, at):
    """A time long past or far ahead goes to the default partition, and is read like any other."""
    trace = make_trace(started_at=at)
    make().write([trace])
    assert partition_of(dsn, trace) == "provider_traces_default"
    assert make().get(trace.id) == trace
    assert [one.id for one in make().list(Filters(since=at)).traces] == [trace.id]


def test_days_are_made_ahead(dsn, make):
    """The first write makes partitions for today and the next three days; no write after it makes more."""
    backend = make()
    backend.write([days_ago(0)])
    expected = ["provider_traces_default", *(named(this_day() + day * DAY) for day in range(4))]
    assert partitions(dsn) == sorted(expected)
    backend.write([days_ago(0)])
    assert partitions(dsn) == sorted(expected)


def test_days_go_on(dsn, make, tomorrow):
    """A writer that is still there tomorrow makes one day more."""
    backend = make()
    backend.write([days_ago(0)])
    tomorrow()
    backend.write([days_ago(0)])
    assert named(this_day() + 4 * DAY) in partitions(dsn)


def test_writers_at_once(dsn):
    """Writers that all come to an empty database at the same moment make everything once, and none of them fails."""
    backends = [PostgresBackend(dsn) for _ in range(6)]
    together = threading.Barrier(len(backends))

    def work(backend: PostgresBackend) -> None:
        together.wait()
        backend.write([days_ago(days) for days in range(3)])
        backend.shutdown()

    with ThreadPoolExecutor(len(backends)) as pool:
        list(pool.map(work, backends))
    assert execute(dsn, "SELECT count(*), count(DISTINCT tableoid) FROM provider_traces") == [(18, 3)]
    assert execute(dsn, "SELECT version, name FROM llmspan_schema") == [*enumerate(MIGRATIONS, 1)]
    assert len(partitions(dsn)) == 1 + 2 + 4


def test_a_day_that_began_in_the_default_partition(dsn, make):
    """A day of which records are in the default partition already goes on there; no write fails."""
    early, late = days_ago(0), days_ago(0)
    make().write([early])
    today = named(this_day())
    execute(
        dsn,
        f"ALTER TABLE provider_traces DETACH PARTITION {today}",
        f"INSERT INTO provider_traces SELECT * FROM {today}",
        f"DROP TABLE {today}",
        f"DROP TABLE {named(this_day() + DAY)}",
    )
    make().write([late])
    assert [partition_of(dsn, trace) for trace in (early, late)] == ["provider_traces_default"] * 2
    assert named(this_day() + DAY) in partitions(dsn)


def test_retention(dsn, make):
    """Partitions of days before the last thirty are dropped, and what the default partition has of them; no other."""
    traces = {days: days_ago(days) for days in (0, 29, 30, 31, 200, 500)}
    make().write(list(traces.values()))
    ahead = make_trace(started_at=this_day() + 50 * DAY)
    make(retention_days=30).write([ahead])
    left = {trace.id for trace in make().list(limit=100).traces}
    assert left == {traces[days].id for days in (0, 29, 30)} | {ahead.id}
    assert partitions(dsn)[0] == named(this_day() - 30 * DAY)


def test_without_retention_nothing_goes(make):
    """Nothing is dropped unless the setting says how old is too old."""
    old = days_ago(300)
    make().write([old])
    make().write([days_ago(0)])
    make().migrate()
    assert make().get(old.id) == old


def test_days_that_are_locked_wait(dsn, make, caplog, tomorrow):
    """If somebody holds a lock that a new day needs, records are written without it, and it is made later."""
    caplog.set_level(logging.WARNING, "llmspan")
    backend = make()
    backend.write([days_ago(0)])
    tomorrow()
    trace = days_ago(0)
    with locked(dsn, "LOCK TABLE provider_traces_default IN ROW EXCLUSIVE MODE"):
        backend.write([trace])
    assert "day partitions could not be kept" in caplog.text
    assert "lock timeout" in caplog.text
    assert named(this_day() + 4 * DAY) not in partitions(dsn)
    assert backend.get(trace.id) == trace
    make().write([days_ago(0)])
    assert named(this_day() + 4 * DAY) in partitions(dsn)


# -- whose clock

PRELUDE = """
import os, time
true, offset = time.time_ns, int(os.environ["OFFSET"])
time.time_ns = lambda: true() + offset
time.time = lambda: time.time_ns() / 1e9
"""
WRITE = (
    PRELUDE
    + """
import logging
logging.basicConfig(level=logging.WARNING)
from llmspan.backends.postgres import PostgresBackend
from llmspan.trace import ProviderTrace, new_id

backend = PostgresBackend(os.environ["DSN"], retention_days=int(os.environ["RETENTION"]) or None)
for step in ("first", "second"):
    backend.write([ProviderTrace(
        id=new_id(), provider="openai", operation="chat", api="chat_completions", status="ok", step_id=step,
        started_at=time.time_ns(), duration_ns=1,
    )])
backend.migrate()
backend.shutdown()
"""
)
#: the writer's clock, by what it is wrong
CLOCKS = {
    "right": lambda: 0,
    "20 days ahead": lambda: 20 * DAY,
    "20 days behind": lambda: -20 * DAY,
    "a year ahead": lambda: 365 * DAY,
    "in 1970": lambda: -time.time_ns(),
    "a century ahead": lambda: 36_500 * DAY,
    "past midnight": lambda: this_day() + DAY + 1_000_000_000 - time.time_ns(),
    "before midnight": lambda: this_day() - 1_000_000_000 - time.time_ns(),
}


@pytest.mark.parametrize("retention", [None, 30])
@pytest.mark.parametrize("clock", CLOCKS)
def test_a_writer_whose_clock_is_wrong(dsn, make, clock, retention):
    """However wrong its clock, a writer drops what is old by the server's, and its own records are stored."""
    history = [days_ago(days) for days in (-1, 0, 1, 9, 10, 11, 29, 30, 31, 44)]
    make().write(history)
    offset = CLOCKS[clock]()
    environment = os.environ | {"DSN": dsn, "OFFSET": f"{offset}", "RETENTION": f"{retention or 0}"}
    done = subprocess.run([sys.executable, "-c", WRITE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left = {trace.id for trace in make().list(limit=100).traces}
    assert {trace.id for trace in history if trace.started_at >= this_day() - (retention or 99) * DAY} == {
        trace.id for trace in history if trace.id in left
    }
    is_old = retention is not None and offset < -(retention + 1) * DAY
    assert len(left - {trace.id for trace in history}) == (0 if is_old else 2)
    assert done.stderr.count("Set the clock that is wrong") == (abs(offset) > DAY // 24)


@pytest.mark.parametrize("clock", ["20 days ahead", "a century ahead", "in 1970"])
def test_a_wrong_clock_makes_no_day(dsn, make, clock):
    """Days are made around the server's; the records of a clock that is far off are in the default partition."""
    make().write([days_ago(0)])
    before = partitions(dsn)
    trace = make_trace(started_at=time.time_ns() + CLOCKS[clock]())
    make(retention_days=30).write([trace])
    assert partitions(dsn) == before
    assert partition_of(dsn, trace) == "provider_traces_default"


def test_doctor_says_that_the_clock_is_wrong(dsn, make, monkeypatch):
    """What is checked says by how much this machine's clock differs, and nothing if it does not."""
    make().open()
    assert "clock" not in make().check()
    for hours, expected in ((480, "20.0 days ahead of"), (-3, "3.0 hours behind")):
        monkeypatch.setattr(postgres_days, "time_ns", lambda hours=hours: time.time_ns() + hours * 3_600_000_000_000)
        assert f"this machine's clock is {expected} the server's" in make().check()


@pytest.mark.parametrize("how", ["copied", "inserted"])
def test_an_old_response_is_stored(dsn, make, how):
    """A record that began before all that is retained, as a background response may have, is written and read."""
    old, new = days_ago(700), days_ago(0)
    backend = make(retention_days=30)
    if how == "inserted":
        backend.write([new])
    backend.write([old, new])
    assert backend.get(old.id) == old
    assert partition_of(dsn, old) == "provider_traces_default"


def test_days_that_are_past_retention_are_not_made(make, monkeypatch):
    """A record that is older than what is retained brings no partition that would be dropped at once."""
    asked: set[int] = set()
    monkeypatch.setattr(postgres_days, "add_day_partitions", lambda connection, place, days: asked.update(days))
    make(retention_days=30).write([days_ago(31), days_ago(30)])
    assert asked == {this_day() // DAY + days for days in (-30, 0, 1, 2, 3)}


@pytest.mark.parametrize("days", [400_000, 10**6, 10**12])
def test_retention_longer_than_all_time(make, days):
    """A retention that reaches back before all records drops nothing, and fails nothing."""
    old = make_trace(started_at=-(2**63))
    backend = make(retention_days=days)
    backend.write([old])
    backend.migrate()
    assert backend.get(old.id) == old


def test_the_time_is_asked_anew(make, monkeypatch):
    """A writer asks for the server's time at its first write, after the server's midnight, and every hour."""
    asked: list[float] = []
    now = [1_000.0]
    evening = this_day() // 1_000_000_000 + 86_400 - 60
    monkeypatch.setattr(postgres_days, "monotonic", lambda: now[0])
    monkeypatch.setattr(postgres_days, "server_time", lambda _: asked.append(now[0]) or evening + now[0] - 1_000)
    backend = make()
    for seconds in (0, 59, 61, 62, 3_600, 3_662):
        now[0] = 1_000.0 + seconds
        backend.write([days_ago(0)])
    assert asked == [1_000.0, 1_061.0, 4_662.0]


# -- what the server refuses


@pytest.fixture
def role(dsn: str, make) -> Iterator[str]:
    """The DSN of a user who may make and drop days, and nothing else."""
    make().open()
    name = f"role_{uuid.uuid4().hex[:12]}"
    schema = execute(dsn, "SELECT current_schema()")[0][0]
    functions = ", ".join(f"provider_traces_{one}(date)" for one in ("add_day", "drop_day", "trim_default"))
    execute(
        dsn, f"CREATE ROLE {name} LOGIN PASSWORD 'pw'", f"GRANT USAGE ON SCHEMA {schema} TO {name}",
        f"GRANT EXECUTE ON FUNCTION {functions} TO {name}",
    )  # fmt: skip
    yield make_conninfo(dsn, user=name, password="pw")
    execute(dsn, f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize(
    ("function", "day"),
    [("drop_day", 0), ("drop_day", 1), ("drop_day", 20), ("trim_default", 1), ("trim_default", 20)],
)
def test_the_server_drops_no_day_that_is_not_past(dsn, make, role, function, day, zone):
    """Whoever calls the functions, in whatever time zone: today and later are refused, naming both days."""
    traces = [days_ago(days) for days in (1, 0, -1, -20)]
    make().write(traces)
    date = time.strftime("%Y-%m-%d", time.gmtime((this_day() + day * DAY) // 10**9))
    today = time.strftime("%Y-%m-%d", time.gmtime(this_day() // 10**9))
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"{date}.*the server's date is {today}.*clock"):
        execute(role, f"SET timezone = '{zone}'", f"SELECT provider_traces_{function}('{date}')")
    assert {trace.id for trace in make().list().traces} == {trace.id for trace in traces}


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_server_drops_yesterday(dsn, make, role, zone):
    """The last day that is past may be dropped, and what began before today may be deleted."""
    traces = [days_ago(days) for days in (2, 1, 0)]
    make().write(traces)
    yesterday, today = (time.strftime("%Y-%m-%d", time.gmtime((this_day() - n * DAY) // 10**9)) for n in (1, 0))
    execute(dsn, f"ALTER TABLE provider_traces DETACH PARTITION {named(traces[0].started_at)}")
    execute(dsn, f"INSERT INTO provider_traces_default SELECT * FROM {named(traces[0].started_at)}")
    execute(role, f"SET timezone = '{zone}'", f"SELECT provider_traces_drop_day('{yesterday}')")
    execute(role, f"SET timezone = '{zone}'", f"SELECT provider_traces_trim_default('{today}')")
    assert [trace.id for trace in make().list().traces] == [traces[2].id]


@pytest.mark.parametrize("days", [-401, 32, 3_000, -3_000])
def test_the_server_makes_no_day_far_away(make, days):
    """A partition for a day far from the server's is refused, naming both days and the remedy; none of its batch is."""
    today = this_day() // DAY

    def work(connection) -> None:
        postgres_days.add_day_partitions(connection, backend._store._schema_info, [today, today + days])

    backend = make()
    backend.open()
    with pytest.raises(BackendError, match=r"no partition is made for \d{4}-.* the server's date; correct the clock"):
        backend._store._writer.run(work)


@pytest.mark.parametrize("before", [1, 20, 10**7])
def test_days_that_are_not_past_are_not_dropped(dsn, make, before):
    """Asked to drop days that are not all past, we drop none, and say the day, the server's date and the remedy."""
    backend = make()
    backend.write([days_ago(days) for days in (0, 1, 30)])

    def work(connection) -> None:
        postgres_days.drop_day_partitions(connection, backend._store._schema_info, this_day() // DAY + before)

    with pytest.raises(
        BackendError, match=r"days before \d{4}-.* by the server's clock it is \d{4}-.*correct the clock"
    ):
        backend._store._writer.run(work)
    assert backend.stats([])[0].calls == 3


# -- sessions that write times differently

STYLES = [
    "-ctimezone=Pacific/Kiritimati", "-ctimezone=Pacific/Pago_Pago -cdatestyle=SQL,DMY",
    "-ctimezone=Asia/Kolkata -cdatestyle=Postgres", "-ctimezone=Asia/Kolkata -cdatestyle=German",
    "-ctimezone=Asia/Shanghai -cdatestyle=SQL,MDY", "-ctimezone=America/St_Johns -cdatestyle=Postgres,DMY",
]  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_days_are_utc(dsn, style, caplog):
    """In every time zone and style of a session, a day is that of UTC, to the nanosecond, and is dropped as such."""
    caplog.set_level(logging.WARNING, "llmspan")
    own = make_conninfo(dsn, options=f"{conninfo_to_dict(dsn)['options']} {style}")
    edges = [this_day() - days * DAY + at for days in (0, 29, 30) for at in (0, DAY - 1_000)]
    traces = [make_trace(started_at=at) for at in edges]
    too_old = make_trace(started_at=this_day() - 30 * DAY - 1_000)
    with ExitStack() as stack:
        backends = [PostgresBackend(own, retention_days=days) for days in (None, 30)]
        for backend in backends:
            stack.callback(backend.shutdown)
        backends[0].write([*traces, too_old])
        assert [partition_of(dsn, trace) for trace in traces] == [named(at) for at in edges]
        backends[1].write([days_ago(0)])
        left = {trace.id for trace in backends[1].list().traces}
    assert {trace.id for trace in traces} <= left
    assert too_old.id not in left
    assert caplog.text == ""


def test_a_day_of_which_another_partition_has_a_part(dsn, make, caplog):
    """A day that overlaps a partition that is there goes on without one of its own; no write fails for it."""
    make().open()
    noon = f"{time.strftime('%Y-%m-%d', time.gmtime(this_day() // 10**9))} 12:00+00"
    execute(
        dsn,
        f"CREATE TABLE odd PARTITION OF provider_traces FOR VALUES FROM ('{noon}') TO (timestamptz '{noon}' + '1 day')",
    )
    backend, trace = make(), days_ago(0)
    backend.write([trace])
    assert partition_of(dsn, trace) == "provider_traces_default"
    assert named(this_day() + 2 * DAY) in partitions(dsn)
    assert "could not be kept" not in caplog.text


# -- tables of the version before


def test_the_version_before(dsn, make):
    """Tables of version 1 get the newest version and keep their records, and rights that were granted stay."""
    folder = files("llmspan.backends.postgres").joinpath("sql")
    name = f"role_{uuid.uuid4().hex[:12]}"
    execute(
        dsn, folder.joinpath(MIGRATIONS[0]).read_text(),
        f"INSERT INTO llmspan_schema (version, name) VALUES (1, '{MIGRATIONS[0]}')",
        f"CREATE ROLE {name}", f"GRANT EXECUTE ON FUNCTION provider_traces_drop_day(date) TO {name}",
        f"GRANT INSERT ON provider_traces TO {name}",
    )  # fmt: skip
    granted = f"SELECT has_function_privilege('{name}', 'provider_traces_drop_day(date)', 'EXECUTE')"
    public = "SELECT proacl::text LIKE '%=X/%,=%' OR proacl IS NULL FROM pg_proc WHERE oid = '{}'::regproc"
    try:
        backend, trace = make(), days_ago(0)
        backend.write([trace])
        assert backend.get(trace.id) == trace
        assert execute(dsn, granted) == [(True,)]
        spans = f"has_table_privilege('{name}', 'llmspan_spans', '{{}}')"
        assert execute(dsn, f"SELECT {spans.format('INSERT')}, {spans.format('DELETE')}") == [(True, False)]
        for function in ("add_day", "drop_day", "trim_default"):
            assert execute(dsn, public.format(f"provider_traces_{function}")) == [(False,)]
        assert execute(dsn, "SELECT version, name FROM llmspan_schema") == [*enumerate(MIGRATIONS, 1)]
    finally:
        execute(dsn, f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")
