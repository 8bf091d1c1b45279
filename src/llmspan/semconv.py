"""The GenAI semantic conventions, in our own literals, and the record as span attributes and back.

Source: open-telemetry/semantic-conventions-genai, ``docs/gen-ai/client-inference.md`` (Development). Constants of
``opentelemetry-semantic-conventions`` lag behind (they still say ``cache_creation``), so the names stand here, once.
What the conventions do not name is under ``llmspan.``. Names are written in their current spelling; older spellings
are accepted on read. Zeros are written: 0 is reported as zero, a missing attribute is not reported.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import compress
from operator import is_not, itemgetter
from typing import Any, Final, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import format_span_id, format_trace_id

from . import _json
from .errors import RecordError
from .semconv_request import OPENAI, request_attributes
from .settings import SemconvCompat
from .trace import KINDS, ProviderTrace, new_id
from .usage import Usage
from .wire.apis.gemini_reasons import content_reasons, interaction_reasons
from .wire.finish_reasons import normalized, response_reasons
from .wire.reply import JsonObject, obj

__all__ = [
    "SCHEMA_URL",
    "SpanFacts",
    "end_attributes",
    "event_attributes",
    "from_span",
    "request_attributes",
    "span_name",
    "start_attributes",
    "to_attributes",
    "vendor_response_attributes",
    "with_old_names",
]

#: the version of the conventions whose names these are, as their repository publishes it
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
#: the instrumentation scope of the tracer, the meter and the logger
SCOPE: Final = "llmspan"

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
#: as the provider wrote them, where the conventions have other words
RAW_FINISH_REASONS: Final = "llmspan.response.finish_reasons"
ERROR_TYPE: Final = "error.type"
#: the class of the exception that interrupted a cancelled call
CANCELLED_BY: Final = "llmspan.cancelled_by"
RESPONSE_ID: Final = "gen_ai.response.id"
RECORD_ID: Final = "llmspan.record.id"
#: the member of ``error_json`` that has the exceptions behind one of the SDK's; a provider's error has none
CAUSED_BY: Final = "caused_by"

#: record key -> attribute, for values that are the same on both sides
_SAME: Final[dict[str, str]] = {
    "id": RECORD_ID,
    "operation": OPERATION,
    "provider": PROVIDER,
    "api": "llmspan.api",
    "request_model": REQUEST_MODEL,
    "response_model": "gen_ai.response.model",
    "response_id": RESPONSE_ID,
    "conversation_id": "gen_ai.conversation.id",
    "server_address": "server.address",
    "server_port": "server.port",
    "error_type": ERROR_TYPE,
    "http_status": "http.response.status_code",
    "request_id": "llmspan.request.id",
    "service_tier": "llmspan.response.service_tier",
    "sdk": "llmspan.sdk",
    "status": "llmspan.status",
    "error_message": "llmspan.error.message",
    "attempts": "llmspan.attempts",
    "chunk_count": "llmspan.response.chunk_count",
    "step_id": "llmspan.step.id",
    "run_id": "llmspan.run.id",
    "agent_id": "gen_ai.agent.id",
    "user_id": "user.id",
    "org_id": "llmspan.org.id",
    "call_type": "llmspan.call.type",
    "source": "llmspan.source",
    "content": "llmspan.content",
    "request_bytes": "llmspan.request.bytes",
    "response_bytes": "llmspan.response.bytes",
}
#: what their values must be; another instrumentation's that are not would cost us the record
_PLAIN: Final[dict[str, type]] = {key: int if KINDS[key] == "integer" else str for key in _SAME}

_FIVE: Final[dict[str, str]] = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}

#: older spellings, accepted on read
_OLD_NAMES: Final[dict[str, str]] = {
    "gen_ai.usage.cache_creation.input_tokens": "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.prompt_tokens": "gen_ai.usage.input_tokens",
    "gen_ai.usage.completion_tokens": "gen_ai.usage.output_tokens",
    "gen_ai.system": PROVIDER,
}

#: counts that were renamed last: backends that sum all of ``gen_ai.usage.*`` must not find both
_OLD_COUNTS: Final = {"gen_ai.usage.cache_write.input_tokens": "gen_ai.usage.cache_creation.input_tokens"}

#: finer counts that Anthropic has a name for, used on its own spans only
_ANTHROPIC_DETAILS: Final[dict[str, str]] = {
    "cache_write_5m_tokens": "anthropic.usage.cache_creation.ephemeral_5m_input_tokens",
    "cache_write_1h_tokens": "anthropic.usage.cache_creation.ephemeral_1h_input_tokens",
}
#: finer counts that have a name outside of ``llmspan.usage.``
_DETAILS: Final[dict[str, str]] = {
    "audio_input_tokens": "gen_ai.usage.audio.input_tokens",
    "audio_output_tokens": "gen_ai.usage.audio.output_tokens",
    "image_input_tokens": "gen_ai.usage.image.input_tokens",
    "image_output_tokens": "gen_ai.usage.image.output_tokens",
    "text_input_tokens": "gen_ai.usage.text.input_tokens",
    "text_output_tokens": "gen_ai.usage.text.output_tokens",
    "cache_read_audio_tokens": "gen_ai.usage.audio.cache_read.input_tokens",
    "cache_read_image_tokens": "gen_ai.usage.image.cache_read.input_tokens",
    "cache_read_text_tokens": "gen_ai.usage.text.cache_read.input_tokens",
}
_ALL_DETAILS: Final = _ANTHROPIC_DETAILS | _DETAILS
_DETAIL_OF: Final = {attribute: name for name, attribute in _ALL_DETAILS.items()}
_USAGE_PREFIX: Final = "llmspan.usage."
_USAGE_SOURCE: Final = "llmspan.usage_source"
_CUSTOM_PREFIX: Final = "llmspan.attributes."
_TAGS: Final = "llmspan.agent.tags"
STREAM: Final = "gen_ai.request.stream"
_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"

#: providers whose spans, metrics and events carry ``anthropic.*`` attributes
_ANTHROPIC: Final = frozenset({"anthropic"})
#: APIs of which the whole response says what the record's finish reasons do not, and how it is read
_REASONS_OF: Final[dict[str, Callable[[JsonObject], tuple[str, ...]]]] = {
    "generate_content": content_reasons,
    "interactions": interaction_reasons,
    "responses": response_reasons,
    "responses_compact": response_reasons,
}
_FIRST_ERROR: Final = 400
#: operations whose usage belongs to another call
NOT_BILLED: Final = frozenset({"fetch_response"})
#: operations that ask for what a model generates, or bring it: their messages may go on spans and into events. What is
#: embedded, counted or classified is no conversation with a model, and the conventions have no attributes for it
GENERATION: Final = frozenset(
    {"chat", "text_completion", "generate_content", "fetch_response", "create_batch", "fetch_batch_results"}
)


#: what a span has from its start, or (the payload's fate) cannot know at its end
_NOT_AT_END: Final = frozenset(
    {"id", "operation", "provider", "request_model", "server_address", "server_port", "chunk_count", "content"}
)
_SAME_AT_END: Final = {key: name for key, name in _SAME.items() if key not in _NOT_AT_END}
_NAMES_AT_END: Final = tuple(_SAME_AT_END.values())
_values_at_end: Final = itemgetter(*_SAME_AT_END)
_is_reported: Final = partial(is_not, None)
_SHAPED: Final = (
    "stream", "finish_reasons", "time_to_first_chunk_ns", "agent_tags", "attributes", "usage", "error_json",
)  # fmt: skip
_READ: Final = (*_SAME, *_SHAPED)


class SpanFacts(NamedTuple):
    """Facts of a call that spans, events and metrics carry and records have no column for."""

    system_fingerprint: str | None = None
    #: in the conventions' spelling, where the record's own values do not determine it
    finish_reasons: tuple[str, ...] | None = None
    #: of a fetched response
    response_status: str | None = None
    is_compacted: bool = False


def span_name(operation: str, model: str | None) -> str:
    """``{gen_ai.operation.name} {gen_ai.request.model}``, the operation alone where no model was asked for."""
    return f"{operation} {model}" if model else operation


def start_attributes(
    *, operation: str, provider: str, model: str | None, address: str | None, port: int | None
) -> dict[str, Any]:
    """The attributes that samplers may decide on; they are there when the span starts."""
    attributes: dict[str, Any] = {OPERATION: operation, PROVIDER: provider}
    if model is not None:
        attributes[REQUEST_MODEL] = model
    if address is not None:
        attributes["server.address"] = address
        if address and port is not None:
            attributes["server.port"] = port
    return attributes


def end_attributes(facts: Mapping[str, Any], span_facts: SpanFacts = SpanFacts()) -> dict[str, Any]:  # noqa: B008 - immutable
    """What a span gets at its end: the record's values less what it had at its start, and vendors' own names.

    ``facts`` are those of :func:`to_attributes`; taken as a mapping, as no record has been made by then.
    """
    values = _values_at_end(facts)
    attributes = dict(compress(zip(_NAMES_AT_END, values, strict=True), map(_is_reported, values)))
    _add_shaped(attributes, facts, span_facts.finish_reasons)
    attributes |= _only_on_spans(facts, span_facts)
    return attributes


def event_attributes(record: ProviderTrace, span_facts: SpanFacts = SpanFacts()) -> dict[str, Any]:  # noqa: B008 - immutable
    """What the event of a finished call says: all that its span says, less the request's parameters."""
    facts = {key: getattr(record, key) for key in _READ}
    return _attributes(facts, span_facts.finish_reasons) | _only_on_spans(facts, span_facts)


