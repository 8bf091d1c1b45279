"""The record: its keys, its one JSON form, and what is not a record."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given

from llmspan.errors import RecordError
from llmspan.trace import KEYS, KINDS, PAYLOAD_KEYS, SCHEMA_VERSION, ProviderTrace
from llmspan.usage import Usage
from records import NOON, full_trace, make_trace, patient, traces

#: the table of docs and design, group by group
DESIGN = """
id trace_id span_id parent_span_id schema_version
step_id run_id agent_id conversation_id user_id org_id agent_tags call_type source attributes
provider operation api request_model response_model response_id request_id stream service_tier server_address
server_port sdk
status finish_reasons error_type error_message error_json http_status attempts
started_at duration_ns time_to_first_chunk_ns chunk_count
input_tokens output_tokens cache_read_tokens cache_write_tokens reasoning_tokens usage_details usage_source usage_raw
request_json response_json content request_bytes response_bytes
llm_config compaction_settings billing_context
"""
LEAST = {"id": "x", "provider": "p", "operation": "o", "api": "a", "status": "ok", "started_at": 0, "duration_ns": 0}


def refused(**changes: object) -> str:
    with pytest.raises(RecordError) as caught:
        ProviderTrace.from_dict(LEAST | changes)
    return str(caught.value)


# -- keys


def test_keys_are_the_design():
    """The keys are those of the design, once each; payloads come last."""
    assert sorted(KEYS) == sorted(DESIGN.split())
    assert KEYS[-2:] == PAYLOAD_KEYS == ("request_json", "response_json")


def test_each_key_has_a_kind():
    """Each key has a kind that fits the values it has in a full record."""
    types = {"text": str, "integer": int, "boolean": bool, "list": list, "map": dict, "json": object}
    values = full_trace().to_dict()
    assert KINDS.keys() == set(KEYS)
    assert [key for key in KEYS if not isinstance(values[key], types[KINDS[key]])] == []


def test_dict_form():
    """The flat form has all keys in order, lists as lists, payloads as text and the time as a number."""
    values = full_trace().to_dict()
    assert tuple(values) == KEYS
    assert values["agent_tags"] == ["a", "", "ü"]
    assert values["finish_reasons"] == ["stop", None, "length"]
    assert values["request_json"] == '{"model":"gpt-5"}'
    assert values["started_at"] == NOON + 123_456_789
    assert (values["cache_write_tokens"], values["usage_details"]) == (4, {"cache_write_5m_tokens": 6})


def test_records_are_frozen():
    """A record cannot be changed."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_trace().status = "error"


# -- the JSON form


@patient
@given(trace=traces())
def test_json_round_trip(trace):
    """Any record is read back equal from its JSON text, as text or as bytes."""
    assert ProviderTrace.from_json(trace.to_json()) == trace
    assert ProviderTrace.from_json(trace.to_json().encode()) == trace


@patient
@given(trace=traces())
def test_dict_round_trip(trace):
    """Any record is read back equal from its flat form."""
    assert ProviderTrace.from_dict(trace.to_dict()) == trace


