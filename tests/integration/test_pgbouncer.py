"""Postgres behind a real PgBouncer, in each pooling mode, with settings in the DSN that a pooler refuses or ignores."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.postgres.connection import Connection, transaction, with_settings
from llmspan.cli import main, trial
from llmspan.errors import PermanentError, RefusedError, RetryableError
from records import make_trace
from stores.pgbouncer import Pooler
from stores.postgres import execute, superuser
from stores.postgres_partitions import days_ago

WHOLE = ["session", "transaction"]


@pytest.fixture
def database() -> Iterator[str]:
    """The name of a new database with two schemas beside ``public``."""
    name = f"pooled_{uuid.uuid4().hex[:12]}"
    execute(superuser(), f"CREATE DATABASE {name}")
    execute(make_conninfo(superuser(), dbname=name), "CREATE SCHEMA traces", 'CREATE SCHEMA "Odd, name"')
    yield name
    execute(superuser(), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def pooler() -> Iterator[Callable[..., Pooler]]:
    """Poolers of the tests' server, stopped at the end."""
    with ExitStack() as stack:
        yield lambda mode="transaction", **settings: stack.enter_context(Pooler(mode, **settings))


@pytest.fixture
def make() -> Iterator[Callable[..., PostgresBackend]]:
    """Backends that are shut down at the end."""
    with ExitStack() as stack:

        def make(dsn: str | None, **options: object) -> PostgresBackend:
            backend = PostgresBackend(dsn, **options)
            stack.callback(backend.shutdown)
            return backend

        yield make


def direct(database: str) -> str:
    return make_conninfo(superuser(), dbname=database)


def schemas(database: str) -> list[str]:
    """The schemas that have a table of ours."""
    rows = execute(direct(database), "SELECT schemaname FROM pg_tables WHERE tablename = 'provider_traces' ORDER BY 1")
    return [name for (name,) in rows]


def current(backend: PostgresBackend, setting: str) -> tuple[str, str]:
    """The value of a setting where we write, and where we read."""

    def ask(connection: Connection) -> str:
        ((value,),) = connection.execute("SELECT current_setting(%s)", [setting]).fetchall()
        return value

    def writing(connection: Connection) -> str:
        with transaction(connection, 10):
            return ask(connection)

    def reading(connection: Connection) -> str:
        with with_settings(connection):
            return ask(connection)

    return backend._store._writer.run(writing), backend._store._reader.run(reading)


# -- modes that leave a transaction whole


@pytest.mark.parametrize("options", ["", "-csearch_path=traces"])
@pytest.mark.parametrize("mode", WHOLE)
def test_everything(pooler, database, make, mode, options):
    """Through a pooler that leaves transactions whole, everything works as without one: tables, days, writes, reads."""
    backend = make(pooler(mode).dsn(dbname=database, options=options), retention_days=30)
    backend.open()
    assert "Postgres" in backend.check()
    traces, old = [days_ago(days) for days in (0, 1, 2)], days_ago(40)
    make(direct(database) + (" options=-csearch_path=traces" if options else "")).write([old])
    backend.write(traces)
    backend.write([*traces, extra := days_ago(0)])
    assert backend.migrate() == []
    assert {trace.id for trace in backend.list().traces} == {trace.id for trace in (*traces, extra)}
    assert backend.get(traces[1].id) == traces[1]
    assert len(backend.list_json().lines) == 4
    with pytest.raises(PermanentError, match="invalid input syntax for type json"):
        backend.write([make_trace(request_json="{not json"), make_trace()])
    backend.remove([extra.id])
    assert backend.stats([])[0].calls == 3
    assert schemas(database) == ["traces" if options else "public"]


@pytest.mark.parametrize("mode", WHOLE)
def test_many_writers_and_few_connections(pooler, database, make, mode):
    """Many writers that come at once share what the pooler has: everything is made once, every record is there once."""
    door = pooler(mode, default_pool_size=2 if mode == "transaction" else 20)
    backends = [make(door.dsn(dbname=database, options="-csearch_path=traces")) for _ in range(8)]
    together = threading.Barrier(len(backends))
    shared = [days_ago(0) for _ in range(5)]

    def work(backend: PostgresBackend) -> None:
        together.wait()
        for _ in range(5):
            backend.write([days_ago(0), *shared])

    with ThreadPoolExecutor(len(backends)) as pool:
        list(pool.map(work, backends))
    assert backends[0].stats([])[0].calls == 8 * 5 + 5
    assert schemas(database) == ["traces"]


def test_nothing_of_ours_stays_in_a_session(pooler, database, make):
    """Another client of the same session finds it as it was: no limit, no search path, no transaction of ours."""
    door = pooler("transaction", default_pool_size=1)
    backend = make(door.dsn(dbname=database, options="-csearch_path=traces -cwork_mem=5MB"))
    backend.write([days_ago(0)])
    backend.list()
    with psycopg.connect(door.dsn(dbname=database), autocommit=True, prepare_threshold=None) as other:
        for setting in ("statement_timeout", "search_path", "work_mem"):
            ((value,),) = other.execute(
                f"SELECT setting = reset_val FROM pg_settings WHERE name = '{setting}'"
            ).fetchall()
            assert value is True, setting


