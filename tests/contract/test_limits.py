"""The caps of a record's texts, in every store alike: nothing is refused for its length, and nothing unbounded read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmspan.backends.base import Filters
from llmspan.content import ContentPolicy
from llmspan.limits import MAX_JSON_BYTES, MAX_MESSAGE_BYTES, MAX_TEXT_BYTES, cut_json, cut_text
from llmspan.trace import KEYS, KINDS, PAYLOAD_KEYS
from llmspan.usage import Usage
from records import make_trace

TEXTS = [
    key for key in KEYS
    if KINDS[key] == "text" and key not in (*PAYLOAD_KEYS, "error_message", "status", "content", "usage_source")
]  # fmt: skip
FILTERED = ["run_id", "step_id", "user_id", "request_model", "trace_id"]


@pytest.mark.parametrize("character", ["x", "\u00fc", "\u4f8b", "\U0001f600"])
def test_long_texts(backend, character):
    """An id or a name of 20 kB is cut to the same text in every store, and found by itself and by what was cut."""
    long = "id-" + character * 20_000
    trace = make_trace(**dict.fromkeys(TEXTS, long))
    backend.write([trace])
    found = backend.get(long)
    assert found is not None
    for key in TEXTS:
        value = getattr(found, key)
        assert value.startswith(f"id-{character}")
        assert len(value.encode()) <= MAX_TEXT_BYTES
        assert value == cut_text(long)
    for key in FILTERED:
        assert len(backend.list(Filters(**{key: long})).traces) == 1
        assert not backend.list(Filters(**{key: long + "y"})).traces
    assert backend.get(found.id) == found


@pytest.mark.parametrize("key", ["error_json", "attributes", "llm_config", "compaction_settings", "billing_context"])
@pytest.mark.parametrize(
    "value",
    [{"text": "x" * 3_000_000}, {f"k{at}": "y" * 500 for at in range(5_000)}, {"a": list(range(100_000))}],
    ids=["one long text", "many members", "many numbers"],
)
def test_long_json(backend, key, value):
    """A JSON value of some MB is cut to a bounded one, says so, and keeps what fits of it; the record is there."""
    trace = make_trace(**{key: value})
    backend.write([trace])
    (listed,) = backend.list().traces
    kept = getattr(listed, key)
    assert len(json.dumps(kept)) <= MAX_JSON_BYTES * 2
    assert kept != value
    assert kept == getattr(backend.get(trace.id), key)
    assert "llmspan" in json.dumps(kept)


def test_long_messages_and_lists(backend):
    """An error's message, tags, finish reasons and usage have caps as well, and keep their kinds."""
    usage: dict[str, Any] = {"n": "z" * 200_000}
    trace = make_trace(
        error_message="m" * 100_000, agent_tags=tuple(f"tag-{at}-" + "t" * 2_000 for at in range(500)),
        finish_reasons=("stop", None, "r" * 100_000), status="error",
    )  # fmt: skip
    counts = Usage(raw=usage, details={f"d{at}": at for at in range(9_000)})
    backend.write([trace, make_trace(id="with-usage", usage=counts)])
    found = backend.get(trace.id)
    assert len(found.error_message.encode()) <= MAX_MESSAGE_BYTES
    assert found.agent_tags
    assert all(len(tag.encode()) <= MAX_TEXT_BYTES for tag in found.agent_tags)
    assert found.finish_reasons[:2] == ("stop", None)
    other = backend.get("with-usage")
    assert len(json.dumps(other.usage.raw)) <= MAX_JSON_BYTES
    assert 0 < len(other.usage.details) < 9_000
    assert other.usage.details["d7"] == 7


def test_the_policy_has_the_same_caps():
    """What goes on a span and over a socket is cut before it gets there, and what is cut twice is cut once."""
    trace = make_trace(
        user_id="u" * 20_000, error_json={"m": "x" * 3_000_000}, attributes={"a": "y" * 3_000_000}, status="error"
    )
    kept = ContentPolicy().apply_to_record(trace)
    assert kept.user_id == cut_text("u" * 20_000)
    assert cut_json(kept.error_json) == kept.error_json
    assert cut_json(kept.attributes) == kept.attributes
    assert len(json.dumps([kept.error_json, kept.attributes])) < 2 * MAX_JSON_BYTES


@pytest.mark.parametrize("at", [65_500, 16_380, 4_090])
def test_no_half_key_at_a_cut(at):
    """A key that a cut would leave the first half of is masked before it is cut."""
    key = "sk-" + "proj-Ab3dEf6hIj9kLm2nOp5q"
    body = {"m": "x " * (at // 2) + key + " y" * 2_000_000}
    kept = ContentPolicy().apply_to_record(make_trace(status="error", error_json=body, error_message="x " * 498 + key))
    assert "sk-proj" not in json.dumps([kept.error_json, kept.error_message])
