"""Filters of several values, and stores without any record, in every store alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llmspan.backends.base import GROUPS, Backend, Filters, NoneOf, OneOf
from llmspan.cli import main
from llmspan.errors import SettingsError
from llmspan.reader import Reader
from records import NOON, make_trace

STATUSES = ("ok", "error", "cancelled", "closed_early", "incomplete")


def found(backend: Backend, filters: Filters) -> list[str]:
    ids = [trace.id for trace in backend.list(filters).traces]
    assert backend.stats([], filters)[0].calls == len(ids)
    return ids[::-1]


@pytest.fixture(scope="module")
def five_records(make_lasting_backend: Callable[[], Backend]) -> Backend:
    """Five records: of users a, b, "c,d", one with an empty name, one without."""
    backend = make_lasting_backend()
    users = ["a", "b", "c,d", "", None]
    backend.write([
        make_trace(id=f"{at}", started_at=NOON + at, user_id=user, status=STATUSES[at]) for at, user in enumerate(users)
    ])  # fmt: skip
    return backend


@pytest.fixture
def five(five_records: Backend) -> Backend:
    """The same, open, as a command closes it."""
    five_records.open()
    return five_records


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        (Filters(user_id="a"), "0"),
        (Filters(user_id=OneOf(("a",))), "0"),
        (Filters(user_id=OneOf(("a", "c,d", "nobody"))), "02"),
        (Filters(user_id=OneOf(("b", "b"))), "1"),
        (Filters(user_id=OneOf(("",))), "3"),
        (Filters(user_id=OneOf(())), ""),
        (Filters(user_id=NoneOf(("a",))), "1234"),
        (Filters(user_id=NoneOf(("a", "b"))), "234"),
        (Filters(user_id=NoneOf(("",))), "0124"),
        (Filters(user_id=NoneOf(())), "01234"),
        (Filters(status=OneOf(("error", "incomplete"))), "14"),
        (Filters(status=NoneOf(("ok",)), user_id=OneOf(("a", "b"))), "1"),
        (Filters(status=NoneOf(("ok",)), user_id=NoneOf(("b",)), since=NOON, until=NOON + 4), "23"),
    ],
)
def test_several_values(five: Backend, filters: Filters, ids: str) -> None:
    """One of several values, or none of several; a record without the value is none of them; all keys must hold."""
    assert found(five, filters) == list(ids)


@pytest.mark.parametrize("value", ["eror", "OK", "", " ok", "ok,error"])
@pytest.mark.parametrize(
    "wrap", [lambda value: value, lambda value: OneOf(("ok", value)), lambda value: NoneOf((value,))]
)
def test_a_status_that_there_is_not(value: str, wrap: Callable[[str], object]) -> None:
    """A status that no record can have is an error with those that one can, however it is asked for."""
    with pytest.raises(SettingsError, match="choose from ok, error, cancelled, closed_early, incomplete") as caught:
        Filters(status=wrap(value))  # pyright: ignore[reportArgumentType]
    assert f"status={value}:" in str(caught.value)


def test_no_records(backend: Backend) -> None:
    """A store without records has an empty listing and no group, and sums to a row of zeros and unknowns."""
    reader = Reader(backend, makes=False)
    assert reader.list().traces == []
    assert reader.get("x") is None
    assert reader.find("x" * 8) is None
    assert reader.get_by_step_id("x") is None
    assert reader.list_by_step_id("x") == []
    for group in GROUPS:
        assert reader.stats([group]) == []
    (row,) = reader.stats()
    assert (row.calls, row.failures, row.without_usage, row.input_tokens) == (0, 0, 0, None)


# -- the commands


@pytest.fixture(params=["sqlite", "postgres", "clickhouse"])
def missing(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A store that is not there yet, named in the environment; gives what somebody has made there."""
    from stores import clickhouse, postgres

    monkeypatch.setenv("LLMSPAN_BACKENDS", request.param)
    if request.param == "sqlite":
        monkeypatch.setenv("LLMSPAN_SQLITE_PATH", f"{tmp_path}/deeper/traces.db")
        return lambda: [path.name for path in tmp_path.iterdir()]
    if request.param == "postgres":
        dsn = postgres.new_schema()
        monkeypatch.setenv("LLMSPAN_POSTGRES_DSN", dsn)
        tables = "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        return lambda: [name for (name,) in postgres.execute(dsn, tables)]
    database = clickhouse.new_database()
    monkeypatch.setenv("LLMSPAN_CLICKHOUSE_DSN", clickhouse.server_dsn(database))
    names = f"SELECT name FROM system.databases WHERE name = '{database}'"
    return lambda: f"{clickhouse.engine().query(names)}".split()


