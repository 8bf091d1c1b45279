"""The GenAI semantic conventions as a small table of our own, and checks of spans, events and metrics against it.

State: open-telemetry/semantic-conventions-genai at 024a4f94 (November 2026, Development), which refers to
semantic-conventions v1.44.0. Each check returns the faults it found, as sentences that name the attribute.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import SpanKind, StatusCode

VERSION: Final = "024a4f94"

# -- attributes: what a value is --------------------------------------------------------------------------------------

TYPES: Final[dict[str, str]] = {
    "gen_ai.operation.name": "string",
    "gen_ai.provider.name": "string",
    "gen_ai.conversation.id": "string",
    "gen_ai.conversation.compacted": "boolean",
    "gen_ai.output.type": "string",
    "gen_ai.prompt.name": "string",
    "gen_ai.prompt.version": "string",
    "gen_ai.agent.id": "string",
    "gen_ai.request.model": "string",
    "gen_ai.request.choice.count": "int",
    "gen_ai.request.encoding_formats": "string[]",
    "gen_ai.request.frequency_penalty": "double",
    "gen_ai.request.max_tokens": "int",
    "gen_ai.request.presence_penalty": "double",
    "gen_ai.request.previous_response.id": "string",
    "gen_ai.request.reasoning.level": "string",
    "gen_ai.request.seed": "int",
    "gen_ai.request.stop_sequences": "string[]",
    "gen_ai.request.stream": "boolean",
    "gen_ai.request.stream_cursor": "string",
    "gen_ai.request.temperature": "double",
    "gen_ai.request.top_k": "int",
    "gen_ai.request.top_p": "double",
    "gen_ai.response.finish_reasons": "string[]",
    "gen_ai.response.id": "string",
    "gen_ai.response.model": "string",
    "gen_ai.response.status": "string",
    "gen_ai.response.time_to_first_chunk": "double",
    "gen_ai.embeddings.dimension.count": "int",
    "gen_ai.system_instructions": "any",
    "gen_ai.input.messages": "any",
    "gen_ai.output.messages": "any",
    "gen_ai.tool.definitions": "any",
    "gen_ai.token.modality": "string",
    "gen_ai.token.type": "string",
    "gen_ai.usage.input_tokens": "int",
    "gen_ai.usage.output_tokens": "int",
    "gen_ai.usage.cache_read.input_tokens": "int",
    "gen_ai.usage.cache_write.input_tokens": "int",
    "gen_ai.usage.reasoning.output_tokens": "int",
    **{f"gen_ai.usage.{modality}.{count}": "int"
       for modality in ("text", "image", "audio")
       for count in ("input_tokens", "output_tokens", "cache_read.input_tokens")},
    "openai.api.type": "string",
    "openai.request.service_tier": "string",
    "openai.response.service_tier": "string",
    "openai.response.system_fingerprint": "string",
    "error.type": "string",
    "server.address": "string",
    "server.port": "int",
    # conventions outside of GenAI
    "exception.type": "string",
    "exception.message": "string",
    "exception.stacktrace": "string",
    "http.response.status_code": "int",
    "http.request.resend_count": "int",
    "user.id": "string",
    # the anthropic SDK's own names, which its spans made known
    "anthropic.response.service_tier": "string",
    "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": "int",
    "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": "int",
}  # fmt: skip
#: names of this package's own, which the conventions leave to whoever invents them
OWN: Final = re.compile(r"llmspan\.[a-z0-9_.]+")

#: attributes with well-known values; other values are allowed where none of those applies
ENUMS: Final[dict[str, frozenset[str]]] = {
    "gen_ai.operation.name": frozenset(
        [
            "chat",
            "create_agent",
            "create_memory",
            "create_memory_store",
            "delete_memory",
            "delete_memory_store",
            "embeddings",
            "execute_tool",
            "fetch_response",
            "generate_content",
            "invoke_agent",
            "invoke_workflow",
            "plan",
            "retrieval",
            "search_memory",
            "text_completion",
            "update_memory",
            "upsert_memory",
        ]
    ),
    "gen_ai.provider.name": frozenset(
        [
            "anthropic",
            "aws.bedrock",
            "azure.ai.inference",
            "azure.ai.openai",
            "cohere",
            "deepseek",
            "gcp.gemini",
            "gcp.gen_ai",
            "gcp.vertex_ai",
            "groq",
            "ibm.watsonx.ai",
            "mistral_ai",
            "moonshot_ai",
            "openai",
            "perplexity",
            "x_ai",
        ]
    ),
    "gen_ai.output.type": frozenset({"text", "json", "image", "speech"}),
    "gen_ai.token.modality": frozenset({"text", "image", "audio", "video", "document", "unknown"}),
    "gen_ai.token.type": frozenset({"input", "output"}),
    "openai.api.type": frozenset({"chat_completions", "responses"}),
    "gen_ai.response.status": frozenset({"completed", "failed", "in_progress", "cancelled", "queued", "incomplete"}),
}
#: values of ours for which no well-known one applies, each with its reason in docs/decisions
CUSTOM: Final[dict[str, frozenset[str]]] = {
    "gen_ai.operation.name": frozenset({"count_tokens", "create_batch", "fetch_batch_results", "moderation"}),
    "gen_ai.provider.name": frozenset({"openrouter"}),
}
#: the words of the message schema; the attribute has no vocabulary of its own, so that a provider's word may stay
FINISH_REASONS: Final = frozenset({"stop", "length", "content_filter", "tool_call", "compaction", "error"})
#: providers' words that have a counterpart among those, and so must not be on a span
TRANSLATED: Final = frozenset(
    [
        "tool_calls",
        "function_call",
        "tool_use",
        "end_turn",
        "stop_sequence",
        "max_tokens",
        "max_output_tokens",
        "completed",
        "failed",
        "cancelled",
        "queued",
        "in_progress",
        "refusal",
    ]
)

# -- what belongs to which operation ----------------------------------------------------------------------------------

_COMMON: Final = frozenset(
    {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "server.address", "server.port",
     "error.type"}
)  # fmt: skip
_CONTENT: Final = frozenset(
    {"gen_ai.system_instructions", "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.definitions"}
)
_NOT_INFERENCE: Final = frozenset(
    {"gen_ai.request.encoding_formats", "gen_ai.embeddings.dimension.count", "gen_ai.response.status",
     "gen_ai.request.stream_cursor", "gen_ai.token.modality", "gen_ai.token.type",
     "exception.type", "exception.message", "exception.stacktrace"}
)  # fmt: skip
INFERENCE: Final = frozenset(TYPES) - _NOT_INFERENCE
EMBEDDINGS: Final = _COMMON | {
    "gen_ai.embeddings.dimension.count", "gen_ai.request.encoding_formats", "gen_ai.response.model",
    "gen_ai.usage.input_tokens",
}  # fmt: skip
FETCH: Final = _COMMON | _CONTENT | {
    "gen_ai.response.id", "gen_ai.response.status", "gen_ai.response.model", "gen_ai.response.finish_reasons",
    "gen_ai.request.stream", "gen_ai.request.stream_cursor", "gen_ai.response.time_to_first_chunk",
    "gen_ai.conversation.id", "gen_ai.conversation.compacted", "gen_ai.output.type", "openai.api.type",
    "openai.response.service_tier", "openai.response.system_fingerprint",
}  # fmt: skip
#: what the program says of itself, and of the HTTP exchange, whatever the operation
_ANY_OPERATION: Final = frozenset(
    {"http.response.status_code", "http.request.resend_count", "user.id", "gen_ai.agent.id", "gen_ai.conversation.id"}
)
ALLOWED: Final[dict[str, frozenset[str]]] = {
    "embeddings": EMBEDDINGS | _ANY_OPERATION,
    "fetch_response": FETCH | _ANY_OPERATION,
}
#: attributes of one vendor's flavour of the conventions -> the providers whose spans have it
FLAVOURS: Final = {"openai.": frozenset({"openai", "azure.ai.openai"}), "anthropic.": frozenset({"anthropic"})}

# -- metrics ----------------------------------------------------------------------------------------------------------

SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_POINT: Final = frozenset(
    {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model",
     "server.address", "server.port", "openai.response.service_tier", "openai.response.system_fingerprint"}
)  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """An instrument of the conventions: ``bounds`` of a histogram, None for a counter; attributes beside the usual."""

    unit: str
    bounds: tuple[float, ...] | None = None
    more: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()


_DURATION: Final = Metric("s", SECONDS, more=frozenset({"error.type"}))
_USAGE: Final = Metric("{token}", required=frozenset({"gen_ai.token.modality"}))
METRICS: Final[dict[str, Metric]] = {
    "gen_ai.client.inference.duration": _DURATION,
    "gen_ai.client.inference.time_to_first_chunk": Metric("s", SECONDS),
    "gen_ai.client.inference.time_per_output_chunk": Metric("s", SECONDS),
    "gen_ai.client.inference.usage.input_tokens": _USAGE,
    "gen_ai.client.inference.usage.output_tokens": _USAGE,
    "gen_ai.client.inference.usage.cache_read.input_tokens": _USAGE,
    "gen_ai.client.inference.usage.cache_write.input_tokens": _USAGE,
    "gen_ai.client.inference.usage.reasoning.output_tokens": _USAGE,
    "gen_ai.client.inference.operation.input_tokens": Metric("{token}", TOKENS),
    "gen_ai.client.inference.operation.output_tokens": Metric("{token}", TOKENS),
    "gen_ai.client.embeddings.duration": _DURATION,
    "gen_ai.client.embeddings.operation.input_tokens": Metric("{token}", TOKENS),
    "gen_ai.client.operation.duration": _DURATION,
}
DETAILS: Final = "gen_ai.client.inference.operation.details"
EXCEPTION: Final = "gen_ai.client.operation.exception"

# -- checks -----------------------------------------------------------------------------------------------------------


def span_faults(span: Any, request: Mapping[str, Any] | None = None) -> list[str]:
    """What is wrong with a finished span of a call that sent ``request``."""
    attributes = dict(span.attributes or {})
    found = [*attribute_faults(attributes), *requirement_faults(attributes), *request_faults(attributes, request)]
    operation, model = attributes.get("gen_ai.operation.name"), attributes.get("gen_ai.request.model")
    if span.name != (f"{operation} {model}" if model else operation):
        found.append(f"span name {span.name!r} is not the operation {operation!r} and the model {model!r}")
    if span.kind is not (SpanKind.INTERNAL if operation == "invoke_agent" else SpanKind.CLIENT):
        found.append(f"span kind {span.kind} of {operation!r}")
    if (span.status.status_code is StatusCode.ERROR) != ("error.type" in attributes):
        found.append(f"status {span.status.status_code.name} with error.type {attributes.get('error.type')!r}")
    if span.status.status_code is StatusCode.OK:
        found.append("status OK is the application's to set")
    return found


def event_faults(record: Any) -> list[str]:
    """What is wrong with a log record that should be one of the two events."""
    attributes = dict(record.attributes or {})
    found = [] if record.trace_id else ["the event is outside of its span's trace"]
    if record.event_name == EXCEPTION:
        found += attribute_faults(attributes)
        found += _missing(attributes, {"exception.type"})
        if record.severity_number is not SeverityNumber.WARN:
            found.append(f"severity {record.severity_number} of {EXCEPTION}")
        return found
    found += [*attribute_faults(attributes), *requirement_faults(attributes)]
    if record.event_name != DETAILS:
        found.append(f"event name {record.event_name!r}")
    if attributes.get("gen_ai.operation.name") == "embeddings":
        found.append("embeddings have no details event")
    return found


def metric_faults(metric: Any) -> list[str]:
    """What is wrong with one exported metric and its points."""
    known = METRICS.get(metric.name)
    if known is None:
        return [f"{metric.name} is no metric of the conventions"]
    found = [] if metric.unit == known.unit else [f"{metric.name}: unit {metric.unit!r} instead of {known.unit!r}"]
    for point in metric.data.data_points:
        attributes = dict(point.attributes or {})
        faults = [*attribute_faults(attributes), *_missing(attributes, known.required | _REQUIRED)]
        extra = attributes.keys() - _POINT - known.more - known.required
        faults += [f"{name} is no attribute of this metric" for name in sorted(extra)]
        bounds = getattr(point, "explicit_bounds", None)
        if (None if bounds is None else tuple(bounds)) != known.bounds:
            faults.append(f"bucket boundaries {bounds}")
        found += [f"{metric.name}: {fault}" for fault in faults]
    return found


def attribute_faults(attributes: Mapping[str, Any]) -> Iterable[str]:
    """Names that are in no table, values of the wrong type, values that are none of those that are known."""
    provider = attributes.get("gen_ai.provider.name")
    for name, value in attributes.items():
        kind = TYPES.get(name)
        if kind is None and not OWN.fullmatch(name):
            yield f"{name} is no attribute of the conventions"
        elif kind is not None and not _is(kind, value):
            yield f"{name} is {value!r:.60}, not {kind}"
        known = ENUMS.get(name)
        if known is not None and value not in known | CUSTOM.get(name, frozenset()):
            yield f"{name} is {value!r}, which is neither well-known nor documented"
        for prefix, providers in FLAVOURS.items():
            if name.startswith(prefix) and provider not in providers:
                yield f"{name} on a call of {provider!r}"
    allowed = ALLOWED.get(str(attributes.get("gen_ai.operation.name")), INFERENCE | _NOT_INFERENCE)
    if _reports_background(attributes):
        allowed |= INFERENCE
    for name in attributes.keys() & TYPES.keys() - allowed:
        yield f"{name} does not belong to the operation {attributes.get('gen_ai.operation.name')!r}"


_REQUIRED: Final = frozenset({"gen_ai.operation.name", "gen_ai.provider.name"})


def requirement_faults(attributes: Mapping[str, Any]) -> Iterable[str]:
    """What is missing, or is there although its condition does not hold."""
    yield from _missing(attributes, _REQUIRED)
    operation = attributes.get("gen_ai.operation.name")
    if attributes.get("server.address") and "server.port" not in attributes:
        yield "server.address without server.port"
    for name in ("gen_ai.request.stream", "gen_ai.conversation.compacted"):
        if attributes.get(name) is False:
            yield f"{name} is written only where it is true"
    if attributes.get("gen_ai.request.choice.count") == 1:
        yield "gen_ai.request.choice.count is written only where it is not 1"
    if "gen_ai.response.time_to_first_chunk" in attributes and "gen_ai.request.stream" not in attributes:
        yield "gen_ai.response.time_to_first_chunk of a call that did not stream"
    reasons = attributes.get("gen_ai.response.finish_reasons")
    if reasons is not None and (not reasons or TRANSLATED.intersection(reasons)):
        yield f"gen_ai.response.finish_reasons is {reasons!r}"
    if operation == "fetch_response" and "gen_ai.response.id" not in attributes:
        yield "gen_ai.response.id is required of fetch_response"
    spends_nothing = operation == "count_tokens" or (
        operation == "fetch_response" and not _reports_background(attributes)
    )
    if spends_nothing and any(name.startswith("gen_ai.usage.") for name in attributes):
        yield f"token usage on {operation!r}, which spends none"
    for name in ("gen_ai.input.messages", "gen_ai.output.messages"):
        yield from (f"{name}: {fault}" for fault in message_faults(attributes.get(name), is_output="output" in name))


def _reports_background(attributes: Mapping[str, Any]) -> bool:
    """Whether a fetch is the one that tells of a background response's usage: no other span has it (decision 30)."""
    return attributes.get("llmspan.call.type") == "background"


