"""Counting and deleting by filters, alike in every store: what is meant goes, with payloads, and nothing else does."""

from __future__ import annotations

import dataclasses
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmspan.backends.base import Filters, NoneOf, OneOf, SupportsDelete
from llmspan.errors import SettingsError
from records import NOON, full_trace, make_trace, newest_first, several, without_payloads

HOUR = 3_600_000_000_000

#: three users, two of whom have payloads of all sizes
RECORDS = [
    make_trace(id="a1", user_id="ann", started_at=NOON, request_json=json.dumps({"prompt": "a" * 300})),
    make_trace(id="a2", user_id="ann", started_at=NOON + 1, step_id="s", status="error", error_message="ann's"),
    make_trace(
        id="b1", user_id="bob", started_at=NOON + 2 * HOUR, step_id="s", response_json=json.dumps("b" * 100_000)
    ),
    make_trace(id="b2", user_id="bob", started_at=NOON - 2 * HOUR, run_id="r", agent_id="x", org_id="o"),
    make_trace(id="n1", user_id=None, started_at=-NOON, trace_id="0" * 31 + "1", attributes={"user": "ann"}),
    make_trace(id="n2", user_id="", started_at=3 * NOON, provider="anthropic", call_type="ann"),
]


DELETED = [
    (Filters(user_id="ann"), "a1 a2"),
    (Filters(user_id=NoneOf(("ann",))), "b1 b2 n1 n2"),
    (Filters(user_id="ann' OR '1'='1"), ""),
    (Filters(id=OneOf(("a1", "n1", "none"))), "a1 n1"),
    (Filters(step_id="s", user_id="bob"), "b1"),
    (Filters(status="error"), "a2"),
    (Filters(since=NOON, until=NOON + 2), "a1 a2"),
    (Filters(until=NOON), "b2 n1"),
    (Filters(until=-(2**70)), ""),
    (Filters(), "a1 a2 b1 b2 n1 n2"),
]
COUNTED = [
    *DELETED,
    (Filters(user_id=OneOf(("ann", "bob"))), "a1 a2 b1 b2"),
    (Filters(user_id=""), "n2"),
    (Filters(user_id="nobody"), ""),
    (Filters(user_id="ANN"), ""),
    (Filters(user_id=OneOf(())), ""),
    (Filters(id="b1"), "b1"),
    (Filters(id=NoneOf(("a1", "n1"))), "a2 b1 b2 n2"),
    (Filters(step_id="s"), "a2 b1"),
    (Filters(run_id="r"), "b2"),
    (Filters(agent_id="x", org_id="o"), "b2"),
    (Filters(trace_id="0" * 31 + "1"), "n1"),
    (Filters(status=OneOf(("ok", "error"))), "a1 a2 b1 b2 n1 n2"),
    (Filters(provider="anthropic"), "n2"),
    (Filters(call_type="ann"), "n2"),
    (Filters(request_model=NoneOf(("gpt-5",))), ""),
    (Filters(since=NOON + 1), "a2 b1 n2"),
    (Filters(until=NOON, user_id="bob"), "b2"),
    (Filters(until=0), "n1"),
    (Filters(since=2**70), ""),
    (Filters(until=2**70), "a1 a2 b1 b2 n1 n2"),
]


def ids(backend: Any, filters: Filters | None = None) -> set[str]:
    return {trace.id for trace in backend.list(filters, limit=1000).traces}


def test_can_delete(backend):
    """The backend is one whose records can be deleted."""
    assert isinstance(backend, SupportsDelete)


def test_what_is_counted(backend):
    """Exactly the records that the filters mean are counted."""
    backend.write(RECORDS)
    assert [(filters, backend.count(filters)) for filters, _ in COUNTED] == [
        (filters, len(meant.split())) for filters, meant in COUNTED
    ]


@pytest.mark.parametrize(("filters", "meant"), DELETED)
def test_what_is_meant_goes(backend, filters, meant):
    """Exactly the records that the filters mean are deleted and no longer shown; the others are whole."""
    backend.write(RECORDS)
    gone = set(meant.split())
    assert backend.count(filters) == len(gone)
    assert backend.delete(filters) == len(gone)
    assert backend.count(filters) == 0
    left = [trace for trace in RECORDS if trace.id not in gone]
    assert backend.count() == len(left)
    assert backend.list().traces == [without_payloads(trace) for trace in newest_first(left)]
    assert [backend.get(trace.id) for trace in RECORDS] == [None if t.id in gone else t for t in RECORDS]
    assert backend.stats([])[0].calls == len(left)
    assert {trace.id for trace in backend.list_by_step_id("s")} == {"a2", "b1"} - gone
    assert backend.ids_with_prefix("a", 9) == sorted({"a1", "a2"} - gone)


def test_again_and_empty(backend):
    """Deleting what is gone, or from a store without records, deletes nothing and is no failure."""
    assert (backend.count(), backend.delete(Filters())) == (0, 0)
    backend.write(RECORDS)
    assert backend.delete(Filters(user_id="ann")) == 2
    assert backend.delete(Filters(user_id="ann")) == 0
    assert backend.delete(Filters()) == 4
    assert backend.delete(Filters(), thorough=False) == 0


