"""``llmspan import-letta`` from a real Postgres that holds Letta's table as its migrations leave it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.conninfo import conninfo_to_dict

from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main
from llmspan.reader import Reader
from stores import postgres, shutting_down

TABLES = """
CREATE TABLE organizations (id varchar PRIMARY KEY);
INSERT INTO organizations VALUES ('org-0');
CREATE TABLE provider_traces (
    id varchar PRIMARY KEY,
    request_json json NOT NULL,
    response_json json NOT NULL,
    step_id varchar,
    agent_id varchar,
    agent_tags json,
    call_type varchar,
    run_id varchar,
    source varchar,
    org_id varchar,
    user_id varchar,
    compaction_settings json,
    llm_config json,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    is_deleted boolean NOT NULL DEFAULT false,
    _created_by_id varchar,
    _last_updated_by_id varchar,
    organization_id varchar NOT NULL REFERENCES organizations (id)
);
CREATE INDEX ix_step_id ON provider_traces (step_id);
"""
INSERT = """
INSERT INTO provider_traces (id, request_json, response_json, step_id, created_at, is_deleted, organization_id)
VALUES (%(id)s, %(request)s, %(response)s, %(step)s, %(at)s, %(deleted)s, 'org-0')
"""
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("LLMSPAN_", "LETTA_")) and "TEST" not in name]:
        monkeypatch.delenv(name)


@pytest.fixture
def dsn() -> str:
    """A schema with Letta's table and 25 rows: good ones, a failure, a deleted one, one that is no record."""
    dsn = postgres.new_schema()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLES)
        for at in range(25):
            connection.execute(INSERT, values(at))
    return dsn


def values(at: int) -> dict[str, Any]:
    response: Any = {"id": f"r-{at}", "model": "gpt-5", "choices": [], "usage": USAGE}
    if at == 7:
        response = {"error": "slow down", "error_type": "LLMRateLimitError"}
    if at == 9:
        response = ["no", "response"]
    return {
        "id": f"provider_trace-{at:08x}-8b86-4011-b42d-00c04fc964ff",
        "request": json.dumps({"model": "gpt-5", "messages": [{"content": f"ü {at}"}]}, indent=2),
        "response": json.dumps(response, indent=2),
        "step": f"step-{at % 5}",
        "at": f"2026-01-{at + 1:02}T12:00:00.123456+00:00",
        "deleted": at == 11,
    }


def schema_of(dsn: str) -> str:
    return str(conninfo_to_dict(dsn)["options"]).rpartition("=")[2]


def call(dsn: str, *words: str) -> Result:
    given = ["import-letta", "--dsn", dsn, "--schema", schema_of(dsn), *words]
    return CliRunner().invoke(main, given, catch_exceptions=False, prog_name="llmspan")


def stored(path: Path) -> dict[str, Any]:
    with Reader(SQLiteBackend(path)) as reader:
        found = [reader.get(trace.id) for trace in reader.iterate()]
    return {trace.attributes["letta.id"]: trace for trace in found if trace is not None}


def test_rows_become_records_with_usage(dsn: str, tmp_path: Path) -> None:
    """Good rows have the numbers of their responses; bad ones are named, deleted ones left out, all are counted."""
    path = tmp_path / "t.db"
    result = call(dsn, "--db", str(path), "--batch", "4")
    assert result.exit_code == 0
    assert result.stdout == (
        f"25 rows: 23 imported (1 that failed, 1 without usage), 1 deleted, 1 skipped; stored in sqlite ({path})\n"
    )
    assert f"skipped {values(9)['id']}: response_json is" in result.stderr
    records = stored(path)
    assert len(records) == 23
    record = records[values(3)["id"]]
    assert (record.usage.input_tokens, record.usage.output_tokens, record.usage.cache_read_tokens) == (10, 5, 4)
    assert record.request_json == values(3)["request"]
    assert (record.step_id, record.org_id, record.started_at % 1_000_000_000) == ("step-3", "org-0", 123_456_000)
    assert records[values(7)["id"]].error_type == "LLMRateLimitError"