@pytest.mark.parametrize("named", [True, False])
def test_what_others_leave_in_a_session(pooler, database, make, named):
    """A search path that another client has left in the session moves no table: ours is the DSN's, or the user's."""
    door = pooler("transaction", default_pool_size=1)
    with psycopg.connect(door.dsn(dbname=database), autocommit=True, prepare_threshold=None) as other:
        other.execute('SET search_path = "Odd, name"')
        backend = make(door.dsn(dbname=database, options="-csearch_path=traces" if named else ""))
        backend.write([days_ago(0)])
        other.execute("SET search_path = nowhere")
        backend.write([days_ago(0)])
        assert backend.stats([])[0].calls == 2
    assert schemas(database) == ["traces" if named else "public"]


# -- options


SPELLINGS = [
    "-csearch_path=traces", "-c search_path=traces,public", "--search_path=traces", "--search-path=traces",
    "-c work_mem=7MB -c SEARCH_PATH=nowhere,traces",
]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "options", "ignored"),
    [
        *(("transaction", options, ignored) for options in SPELLINGS for ignored in ("", "options")),
        ("transaction", SPELLINGS[0], "extra_float_digits,search_path"),
        ("session", SPELLINGS[0], ""),
        ("session", SPELLINGS[0], "search_path,options"),
    ],
)
def test_the_search_path_passes(pooler, database, make, mode, options, ignored):
    """However the DSN says it, and whether the pooler refuses or ignores it, tables are made where the DSN says."""
    door = pooler(mode, **({"ignore_startup_parameters": ignored} if ignored else {}))
    backend, trace = make(door.dsn(dbname=database, options=options)), days_ago(0)
    backend.write([trace])
    assert backend.get(trace.id) == trace
    assert schemas(database) == ["traces"]


@pytest.mark.parametrize("mode", WHOLE)
def test_a_schema_with_an_odd_name(pooler, database, make, mode):
    """Escapes and quotes in the options mean what they mean to the server."""
    backend = make(pooler(mode).dsn(dbname=database, options='-csearch_path="Odd,\\ name",public'))
    backend.write([days_ago(0)])
    assert schemas(database) == ["Odd, name"]


def test_a_schema_of_the_user(pooler, database, make):
    """``$user`` in a search path is the schema of who writes."""
    door = pooler("transaction")
    execute(direct(database), 'CREATE SCHEMA "postgres"')
    make(door.dsn(dbname=database, options='-csearch_path="$user",traces')).write([days_ago(0)])
    assert schemas(database) == ["postgres"]


def test_options_of_the_environment(pooler, database, make, monkeypatch):
    """Options that are in ``PGOPTIONS`` and not in the DSN pass as well."""
    monkeypatch.setenv("PGOPTIONS", "-csearch_path=traces")
    backend = make(pooler("transaction").dsn(dbname=database))
    backend.write([days_ago(0)])
    backend.list()
    monkeypatch.delenv("PGOPTIONS")
    assert schemas(database) == ["traces"]


@pytest.mark.parametrize("ignored", ["", "options"])
@pytest.mark.parametrize("mode", WHOLE)
def test_other_settings_pass(pooler, database, make, mode, ignored):
    """Whatever else a transaction can set is set where we write and where we read, as without a pooler."""
    options = "-csearch_path=traces -cwork_mem=7MB -capp.tenant=it's\\ %s\\\\ -cTimeZone=Asia/Kolkata"
    door = pooler(mode, **({"ignore_startup_parameters": ignored} if ignored else {}))
    pooled = make(door.dsn(dbname=database, options=options))
    plain = make(make_conninfo(direct(database), options=options))
    for setting, value in (("work_mem", "7MB"), ("app.tenant", "it's %s\\"), ("timezone", "Asia/Kolkata")):
        assert current(plain, setting) == (value, value)
        assert current(pooled, setting) == (value, value)
    pooled.write([days_ago(0)])
    assert len(pooled.list().traces) == 1


