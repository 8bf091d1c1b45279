"""A record on the socket: the body of a v4 frame and back, and the line of v3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from llmspan.backends.socket.records import decode_record, encode_record, v3_line, without_payload
from llmspan.errors import PermanentError, RecordError
from llmspan.trace import KEYS, ProviderTrace
from llmspan.usage import Usage
from records import full_trace, make_trace, patient, traces

GOLDEN = Path(__file__).parents[1] / "golden" / "socket_v3.jsonl"


def frame(trace: ProviderTrace) -> bytes:
    return b'{"type":"record","seq":1,' + encode_record(trace)


def plain(**changes: Any) -> dict[str, Any]:
    """A frame's object as another sender would make it."""
    return {"type": "record", "seq": 1} | json.loads(make_trace().to_json()) | changes


@patient
@given(trace=traces())
def test_any_record_comes_back(trace: ProviderTrace) -> None:
    """A frame is one strict JSON object, and the record of it is the one that went in, payloads to the character."""
    data = frame(trace)
    assert isinstance(json.loads(data, parse_constant=pytest.fail), dict)
    assert decode_record(data) == trace


@pytest.mark.parametrize("payload", ["null", '"text"', "[ 1,\n2 ]", '{"a":1e400,"a":2}', '"\\ud83d\\ude00"'])
def test_payloads_keep_their_text_in_any_order(payload: str) -> None:
    """Wherever the members stand, a payload is the text that stands there; ``null`` is one, and none is none."""
    trace = make_trace(request_json=payload, response_json=None)
    assert decode_record(frame(trace)) == trace
    values = plain()
    del values["response_json"]
    values["request_json"] = "HERE"
    text = json.dumps(values, indent=1).replace('"HERE"', payload)
    assert decode_record(text.encode()).request_json == payload
    assert decode_record(text.encode()).response_json is None


def test_what_is_none_or_empty_is_not_sent() -> None:
    """A frame holds what there is, and no more; zero, false and an empty usage object are something."""
    trace = ProviderTrace(
        id="x", provider="p", operation="o", api="a", status="ok", started_at=0, duration_ns=0, attempts=0,
        usage=Usage(raw={}),
    )  # fmt: skip
    assert json.loads(frame(trace)) == {
        "type": "record", "seq": 1, "id": "x", "started_at": "1970-01-01T00:00:00.000000000Z", "schema_version": 1,
        "provider": "p", "operation": "o", "api": "a", "stream": False, "status": "ok", "duration_ns": 0,
        "attempts": 0, "usage_source": "none", "usage_raw": {}, "content": "metadata",
    }  # fmt: skip
    assert decode_record(frame(trace)) == trace


def test_keys_are_those_of_the_record() -> None:
    """A full record has every key under its name, and no other."""
    assert json.loads(frame(full_trace())).keys() == {"type", "seq", *KEYS}


def test_a_time_may_be_a_number() -> None:
    """Nanoseconds since the epoch do as well as a time in text."""
    assert decode_record(json.dumps(plain(started_at=17)).encode()).started_at == 17


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"\xff", "not a provider trace: 'utf-8' codec"),
        (b"{", "not a provider trace"),
        (b'{"type":"record","seq":1,"request_json":{"a"', "not a provider trace"),
        (b'{"type":"record","seq":1,"id":"x","attributes":{"a":NaN}}', "NaN is not JSON"),
        (b'{"type":"record","seq":1,"id":"x"}', "no value for provider"),
        (json.dumps(plain(attempts="1")).encode(), "attempts is '1'; it must be a whole number"),
        (json.dumps(plain(started_at="noon")).encode(), "started_at is 'noon', not a time"),
    ],
)
def test_what_is_no_record_is_named(text: bytes, told: str) -> None:
    """A frame that holds no record says which key is wrong."""
    with pytest.raises(RecordError, match=told):
        decode_record(text)


