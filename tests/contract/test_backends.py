"""What every backend that can be read must do, whatever it is made of."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan.backends import backend_names
from llmspan.backends.base import Backend, Filters
from llmspan.errors import PermanentError
from llmspan.trace import KEYS, ProviderTrace
from llmspan.usage import Usage
from records import NOON, full_trace, make_trace, newest_first, several, traces, without_payloads


def test_is_a_backend(backend):
    """The class fulfils the protocol, and names itself."""
    assert isinstance(backend, Backend)
    assert backend.readable
    assert backend.name in backend_names()


def test_two_stores_have_two_locations(make_backend):
    """Different places have different locations, and the same one always the same."""
    one, other = make_backend(), make_backend()
    assert one.location == one.location
    assert one.location != other.location


# -- what goes in comes out


def test_every_key_comes_back(backend):
    """A record in which no value is the default is read back equal, key by key."""
    trace = full_trace()
    unlike_default = make_trace(id="x").to_dict() | {"request_json": None, "response_json": None, "content": "metadata"}
    same = {key for key in KEYS if trace.to_dict()[key] == unlike_default[key]}
    assert same <= {"provider", "operation", "api", "request_model", "duration_ns"}
    backend.write([trace])
    assert backend.get(trace.id).to_dict() == trace.to_dict()


def test_least_record_comes_back(backend):
    """A record of nothing but what is required is read back with None, not zero or empty text, for all else."""
    trace = ProviderTrace(
        id="x", provider="p", operation="o", api="a", status="incomplete", started_at=0, duration_ns=0
    )
    backend.write([trace])
    found = backend.get("x")
    assert found == trace
    assert found.usage == Usage()
    assert found.usage.raw is None


def test_zero_is_not_none(backend):
    """A zero that was reported stays a zero, an empty text an empty text, an empty object an empty object."""
    usage = Usage(input_tokens=0, cache_read_tokens=0, reasoning_tokens=None, source="provider", raw={})
    trace = make_trace(
        usage=usage, step_id="", attempts=0, chunk_count=0, error_message="", error_json={}, llm_config=0
    )
    backend.write([trace])
    found = backend.get(trace.id)
    assert found == trace
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.reasoning_tokens) == (0, None, None)
    assert found.usage.raw == {}
    assert (found.step_id, found.error_json, found.llm_config) == ("", {}, 0)


@pytest.mark.parametrize("value", [False, True])
def test_bool_is_a_bool(backend, value):
    """``stream`` comes back as a bool, not as a number."""
    trace = make_trace(stream=value)
    backend.write([trace])
    assert backend.get(trace.id).stream is value


@pytest.mark.parametrize(
    "payload",
    [
        '{ "a" : 1,\n\t"a":2 }',
        '{"n":1e400,"m":-0.0,"k":123456789012345678901234567890.1234567890}',
        '{"t":"\\u0000\\ud83d\\ude00 \U0001f600 ü"}',
        '"text"',
        "null",
    ],
)
def test_payload_is_text(backend, payload):
    """JSON text is stored to the character: spacing, doubled keys, numbers beyond any float, escaped NUL."""
    trace = make_trace(request_json=payload, response_json=payload)
    backend.write([trace])
    assert backend.get(trace.id).request_json == payload
    assert backend.get(trace.id).response_json == payload


def test_large_payload(backend):
    """A payload of 16 MiB is stored whole."""
    payload = '{"text":"' + "ü" * (8 * 1024 * 1024 - 16) + '"}'
    trace = make_trace(response_json=payload)
    backend.write([trace])
    assert backend.get(trace.id).response_json == payload


def test_metadata_only(backend):
    """A record without payloads says so, and keeps what is known of their size."""
    trace = make_trace(request_json=None, response_json=None, content="metadata", request_bytes=17, response_bytes=0)
    backend.write([trace])
    assert backend.get(trace.id) == trace


def test_nul_characters(backend):
    """NUL becomes U+FFFD in text, which not every store can hold otherwise, is found by either, and stays in JSON."""
    payload = '{"text":"a\\u0000b"}'
    trace = make_trace(
        step_id="a\0b", user_id="\0", error_message="x\0y", agent_tags=("\0",), attributes={"\0": "\0"},
        llm_config="\0", request_json=payload,
    )  # fmt: skip
    backend.write([trace, make_trace(step_id="a")])
    found = backend.get_by_step_id("a\0b")
    assert found == dataclasses.replace(trace, step_id="a\ufffdb", user_id="\ufffd", error_message="x\ufffdy")
    assert backend.get_by_step_id("a\ufffdb") == found
    assert [one.id for one in backend.list(Filters(user_id="\0")).traces] == [trace.id]


def test_lone_surrogates(backend):
    """Lone surrogates, which UTF-8 cannot hold, become U+FFFD everywhere and never fail a write."""
    bad = "a\ud800b"
    trace = make_trace(
        step_id=bad, error_message="\udfff", agent_tags=(bad,), attributes={bad: [bad]}, llm_config=bad,
        finish_reasons=(bad, None), request_json=f'"{bad}"',
        usage=Usage(details={bad: 1}, raw={"x": bad}),
    )  # fmt: skip
    backend.write([trace])
    found = backend.get(trace.id)
    good = "a\ufffdb"
    assert (found.step_id, found.error_message, found.agent_tags) == (good, "\ufffd", (good,))
    assert (found.attributes, found.llm_config, found.finish_reasons) == ({good: [good]}, good, (good, None))
    assert (found.usage.details, found.usage.raw, found.request_json) == ({good: 1}, {"x": good}, f'"{good}"')
    assert backend.get_by_step_id(bad) == found
    assert [one.id for one in backend.list(Filters(step_id=bad)).traces] == [trace.id]
    assert backend.get("\ud800") is None
    assert backend.ids_with_prefix("\ud800", 1) == []


def test_values_that_json_has_not(backend):
    """Metadata that strict JSON cannot hold is rendered; the caller's object is not what the store holds."""
    attributes: dict[str, Any] = {"nan": float("nan"), "bytes": b"\x00", "path": Path("/x"), "pair": (1, 2)}
    trace = make_trace(attributes=attributes)
    backend.write([trace])
    attributes["later"] = 1
    assert backend.get(trace.id).attributes == {"nan": None, "bytes": "AA==", "path": "/x", "pair": [1, 2]}