@patient
@given(trace=traces())
def test_json_is_strict(trace):
    """The text is one strict JSON object with all keys in order."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    values = json.loads(trace.to_json(), parse_constant=refuse)
    assert tuple(values) == KEYS


def test_json_form():
    """The text is this one, to the character: other programs read it."""
    trace = make_trace(id="x", agent_tags=("ü",), request_json='{ "a": 1e400, "a": 2 }', response_json=None)
    text = trace.to_json()
    assert text.startswith('{"id":"x","trace_id":null,"span_id":null,"parent_span_id":null,"schema_version":1,')
    assert '"agent_tags":["ü"],' in text
    assert '"started_at":"2026-01-31T12:00:00.000000000Z","duration_ns":1000000,' in text
    assert text.endswith(',"request_json":{ "a": 1e400, "a": 2 },"response_json":null}')


@pytest.mark.parametrize(
    "payload", ['{ "a" : 1,\n\t"a":2 }', "[1e400,-0.0,0.1e-7]", '"\\ud83d\\ude00\\u0000"', "{}", "0", '""', "[null]"]
)
def test_payload_is_exact(payload):
    """Payload text stands in the JSON form as it is, and comes back so."""
    trace = make_trace(request_json=payload, response_json=payload)
    assert f',"request_json":{payload},"response_json":{payload}}}' in trace.to_json()
    assert ProviderTrace.from_json(trace.to_json()) == trace


@patient
@given(trace=traces())
def test_one_line(trace):
    """On one line a record has the same values, and nothing in it breaks a line or controls a terminal."""
    line = trace.to_json_line()
    assert len(line.splitlines()) == 1
    assert json.loads(line) == json.loads(trace.to_json())


@pytest.mark.parametrize("blank", ["\n", "\r\n", "\t", "\n    "])
def test_a_payload_on_one_line(blank):
    """An indented payload keeps its tokens and its length; in strings, what ends a line is escaped."""
    payload = f'{{{blank}"a": 1.50,{blank}"b": "x\u2028\u2029\x85\x9b\x7f\u202e"{blank}}}'
    line = make_trace(request_json=payload).to_json_line()
    found = ProviderTrace.from_json(line).request_json
    assert json.loads(found) == json.loads(payload)
    assert found.startswith("{" + " " * len(blank) + '"a": 1.50,')
    assert found.isascii()


def test_order_of_members_does_not_matter():
    """Another writer may put payloads first and spaces anywhere."""
    text = ' {"response_json" : { "b":1 } ,"request_json":[ 1 ],' + json.dumps(LEAST, indent=2)[1:] + "\n"
    found = ProviderTrace.from_json(text)
    assert (found.response_json, found.request_json) == ('{ "b":1 }', "[ 1 ]")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (NOON + 123_456_789, "2026-01-31T12:00:00.123456789Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775807Z"),
        (-(2**63), "1677-09-21T00:12:43.145224192Z"),
    ],
)
def test_time_form(nanoseconds, text):
    """A time is written in UTC with nine digits, and none is lost."""
    trace = make_trace(started_at=nanoseconds)
    assert json.loads(trace.to_json())["started_at"] == text
    assert ProviderTrace.from_json(trace.to_json()).started_at == nanoseconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2026-01-31T12:00:00Z", NOON), ("2026-01-31T12:00:00.5Z", NOON + 500_000_000), (17, 17)],
)
def test_other_forms_of_time(text, expected):
    """Fewer digits and plain nanoseconds are read too."""
    assert ProviderTrace.from_json(json.dumps(LEAST | {"started_at": text})).started_at == expected


def test_started_as_datetime():
    """``started`` is the time as an aware datetime in UTC."""
    assert make_trace(started_at=NOON + 1_999).started == datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC)


# -- what JSON has not


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        ([float("inf"), -float("inf")], [None, None]),
        (b"\x00\xff", "AP8="),
        ({b"k": bytearray(b"a")}, {"b'k'": "YQ=="}),
        ("a\ud800b", "a\ufffdb"),
        ({"\udc00": ["\ud800"]}, {"\ufffd": ["\ufffd"]}),
        ("\ud83d\ude00", "\ufffd\ufffd"),
        ((1, {2}), [1, [2]]),
        ({1: 2}, {"1": 2}),
        (Path("/x"), "/x"),
        (Usage(input_tokens=1), None),
        (object, "<class 'object'>"),
    ],
)
def test_odd_values(value, expected):
    """NaN becomes null, bytes base64, lone surrogates U+FFFD and unknown objects text; nothing fails."""
    text = make_trace(attributes={"value": value}, error_json=value).to_json()
    found = ProviderTrace.from_json(text.encode())
    if isinstance(value, Usage):
        expected = dataclasses.asdict(value)
    assert found.attributes == {"value": expected}
    assert found.error_json == expected


def test_deep_and_circular_values():
    """Values that are nested without end are cut, not followed."""
    circular: list[object] = []
    circular.append(circular)
    found = ProviderTrace.from_json(make_trace(llm_config=circular).to_json())
    assert "[circular]" in json.dumps(found.llm_config)


# -- what is not a record


@pytest.mark.parametrize("key", sorted(LEAST))
@pytest.mark.parametrize("missing", ["absent", "null"])
def test_required_key(key, missing):
    """A record without a required key, or with null for it, is refused with the key's name."""
    values = {name: value for name, value in LEAST.items() if name != key or missing == "null"}
    if missing == "null":
        values[key] = None
    with pytest.raises(RecordError, match=rf"no value for {key}$"):
        ProviderTrace.from_dict(values)