def test_a_role_passes(pooler, database, make):
    """A role in the options is who writes and reads: it may do what it may do, and no more."""
    role = f"role_{uuid.uuid4().hex[:12]}"
    execute(direct(database), f"CREATE ROLE {role}")
    try:
        owner, trace = make(direct(database)), days_ago(0)
        owner.write([trace])
        execute(direct(database), f"GRANT SELECT ON llmspan_schema, provider_traces TO {role}")
        backend = make(pooler("transaction").dsn(dbname=database, options=f"-crole={role}"))
        assert backend.get(trace.id) == trace
        with pytest.raises(RefusedError, match=f"the user '{role}' may only read provider_traces"):
            backend.write([days_ago(0)])
    finally:
        execute(direct(database), f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("-csearch_path=traces -d5", "does not let the option '-d5' pass"),
        ("-fs", "does not let the option '-fs' pass"),
        ("-c", "does not let the option '-c' pass"),
        ("-cignore_system_indexes=on", 'parameter "ignore_system_indexes" cannot be set'),
        ("-cwork_mem=lots", 'invalid value for parameter "work_mem"'),
        ("-cno_such_setting=1", 'unrecognized configuration parameter "no_such_setting"'),
    ],
)
def test_options_that_cannot_pass(pooler, database, make, options, said):
    """What no transaction can set is refused, naming it and the remedy; no record is at fault."""
    backend = make(pooler("transaction").dsn(dbname=database, options=options))
    for use in (backend.open, backend.check, backend.list, lambda: backend.write([days_ago(0)])):
        with pytest.raises(RefusedError, match="leave it out of the options, or name the server itself") as caught:
            use()
        assert said in str(caught.value)
    assert schemas(database) == []


def test_other_startup_parameters(pooler, database, make, monkeypatch):
    """A parameter of another kind that the pooler refuses is named, with the remedy."""
    monkeypatch.setenv("PGGEQO", "off")
    backend = make(pooler("transaction").dsn(dbname=database, options="-csearch_path=traces"))
    with pytest.raises(RefusedError, match=r"unsupported startup parameter: geqo.*allow it in the pooler"):
        backend.open()


def test_options_are_tried_once(pooler, database, make):
    """A pooler that has refused the options is not asked for them again, also after it was away."""
    door = pooler("transaction")
    backend = make(door.dsn(dbname=database, options="-csearch_path=traces"))
    backend.write([days_ago(0)])
    door.stop()
    with pytest.raises(RetryableError):
        backend.write([days_ago(0)])
    door.start()
    backend.write([days_ago(0)])
    assert door.log.count("unsupported startup parameter: options (age") == 1
    assert schemas(database) == ["traces"]


# -- statement mode

STATEMENT_MODE = "set pool_mode to transaction or session for this database in the pooler"


@pytest.mark.parametrize("options", ["", "-csearch_path=traces"])
def test_statement_mode_is_refused(pooler, database, make, options):
    """A pooler that splits transactions is refused by whatever needs one, with what to set, and takes nothing."""
    backend = make(pooler("statement").dsn(dbname=database, options=options))
    for use in (backend.open, backend.check, backend.migrate, backend.list, lambda: backend.write([days_ago(0)])):
        with pytest.raises(RefusedError, match=STATEMENT_MODE) as caught:
            use()
        assert "transaction blocks not allowed in statement pooling mode" in str(caught.value)
    assert schemas(database) == []


def test_statement_mode_for_one_user(pooler, database, make):
    """A mode that is of the database or the user is found out alike."""
    door = pooler("transaction")
    door.databases = {database: "pool_mode=statement"}
    door.restart()
    with pytest.raises(RefusedError, match=STATEMENT_MODE):
        make(door.dsn(dbname=database)).write([days_ago(0)])


def test_a_mode_that_changes(pooler, database, make):
    """A pooler that is set to statement mode refuses the next batch as a whole, and takes it when it is set back."""
    door = pooler("transaction")
    backend, batch = make(door.dsn(dbname=database)), [days_ago(0) for _ in range(3)]
    backend.write([days_ago(0)])
    door.restart(pool_mode="statement")
    with pytest.raises(RefusedError, match=STATEMENT_MODE):
        backend.write(batch)
    assert execute(direct(database), "SELECT count(*) FROM provider_traces") == [(1,)]
    door.restart(pool_mode="transaction")
    backend.write(batch)
    assert backend.stats([])[0].calls == 4


# -- doctor


@pytest.mark.parametrize(
    ("mode", "options", "told"),
    [
        ("session", "", "wrote a record and read it back"),
        ("transaction", "-csearch_path=traces", "wrote a record and read it back"),
        ("statement", "", STATEMENT_MODE),
        ("statement", "-csearch_path=traces", STATEMENT_MODE),
        ("transaction", "-d5", "leave it out of the options"),
    ],
)
def test_doctor(pooler, database, make, monkeypatch, mode, options, told):
    """``llmspan doctor`` says through a pooler what it says without one, and what a mode or an option needs."""
    monkeypatch.setattr(trial, "_run", lambda sdks, environ: {})
    dsn = pooler(mode).dsn(dbname=database, options=options)
    make(make_conninfo(direct(database), options=options if "search" in options else "")).open()
    for name, value in {"BACKENDS": "postgres", "POSTGRES_DSN": dsn}.items():
        monkeypatch.setenv(f"LLMSPAN_{name}", value)
    done = CliRunner().invoke(main, ["doctor"], prog_name="llmspan")
    assert told in " ".join(done.output.split())
    assert done.exit_code == (0 if "wrote" in told else 1)
