"""Deleting in ClickHouse: every row of a record, its spans, and what is said where it is not possible."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmspan import semconv
from llmspan.backends.base import Filters, NoneOf
from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.backends.clickhouse import deletion as clickhouse_delete
from llmspan.backends.clickhouse.deletion import Deletion
from llmspan.backends.query import Query
from llmspan.errors import RefusedError, RetryableError
from llmspan.trace import KEYS
from records import NOON, full_trace, make_trace
from stores import clickhouse, clickhouse_http, shutting_down


@pytest.fixture
def backend() -> Iterator[ClickHouseBackend]:
    settings = clickhouse.settings(clickhouse.embedded_dsn(), clickhouse_otel_traces=True)
    with shutting_down(ClickHouseBackend.from_settings(settings)) as backend:
        backend.open()
        yield backend


@pytest.fixture
def over_http() -> Iterator[ClickHouseBackend]:
    with shutting_down(clickhouse.over_http()) as backend:
        backend.open()
        yield backend


def rows(backend: ClickHouseBackend, sql: str) -> list[dict[str, Any]]:
    return list(backend._client().rows(sql.replace("FROM ", f"FROM {backend._client().dsn.database}.")))


def insert_row(backend: ClickHouseBackend, precedence: int, **values: Any) -> None:
    """A row of a record beside those that there are; the one with the highest precedence is shown."""
    shown = dict.fromkeys(KEYS) | {
        name: value for name, value in make_trace(**values).to_dict().items() if name in ("id", "started_at", "user_id")
    }
    columns = {name: value for name, value in shown.items() if value is not None}
    columns |= {
        "provider": "p",
        "operation": "o",
        "api": "a",
        "status": "ok",
        "duration_ns": 1,
        "precedence": precedence,
    }
    client = backend._client()
    client._types.clear()
    client.insert(backend._table("provider_traces"), tuple(columns), [list(columns.values())], {"async_insert": 0})
    client._types.clear()


def test_all_rows_of_a_record(backend):
    """A record that has several rows is gone as a whole, also where a row that is not shown has another user."""
    backend.write([make_trace(id="x", user_id="ann"), make_trace(id="y", user_id="bob")])
    insert_row(backend, 1, id="x", user_id="bob")
    insert_row(backend, 2, id="x", user_id=None)
    insert_row(backend, 1, id="y", user_id="ann")
    assert backend.count(Filters(user_id="ann")) == 1
    assert backend.delete(Filters(user_id="ann")) == 1
    assert rows(backend, "SELECT id, user_id FROM provider_traces") == [{"id": "y", "user_id": "bob"}]
    assert backend.get("y").user_id == "bob"


def test_rows_that_are_not_shown(backend):
    """Where only a row that is not shown is meant, the row goes and the record stays."""
    backend.write([make_trace(id="y", user_id="bob")])
    insert_row(backend, 1, id="y", user_id="ann")
    assert backend.delete(Filters(user_id="ann")) == 0
    assert rows(backend, "SELECT user_id FROM provider_traces") == [{"user_id": "bob"}]


def test_odd_ids_of_such_records(backend, monkeypatch):
    """Ids are literals there, in statements of bounded length; quotes and backslashes in them are their own."""
    monkeypatch.setattr(clickhouse_delete, "_IDS_BYTES", 20)
    names = ["it's", "back\\slash", "\\' OR 1=1 --", "ü", "plain"]
    backend.write([*(make_trace(id=name, user_id="ann") for name in names), make_trace(id="stays")])
    for name in names:
        insert_row(backend, 1, id=name, user_id="bob")
    assert backend.delete(Filters(user_id="ann")) == len(names)
    assert rows(backend, "SELECT id FROM provider_traces") == [{"id": "stays"}]


def test_spans(backend):
    """The spans that were written with the records go; those of other records and of other programs stay."""
    ann, bob = full_trace(id="a", user_id="ann"), full_trace(id="b", user_id="bob", span_id="00f067aa0ba902b8")
    backend.write([ann, bob])
    client = backend._client()
    client._types.clear()
    other = {"Timestamp": NOON, "TraceId": ann.trace_id, "SpanId": "0000000000000001", "SpanName": "theirs"}
    client.insert(backend._table("otel_traces"), tuple(other), [list(other.values())], {"async_insert": 0})
    client._types.clear()
    assert backend.delete(Filters(user_id="ann")) == 1
    found = rows(backend, "SELECT SpanName, SpanAttributes FROM otel_traces ORDER BY SpanName")
    assert [(row["SpanName"], row["SpanAttributes"].get(semconv.RECORD_ID)) for row in found] == [
        ("chat gpt-5", "b"), ("theirs", None),
    ]  # fmt: skip


def test_spans_of_a_collector(backend):
    """A span that became a record goes with it, though it has no id of a record itself."""
    client = backend._client()
    client._types.clear()
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}
    for span_id, more in (("00f067aa0ba902b7", {"user.id": "ann"}), ("00f067aa0ba902b8", {"user.id": "bob"})):
        row = {"Timestamp": NOON, "TraceId": "1" * 32, "SpanId": span_id, "SpanAttributes": attributes | more}
        client.insert(backend._table("otel_traces"), tuple(row), [list(row.values())], {"async_insert": 0})
        client._types.clear()
    (first, second) = backend.list().traces
    assert backend.delete(Filters(id=NoneOf((first.id,)))) == 1
    assert [trace.id for trace in backend.list().traces] == [first.id]
    assert [row["SpanId"] for row in rows(backend, "SELECT SpanId FROM otel_traces")] == [first.span_id]
    assert backend.get(second.id) is None


def test_payload_is_in_no_part(backend):
    """No part that the table consists of has the payload when the call returns: it was not merely hidden."""
    backend.write([make_trace(user_id="ann", request_json='"PLANTED-7c1d2f"'), make_trace(user_id="bob")])
    assert parts_with(backend, b"PLANTED-7c1d2f") == 1
    assert backend.delete(Filters(user_id="ann")) == 1
    assert parts_with(backend, b"PLANTED-7c1d2f") == 0


def parts_with(backend: ClickHouseBackend, text: bytes) -> int:
    """How many of the parts that the table consists of have ``text`` in a file."""
    found = backend._client().rows(
        "SELECT path FROM system.parts WHERE active AND database = {d:String} AND table = 'provider_traces'",
        {"d": backend._client().dsn.database},
    )
    assert found
    return sum(
        any(text in file.read_bytes() for file in Path(row["path"]).rglob("*") if file.is_file()) for row in found
    )


def test_nothing_to_delete_changes_nothing(over_http):
    """Where no record is meant, there is no mutation."""
    front = clickhouse.front()
    over_http.write([make_trace()])
    before = front.count("ALTER")
    assert over_http.delete(Filters(user_id="nobody")) == 0
    assert front.count("ALTER") == before


def test_missing_right(over_http):
    """A user who may not delete is told which right is missing, and nothing is deleted."""
    over_http.write([make_trace()])
    missing = (
        "Code: 497. DB::Exception: reader: Not enough privileges. To execute this query, it's necessary to have the"
        " grant ALTER DELETE ON llm.provider_traces. (ACCESS_DENIED)"
    )
    with (
        clickhouse.front().failing(clickhouse_http.status(500, 497, missing), where="ALTER", times=9),
        pytest.raises(RefusedError, match=r"the grant ALTER DELETE ON llm\.provider_traces"),
    ):
        over_http.delete(Filters())
    assert over_http.count() == 1


def test_server_that_goes_away(over_http):
    """A connection that is lost is an error for now; the deletion can be done again."""
    over_http.write([make_trace()])
    with (
        clickhouse.front().failing(clickhouse_http.drop_before, where="ALTER", times=9),
        pytest.raises(RetryableError),
    ):
        over_http.delete(Filters())
    assert over_http.delete(Filters()) == 1


def test_mutation_that_fails(backend):
    """A mutation that the server cannot carry out is an error that names it and says why."""
    backend.write([make_trace()])
    where = Query("throwIf(id != '', 'out of memory, say')", {})
    deletion = Deletion(backend._client(), None, where)
    with pytest.raises(RetryableError, match=r"the mutation mutation_\d+\.txt .* fails .*out of memory, say"):
        deletion._mutate(deletion._local, where.sql, {})
    backend._client().command(
        f"KILL MUTATION WHERE database = '{backend._client().dsn.database}' AND table = 'provider_traces'"
    )


def test_statements_on_a_cluster(monkeypatch):
    """On a cluster the local tables are changed on every node, and the mutations of all nodes are waited for."""
    said: list[str] = []

    class Recording:
        dsn = dataclasses.replace(clickhouse.parse_dsn("http://host/llm"))

        def rows(self, sql: str, values: object = None) -> list[dict[str, Any]]:
            said.append(sql)
            return [] if "system." in sql or "DISTINCT" in sql else [{"number": 1}]

        def command(self, sql: str, values: object = None, settings: object = None) -> None:
            said.append(sql)

    client: Any = Recording()
    assert Deletion(client, "main", Query("user_id = {user_id:String}", {"user_id": "ann"})).run() == 1
    assert "ALTER TABLE `llm`.provider_traces_local ON CLUSTER `main` DELETE WHERE user_id = {user_id:String}" in said
    assert any("FROM clusterAllReplicas(`main`, system.mutations)" in sql for sql in said)
