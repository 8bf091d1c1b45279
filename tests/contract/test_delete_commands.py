"""``llmspan delete``, ``llmspan prune`` and ``llmspan.delete`` on every store that can be named in settings."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import llmspan
from llmspan import Filters, NoneOf, OneOf, Reader, SettingsError
from llmspan.backends import load_backends
from llmspan.cli import main
from llmspan.settings import Settings
from records import DAY, make_trace
from stores import clickhouse, postgres

STORES: dict[str, Callable[[Path], dict[str, str]]] = {
    "sqlite": lambda directory: {"LLMSPAN_BACKENDS": "sqlite", "LLMSPAN_SQLITE_PATH": str(directory / "traces.db")},
    "postgres": lambda _: {"LLMSPAN_BACKENDS": "postgres", "LLMSPAN_POSTGRES_DSN": postgres.new_schema()},
    "clickhouse-http": lambda _: {"LLMSPAN_BACKENDS": "clickhouse", "LLMSPAN_CLICKHOUSE_DSN": clickhouse.server_dsn()},
    "clickhouse-chdb": lambda _: {
        "LLMSPAN_BACKENDS": "clickhouse", "LLMSPAN_CLICKHOUSE_DSN": clickhouse.embedded_dsn()
    },
}  # fmt: skip
NOW = time.time_ns()
RECORDS = [
    make_trace(id=f"{user}-{days}", user_id=user, started_at=NOW - days * DAY - DAY // 2)
    for user in ("ann", "bob")
    for days in (0, 10, 29, 30, 31, 400)
]


@pytest.fixture(params=STORES)
def environment(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings of a store that is not there yet."""
    variables = STORES[request.param](tmp_path) | {"LLMSPAN_CLICKHOUSE_TTL": "none"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LLMSPAN_DEAD_LETTER_DIR", str(tmp_path / "dead"))
    return variables


@pytest.fixture
def store(environment: dict[str, str]) -> dict[str, str]:
    """The settings of a store that has the records."""
    (backend,) = load_backends(Settings.from_env())
    backend.open()
    backend.write(RECORDS)
    backend.shutdown()
    return environment


def call(*words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="llmspan")


def deleted(*words: str) -> tuple[int, int]:
    """What a command counted and what it deleted."""
    result = call(*words, "--yes", "--json")
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    numbers: dict[str, Any] = json.loads(line)
    return numbers["matched"], numbers["deleted"]


def left() -> set[str]:
    with Reader.from_env() as reader:
        return {trace.id for trace in reader.iterate()}


IDS = {trace.id for trace in RECORDS}
DELETED = [
    (["--where", "user_id=ann"], {name for name in IDS if name.startswith("ann")}),
    (["--where", "user_id!=ann"], {name for name in IDS if name.startswith("bob")}),
    (["--where", "user_id=ann,bob", "--where", "id!=ann-0"], IDS - {"ann-0"}),
    (["--where", "user_id=nobody"], set()),
    (["--since", "11d"], {"ann-0", "bob-0", "ann-10", "bob-10"}),
    (["--until", "32d", "--where", "user_id=bob"], {"bob-400"}),
    (["--all"], IDS),
]


@pytest.mark.parametrize(("words", "meant"), DELETED)
def test_delete(store: dict[str, str], words: list[str], meant: set[str]) -> None:
    """Exactly what the options mean is counted and deleted."""
    dry = call("delete", *words, "--dry-run", "--json")
    assert (dry.exit_code, json.loads(dry.stdout)["matched"], left()) == (0, len(meant), IDS)
    assert deleted("delete", *words) == (len(meant), len(meant))
    assert left() == IDS - meant
    assert deleted("delete", *words) == (0, 0)


PRUNED = [
    (["--older-than", "30d"], {"ann-30", "bob-30", "ann-31", "bob-31", "ann-400", "bob-400"}),
    (["--older-than", "52w"], {"ann-400", "bob-400"}),
    (["--older-than", "1h"], IDS),
    (["--older-than", "2001-01-01"], set()),
    (["--older-than", "999999w"], set()),
    (["--older-than", "30d", "--where", "until:2001-01-01"], set()),
    (["--older-than", "240h", "--where", "user_id=bob"], {"bob-10", "bob-29", "bob-30", "bob-31", "bob-400"}),
]


@pytest.mark.parametrize(("words", "meant"), PRUNED)
def test_prune(store: dict[str, str], words: list[str], meant: set[str]) -> None:
    """Exactly the calls that are older are deleted."""
    assert deleted("prune", *words) == (len(meant), len(meant))
    assert left() == IDS - meant


@pytest.mark.parametrize("when", ["0d", "0s", "2999-01-01", "9999-12-31T23:59"])
def test_prune_refuses_what_is_not_past(store: dict[str, str], when: str) -> None:
    """A time that the store's clock has not reached is an error, and nothing is deleted."""
    result = call("prune", "--older-than", when, "--yes")
    assert result.exit_code == 2
    assert f"{when!r} is not past by the clock of {store['LLMSPAN_BACKENDS']}" in result.stderr
    assert left() == IDS


def test_a_store_without_tables(environment: dict[str, str], tmp_path: Path) -> None:
    """Nothing is counted in a store that is not there, and it is not made."""
    assert deleted("delete", "--all") == (0, 0)
    assert deleted("prune", "--older-than", "1d") == (0, 0)
    name = environment["LLMSPAN_BACKENDS"]
    assert llmspan.delete(Filters()) == {name: 0}
    with Reader.from_env(makes=False) as reader:
        assert reader.list().traces == []
    assert list(tmp_path.iterdir()) == []
    if name == "postgres":
        dsn = environment["LLMSPAN_POSTGRES_DSN"]
        assert postgres.execute(dsn, "SELECT to_regclass('provider_traces')::text") == [(None,)]


def test_the_function(store: dict[str, str]) -> None:
    """``llmspan.delete`` says by backend how many records it has deleted; ``delete_async`` does the same."""
    name = store["LLMSPAN_BACKENDS"]
    steps: list[int] = []
    assert llmspan.delete(Filters(user_id="ann", id=NoneOf(("ann-0",))), progress=steps.append) == {name: 5}
    assert sum(steps) == 5
    assert asyncio.run(llmspan.delete_async(Filters(id=OneOf(("bob-0", "bob-10"))), thorough=False)) == {name: 2}
    assert left() == {"ann-0", "bob-29", "bob-30", "bob-31", "bob-400"}
    assert llmspan.delete(Filters(), backends=name) == {name: 5}


def test_several_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All stores are gone through, each with its own numbers; one that fails does not keep the others from it."""
    variables = STORES["sqlite"](tmp_path) | STORES["postgres"](tmp_path) | {"LLMSPAN_BACKENDS": "postgres,sqlite"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for backend in load_backends(Settings.from_env()):
        backend.open()
        backend.write(RECORDS if backend.name == "sqlite" else RECORDS[:7])
        backend.shutdown()
    assert llmspan.delete(Filters(user_id="bob")) == {"postgres": 1, "sqlite": 6}
    dsn = variables["LLMSPAN_POSTGRES_DSN"]
    postgres.execute(
        dsn,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$",
        "CREATE TRIGGER no BEFORE DELETE ON provider_traces FOR EACH ROW EXECUTE FUNCTION no()",
    )
    result = call("delete", "--where", "id=ann-0", "--yes")
    assert result.exit_code == 3
    assert "not today" in result.stderr
    assert "sqlite: 1 deleted" in result.stdout
    with pytest.raises(llmspan.BackendError, match="not today"):
        llmspan.delete(Filters(id="ann-10"))
    counts: dict[str, int] = {}
    for name in ("sqlite", "postgres"):
        with Reader.from_env(backends=name) as reader:
            counts[name] = reader.count()
    assert counts == {"sqlite": 4, "postgres": 6}


def test_a_store_that_only_takes_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error that names the remedy, and nothing is deleted from the others."""
    for name, value in STORES["sqlite"](tmp_path).items():
        monkeypatch.setenv(name, value)
    (backend,) = load_backends(Settings.from_env())
    backend.write(RECORDS)
    backend.shutdown()
    monkeypatch.setenv("LLMSPAN_BACKENDS", "sqlite,socket")
    monkeypatch.setenv("LLMSPAN_SOCKET", "/run/s.sock")
    result = call("delete", "--all", "--yes")
    assert result.exit_code == 2
    assert "LLMSPAN_BACKENDS=sqlite,socket: 'socket' (/run/s.sock) only takes records" in result.stderr
    assert "give --backend sqlite" in result.stderr
    with pytest.raises(SettingsError, match="only takes records; delete where the receiver stores them"):
        llmspan.delete(Filters(), backends="socket")
    assert deleted("delete", "--all", "--backend", "sqlite") == (12, 12)
