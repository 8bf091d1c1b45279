"""Records for tests: one by hand (``make_trace``) and any that can exist (``traces``)."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from llmspan.content import ContentPolicy
from llmspan.trace import ProviderTrace, new_id
from llmspan.usage import Usage

#: 2026-01-31T12:00:00Z
NOON = 1_769_860_800_000_000_000
DAY = 86_400_000_000_000

#: of how many examples of a property one is tried; the other versions of Python try fewer
EXAMPLES_EVERY = int(os.environ.get("LLMSPAN_TEST_EXAMPLES_EVERY", "1"))


def examples(count: int) -> int:
    """How many examples of a property are tried, of the ``count`` of a whole run."""
    return max(3, count // EXAMPLES_EVERY)


#: for properties: no test here is about time, however busy the machine is
patient = settings(deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow])
#: for properties that ask a store of every kind, servers too
several = settings(
    patient,
    max_examples=examples(20),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def this_day() -> int:
    """The beginning of the day that it is now: a run may go on past midnight."""
    return time.time_ns() // DAY * DAY


def without_payloads(trace: ProviderTrace) -> ProviderTrace:
    return dataclasses.replace(trace, request_json=None, response_json=None)


def newest_first(records: Sequence[ProviderTrace]) -> list[ProviderTrace]:
    return sorted(records, key=lambda trace: (trace.started_at, trace.id), reverse=True)


def make_trace(**overrides: Any) -> ProviderTrace:
    """A finished, unremarkable call; ``overrides`` are fields of the record."""
    values: dict[str, Any] = {
        "id": new_id(),
        "provider": "openai",
        "operation": "chat",
        "api": "chat_completions",
        "request_model": "gpt-5",
        "status": "ok",
        "started_at": NOON,
        "duration_ns": 1_000_000,
        "usage": Usage(input_tokens=10, output_tokens=5, source="provider", raw={"prompt_tokens": 10}),
        "request_json": '{"model":"gpt-5"}',
        "response_json": '{"id":"r"}',
        "content": "full",
    }
    return ProviderTrace(**(values | overrides))


def full_trace(**overrides: Any) -> ProviderTrace:
    """A record in which no field has its default."""
    values: dict[str, Any] = {
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
        "parent_span_id": "00f067aa0ba902b7",
        "schema_version": 7,
        "step_id": "step-1",
        "run_id": "run-1",
        "agent_id": "agent-1",
        "conversation_id": "conversation-1",
        "user_id": "user-1",
        "org_id": "org-1",
        "agent_tags": ("a", "", "ü"),
        "call_type": "agent_step",
        "source": "service",
        "attributes": {"a": 1, "b": [True, None, 1.5], "ü": {"\0": ""}},
        "response_model": "gpt-5-2026",
        "response_id": "resp_1",
        "request_id": "req_1",
        "stream": True,
        "service_tier": "priority",
        "server_address": "api.openai.com",
        "server_port": 443,
        "sdk": "openai/3.54.0",
        "status": "error",
        "finish_reasons": ("stop", None, "length"),
        "error_type": "RateLimitError",
        "error_message": "slow down",
        "error_json": {"code": 1},
        "http_status": 429,
        "attempts": 3,
        "started_at": NOON + 123_456_789,
        "time_to_first_chunk_ns": 1,
        "chunk_count": 2,
        "usage": Usage(
            input_tokens=1,
            output_tokens=2,
            cache_read_tokens=3,
            cache_write_tokens=4,
            reasoning_tokens=5,
            details={"cache_write_5m_tokens": 6},
            source="partial",
            raw={"input_tokens": 1, "odd": None},
        ),
        "content": "truncated",
        "request_bytes": 17,
        "response_bytes": 10,
        "llm_config": {"model": "m"},
        "compaction_settings": [1, 2],
        "billing_context": "text",
    }
    return make_trace(**(values | overrides))


_texts = st.sampled_from(["", "a", "b", "ü", "\0", "Ω\U0001f600"]) | st.text(max_size=12)
#: text outside of JSON: not every store can hold NUL there, see ``test_nul_characters``
_plain_texts = _texts.map(lambda text: text.replace("\0", "0"))
_maybe_text = st.none() | _plain_texts
_small = st.integers(0, 2**40)
_maybe_count = st.none() | st.sampled_from([0, 1]) | _small
_json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_objects = st.dictionaries(_texts, _json_values, max_size=3)
#: JSON text with odd spacing, doubled keys, numbers that no float holds; never ``null``, which reads back as no payload
_payloads = st.none() | st.sampled_from(
    ['{ "a" :1,\n"a": 1e400}', '"\\ud83d\\ude00"', "[ ]", "0", '{"n":123456789012345678901234567890.10}', '"\\u0000"']
) | _objects.map(json.dumps) | _objects.map(lambda value: json.dumps(value, ensure_ascii=False, indent=1))  # fmt: skip

_usages = st.builds(
    Usage,
    input_tokens=_maybe_count,
    output_tokens=_maybe_count,
    cache_read_tokens=_maybe_count,
    cache_write_tokens=_maybe_count,
    reasoning_tokens=_maybe_count,
    details=st.dictionaries(_texts, _small, max_size=2),
    source=st.sampled_from(["provider", "partial", "none"]),
    raw=st.none() | _objects,
)


def _is_stored_as_it_is(trace: ProviderTrace) -> bool:
    """Whether a sidecar masks nothing in it: generated names and texts may be those of credentials."""
    return ContentPolicy().enforce(trace) == trace


def traces() -> st.SearchStrategy[ProviderTrace]:
    """Any record; ids differ, the other values are often the same, so that groups have several members."""
    return st.builds(
        ProviderTrace,
        id=st.uuids().map(str),
        trace_id=_maybe_text,
        span_id=_maybe_text,
        parent_span_id=_maybe_text,
        schema_version=st.integers(1, 9),
        step_id=_maybe_text,
        run_id=_maybe_text,
        agent_id=_maybe_text,
        conversation_id=_maybe_text,
        user_id=_maybe_text,
        org_id=_maybe_text,
        agent_tags=st.lists(_texts, max_size=3).map(tuple),
        call_type=_maybe_text,
        source=_maybe_text,
        attributes=_objects,
        provider=_plain_texts,
        operation=st.sampled_from(["chat", "embeddings", "fetch_response"]),
        api=_plain_texts,
        request_model=_maybe_text,
        response_model=_maybe_text,
        response_id=_maybe_text,
        request_id=_maybe_text,
        stream=st.booleans(),
        service_tier=_maybe_text,
        server_address=_maybe_text,
        server_port=_maybe_count,
        sdk=_maybe_text,
        status=st.sampled_from(["ok", "error", "cancelled", "closed_early", "incomplete"]),
        finish_reasons=st.lists(_maybe_text, max_size=3).map(tuple),
        error_type=_maybe_text,
        error_message=_maybe_text,
        error_json=_json_values,
        http_status=_maybe_count,
        attempts=_maybe_count,
        started_at=st.sampled_from([NOON, NOON + 1, NOON + DAY, 0, -1]) | st.integers(-(2**63), 2**63 - 1),
        duration_ns=st.integers(0, 2**63 - 1),
        time_to_first_chunk_ns=_maybe_count,
        chunk_count=_maybe_count,
        usage=_usages,
        request_json=_payloads,
        response_json=_payloads,
        content=st.sampled_from(["full", "metadata", "truncated"]),
        request_bytes=_maybe_count,
        response_bytes=_maybe_count,
        llm_config=_json_values,
        compaction_settings=_json_values,
        billing_context=_json_values,
    ).filter(_is_stored_as_it_is)
