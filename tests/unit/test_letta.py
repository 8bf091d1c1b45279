"""Letta's rows as records: its 18 fields, and usage read anew by the shape of the response."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from llmspan.cli.letta import record_id, to_record
from llmspan.errors import RecordError
from records import NOON

LETTA_ID = "provider_trace-6f9619ff-8b86-4011-b42d-00c04fc964ff"
CREATED = datetime(2026, 1, 31, 12, tzinfo=UTC)
JSON = ("request_json", "response_json", "agent_tags", "compaction_settings", "llm_config", "billing_context")


def row(**values: Any) -> dict[str, Any]:
    """A row as it is read: JSON columns are text. ``values`` of those are given as objects."""
    plain = {
        "id": LETTA_ID,
        "request_json": {"model": "gpt-5", "messages": []},
        "response_json": {"id": "r1", "model": "gpt-5-2026", "object": "chat.completion", "choices": []},
        "created_at": CREATED,
    } | values
    return {key: json.dumps(value) if key in JSON and value is not None else value for key, value in plain.items()}


def response(**values: Any) -> Any:
    return to_record(row(response_json=values))


def test_all_fields_have_a_place() -> None:
    """Every one of the 18 fields is in the record, under our name or as an attribute."""
    record = to_record(
        row(
            step_id="step-1", agent_id="agent-1", agent_tags=["a", "b"], run_id="run-1", call_type="agent_step",
            source="memgpt-server", org_id="org-1", user_id="user-1", compaction_settings={"mode": "sliding"},
            llm_config={"model": "gpt-5", "model_endpoint_type": "openai"}, billing_context={"plan_type": "pro"},
            updated_at=CREATED + timedelta(seconds=1), _created_by_id="user-2", _last_updated_by_id="user-3",
            organization_id="org-0",
        )
    )  # fmt: skip
    assert (record.step_id, record.agent_id, record.agent_tags, record.run_id) == (
        "step-1", "agent-1", ("a", "b"), "run-1",
    )  # fmt: skip
    assert (record.call_type, record.source, record.org_id, record.user_id) == (
        "agent_step", "memgpt-server", "org-1", "user-1",
    )  # fmt: skip
    assert record.compaction_settings == {"mode": "sliding"}
    assert record.llm_config == {"model": "gpt-5", "model_endpoint_type": "openai"}
    assert record.billing_context == {"plan_type": "pro"}
    assert record.started_at == NOON
    assert record.attributes == {
        "letta.id": LETTA_ID,
        "letta.organization_id": "org-0",
        "letta.created_by_id": "user-2",
        "letta.last_updated_by_id": "user-3",
        "letta.updated_at": "2026-01-31T12:00:01+00:00",
    }
    assert json.loads(record.request_json or "") == {"model": "gpt-5", "messages": []}
    assert (record.request_model, record.response_model, record.response_id) == ("gpt-5", "gpt-5-2026", "r1")
    assert (record.provider, record.api, record.operation, record.content) == (
        "openai", "chat_completions", "chat", "full",
    )  # fmt: skip


def test_a_row_of_an_older_table_is_enough() -> None:
    """Columns that came later may be missing; the tenant is then the row's own."""
    record = to_record(row(organization_id="org-0"))
    assert (record.org_id, record.step_id, record.agent_tags, record.llm_config) == ("org-0", None, (), None)
    assert (record.status, record.duration_ns, record.time_to_first_chunk_ns) == ("ok", 0, None)