def test_values_as_they_are_stored(backend):
    """A value that no store can hold is found by what it became: NUL, lone surrogates, texts that are too long."""
    backend.write([make_trace(user_id="a\0b"), make_trace(user_id="\ud800"), make_trace(user_id="x" * 100_000)])
    for value in ("a\0b", "\ud800", "x" * 100_000):
        assert backend.delete(Filters(user_id=value)) == 1


def test_every_key_of_filters(backend):
    """Each key that filters have finds the one record that has another value there."""
    left_out = ("since", "until", "conditions")
    keys = [field.name for field in dataclasses.fields(Filters) if field.name not in left_out]
    facts = {"model": lambda value: {"response_model": value}, "tag": lambda value: {"agent_tags": (value,)}}
    others = {key: "cancelled" if key == "status" else f"another {key}" for key in keys}
    for key, value in others.items():
        backend.write([full_trace(**{"id": key, **facts.get(key, lambda text, key=key: {key: text})(value)})])
    backend.write([full_trace(id="last")])
    for key, value in others.items():
        assert backend.count(Filters(**{key: value})) == 1, key
    for key in keys[:3] + keys[-3:]:
        assert backend.delete(Filters(**{key: others[key]})) == 1, key
    assert ids(backend) == {*keys[3:-3], "last"}


def test_unknown_value_of_a_closed_set():
    """A status that there is not is an error, not a deletion of nothing."""
    with pytest.raises(SettingsError, match="status=eror"):
        Filters(status="eror")


def test_many_at_one_moment(backend):
    """More records than one step takes, all of the same nanosecond, are deleted; progress adds up."""
    backend.write([make_trace(id=f"{at:05}", user_id="ab"[at % 2]) for at in range(12_000)])
    steps: list[int] = []
    assert backend.delete(Filters(user_id="a"), thorough=False, progress=steps.append) == 6_000
    assert sum(steps) == 6_000
    assert backend.count() == backend.count(Filters(user_id="b")) == 6_000


@settings(several, max_examples=15)  # a mutation of ClickHouse takes its time
@given(data=st.data())
def test_any_filters(empty_backend, data):
    """Whatever is stored and whatever is asked for: what the list shows for filters is what is deleted by them."""
    backend = empty_backend()
    values = st.none() | st.sampled_from(["", "a", "b", "'", "ü"])
    records = [
        make_trace(
            id=f"id-{at}", started_at=data.draw(st.sampled_from([-1, 0, 1, NOON])), user_id=data.draw(values),
            step_id=data.draw(values), org_id=data.draw(values),
        )
        for at in range(8)
    ]  # fmt: skip
    backend.write(records)
    texts = st.sampled_from(["", "a", "b", "'", "ü", "c"])
    some = st.lists(texts, max_size=3).map(tuple)
    wanted = st.none() | texts | some.map(OneOf) | some.map(NoneOf)
    moments = st.none() | st.sampled_from([-1, 0, 1, NOON, 2**64])
    filters = Filters(
        user_id=data.draw(wanted), step_id=data.draw(wanted), since=data.draw(moments), until=data.draw(moments)
    )
    meant, before = ids(backend, filters), ids(backend)
    assert backend.count(filters) == len(meant)
    assert backend.delete(filters, thorough=data.draw(st.booleans())) == len(meant)
    assert ids(backend) == before - meant
    backend.shutdown()


def test_while_others_write(backend):
    """Nothing is lost that is accepted during a deletion and not meant by it; what was there and is meant is gone."""
    backend.write([make_trace(id=f"old-{at}", user_id="ann", step_id="old") for at in range(300)])

    def write(name: int) -> list[str]:
        written = [make_trace(user_id="bob", started_at=NOON + at % 7 - 3) for at in range(60)]
        for at in range(0, len(written), 3):
            backend.write(written[at : at + 3])
        return [trace.id for trace in written]

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, name) for name in range(3)]
        deleted = [
            pool.submit(backend.delete, Filters(user_id="ann")),
            pool.submit(backend.delete, Filters(step_id="old")),
        ]
        accepted = {name for writer in writers for name in writer.result()}
        counts = [one.result() for one in deleted]
    assert ids(backend) == accepted
    assert all(backend.get(name).request_json is not None for name in accepted)
    assert 300 <= sum(counts) <= 600


def test_deleted_and_opened_again(backend):
    """What was deleted does not come back when the store is closed and opened."""
    backend.write(RECORDS)
    backend.delete(Filters(user_id="ann"))
    backend.shutdown()
    backend.open()
    assert ids(backend) == {"b1", "b2", "n1", "n2"}


def test_clock_of_the_store(backend):
    """The store says what time it is; here its machine is this one."""
    before = time.time_ns()
    assert before - HOUR < backend.now() < time.time_ns() + HOUR
