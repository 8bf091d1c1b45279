"""Letta's ``provider_traces``, row by row, as records of ours. Pure: rows in, records out.

What Letta did not measure is not made up: there is no duration (0), ``started_at`` is when the row was made, that is
after the call. The numbers are read anew from the response, by the shape of its usage object; what Letta computed from
it is not used. Ids are made of the row's id and time alone, so importing a row twice is storing one record.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from .. import _json, wire
from ..content import ContentPolicy
from ..errors import RecordError
from ..trace import ProviderTrace, RecordStatus, nanoseconds_of
from ..usage import Usage
from ..wire import PARSERS, Reply, read_error

__all__ = ["COLUMNS", "record_id", "to_record"]

#: nothing is cut: what is imported was small enough for where it was. Credentials are masked, as ever.
_WHOLE: Final = ContentPolicy(max_bytes=1 << 62, max_media_bytes=1 << 62)

#: what is read of a row, if the table has it: it grew over the years
COLUMNS: Final = (
    "id", "request_json", "response_json", "step_id", "agent_id", "agent_tags", "run_id", "call_type", "source",
    "org_id", "user_id", "compaction_settings", "llm_config", "billing_context", "created_at", "updated_at",
    "_created_by_id", "_last_updated_by_id", "organization_id", "is_deleted",
)  # fmt: skip

_UUID: Final = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")
#: ``model_endpoint_type`` -> ``gen_ai.provider.name``, where they differ
_PROVIDERS: Final = {
    "azure": "azure.ai.openai", "bedrock": "aws.bedrock", "google_ai": "gcp.gemini", "google_vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai", "xai": "x_ai",
}  # fmt: skip
#: which API a response belongs to, by what it has
_SHAPES: Final = {
    "choices": "chat_completions", "output": "responses", "content": "messages", "candidates": "generate_content",
}  # fmt: skip


def to_record(row: Mapping[str, Any]) -> ProviderTrace:
    """The record of a row; JSON columns are text, as Postgres gives them by ``::text``.

    Raises:
        RecordError: the row is not one of Letta's; the message names the column.
    """
    request, response = _object(row, "request_json"), _object(row, "response_json")
    config = _value(row, "llm_config")
    config_members = config if isinstance(config, dict) else {}
    api = _api(request, response)
    reply = _reply(api, response)
    error_type, error_message = _error(response, reply)
    created = _moment(row)
    record = ProviderTrace(
        id=record_id(str(row["id"]), created),
        step_id=row.get("step_id"),
        run_id=row.get("run_id"),
        agent_id=row.get("agent_id"),
        user_id=row.get("user_id"),
        org_id=row.get("org_id") or row.get("organization_id"),
        agent_tags=_tags(row),
        call_type=row.get("call_type"),
        source=row.get("source"),
        attributes=_attributes(row),
        provider=_provider(config_members, api, response),
        operation="embeddings" if row.get("call_type") == "embedding" else "chat",
        api=api,
        request_model=_text(request.get("model")) or _text(config_members.get("model")),
        response_model=reply.response_model or _text(response.get("model")),
        response_id=reply.response_id or _text(response.get("id")),
        stream=request.get("stream") is True,
        service_tier=reply.service_tier,
        status=_status(error_type),
        finish_reasons=reply.finish_reasons if error_type is None else (),
        error_type=error_type,
        error_message=error_message,
        error_json=response if error_type is not None else None,
        started_at=created,
        duration_ns=0,
        usage=reply.usage,
        request_json=_json.canonical(row["request_json"]),
        response_json=_json.canonical(row["response_json"]),
        content="full",
        llm_config=config,
        compaction_settings=_value(row, "compaction_settings"),
        billing_context=_value(row, "billing_context"),
    )
    return _WHOLE.apply_to_record(record)


def record_id(letta_id: str, created: int) -> str:
    """A UUIDv7 made of a row's time and of its id's own random bits: in order, and the same each time.

    >>> record_id("provider_trace-6f9619ff-8b86-4011-b42d-00c04fc964ff", 1_769_860_800_000_000_000)
    '019c13ec-9e00-76f9-b42d-00c04fc964ff'
    """
    match = _UUID.search(letta_id.lower())
    digits = match[0].replace("-", "") if match else hashlib.sha256(letta_id.encode()).hexdigest()[:32]
    milliseconds = max(0, created // 1_000_000) & (1 << 48) - 1
    value = milliseconds << 80 | int(digits[:3], 16) << 64 | int(digits[16:], 16)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _reply(api: str, response: dict[str, Any]) -> Reply:
    """What the response says; where only parts of its shape are there, as in Letta's streams, at least its usage."""
    reply = Reply()
    if api in PARSERS:
        reader = PARSERS[api]()
        reader.body(response)
        reply = reader.reply()
    if reply.usage.source == "none":
        reply.usage = Usage.from_raw(response.get("usage") or response.get("usage_metadata"))
    return reply