@pytest.mark.parametrize(
    ("api", "body", "expected"),
    [
        (
            "chat_completions",
            {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5,
                                      "prompt_tokens_details": {"cached_tokens": 0}}},
            (10, 5, 0, None),
        ),
        (
            "responses",
            {"output": [], "status": "completed", "error": None,
             "usage": {"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}}},
            (10, 5, 4, None),
        ),
        (
            "messages",
            {"content": [], "type": "message", "usage": {"input_tokens": 10, "cache_read_input_tokens": 900,
                                                         "cache_creation_input_tokens": 90, "output_tokens": 7}},
            (1000, 7, 900, 90),
        ),
        (  # what Letta made of an Anthropic stream
            "messages",
            {"content": {"tool_call": None, "content": ["x"]}, "type": "message",
             "usage": {"input_tokens": 10, "cache_read_input_tokens": None, "cache_creation_input_tokens": 0,
                       "output_tokens": 7}},
            (10, 7, None, 0),
        ),
        (  # what Letta made of an OpenAI stream
            "chat_completions",
            {"content": {"tool_call": "{}"}, "type": "message", "usage": {"prompt_tokens": 3, "completion_tokens": 0}},
            (3, 0, None, None),
        ),
        ("chat_completions", {"choices": [], "usage": None}, (None, None, None, None)),
        ("generate_content", {"candidates": [], "usage_metadata": {"prompt_token_count": 3}}, (None,) * 4),
    ],
)  # fmt: skip
def test_usage_is_read_by_its_shape(api: str, body: dict[str, Any], expected: tuple[int | None, ...]) -> None:
    """Whoever the provider is called, the object's own keys decide; null and missing are None, zero is zero."""
    record = to_record(row(response_json=body, llm_config={"model_endpoint_type": "minimax"}))
    usage = record.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == expected
    assert usage.raw == (body.get("usage") or body.get("usage_metadata"))
    assert (record.api, record.provider, record.status) == (api, "minimax", "ok")


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ({"error": "slow down", "error_type": "LLMRateLimitError"}, "LLMRateLimitError", "slow down"),
        ({"error": {"type": "overloaded_error"}}, "overloaded_error", None),
        ({"error": {"message": "no"}, "output": []}, "_OTHER", "no"),
    ],
)
def test_failures_are_failures(body: dict[str, Any], kind: str, message: str | None) -> None:
    """A response that is an error says so, with or without a message, and keeps it whole."""
    record = response(**body)
    assert (record.status, record.error_type, record.error_message) == ("error", kind, message)
    assert record.error_json == body
    assert json.loads(record.response_json) == body


@pytest.mark.parametrize(
    ("config", "body", "provider"),
    [
        ({"model_endpoint_type": "bedrock"}, {"choices": []}, "aws.bedrock"),
        ({"model_endpoint_type": "google_ai"}, {"choices": []}, "gcp.gemini"),
        ({"model_endpoint_type": "groq"}, {"choices": []}, "groq"),
        (None, {"content": [], "model": "claude-opus-5"}, "anthropic"),
        (None, {"choices": []}, "openai"),
    ],
)
def test_provider(config: dict[str, Any] | None, body: dict[str, Any], provider: str) -> None:
    """The endpoint type is the provider, by its OpenTelemetry name; without one, the shape tells the family."""
    assert to_record(row(llm_config=config, response_json=body)).provider == provider


def test_ids_are_the_same_each_time_and_differ() -> None:
    """A row's record has one id for ever: a UUIDv7 of its time; other rows have others, even with odd ids."""
    first = record_id(LETTA_ID, NOON)
    assert first == record_id(LETTA_ID, NOON) == to_record(row()).id
    assert first[14] == "7"
    assert first < record_id(LETTA_ID, NOON + 1_000_000)
    assert len({record_id(f"odd-{at}", NOON) for at in range(50)} | {first}) == 51


def test_a_time_in_another_zone_is_the_same_moment() -> None:
    """The database's time zone does not matter."""
    elsewhere = CREATED.astimezone(timezone(timedelta(hours=5)))
    assert to_record(row(created_at=elsewhere)) == to_record(row())
    assert to_record(row(created_at=CREATED.replace(tzinfo=None))).started_at == NOON


def test_credentials_stay_behind() -> None:
    """Keys that a request held for remote tools are masked, as in calls that we record."""
    tools = [{"type": "mcp", "authorization": "secret-1"}]
    assert "secret-1" not in (to_record(row(request_json={"tools": tools})).request_json or "")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"response_json": [1]}, r"response_json is '\[1\]', not a JSON object"),
        ({"request_json": None}, "request_json is None, not a JSON object"),
        ({"created_at": None}, "created_at is None, not a time"),
    ],
)
def test_bad_rows_name_their_column(values: dict[str, Any], told: str) -> None:
    """What cannot be a record says why."""
    with pytest.raises(RecordError, match=told):
        to_record(row(**values))


def test_text_that_is_no_json_names_its_column() -> None:
    """A column that holds no JSON is named."""
    with pytest.raises(RecordError, match=r"llm_config is '\{', which is not JSON"):
        to_record(row() | {"llm_config": "{"})