def test_reading_twice_gives_separate_objects(backend):
    """Changing what was read changes nothing in the store."""
    trace = make_trace(attributes={"a": [1]})
    backend.write([trace])
    backend.get(trace.id).attributes["a"].append(2)
    assert backend.get(trace.id).attributes == {"a": [1]}


def test_int_subclasses(backend):
    """An ``IntEnum`` such as ``http.HTTPStatus`` is stored as its number."""
    trace = make_trace(http_status=HTTPStatus.TOO_MANY_REQUESTS)
    backend.write([trace])
    assert backend.get(trace.id).http_status == 429


@pytest.mark.parametrize("extreme", [2**63 - 1, -(2**63)])
def test_extreme_numbers(backend, extreme):
    """Nanoseconds and counts of 64 bits are exact."""
    trace = make_trace(started_at=extreme, duration_ns=extreme, usage=Usage(input_tokens=extreme))
    backend.write([trace])
    assert backend.get(trace.id) == trace
    assert backend.list(limit=1).traces == [without_payloads(trace)]


@pytest.mark.parametrize("field", [{"usage": Usage(input_tokens=2**63)}, {"chunk_count": 1.5}, {"duration_ns": "1"}])
def test_impossible_number_fails_the_batch(backend, field):
    """A number that is no 64-bit integer is a permanent failure that names record and key; nothing is stored."""
    good, bad = make_trace(), make_trace(id="bad-one", **field)
    with pytest.raises(PermanentError, match=r"record bad-one: \w+ is .*, not a whole number of 64 bits"):
        backend.write([good, bad])
    assert backend.get(good.id) is None
    backend.write([good])
    assert backend.get(good.id) == good