#: request parameter -> the attribute that its presence requires
REQUESTED: Final = {
    "model": "gen_ai.request.model", "seed": "gen_ai.request.seed", "top_k": "gen_ai.request.top_k",
    "temperature": "gen_ai.request.temperature", "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty", "presence_penalty": "gen_ai.request.presence_penalty",
    "max_tokens": "gen_ai.request.max_tokens", "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens", "stop": "gen_ai.request.stop_sequences",
    "stop_sequences": "gen_ai.request.stop_sequences", "reasoning_effort": "gen_ai.request.reasoning.level",
    "previous_response_id": "gen_ai.request.previous_response.id",
    "conversation": "gen_ai.conversation.id",
}  # fmt: skip


def request_faults(attributes: Mapping[str, Any], request: Mapping[str, Any] | None) -> Iterable[str]:
    """Parameters of the request that the conventions want on the span, and which are not there."""
    sent = request or {}
    if attributes.get("gen_ai.operation.name") in ("embeddings", "count_tokens", "moderation", "create_batch"):
        return
    for parameter, name in REQUESTED.items():
        value = sent.get(parameter)
        if name not in attributes and _is_sendable(TYPES[name], value):
            yield f"{name} is missing: the request has {parameter}={value!r:.60}"
    if sent.get("stream") is True and attributes.get("gen_ai.request.stream") is not True:
        yield "gen_ai.request.stream is missing: the request asks for a stream"
    if sent.get("n") not in (None, 1) and "gen_ai.request.choice.count" not in attributes:
        yield "gen_ai.request.choice.count is missing"
    formats = [sent.get("response_format"), _get(sent.get("text"), "format")]
    asks_for_json = any(_get(one, "type") in ("json_object", "json_schema") for one in formats)
    if asks_for_json and attributes.get("gen_ai.output.type") != "json":
        yield f"gen_ai.output.type is {attributes.get('gen_ai.output.type')!r}: the request asks for JSON"