def test_twice_is_once(dsn: str, tmp_path: Path) -> None:
    """Importing again changes nothing, and brings what has come since."""
    path = tmp_path / "t.db"
    call(dsn, "--db", str(path))
    before = stored(path)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(INSERT, values(26))
    again = call(dsn, "--db", str(path))
    assert again.exit_code == 0
    assert again.stdout == f"26 rows: 1 imported, 23 there already, 1 deleted, 1 skipped; stored in sqlite ({path})\n"
    after = stored(path)
    assert after.keys() - before.keys() == {values(26)["id"]}
    assert {key: after[key] for key in before} == before


def test_a_second_store_gets_what_it_has_not(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is imported if any of the stores does not have it yet; if all have it, nothing is."""
    monkeypatch.setenv("LLMSPAN_SQLITE_PATH", str(tmp_path / "t.db"))
    monkeypatch.setenv("LLMSPAN_POSTGRES_DSN", postgres.new_schema())
    monkeypatch.setenv("LLMSPAN_BACKENDS", "sqlite")
    assert json.loads(call(dsn, "--json").stdout)["imported"] == 23
    monkeypatch.setenv("LLMSPAN_BACKENDS", "sqlite,postgres")
    for imported, present in ((23, 0), (0, 23)):
        counts = json.loads(call(dsn, "--json").stdout)
        assert (counts["imported"], counts["present"]) == (imported, present)
        assert (counts["failures"], counts["without_usage"]) == ((1, 1) if imported else (0, 0))


def test_since_and_dry_run(dsn: str, tmp_path: Path) -> None:
    """--since takes the later rows only, --dry-run stores nothing, --json counts for programs."""
    path = tmp_path / "t.db"
    dry = call(dsn, "--db", str(path), "--dry-run", "--json")
    assert json.loads(dry.stdout) == {
        "rows": 25, "imported": 23, "failures": 1, "without_usage": 1, "present": 0, "deleted": 1, "skipped": 1,
    }  # fmt: skip
    assert not path.exists()
    some = call(dsn, "--db", str(path), "--since", "2026-01-21", "--json")
    assert json.loads(some.stdout)["rows"] == 5
    assert len(stored(path)) == 5


def test_a_table_of_an_early_version_is_read(tmp_path: Path) -> None:
    """Columns that came later may be missing."""
    dsn = postgres.new_schema()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE provider_traces (id varchar PRIMARY KEY, request_json json, response_json json,"
            " step_id varchar, created_at timestamptz)"
        )
        connection.execute("INSERT INTO provider_traces VALUES ('old-1', '{}', '{}', 's', now())")
    assert call(dsn, "--db", str(tmp_path / "t.db")).stdout.startswith("1 rows: 1 imported (1 without usage)")


def test_into_another_backend(dsn: str) -> None:
    """--backend names where the records go: here Postgres, in a schema of its own."""
    target_dsn = postgres.new_schema()
    result = CliRunner(env={"LLMSPAN_POSTGRES_DSN": target_dsn}).invoke(
        main, ["import-letta", "--dsn", dsn, "--schema", schema_of(dsn), "--backend", "postgres"]
    )
    assert result.exit_code == 0, result.output
    with shutting_down(PostgresBackend(target_dsn)) as target:
        target.open()
        assert target.stats([])[0].calls == 23


@pytest.mark.parametrize(
    ("make", "code", "told"),
    [
        (lambda dsn: (dsn, "nowhere"), 2, "nowhere.provider_traces is not there, or not Letta's"),
        (lambda dsn: ("postgres:secret-word@host", "public"), 2, "--dsn cannot be read: missing ="),
        (lambda dsn: ("host=127.0.0.1 port=1 password=secret-word", "public"), 3, "--dsn: connection"),
    ],
)
def test_mistakes_are_clear_and_keep_the_password(dsn: str, tmp_path: Path, make: Any, code: int, told: str) -> None:
    """A wrong DSN, place or server has its exit code and one sentence, in which no password stands."""
    given, schema = make(dsn)
    words = ["import-letta", "--dsn", given, "--schema", schema, "--db", str(tmp_path / "t.db")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == code
    assert told in result.stderr
    assert "secret-word" not in result.output


def test_our_own_table_is_not_letta_s(tmp_path: Path) -> None:
    """The table of the same name that llmspan makes is recognised."""
    dsn = postgres.new_schema()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE provider_traces (id text, duration_ns bigint)")
    result = call(dsn, "--db", str(tmp_path / "t.db"))
    assert result.exit_code == 2
    assert "is a table of llmspan, not Letta's" in result.stderr
