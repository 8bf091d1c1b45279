"""Annotations in Postgres: they go with a day that is dropped, and whoever has no right is told which."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from llmspan.annotation import Annotation
from llmspan.backends.postgres import PostgresBackend
from llmspan.errors import RefusedError
from llmspan.query.filters import Filters
from records import DAY, make_trace, this_day
from stores import shutting_down
from stores.postgres import execute, new_schema

OLD, NEW, MIXED = "a" * 32, "b" * 32, "c" * 32


def note(**overrides: Any) -> Annotation:
    values: dict[str, Any] = {"record_id": None, "trace_id": None, "value": 1}
    return Annotation.make(**({"name": "score", "comment": None, "source": None} | values | overrides))


def names(backend: PostgresBackend) -> list[str]:
    found = backend.annotations(["old", "new", "odd", "left"], [OLD, NEW, MIXED], 100)
    return [one.name for one in found]


def test_annotations_go_with_their_day() -> None:
    """A dropped day, and old records of the default partition, take theirs along; traces that go on keep theirs."""
    dsn, old = new_schema(), this_day() - 20 * DAY
    with shutting_down(PostgresBackend(dsn)) as backend:
        backend.write([
            make_trace(id="old", trace_id=OLD, started_at=old), make_trace(id="left", trace_id=MIXED, started_at=old),
            make_trace(id="odd", trace_id=NEW, started_at=0),
            make_trace(id="new", trace_id=MIXED, started_at=this_day()),
        ])  # fmt: skip
        for one in ("old", "left", "odd", "new"):
            backend.annotate(note(record_id=one, name=one))
        for trace, name in ((OLD, "trace old"), (NEW, "trace odd"), (MIXED, "trace mixed")):
            backend.annotate(note(trace_id=trace, name=name))
        execute(dsn, "SELECT provider_traces_drop_day((now() AT TIME ZONE 'UTC')::date - 20)")
        assert names(backend) == ["odd", "new", "trace odd", "trace mixed"]
        execute(dsn, "SELECT provider_traces_trim_default((now() AT TIME ZONE 'UTC')::date - 10)")
        assert names(backend) == ["new", "trace mixed"]


def test_a_table_that_was_dropped_takes_its_annotations_along() -> None:
    """Where the records were dropped by hand, the annotations that are left are about nothing, and go."""
    dsn = new_schema()
    with shutting_down(PostgresBackend(dsn)) as backend:
        backend.write([make_trace(id="old")])
        backend.annotate(note(record_id="old"))
    execute(dsn, "DROP TABLE provider_traces")
    with shutting_down(PostgresBackend(dsn)) as backend:
        backend.open()
        assert names(backend) == []


def test_a_deletion_takes_what_is_being_written_along() -> None:
    """An annotation that is not committed yet when its record is deleted goes as well: the deletion waits for it."""
    dsn = new_schema()
    with (
        shutting_down(PostgresBackend(dsn)) as backend,
        psycopg.connect(dsn) as other,
        ThreadPoolExecutor(1) as threads,
    ):
        backend.write([make_trace(id="old")])
        other.execute("SELECT pg_advisory_xact_lock_shared(7812739796155067951)")
        other.execute(
            "INSERT INTO llmspan_annotations (id, record_id, name, created_at) VALUES ('1', 'old', 'note', 0)"
        )
        deletion = threads.submit(backend.delete, Filters(id="old"))
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while not execute(dsn, waiting) and not deletion.done():
            pass
        other.commit()
        assert deletion.result() == 1
        assert names(backend) == []


def test_a_dropped_day_takes_what_is_being_written_along() -> None:
    """Likewise where a whole day goes: it waits for who has looked for the record, and looks for orphans after that."""
    dsn = new_schema()
    day = "(now() AT TIME ZONE 'UTC')::date - 20"
    insert = "INSERT INTO llmspan_annotations (id, record_id, name, created_at)"
    now = "(extract(epoch FROM now()) * 1000000000)::bigint"
    with (
        shutting_down(PostgresBackend(dsn)) as backend,
        psycopg.connect(dsn) as other,
        ThreadPoolExecutor(1) as threads,
    ):
        backend.write([make_trace(id="old", started_at=this_day() - 20 * DAY)])
        other.execute(f"{insert} SELECT '1', id, 'note', {now} FROM provider_traces WHERE id = 'old'")
        drop = threads.submit(execute, dsn, f"SELECT provider_traces_drop_day({day})")
        while not execute(dsn, "SELECT 1 FROM pg_locks WHERE NOT granted") and not drop.done():
            pass
        other.commit()
        assert drop.result() == [(True,)]
        assert names(backend) == []


def test_rights_of_a_reader() -> None:
    """A role that only reads sees annotations and finds calls by them; to write one it is told what to grant."""
    owner, role = new_schema(), f"reader_{this_day()}_{id(note)}"
    from psycopg.conninfo import make_conninfo

    from llmspan.backends.base import Filters

    with shutting_down(PostgresBackend(owner)) as backend:
        backend.write([make_trace(id="old")])
        backend.annotate(note(record_id="old"))
        schema = execute(owner, "SELECT current_schema()")[0][0]
        execute(owner, f"CREATE ROLE {role} LOGIN PASSWORD 'pw-of-role'", f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        try:
            tables = "llmspan_schema, provider_traces, llmspan_spans, llmspan_annotations"
            execute(owner, f"GRANT SELECT ON {tables} TO {role}")
            dsn = make_conninfo(owner, user=role, password="pw-of-role")
            with shutting_down(PostgresBackend(dsn, auto_migrate=False)) as reader:
                assert names(reader) == ["score"]
                assert reader.count(Filters.parse("score:1")) == 1
                for use, right in (
                    (lambda: reader.annotate(note(record_id="old")), "INSERT"),
                    (lambda: reader.remove_annotation("x"), "DELETE"),
                ):
                    with pytest.raises(RefusedError, match=f"may not change annotations; GRANT SELECT, {right} ON"):
                        use()
        finally:
            execute(owner, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")