def _is_sendable(kind: str, value: Any) -> bool:
    """Whether a request's parameter can be an attribute: providers refuse what has another type."""
    if isinstance(value, bool) or value is None:
        return False
    return isinstance(value, {"string": str | dict, "string[]": str | list, "double": int | float, "int": int}[kind])


def message_faults(value: Any, *, is_output: bool) -> Iterable[str]:
    """What is wrong with a list of messages, structured or as JSON text."""
    messages = json.loads(value) if isinstance(value, str) else value
    for message in messages or ():
        if not isinstance(_get(message, "role"), str):
            yield f"a message without a role: {message!r:.60}"
        for part in _get(message, "parts") or ():
            kind = _get(part, "type")
            wanted = PARTS.get(str(kind), ())
            if not isinstance(kind, str) or any(key not in part for key in wanted):
                yield f"a part without {', '.join(wanted) or 'type'}: {part!r:.80}"
        if is_output and _get(message, "finish_reason") in TRANSLATED | {None}:
            yield f"finish_reason {_get(message, 'finish_reason')!r}"


#: part type -> the members that the message schema requires beside ``type``
PARTS: Final[dict[str, tuple[str, ...]]] = {
    "text": ("content",), "reasoning": ("content",), "tool_call": ("name",), "tool_call_response": ("response",),
    "server_tool_call": ("name", "server_tool_call"), "server_tool_call_response": ("server_tool_call_response",),
    "blob": ("modality", "content"), "file": ("modality", "file_id"), "uri": ("modality", "uri"),
}  # fmt: skip


def _missing(attributes: Mapping[str, Any], names: Iterable[str]) -> Iterable[str]:
    return [f"{name} is missing" for name in sorted(names) if name not in attributes]


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _is(kind: str, value: Any) -> bool:
    if kind == "any":
        return True
    if kind == "string[]":
        return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, str) for v in value)
    wanted = {"string": str, "int": int, "double": float, "boolean": bool}[kind]
    return isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