def call(*words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="llmspan")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["tail", "--once"], 0),
        (["tail", "--once", "--json"], 0),
        (["tail", "--once", "--where", "status=error"], 0),
        (["stats"], 0),
        (["stats", "--by", "day", "--json"], 0),
        (["export"], 0),
        (["show"], 1),
        (["show", "0198-0198"], 1),
        (["show", "--step-id", "x"], 1),
    ],
)
def test_reading_a_store_that_is_not_there(missing: Callable[[], list[str]], words: list[str], code: int) -> None:
    """Commands that read say that there are no calls, and where they looked; they make no file and no table."""
    told = call(*words)
    assert told.exit_code == code, told.output
    assert "no such calls in " in told.stderr or "no call" in told.stderr
    assert not told.exception or isinstance(told.exception, SystemExit)
    assert missing() == []


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        (["user_id=a"], "0"),
        (["user_id=a", "user_id=b"], "01"),
        (["user_id=a,b"], "01"),
        (["user_id=a,b", r"user_id=c\,d"], "012"),
        (["user_id!=a"], "1234"),
        (["user_id!=a,b"], "234"),
        (["user_id!=a", "user_id!=b"], "234"),
        (["user_id=a,b", "user_id!=a"], "1"),
        (["user_id=a", "user_id!=a"], ""),
        (["user_id=a,b", "status!=ok"], "1"),
        (["status=error,incomplete"], "14"),
        (["user_id="], "3"),
        (["user_id=a status=ok"], "0"),
        (["user_id=no body"], ""),
        (['user_id="c,d"', "-status:error"], "2"),
    ],
)
def test_terms(five: Backend, monkeypatch: pytest.MonkeyPatch, where: list[str], ids: str) -> None:
    """Repeated keys and comma lists mean "or", ``!=`` excludes, different keys must all hold."""
    monkeypatch.setattr("llmspan.reader.primary_backend", lambda _: five)
    told = call("export", *(word for term in where for word in ("--where", term)))
    assert told.exit_code == 0
    assert [line.split('"')[3] for line in told.stdout.splitlines()][::-1] == list(ids)
    assert ids or "no such calls in " in told.stderr


@pytest.mark.parametrize("command", ["tail", "stats", "export"])
@pytest.mark.parametrize(
    ("term", "told"),
    [
        ("status=eror", "status=eror: no record has that; choose from ok, error,"),
        ("status!=eror", "status!=eror: status=eror: no record has that"),
        ("status=ok,eror", "status=eror: no record has that"),
        ("status=ok,", "status=: no record has that"),
        ("statsu=ok", "statsu=ok: statsu is not a key; did you mean status?"),
        ("status", "status: expected status:VALUE, status=VALUE, status!=VALUE or, of numbers, > >= < <="),
        ("status>ok", "status>ok: status is no number, so that > cannot be asked of it; use : or !="),
        ("user_id=Ann Smith tokens>1", "Smith: expected Smith:VALUE, Smith=VALUE"),
    ],
)
def test_terms_that_cannot_match(command: str, term: str, told: str) -> None:
    """What can match nothing is wrong usage: the message names the term and what would be right."""
    result = call(command, "--where", term)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