def _only_on_spans(facts: Mapping[str, Any], span_facts: SpanFacts) -> dict[str, Any]:
    """The attributes that follow from a record's values and are not read back from a span."""
    attributes: dict[str, Any] = {}
    tier, fingerprint = facts["service_tier"], span_facts.system_fingerprint
    if tier or fingerprint:
        attributes = vendor_response_attributes(facts["provider"], facts["api"], tier, fingerprint)
    if span_facts.response_status is not None:
        attributes["gen_ai.response.status"] = span_facts.response_status
    if span_facts.is_compacted:
        attributes["gen_ai.conversation.compacted"] = True
    if not facts["finish_reasons"] and (facts["status"] == "incomplete" or _failed_while_generating(facts)):
        attributes[FINISH_REASONS] = ("error",)
    if (facts["attempts"] or 1) > 1:
        attributes["http.request.resend_count"] = facts["attempts"] - 1
    return attributes


def vendor_response_attributes(
    provider: str, api: str, service_tier: str | None, system_fingerprint: str | None
) -> dict[str, Any]:
    """The attributes that a vendor has named for its own responses, for that vendor's calls only."""
    attributes: dict[str, Any] = {}
    if provider in OPENAI and api in ("chat_completions", "responses"):
        if service_tier:
            attributes["openai.response.service_tier"] = service_tier
        if system_fingerprint:
            attributes["openai.response.system_fingerprint"] = system_fingerprint
    elif provider in _ANTHROPIC and api == "messages" and service_tier:
        attributes["anthropic.response.service_tier"] = service_tier
    return attributes