def test_all_missing_keys_are_named():
    """All keys that are missing are named at once."""
    with pytest.raises(RecordError, match=r"for id, provider, operation, api, status, started_at, duration_ns$"):
        ProviderTrace.from_dict({})


WRONG = {"text": [5, b"x", ["a"]], "integer": ["5", 1.5, True], "boolean": [1, "true"], "list": ["a", {}, 5],
         "map": [[], "a", 5]}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in KEYS for value in WRONG.get(KINDS[key], [])])
def test_wrong_type(key, value):
    """A value of the wrong type is refused with the key, the value and what it must be."""
    message = refused(**{key: value})
    assert message.startswith(f"{key} is {value!r}; it must be ")


@pytest.mark.parametrize(
    ("key", "value"),
    [("agent_tags", [1]), ("agent_tags", [None]), ("finish_reasons", [1]), ("usage_details", {"a": "1"}),
     ("usage_details", {"a": True})],
)  # fmt: skip
def test_wrong_items(key, value):
    """What stands in a list or a map is checked too."""
    assert refused(**{key: value}).startswith(f"{key} is {value!r}; its values must be ")


@pytest.mark.parametrize("key", ["status", "content", "usage_source"])
def test_wrong_choice(key):
    """A word that is none of the choices is refused with the choices."""
    assert re.match(rf"{key} is 'odd'; it must be one of \w+, \w+, \w+", refused(**{key: "odd"}))


def test_long_values_are_not_repeated_whole():
    """An error shows the beginning of a long value only."""
    assert len(refused(duration_ns="x" * 10_000)) < 200


@pytest.mark.parametrize(
    "value",
    ["yesterday", "2026-01-31", "2026-13-31T12:00:00Z", "2026-01-31T12:00:00+02:00", "2026-01-31T12:00:00",
     "2026-01-31T12:00:00.0000000001Z", "٢٠٢٦-01-31T12:00:00Z", True, 1.5, [], "-1"],
)  # fmt: skip
def test_wrong_time(value):
    """A time that is none, or whose zone is not UTC, is refused with the key and the value."""
    with pytest.raises(RecordError, match=rf"started_at is {re.escape(repr(value))}"):
        ProviderTrace.from_json(json.dumps(LEAST | {"started_at": value}, ensure_ascii=False))


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "5", "{", '{"id":', '{"id":1', '{"id" 1}', "{id:1}", '{"a":1}{}', '{"a":1},', b"\xff",
     b'{"a":"\xff"}', '{"a":1 "b":2}', '{"a":' + "[" * 100_000, "{5:1}", '{"a":1,}', '{"a":NaN}', "{,}"],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_text_that_is_no_record(text):
    """Text that is no JSON object is refused as such, however it is broken."""
    with pytest.raises(RecordError, match=r"^not a provider trace: "):
        ProviderTrace.from_json(text)


def test_defaults():
    """Keys that are missing or null take their defaults; unknown keys are ignored."""
    least = ProviderTrace.from_dict(LEAST)
    assert least.schema_version == SCHEMA_VERSION
    assert (least.content, least.stream, least.agent_tags, least.usage) == ("metadata", False, (), Usage())
    nulls = {key: None for key in KEYS if key not in LEAST}
    assert ProviderTrace.from_dict(LEAST | nulls | {"of_a_newer_version": 1}) == least
    assert ProviderTrace.from_json(json.dumps(LEAST | nulls | {"of_a_newer_version": {}})) == least


def test_zero_is_kept():
    """A zero, an empty text and an empty object are values, not gaps."""
    found = ProviderTrace.from_dict(LEAST | {"input_tokens": 0, "step_id": "", "usage_raw": {}, "error_json": 0})
    assert (found.usage.input_tokens, found.usage.output_tokens) == (0, None)
    assert (found.step_id, found.run_id, found.usage.raw, found.error_json) == ("", None, {}, 0)


def test_a_record_of_its_fields():
    """The quick way makes what the constructor makes; a field without a value is named."""
    trace = full_trace()
    values = {field.name: getattr(trace, field.name) for field in dataclasses.fields(trace)}
    assert ProviderTrace.of_fields({**values, "unknown": 1}) == trace
    with pytest.raises(dataclasses.FrozenInstanceError):
        ProviderTrace.of_fields(values).status = "error"
    del values["server_port"]
    with pytest.raises(KeyError, match="server_port"):
        ProviderTrace.of_fields(values)