@pytest.mark.parametrize("key", ["duration_ns", "chunk_count", "attempts"])
@pytest.mark.parametrize("value", [2**63, 1.5, "1"])
def test_impossible_numbers_are_named_before_they_are_sent(key: str, value: object) -> None:
    """A number that is no 64-bit integer is refused with record and key."""
    with pytest.raises(PermanentError, match=rf"record x: {key} is .*, not a whole number of 64 bits"):
        encode_record(make_trace(id="x", **{key: value}))


def test_surrogates_become_replacement_characters() -> None:
    """UTF-8 cannot hold lone surrogates; a record that has some is sent all the same."""
    trace = make_trace(step_id="a\ud800", request_json='"\udfff"', attributes={"\ud800": 1})
    found = decode_record(frame(trace))
    assert (found.step_id, found.request_json, found.attributes) == ("a\ufffd", '"\ufffd"', {"\ufffd": 1})


def test_without_payload_sizes_stay() -> None:
    """A record that is too large keeps all but its payloads, and what they measured."""
    trace = make_trace(request_json='"ü"', response_json="[]", response_bytes=7)
    cut = without_payload(trace)
    assert (cut.request_json, cut.response_json, cut.content) == (None, None, "truncated")
    assert (cut.request_bytes, cut.response_bytes) == (4, 7)
    assert (cut.id, cut.usage) == (trace.id, trace.usage)
    assert without_payload(make_trace(request_json=None)).request_bytes is None


# -- v3 ---------------------------------------------------------------------------------------------------------------


def v3_records() -> list[ProviderTrace]:
    """One that went well, one that failed with a partial answer, one that broke off, one that was imported."""
    return [
        full_trace(id="01a20537-753a-7830-997f-61817357294a", status="ok", error_message=None, error_type=None,
                   request_json='{"model": "gpt-5",\r\n "n": 1e400}', response_json='{"text":"\u2028\\u0000"}'),
        full_trace(id="01a20537-753a-7830-997f-61817357294b", call_type="summarization"),
        make_trace(id="01a20537-753a-7830-997f-61817357294c", status="incomplete", error_type=None),
        make_trace(id="provider_trace-6f9619ff-8b86-4011-b42d-00c04fc964ff", request_json=None, response_json=None),
    ]  # fmt: skip


def test_v3_lines_are_those_of_the_golden_file() -> None:
    """Key for key and byte for byte: what receivers of v3 were made for."""
    assert b"".join(v3_line(trace) for trace in v3_records()) == GOLDEN.read_bytes()


def test_v3_golden_file_has_the_17_keys() -> None:
    """Each line is one JSON object with version 3 and the 17 keys in their order; a failure has no answer."""
    lines = [json.loads(line) for line in GOLDEN.read_bytes().split(b"\n")[:-1]]
    assert len(lines) == len(v3_records())
    for line in lines:
        assert " ".join(line) == (
            "protocol_version provider_trace_id agent_id run_id step_id tags type source request response error"
            " error_type timestamp org_id user_id compaction_settings llm_config"
        )
        assert line["protocol_version"] == 3
        assert line["provider_trace_id"].startswith("provider_trace-")
        assert isinstance(line["request"], dict)
        assert (line["response"] is None) == (line["error"] is not None) == (line["error_type"] is not None)
    assert [line["error"] for line in lines] == [None, "slow down", "incomplete", None]


@pytest.mark.parametrize(("status", "failed"), [("cancelled", True), ("closed_early", False), ("error", True)])
def test_v3_says_what_failed(status: str, failed: bool) -> None:
    """A failed or cancelled call never looks as if it had gone well."""
    line = json.loads(v3_line(make_trace(status=status)))
    assert (line["error"] is not None) is failed


@patient
@given(trace=traces())
def test_v3_is_always_one_line(trace: ProviderTrace) -> None:
    """Whatever a payload is, the line has no break but its last, and is strict JSON."""
    line = v3_line(trace)
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    json.loads(line, parse_constant=pytest.fail)