def to_attributes(record: ProviderTrace) -> dict[str, Any]:
    """The record as attributes, less payloads, ``usage_raw`` and the JSON values, which never go on spans."""
    return _attributes({key: getattr(record, key) for key in _READ}, _response_reasons(record))


def _attributes(facts: Mapping[str, Any], finish_reasons: tuple[str, ...] | None) -> dict[str, Any]:
    attributes = {name: value for key, name in _SAME.items() if (value := facts[key]) is not None}
    if facts["stream"]:
        attributes[STREAM] = True
    _add_shaped(attributes, facts, finish_reasons)
    return attributes


def _response_reasons(record: ProviderTrace) -> tuple[str, ...] | None:
    """The finish reasons that the response says more of than the record's column, which has a status, or one word."""
    read = _REASONS_OF.get(record.api)
    if read is None or record.response_json is None or not (any(record.finish_reasons) or read is content_reasons):
        return None
    try:
        response = json.loads(record.response_json)
    except (ValueError, RecursionError):  # a record made by hand
        return None
    reasons = read(obj(response))
    return reasons if reasons or not record.finish_reasons or read is not content_reasons else None


def _failed_while_generating(facts: Mapping[str, Any]) -> bool:
    """Whether the provider accepted the call and then reported a failure; where it refused, nothing was generated."""
    accepted = facts["http_status"] is not None and facts["http_status"] < _FIRST_ERROR
    error = facts["error_json"]
    is_exception = isinstance(error, Mapping) and CAUSED_BY in error  # of a connection: the provider reported nothing
    return facts["status"] == "error" and accepted and error is not None and not is_exception


def _add_shaped(attributes: dict[str, Any], facts: Mapping[str, Any], finish_reasons: tuple[str, ...] | None) -> None:
    """The values that look different on a span."""
    # a call that the program interrupted has not failed: it has no ``error.type``, but says what interrupted it
    if facts["status"] == "cancelled" and ERROR_TYPE in attributes:
        attributes[CANCELLED_BY] = attributes.pop(ERROR_TYPE)
    raw, spelled = _spellings(tuple(facts["finish_reasons"]))
    reasons = spelled if finish_reasons is None else finish_reasons
    if reasons:
        attributes[FINISH_REASONS] = reasons
    if raw != reasons:
        attributes[RAW_FINISH_REASONS] = raw
    if facts["time_to_first_chunk_ns"] is not None:
        attributes[_FIRST_CHUNK] = facts["time_to_first_chunk_ns"] / 1e9
    if facts["agent_tags"]:
        attributes[_TAGS] = facts["agent_tags"]
    for key, value in facts["attributes"].items():
        attributes[_CUSTOM_PREFIX + key] = value if isinstance(value, str | bool | int | float) else _json.dumps(value)
    if facts["operation"] not in NOT_BILLED:  # the call that made a fetched response was billed, and has its usage
        attributes.update(_usage_attributes(facts["usage"], facts["provider"], facts["operation"]))