@several
@given(records=st.lists(traces(), max_size=4, unique_by=lambda trace: trace.id))
def test_any_record_comes_back(empty_backend, records):
    """Whatever a record holds, ``get`` gives it back, and ``list`` gives it back without payloads."""
    backend = empty_backend()
    backend.write(records)
    assert [backend.get(trace.id) for trace in records] == records
    assert backend.list(limit=10).traces == [without_payloads(trace) for trace in newest_first(records)]
    backend.shutdown()


# -- once and only once


def test_writing_nothing(backend):
    """An empty batch is no failure."""
    backend.write([])
    assert backend.list().traces == []


@several
@given(data=st.data())
def test_redelivery_changes_nothing(empty_backend, data):
    """The same records in other batches, other orders and several times over are stored once."""
    backend = empty_backend()
    records = [make_trace(id=f"id-{at}", started_at=NOON + at) for at in range(6)]
    for _ in range(data.draw(st.integers(1, 4))):
        backend.write(data.draw(st.lists(st.sampled_from(records), max_size=9)))
    backend.write(records)
    assert backend.list().traces == [without_payloads(trace) for trace in newest_first(records)]
    backend.shutdown()


def test_first_delivery_stays(backend):
    """A record that comes again under the same id, in a later batch or in the same one, does not change the first."""
    first = make_trace(step_id="first")
    second = dataclasses.replace(first, step_id="second")
    backend.write([first, second])
    backend.write([second])
    assert backend.get(first.id) == first
    assert backend.get_by_step_id("second") is None


def test_open_and_close_again(backend):
    """Opening twice does nothing; what was written is there after closing and opening."""
    trace = make_trace()
    backend.open()
    backend.write([trace])
    backend.shutdown()
    backend.shutdown()
    backend.open()
    assert backend.get(trace.id) == trace


def test_check_says_what_answers(backend):
    """``check`` of a store in order is one line for people, without a password."""
    line = backend.check()
    assert line
    assert "\n" not in line
    assert "secret" not in line


def test_migrate_when_there_is_nothing_to_do(backend):
    """A store that is up to date stays as it is, records and all."""
    trace = make_trace()
    backend.write([trace])
    assert backend.migrate() == []
    assert backend.get(trace.id) == trace


def test_flushed_is_written(backend):
    """After ``force_flush`` says yes, what was written is there, also for who opens the store anew."""
    trace = make_trace()
    backend.write([trace])
    assert backend.force_flush(30) is True
    backend.shutdown()
    backend.open()
    assert backend.get(trace.id) == trace


def test_threads_at_once(backend):
    """Threads may write and read at the same time; each record is there once, each answer is whole."""
    together = [make_trace(id=f"all-{at}", step_id="s") for at in range(8)]

    def work(name: int) -> int:
        for at, shared in enumerate(together):
            backend.write([make_trace(id=f"{name}-{at}", step_id="s"), shared])
            assert backend.get(f"{name}-{at}").step_id == "s"
            backend.list(limit=3)
        return len(backend.list_by_step_id("s"))

    with ThreadPoolExecutor(5) as pool:
        counts = list(pool.map(work, range(5)))
    assert max(counts) == 8 * 6 == backend.stats([])[0].calls


# -- by step


def test_unknown_id_and_step(backend):
    """What is not there is None, or an empty list."""
    backend.write([make_trace(step_id=None)])
    assert backend.get("nothing") is None
    assert backend.get_by_step_id("nothing") is None
    assert backend.list_by_step_id("nothing") == []


def test_step_with_several_records(backend):
    """A step has its newest record, and all of them oldest first, with payloads; equal times go by id."""
    early, late = make_trace(id="a", step_id="s", started_at=1), make_trace(id="c", step_id="s", started_at=2)
    twin = make_trace(id="b", step_id="s", started_at=2)
    backend.write([late, early, make_trace(step_id="other", started_at=9), twin])
    assert backend.list_by_step_id("s") == [early, twin, late]
    assert backend.get_by_step_id("s") == late
    assert backend.get_by_step_id("s").request_json == '{"model":"gpt-5"}'
