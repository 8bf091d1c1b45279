"""What is special about the Postgres backend: where records are, and how exact they are."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from psycopg import sql

from llmspan.backends import query
from llmspan.backends.base import Filters
from llmspan.backends.postgres.backend import _DIALECT, PostgresBackend, _near
from llmspan.backends.price_columns import PRICE_COLUMNS
from llmspan.errors import PermanentError, RetryableError, SchemaError, SettingsError
from llmspan.settings import Settings
from llmspan.trace import KEYS
from records import DAY, NOON, full_trace, make_trace, this_day
from stores.postgres import PASSWORD, execute, locked, new_schema, superuser
from stores.postgres_partitions import days_ago, named, partition_of, partitions

ODD_TIMES = [0, -1, 1_999, -1_999, 2**63 - 1, -(2**63)]


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


# -- without a driver


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_naming_the_backend_imports_no_driver():
    """Loading the backend, making one and asking for its name leaves psycopg alone."""
    done = python(
        "import sys; from llmspan.backends import load_backends; from llmspan.settings import Settings;"
        "load_backends(Settings(backends=('postgres',))); sys.exit('psycopg' in sys.modules)"
    )
    assert done.returncode == 0, done.stderr


def test_without_the_driver():
    """Without psycopg, making a backend and its location do not fail, and opening it says what to install."""
    done = python(
        "import sys; sys.modules['psycopg'] = None\n"
        "from llmspan.backends.postgres import PostgresBackend; backend = PostgresBackend(); print(backend.location)\n"
        "from llmspan.errors import SettingsError\n"
        "try: backend.open()\n"
        "except SettingsError as error: print(error)"
    )
    assert done.returncode == 0, done.stderr
    assert "pip install 'llmspan[postgres]'" in done.stdout.splitlines()[-1]


# -- the DSN


def test_location_has_no_password(dsn):
    """The location says host, port, user, database and search path, and no password, however the DSN is written."""
    assert PASSWORD not in PostgresBackend(dsn).location
    assert PostgresBackend("postgresql://me:pw%40x@db.example:5433/traces").location == (
        "postgresql://me@db.example:5433/traces"
    )
    assert PostgresBackend("host=db.example port=5433 user=me password=pw dbname=traces").location == (
        "postgresql://me@db.example:5433/traces"
    )
    assert PostgresBackend("postgresql://me:pw@h/d?options=-csearch_path%3Dx").location.endswith(
        "h:5432/d?options=-csearch_path%3Dx"
    )
    assert PostgresBackend("host=/run/pg user=me dbname=d").location == "postgresql://me@%2Frun%2Fpg:5432/d"


def test_location_without_a_dsn(monkeypatch):
    """Without a DSN it is libpq's variables that say where."""
    for name, value in {"PGHOST": "db.example", "PGUSER": "me", "PGPORT": "1", "PGPASSWORD": "pw"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PGDATABASE", raising=False)
    assert PostgresBackend().location == "postgresql://me@db.example:1/me"


@pytest.mark.parametrize("bad", ["postgresql://me:se cret@h", "host=h se#cret", "port", "postgresql://h:80:secret/"])
def test_bad_dsn(bad):
    """A DSN that libpq cannot read is an error that names the variable and the form, and quotes nothing of it."""
    backend = PostgresBackend(bad)
    assert "cret" not in backend.location
    with pytest.raises(SettingsError, match=r"LLMSPAN_POSTGRES_DSN.*postgresql://user:password@host") as caught:
        backend.open()
    assert "cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_reach_the_backend(dsn):
    """What the settings say is what the backend does."""
    settings = Settings(
        postgres_dsn=dsn, postgres_payload="metadata", postgres_retention_days=3, auto_migrate=False, write_timeout=7
    )
    backend = PostgresBackend.from_settings(settings)
    assert (backend.name, backend.location) == ("postgres", PostgresBackend(dsn).location)
    assert backend._options == {"keep_payload": False, "retention_days": 3, "auto_migrate": False, "timeout": 7}


# -- what is stored


def test_json_is_compressed_with_lz4(dsn, make):
    """Payloads are `json`, not `jsonb`, compressed with lz4, in the partitions too."""
    trace = days_ago(0)
    make().write([trace])
    statement = (
        "SELECT attname, atttypid::regtype::text, attcompression FROM pg_attribute"
        f" WHERE attrelid = '{partition_of(dsn, trace)}'::regclass AND attname LIKE 're%_json' ORDER BY 1"
    )
    expected = [("request_json", "json", b"l"), ("response_json", "json", b"l")]
    found = [
        (name, kind, bytes(how, "ascii") if isinstance(how, str) else how)
        for name, kind, how in execute(dsn, statement)
    ]
    assert found == expected


def test_columns_are_the_keys(dsn, make):
    """The table's columns are the record's keys in order, the exact start beside its time, and those of prices."""
    make().open()
    where = "attrelid = 'provider_traces'::regclass AND attnum > 0"
    rows = execute(dsn, f"SELECT attname FROM pg_attribute WHERE {where} ORDER BY attnum")
    at = KEYS.index("started_at") + 1
    assert [name for (name,) in rows] == [*KEYS[:at], "started_at_ns", *KEYS[at:], *PRICE_COLUMNS]


@pytest.mark.parametrize("times", [1, 2], ids=["copied", "inserted"])
@pytest.mark.parametrize("at", [*ODD_TIMES, NOON + 999, this_day() + 1])
def test_the_timestamp_is_the_start(dsn, make, at, times):
    """``started_at`` is the microsecond in which the call began, ``started_at_ns`` the nanosecond, however written."""
    traces = [make_trace(started_at=at, step_id=f"{n}") for n in range(2)]
    backend = make()
    backend.write(traces[: 3 - times])
    backend.write(traces)
    found = execute(
        dsn, "SELECT (extract(epoch FROM started_at) * 1000000)::numeric(30), started_at_ns FROM provider_traces"
    )
    assert [(int(micro), nano) for micro, nano in found] == [(at // 1000, at)] * 2
    assert backend.get(traces[1].id) == traces[1]


def test_metadata_only(dsn, make):
    """With ``payload=metadata`` requests and responses are not stored, the record says so, and reads work the same."""
    lean, full = make(payload="metadata"), make()
    kept, left_out = full_trace(content="full"), full_trace(content="full")
    full.write([kept])
    lean.write([left_out])
    expected = dataclasses.replace(left_out, request_json=None, response_json=None, content="metadata")
    for backend in (lean, full):
        assert backend.get(left_out.id) == expected
        assert backend.get(kept.id) == kept
    assert full.get(left_out.id).request_bytes == left_out.request_bytes
    assert execute(dsn, "SELECT count(*) FROM provider_traces WHERE request_json IS NULL") == [(1,)]


@pytest.mark.parametrize("key", ["request_json", "response_json"])
def test_poison(make, key):
    """A payload that is not JSON is refused for ever, nothing of its batch stays, and the message does not show it."""
    good, bad = make_trace(), make_trace(**{key: '{"password": hunter2}'})
    backend = make()
    with pytest.raises(PermanentError, match=f"invalid input syntax for type json in {key}") as caught:
        backend.write([good, bad, make_trace()])
    assert "hunter2" not in str(caught.value)
    assert backend.stats([])[0].calls == 0
    backend.write([good])
    with pytest.raises(PermanentError, match="invalid input syntax for type json"):
        backend.write([good, bad])
    assert backend.stats([])[0].calls == 1


def test_json_that_jsonb_refuses(make):
    """Escaped NUL, numbers of any size and lone halves of an emoji, which providers send, are stored as they came."""
    payload = '{"a":"\\u0000","b":1e200000,"c":"\\ud83d","a":1}'
    trace = make_trace(request_json=payload, usage=dataclasses.replace(make_trace().usage, raw={"x": "a\0b"}))
    make().write([trace])
    assert make().get(trace.id) == trace


def test_redelivery_with_other_boundaries(make):
    """Batches that overlap with what is there, over several days, store the rest and leave what was first."""
    traces = [make_trace(step_id="s", started_at=this_day() - at * DAY) for at in range(8)]
    backend = make()
    backend.write(traces[2:5])
    changed = [dataclasses.replace(trace, step_id="other") for trace in traces]
    backend.write(changed[3:8])
    backend.write(traces)
    assert {trace.id for trace in backend.list_by_step_id("s")} == {trace.id for trace in [*traces[:5]]}
    assert {trace.id for trace in backend.list_by_step_id("other")} == {trace.id for trace in traces[5:]}


# -- the schema


def test_migrate_says_what_it_did(dsn, make):
    """The first ``migrate`` names what it applied, the next one nothing; it makes the days of a month."""
    assert make().migrate() == ["0001_provider_traces.sql", "0002_days_by_the_servers_clock.sql", "0003_spans.sql",
        "0004_annotations.sql",
        "0005_price_columns.sql",
    ]  # fmt: skip
    assert make().migrate() == []
    assert named(this_day() + 29 * DAY) in partitions(dsn)
    assert make().check().startswith("Postgres ")


def test_a_migration_waits_for_no_report(dsn, make):
    """Behind a migration that waits for a lock all others wait: it gives up, says so, and is made another time."""
    make().migrate()
    columns = ", ".join(f"DROP COLUMN {name}" for name in PRICE_COLUMNS)
    execute(dsn, f"ALTER TABLE provider_traces {columns}", "DELETE FROM llmspan_schema WHERE version = 5")
    with locked(dsn, "SELECT count(*) FROM provider_traces"), pytest.raises(RetryableError, match="lock timeout"):
        make().open()
    assert make().migrate() == ["0005_price_columns.sql"]


def test_no_automatic_migration(dsn, make):
    """Without automatic migration an empty schema is an error that names the command, and stays empty."""
    backend = make(auto_migrate=False)
    for use in (backend.open, backend.check, lambda: backend.write([make_trace()]), backend.list):
        with pytest.raises(SchemaError, match=r"has no tables of llmspan.*run `llmspan migrate --backend postgres`"):
            use()
    assert execute(dsn, "SELECT to_regclass('provider_traces')") == [(None,)]
    backend.migrate()
    backend.write([days_ago(0)])
    assert backend.stats([])[0].calls == 1


def test_a_newer_schema(dsn, make):
    """Tables of a newer version are left alone, with an error that says to upgrade."""
    make().open()
    execute(dsn, "INSERT INTO llmspan_schema (version, name) VALUES (999, 'from the future')")
    for use in (make().open, make().check, make().migrate, lambda: make().write([make_trace()]), make().list):
        with pytest.raises(SchemaError, match="version 999 of the tables, this llmspan supports 5; upgrade llmspan"):
            use()


def test_a_table_of_somebody_else(dsn, make):
    """A table of our name that is not ours is left as it is, and the error says how to have another schema."""
    execute(dsn, "CREATE TABLE provider_traces (id varchar PRIMARY KEY, request_json json NOT NULL)")
    for use in (make().open, make().check, make().migrate, lambda: make().write([make_trace()]), make().list):
        with pytest.raises(SchemaError, match=r"is not llmspan's; name another schema with \?options=-csearch_path"):
            use()
    assert execute(
        dsn, "SELECT count(*) FROM pg_attribute WHERE attrelid = 'provider_traces'::regclass AND attnum > 0"
    ) == [(2,)]


def test_beside_a_table_of_somebody_else(dsn):
    """Tables of ours further down the search path are found behind a table of our name that is not ours."""
    first = new_schema()
    execute(first, "CREATE TABLE provider_traces (id varchar PRIMARY KEY)")
    backend = PostgresBackend(dsn)
    trace = make_trace()
    backend.write([trace])
    paths = [execute(one, "SHOW search_path")[0][0] for one in (first, dsn)]
    both = PostgresBackend(f"{superuser()} options='-csearch_path={','.join(paths)}'")
    assert both.get(trace.id) == trace
    both.write([make_trace()])
    assert backend.stats([])[0].calls == 2
    both.shutdown()
    backend.shutdown()


def test_a_column_is_missing(dsn, make):
    """Tables that lost a column are an error that names it."""
    make().open()
    execute(dsn, "ALTER TABLE provider_traces DROP COLUMN api")
    with pytest.raises(SchemaError, match="provider_traces has no column api"):
        make().open()


def test_the_table_was_dropped(make, dsn):
    """After the table was dropped, the first write fails for now, and the next finds it made anew."""
    backend, trace = make(), days_ago(0)
    backend.write([days_ago(1)])
    execute(dsn, "DROP TABLE provider_traces")
    with pytest.raises(RetryableError, match="does not exist"):
        backend.write([trace])
    backend.open()
    backend.write([trace])
    assert backend.list().traces[0].id == trace.id
    assert backend.stats([])[0].calls == 1


def test_no_schema_on_the_search_path():
    """A search path that leads nowhere is an error that says so."""
    with pytest.raises(SettingsError, match="no schema of the search path exists"):
        PostgresBackend(f"{superuser()} options=-csearch_path=nowhere").open()


# -- reading


def plan(dsn: str, asked: query.Query) -> str:
    """The plan of a query, without the cheaper way out that a small table offers."""
    literals = {name: sql.Literal(value).as_string() for name, value in asked.values.items()}
    rows = execute(dsn, "SET enable_seqscan = off", f"EXPLAIN {asked.sql % literals}")
    return "\n".join(line for (line,) in rows)


def test_an_id_tells_its_days(dsn, make):
    """By a UUIDv7, only the partitions around its time are looked at; if it is not there, all the others too."""
    make().migrate()
    trace = make_trace(started_at=this_day() + 5)
    asked = plan(dsn, query.by_id(_near(_DIALECT, trace.id), trace.id))
    assert named(this_day()) in asked
    assert named(this_day() + 5 * DAY) not in asked
    elsewhere = make_trace(started_at=NOON)
    backend = make()
    backend.write([trace, elsewhere])
    assert backend.get(trace.id) == trace
    assert backend.get(elsewhere.id) == elsewhere


def test_times_prune_partitions(dsn, make):
    """A listing or a sum over a time looks at that time's partitions only."""
    make().migrate()
    filters = Filters(since=this_day() + DAY, until=this_day() + 2 * DAY)
    for asked in (query.listing(_DIALECT, filters, 10, None), query.stats(_DIALECT, ["day"], filters)):
        found = plan(dsn, asked)
        assert named(this_day() + DAY) in found
        assert named(this_day()) not in found
        assert named(this_day() + 2 * DAY) not in found


@pytest.mark.parametrize("key", ["step_id", "trace_id", "run_id", "agent_id"])
def test_lookups_use_an_index(dsn, make, key):
    """Records of a step, trace, run or agent are found by an index, and the newest of all by another."""
    make().open()
    asked = query.listing(_DIALECT, Filters(**{key: "x"}), 10, None)
    assert f"{key}_started_at_ns_idx" in plan(dsn, asked)
    newest = plan(dsn, query.listing(_DIALECT, None, 10, None))
    assert "Index Scan Backward using provider_traces_default_started_at_ns_idx" in newest