@lru_cache(maxsize=256)  # calls end for few reasons
def _spellings(reasons: tuple[str | None, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Finish reasons as the provider wrote them, and as the conventions do."""
    return tuple([reason or "error" for reason in reasons]), normalized(reasons)


def with_old_names(attributes: dict[str, Any], compat: SemconvCompat) -> dict[str, Any]:
    """``attributes`` with the names that theirs have replaced, beside them or instead of them."""
    if compat == "beside":
        return attributes | {old: attributes[new] for old, new in _OLD_NAMES.items() if new in attributes}
    if compat == "instead":
        renamed = {_OLD_COUNTS.get(name, name): value for name, value in attributes.items()}
        return renamed | ({"gen_ai.system": renamed[PROVIDER]} if PROVIDER in renamed else {})
    return attributes


def from_span(span: ReadableSpan, attributes: Mapping[str, Any] | None = None) -> ProviderTrace:
    """The record that a finished GenAI span describes, without payloads.

    ``attributes`` are read instead of the span's own, for spans that say the same in other words (``span_import.py``).

    Raises:
        RecordError: the span is not a GenAI client span.
    """
    span_attributes = dict(span.attributes or {}) if attributes is None else dict(attributes)
    for old, new in _OLD_NAMES.items():
        if old in span_attributes:
            span_attributes.setdefault(new, span_attributes.pop(old))
    if not isinstance(span_attributes.get(OPERATION), str):
        raise RecordError(f"span {span.name!r} has no {OPERATION}: not a GenAI span")
    values: dict[str, Any] = {
        k: span_attributes[name] for k, name in _SAME.items() if isinstance(span_attributes.get(name), _PLAIN[k])
    }
    values.setdefault("provider", "unknown")
    values.setdefault("api", span_attributes.get("openai.api.type") or values["operation"])
    values.setdefault("status", "error" if ERROR_TYPE in span_attributes else "ok")
    if isinstance(span_attributes.get(CANCELLED_BY), str):
        values.setdefault("error_type", span_attributes[CANCELLED_BY])
    context = span.get_span_context()
    start = 0 if span.start_time is None else span.start_time
    end = start if span.end_time is None else span.end_time
    if context is not None and context.is_valid:
        values["trace_id"], values["span_id"] = format_trace_id(context.trace_id), format_span_id(context.span_id)
        # the same for every exporter that meets this span, so that a store keeps it once
        values.setdefault("id", str(uuid.uuid5(uuid.NAMESPACE_OID, f"{context.trace_id:x}/{context.span_id:x}")))
    values.setdefault("id", new_id())
    if span.parent is not None:
        values["parent_span_id"] = format_span_id(span.parent.span_id)
    first = span_attributes.get(_FIRST_CHUNK)
    reasons = _strings(span_attributes.get(RAW_FINISH_REASONS, span_attributes.get(FINISH_REASONS)))
    return ProviderTrace(
        **values,
        stream=bool(span_attributes.get(STREAM)),
        finish_reasons=tuple(None if reason == "error" else reason for reason in reasons),
        time_to_first_chunk_ns=round(first * 1e9) if isinstance(first, int | float) else None,
        agent_tags=_strings(span_attributes.get(_TAGS)),
        attributes={
            k.removeprefix(_CUSTOM_PREFIX): v for k, v in span_attributes.items() if k.startswith(_CUSTOM_PREFIX)
        },
        started_at=start,
        duration_ns=max(0, end - start),
        usage=_usage_from(span_attributes),
    )


def _usage_attributes(usage: Usage, provider: str, operation: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {_USAGE_SOURCE: usage.source}
    for key, name in _FIVE.items():
        value = getattr(usage, key)
        if value is not None:
            attributes[name] = value
    if usage.details:
        names = _ALL_DETAILS if provider in _ANTHROPIC else _DETAILS
        if operation == "embeddings":  # whose spans have no such attributes in the conventions
            names = {}
        for key, value in usage.details.items():
            attributes[names.get(key) or _USAGE_PREFIX + key] = value
    return attributes


def _usage_from(attributes: Mapping[str, Any]) -> Usage:
    five = {key: attributes[name] for key, name in _FIVE.items() if isinstance(attributes.get(name), int)}
    details = {
        _DETAIL_OF.get(name) or name.removeprefix(_USAGE_PREFIX): value
        for name, value in attributes.items()
        if (name in _DETAIL_OF or name.startswith(_USAGE_PREFIX)) and isinstance(value, int)
    }
    source = attributes.get(_USAGE_SOURCE) or ("provider" if five else "none")
    return Usage(**five, details=details, source=source)


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