def _api(request: dict[str, Any], response: dict[str, Any]) -> str:
    for key, api in _SHAPES.items():
        # Letta's own shape of a stream has `content` too, as an object, whatever the API was.
        if isinstance(response.get(key), list):
            return api
    if "input" in request:
        return "responses"
    if "contents" in request:
        return "generate_content"
    usage = response.get("usage")
    anthropic = isinstance(usage, dict) and ("cache_creation_input_tokens" in usage or "input_tokens" in usage)
    return "messages" if anthropic or "system" in request else "chat_completions"


def _provider(config: dict[str, Any], api: str, response: dict[str, Any]) -> str:
    kind = _text(config.get("model_endpoint_type"))
    if kind is not None:
        return _PROVIDERS.get(kind, kind)
    model = _text(response.get("model")) or ""
    if api == "messages" or model.startswith("claude"):
        return "anthropic"
    return "gcp.gemini" if api == "generate_content" else "openai"


def _error(response: dict[str, Any], reply: Reply) -> tuple[str | None, str | None]:
    """Type and message of a failure; ``"error": null``, which a response that went well may have, is none."""
    if not response.get("error"):
        return (wire.error_type(reply.error), reply.error.message) if reply.error is not None else (None, None)
    provider_error = read_error(response)
    kind = _text(response.get("error_type")) or wire.error_type(provider_error)
    return kind, provider_error.message if provider_error is not None else None


def _status(error_type: str | None) -> RecordStatus:
    return "ok" if error_type is None else "error"


def _tags(row: Mapping[str, Any]) -> tuple[str, ...]:
    tags = _value(row, "agent_tags")
    return tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()


def _attributes(row: Mapping[str, Any]) -> dict[str, str]:
    names = {"id": "letta.id", "organization_id": "letta.organization_id", "_created_by_id": "letta.created_by_id",
             "_last_updated_by_id": "letta.last_updated_by_id"}  # fmt: skip
    attributes = {name: str(row[column]) for column, name in names.items() if row.get(column) is not None}
    updated = row.get("updated_at")
    if isinstance(updated, datetime) and updated != row.get("created_at"):
        attributes["letta.updated_at"] = updated.isoformat()
    return attributes


def _moment(row: Mapping[str, Any]) -> int:
    created = row.get("created_at")
    if not isinstance(created, datetime):
        raise RecordError(f"created_at is {created!r:.80}, not a time")
    aware = created if created.tzinfo else created.replace(tzinfo=UTC)
    return nanoseconds_of(aware)


def _object(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    value = _value(row, column)
    if not isinstance(value, dict):
        raise RecordError(f"{column} is {row.get(column)!r:.80}, not a JSON object")
    return value


def _value(row: Mapping[str, Any], column: str) -> Any:
    text = row.get(column)
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise RecordError(f"{column} is {text!r:.80}, which is not JSON: {error}") from error


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
