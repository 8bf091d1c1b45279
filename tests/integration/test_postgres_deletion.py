"""Deleting in Postgres: every partition, several at once, and rights that are missing."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from integration.test_postgres_roles import Role, refused, role, tables
from llmspan.backends.base import Filters
from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.postgres import store as postgres_store
from llmspan.errors import RefusedError
from records import DAY, make_trace, this_day
from stores import shutting_down
from stores.postgres import execute, new_schema

__all__ = ["role", "tables"]


def test_every_partition():
    """Records of days that have a partition, of the default partition and of all times are deleted alike."""
    dsn = new_schema()
    with shutting_down(PostgresBackend(dsn)) as backend:
        times = [-(2**63), -1, this_day() - 500 * DAY, this_day() - DAY, this_day(), this_day() + 90 * DAY, 2**63 - 1]
        backend.write([make_trace(started_at=at, user_id=user) for at in times for user in ("ann", "bob")])
        assert backend.delete(Filters(user_id="ann")) == len(times)
        assert backend.count() == backend.count(Filters(user_id="bob")) == len(times)
        assert backend.delete(Filters(until=this_day() - 30 * DAY)) == 3
        assert execute(dsn, "SELECT count(*) FROM provider_traces") == [(4,)]


def test_whole_days_are_dropped():
    """Where all of the past is meant, the tables of days that are over are dropped, and counted like rows."""
    dsn = new_schema()
    with shutting_down(PostgresBackend(dsn)) as backend:
        today = this_day()
        times = [today - 500 * DAY, today - 9 * DAY, today - 8 * DAY, today - 7 * DAY + 5, today - DAY, today]
        backend.write([make_trace(started_at=at) for at in times])
        days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'provider_traces'::regclass"
        ((before,),) = execute(dsn, days)
        assert backend.delete(Filters(until=today - 7 * DAY + 5)) == 3
        assert [trace.started_at for trace in reversed(backend.list().traces)] == times[3:]
        assert execute(dsn, days) == [(before - 2,)]
        assert backend.delete(Filters(until=today - 6 * DAY, provider="openai")) == 1
        assert execute(dsn, days) == [(before - 2,)]
        assert backend.delete(Filters(until=today + 999 * DAY)) == 2


def test_days_that_are_locked():
    """Where a day cannot be dropped, since somebody reads it, its rows are deleted."""
    dsn = new_schema()
    with shutting_down(PostgresBackend(dsn)) as backend:
        backend.write([make_trace(started_at=this_day() - 9 * DAY), make_trace(started_at=this_day())])
        with psycopg.connect(dsn) as other:
            other.execute("SELECT count(*) FROM provider_traces")
            assert backend.delete(Filters(until=this_day())) == 1
        assert backend.count() == 1


def test_one_who_may_drop_days_but_not_delete(tables: Role):
    """Who may drop days, and not delete, deletes nothing: it would be half of what is asked for."""
    tables.grant(
        "GRANT SELECT ON provider_traces TO {role}",
        "GRANT EXECUTE ON FUNCTION provider_traces_drop_day(date), provider_traces_trim_default(date) TO {role}",
    )
    with shutting_down(PostgresBackend(tables.owner)) as owner, shutting_down(tables.backend()) as backend:
        owner.write([make_trace(started_at=this_day() - 9 * DAY)])
        refused(RefusedError, lambda: backend.delete(Filters(until=this_day())))
        assert owner.count() == 1


def test_several_at_once(monkeypatch):
    """Deletions that meet delete everything between them, and count each record once."""
    monkeypatch.setattr(postgres_store, "_DELETE", postgres_store._DELETE.replace("LIMIT 5000", "LIMIT 50"))
    dsn = new_schema()
    backends = [PostgresBackend(dsn) for _ in range(3)]
    backends[0].write([make_trace(started_at=this_day() + at % 5) for at in range(1_000)])
    with ThreadPoolExecutor(3) as pool:
        counts = list(pool.map(lambda backend: backend.delete(Filters()), backends))
    assert sum(counts) == 1_000
    assert backends[0].count() == 0
    for backend in backends:
        backend.shutdown()


def test_one_who_may_only_read(tables: Role):
    """Who may only read counts, and is told which right is missing when it is to delete."""
    tables.grant("GRANT SELECT ON provider_traces TO {role}")
    with shutting_down(PostgresBackend(tables.owner)) as owner, shutting_down(tables.backend()) as backend:
        owner.write([make_trace(), make_trace(user_id="ann")])
        assert backend.count(Filters(user_id="ann")) == 1
        for filters in (Filters(user_id="ann"), Filters(user_id="nobody")):
            said = refused(RefusedError, lambda filters=filters: backend.delete(filters))
            assert f"the user '{tables.name}' may not delete records; GRANT DELETE ON" in said
            assert said.endswith(f'provider_traces TO "{tables.name}"')
        assert owner.count() == 2


def test_one_who_may_only_delete(tables: Role, caplog):
    """SELECT and DELETE are all that it takes; no right to write, and none to have days made."""
    caplog.set_level(logging.WARNING, "llmspan")
    tables.grant("GRANT SELECT, DELETE ON provider_traces TO {role}")
    with shutting_down(PostgresBackend(tables.owner)) as owner, shutting_down(tables.backend()) as backend:
        owner.write([make_trace(), make_trace(user_id="ann")])
        assert backend.delete(Filters(user_id="ann")) == 1
        assert owner.count() == 1
    assert caplog.text == ""


def test_clock_of_the_server():
    """The time is the server's: in a transaction that began long ago it goes on."""
    with shutting_down(PostgresBackend(new_schema())) as backend:
        backend.open()
        first, second = backend.now(), backend.now()
        assert 0 < first < second


@pytest.mark.parametrize("dsn_has_tables", [False])
def test_no_tables(dsn_has_tables):
    """Counting and deleting make no tables; the error is the one that readers get."""
    dsn = new_schema()
    with shutting_down(PostgresBackend(dsn, auto_migrate=False)) as backend:
        for use in (backend.count, lambda: backend.delete(Filters())):
            with pytest.raises(Exception, match="has no tables of llmspan"):
                use()
    assert execute(dsn, "SELECT to_regclass('provider_traces')") == [(None,)]
