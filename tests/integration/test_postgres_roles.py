"""Who may do what in Postgres, and what is said to those who may not, or who cannot come in."""

from __future__ import annotations

import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from llmspan.backends import open_backends
from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.postgres import schema as postgres_schema
from llmspan.errors import BackendError, RetryableError, SettingsError
from llmspan.settings import Settings
from llmspan.span_record import SpanRecord
from records import DAY, NOON, make_trace, this_day
from stores import shutting_down
from stores.postgres import PASSWORD, execute, new_schema, superuser

WRITE = "GRANT INSERT, SELECT ON provider_traces TO {role}"
DAYS = "GRANT EXECUTE ON FUNCTION provider_traces_add_day(date) TO {role}"


@dataclass
class Role:
    """A user with the password "pw-of-role" who has nothing but what is granted."""

    name: str
    owner: str
    dsn: str

    def grant(self, *statements: str) -> None:
        execute(self.owner, *(statement.format(role=self.name) for statement in statements))

    def backend(self, **options) -> PostgresBackend:
        return PostgresBackend(self.dsn, **options)


@pytest.fixture
def role() -> Iterator[Role]:
    """A new user, who may see a new schema; ``owner`` may do everything in it."""
    owner, name = new_schema(), f"role_{uuid.uuid4().hex[:12]}"
    try:
        execute(owner, f"CREATE ROLE {name} LOGIN PASSWORD 'pw-of-role'")
    except psycopg.errors.InsufficientPrivilege as error:
        pytest.skip(f"the user of LLMSPAN_TEST_POSTGRES_DSN may not make roles: {error}")
    schema = execute(owner, "SELECT current_schema()")[0][0]
    execute(owner, f"GRANT USAGE ON SCHEMA {schema} TO {name}")
    yield Role(name, owner, make_conninfo(owner, user=name, password="pw-of-role"))
    execute(owner, f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


@pytest.fixture
def tables(role: Role) -> Role:
    """The same, with the tables made by their owner, and their version to be read by all."""
    owner = PostgresBackend(role.owner)
    owner.open()
    owner.shutdown()
    role.grant("GRANT SELECT ON llmspan_schema TO {role}")
    return role


def refused(kind: type[BackendError | SettingsError], use: Callable[[], object]) -> str:
    """The one line that is said, which has no password in it."""
    with pytest.raises(kind) as caught:
        use()
    said = str(caught.value)
    assert "\n" not in said
    assert PASSWORD not in said
    assert "pw-of-role" not in said
    return said


def partition_names(dsn: str) -> list[str]:
    return [name for (name,) in execute(dsn, "SELECT DISTINCT tableoid::regclass::text FROM provider_traces")]


# -- what a user may do


def test_a_writer_needs_no_more(tables, caplog):
    """A user who may only insert, select and have days made does everything that a writer does, without a word."""
    caplog.set_level(logging.WARNING, "llmspan")
    tables.grant(WRITE, DAYS)
    backend, trace = tables.backend(), make_trace(started_at=this_day() + 1)
    backend.open()
    backend.write([trace])
    backend.write([trace, make_trace(started_at=this_day() + 1)])
    assert backend.get(trace.id) == trace
    assert backend.migrate() == []
    assert partition_names(tables.owner) == [f"provider_traces_{time.strftime('%Y%m%d', time.gmtime())}"]
    assert "schema" in backend.check()
    assert caplog.text == ""
    backend.shutdown()


def test_a_writer_who_may_not_make_days(tables, caplog):
    """Without the right to have days made, records go to the default partition, which is said once."""
    caplog.set_level(logging.WARNING, "llmspan")
    tables.grant(WRITE)
    backend, trace = tables.backend(), make_trace(started_at=this_day() + 1)
    backend.write([trace])
    backend.write([make_trace(started_at=this_day() + 1)])
    assert backend.get(trace.id) == trace
    assert partition_names(tables.owner) == ["provider_traces_default"]
    assert caplog.text.count("may not make day partitions") == 1
    backend.shutdown()


def test_a_writer_who_may_not_drop_days(tables, caplog):
    """Without the right to drop days, nothing is dropped, and it is said once that the setting has no effect."""
    caplog.set_level(logging.WARNING, "llmspan")
    tables.grant(WRITE, DAYS)
    old = make_trace(started_at=this_day() - 90 * DAY)
    backend = tables.backend(retention_days=30)
    backend.write([old])
    backend.write([make_trace()])
    assert backend.get(old.id) == old
    assert caplog.text.count("may not drop day partitions") == 1
    backend.shutdown()


def test_who_may_annotate(tables):
    """Whether notes can be added is told beforehand: the missing right, or that the server only reads."""

    def obstacle() -> str | None:
        with shutting_down(tables.backend()) as backend:
            return backend.annotation_obstacle()

    tables.grant("GRANT SELECT ON provider_traces, llmspan_annotations TO {role}")
    assert "may not change annotations; GRANT SELECT, INSERT ON" in (obstacle() or "")
    tables.grant("GRANT INSERT ON llmspan_annotations TO {role}")
    assert obstacle() is None
    tables.grant("ALTER ROLE {role} SET default_transaction_read_only = on")
    assert "only reads now" in (obstacle() or "")


def test_nobody_but_the_owner_drops_days(tables):
    """The functions are not for everybody: a user who was granted nothing may call none of them."""
    for call in ("add_day('2026-01-01')", "drop_day('2026-01-01')", "trim_default('2026-01-01')"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(tables.dsn, f"SELECT provider_traces_{call}")


def test_taking_records_out(tables, caplog):
    """The owner takes records out; a user who may only insert leaves them there, with a warning."""
    tables.grant(WRITE, DAYS)
    backend, trace, other = tables.backend(), make_trace(), make_trace()
    backend.write([trace, other])
    backend.remove([trace.id])
    assert "may not delete" in caplog.text
    assert backend.get(trace.id) == trace
    owner = PostgresBackend(tables.owner)
    owner.remove([trace.id, "not there"])
    assert [backend.get(one.id) for one in (trace, other)] == [None, other]
    owner.shutdown()
    backend.shutdown()


def test_days_out_of_reach(tables):
    """Who may have days made, may not have any number of them made."""
    tables.grant(DAYS)
    for day in ("current_date + 33", "current_date - 402"):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            execute(tables.dsn, f"SELECT provider_traces_add_day({day})")


def test_a_reader(tables):
    """A user who may only select opens and reads; writing and ``check`` say what to grant; after that it works."""
    owner, trace = PostgresBackend(tables.owner), make_trace()
    owner.write([trace])
    tables.grant("GRANT SELECT ON provider_traces TO {role}")
    backend = tables.backend()
    backend.open()
    assert backend.get(trace.id) == trace
    assert backend.stats([])[0].calls == 1
    for use in (lambda: backend.write([make_trace()]), backend.check):
        said = refused(SettingsError, use)
        assert "GRANT INSERT ON" in said
        assert tables.name in said
    tables.grant(WRITE)
    backend.write([make_trace()])
    backend.shutdown()
    owner.shutdown()


def test_rights_that_were_taken_away(tables):
    """A right that is taken away from a writer that runs is about the setting, and waits: no lost record."""
    tables.grant(WRITE, DAYS)
    backend = tables.backend()
    backend.write([make_trace()])
    tables.grant("REVOKE INSERT ON provider_traces FROM {role}")
    assert "permission denied for table provider_traces" in refused(
        SettingsError, lambda: backend.write([make_trace()])
    )
    tables.grant(WRITE)
    backend.write([make_trace()])
    assert backend.stats([])[0].calls == 2
    backend.shutdown()


@pytest.mark.parametrize("right", ["INSERT", "SELECT"])
def test_a_right_on_spans_that_was_taken_away(tables, right):
    """Records go on; the backend says at the next look that it keeps no spans, and again when the right is back."""
    tables.grant(WRITE, DAYS, "GRANT SELECT, INSERT ON llmspan_spans TO {role}")
    backend = tables.backend()
    span = SpanRecord(trace_id="a" * 32, span_id="1" * 16, name="agent", started_at=NOON, duration_ns=1)
    backend.open()
    backend.write_spans([span])
    tables.grant(f"REVOKE {right} ON llmspan_spans FROM {{role}}")
    assert "permission denied for table llmspan_spans" in refused(SettingsError, lambda: backend.write_spans([span]))
    backend.open()
    assert not backend.keeps_spans
    backend.write([make_trace()])
    backend.shutdown()
    tables.grant("GRANT SELECT, INSERT ON llmspan_spans TO {role}")
    backend.open()
    assert backend.keeps_spans
    backend.write_spans([span])
    backend.shutdown()


def test_a_user_who_may_nothing(tables):
    """A user who may not even read is told what to grant."""
    assert "GRANT SELECT ON" in refused(SettingsError, tables.backend().open)


def test_a_user_who_may_not_read_the_version(role):
    """Without the right to read the version, the table that it is about is named."""
    owner = PostgresBackend(role.owner)
    owner.open()
    owner.shutdown()
    assert "permission denied for table llmspan_schema" in refused(SettingsError, role.backend().open)


def test_a_user_who_may_not_make_tables(role):
    """Where there are no tables and the user may not make them, it says who can, and how."""
    backend = role.backend()
    for use in (backend.open, backend.migrate):
        said = refused(SettingsError, use)
        assert "llmspan migrate --backend postgres" in said
        assert f'TO "{role.name}"' in said
        assert "GRANT CREATE ON SCHEMA" in said


def test_a_user_who_may_only_read_transactions(tables):
    """Where transactions are read only, as on a standby after a failover, writing is for later and reading works."""
    tables.grant(WRITE, DAYS, "ALTER ROLE {role} SET default_transaction_read_only = on")
    backend = tables.backend()
    backend.open()
    assert "read-only transaction" in refused(RetryableError, lambda: backend.write([make_trace()]))
    assert backend.list().traces == []
    tables.grant("ALTER ROLE {role} RESET default_transaction_read_only")
    backend.write([make_trace()])
    backend.shutdown()


# -- who cannot come in


def test_wrong_password(role):
    """A wrong password is an error about the setting."""
    backend = PostgresBackend(make_conninfo(role.dsn, password="pw-of-role-but-wrong"))
    assert "password authentication failed" in refused(SettingsError, backend.open)


def test_no_such_database(role):
    """A database that there is not is an error that names it."""
    backend = PostgresBackend(make_conninfo(role.dsn, dbname="nowhere"))
    assert 'database "nowhere" does not exist' in refused(SettingsError, backend.open)


def test_a_nonsensical_option(role):
    """A value that libpq does not know is an error about the setting."""
    backend = PostgresBackend(make_conninfo(role.dsn, sslmode="sometimes"))
    assert "sslmode" in refused(SettingsError, backend.open)


def test_nobody_there():
    """Where nothing listens, it is for later: the application starts, and writes wait."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        backend = PostgresBackend(f"postgresql://me:{PASSWORD}@127.0.0.1:{reserved.getsockname()[1]}/d")
        for use in (backend.open, backend.check, backend.migrate, backend.list, lambda: backend.write([make_trace()])):
            assert "cannot be reached" in refused(RetryableError, use)


def test_no_such_host():
    """A name that leads nowhere is for later, too: where containers start together, it may lead somewhere soon."""
    assert "nowhere.invalid" in refused(RetryableError, PostgresBackend("host=nowhere.invalid connect_timeout=3").open)


def test_starting_without_a_server(caplog):
    """An application that starts before its database gets a warning, not an error."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        dsn = f"postgresql://me@127.0.0.1:{reserved.getsockname()[1]}/d"
        (backend,) = open_backends(Settings(backends=("postgres",), postgres_dsn=dsn))
    assert backend.name == "postgres"
    assert "trying again when there is something to write" in caplog.text


def test_a_silent_server():
    """A server that accepts and then says nothing is given up after ``connect_timeout``, for later."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        backend = PostgresBackend(
            f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/d?connect_timeout=2&sslmode=disable"
        )
        assert "cannot be reached" in refused(RetryableError, backend.open)


def test_a_server_that_starts():
    """A server that says that it is starting up is waited for."""
    with socket.create_server(("127.0.0.1", 0)) as starting:
        said = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"

        def answer() -> None:
            connection, _ = starting.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"E" + (len(said) + 4).to_bytes(4, "big") + said)

        thread = threading.Thread(target=answer)
        thread.start()
        backend = PostgresBackend(
            f"postgresql://me@127.0.0.1:{starting.getsockname()[1]}/d?sslmode=disable&gssencmode=disable"
        )
        assert "starting up" in refused(RetryableError, backend.open)
        thread.join()


def test_a_database_without_unicode(role):
    """A database whose encoding cannot hold all text is refused, with what to make instead."""
    name = f"latin_{uuid.uuid4().hex[:12]}"
    execute(superuser(), f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        backend = PostgresBackend(make_conninfo(superuser(), dbname=name))
        assert "the database's encoding is LATIN1; make one with ENCODING 'UTF8'" in refused(
            SettingsError, backend.open
        )
    finally:
        execute(superuser(), f"DROP DATABASE {name}")


def test_an_old_server(monkeypatch):
    """A server older than what is needed is refused, with both versions."""
    monkeypatch.setattr(postgres_schema, "_OLDEST_SERVER", 990000)
    assert "14 or later is needed" in refused(SettingsError, PostgresBackend(new_schema()).open)


def test_the_application_name(role):
    """The server's administrator sees who is connected, unless the DSN says another name."""
    own = conninfo_to_dict(new_schema())
    for given, expected in ((own, "llmspan"), (own | {"application_name": "mine"}, "mine")):
        backend = PostgresBackend(make_conninfo(**given))
        backend.open()
        rows = execute(superuser(), "SELECT application_name FROM pg_stat_activity")
        assert (expected,) in rows
        backend.shutdown()
