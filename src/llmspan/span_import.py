"""GenAI spans of other instrumentations, read as records that are filled from their attributes.

One table a dialect: the official conventions in their older spellings, OpenLLMetry, OpenInference, Langfuse, and the
anthropic SDK's own spans. A table translates names into the current conventions; what a table cannot say is a function
beside it. Only spans of a model call count: those of agents, workflows and tools repeat the sums of the calls within.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from . import _json, langfuse_spans, semconv
from .attribute_values import (
    as_mapping,
    as_strings,
    build_tree,
    numbered_items,
    parse_content,
    parse_json,
    parse_object,
    without_empty,
)  # fmt: skip
from .trace import ProviderTrace, RecordStatus
from .usage import Usage

__all__ = ["is_model_call", "to_record"]

Attributes = Mapping[str, Any]
Payload = tuple[Any, Any]

#: operations that are one call of a model
_MODEL_CALLS: Final = frozenset({"chat", "text_completion", "generate_content", "embeddings"})

#: ``gen_ai.provider.name`` where a dialect has another word for it (compared in lower case)
_PROVIDERS: Final = {
    "aws": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "az.ai.inference": "azure.ai.inference",
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gen_ai",
    "google_genai": "gcp.gen_ai",
    "mistralai": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}

#: attributes below these are the program's own
_CONTEXT_PREFIXES: Final = (
    "traceloop.association.properties.", "langfuse.trace.metadata.", "langfuse.observation.metadata.",
)  # fmt: skip

#: exceptions by which a span says that the caller, not the provider, ended the call
_CALLERS: Final[dict[str, RecordStatus]] = {
    "CancelledError": "cancelled",
    "KeyboardInterrupt": "cancelled",
    "GeneratorExit": "closed_early",
}


@dataclass(frozen=True, slots=True)
class SpanDialect:
    """How one family of instrumentations says what the conventions have a name for."""

    name: str
    #: the operation that a span of this dialect stands for; None if it is not of this dialect, or not a model call
    operation: Callable[[Attributes], str | None]
    #: their attribute -> the current conventions'; of two that mean the same, the first one counts
    names: Mapping[str, str]
    #: the finish reasons, where no attribute holds the list
    reasons: Callable[[Attributes], Sequence[str]]
    #: request and response as JSON values, None where the span has no content
    payload: Callable[[Attributes], Payload]
    #: usage that is one object, None if there is none
    usage: Callable[[Attributes], Usage | None] = lambda _: None
    #: what else the span says, under the conventions' names
    facts: Callable[[ReadableSpan], Mapping[str, Any]] = lambda _: {}


def is_model_call(span: ReadableSpan) -> bool:
    """Whether ``span`` stands for one call of a model, in any dialect."""
    return _dialect(span.attributes or {}) is not None


def to_record(span: ReadableSpan) -> ProviderTrace:
    """The record that a finished span of a model call describes, with the content that it carries, unredacted.

    Its id follows from the trace id and the span id: the same span is the same record, whoever hands it over.

    Raises:
        RecordError: the span is not one of a model call.
    """
    attributes = dict(span.attributes or {})
    match = _dialect(attributes)
    if match is None:
        return semconv.from_span(span)
    dialect, operation = match
    translated = _translated({**dialect.facts(span), **attributes}, dialect, operation)
    record = semconv.from_span(span, translated)
    request, response = dialect.payload(attributes)
    return replace(
        record,
        request_json=None if request is None else _json.dumps(_whole_request(record, request)),
        response_json=None if response is None else _json.dumps(response),
        source=record.source or _service(span),
        attributes={**_context(attributes, span), **record.attributes},
        agent_tags=record.agent_tags or as_strings(attributes.get("tag.tags") or attributes.get("langfuse.trace.tags")),
        usage=dialect.usage(attributes) or record.usage,
        **_outcome(span, record),
    )


def _dialect(attributes: Attributes) -> tuple[SpanDialect, str] | None:
    if "traceloop.span.kind" in attributes:  # a workflow, task, agent or tool
        return None
    for dialect in DIALECTS:
        operation = dialect.operation(attributes)
        if operation is not None:
            return (dialect, operation) if operation in _MODEL_CALLS else None
    return None


def _translated(attributes: Attributes, dialect: SpanDialect, operation: str) -> dict[str, Any]:
    """The attributes by their current names."""
    translated = dict(attributes)
    for foreign_name, convention_name in dialect.names.items():
        if foreign_name in attributes:
            translated.setdefault(convention_name, attributes[foreign_name])
    translated[semconv.OPERATION] = operation
    provider = str(translated.get(semconv.PROVIDER) or translated.get("gen_ai.system") or "unknown")
    translated[semconv.PROVIDER] = _PROVIDERS.get(provider.lower(), provider.lower())
    reasons = dialect.reasons(attributes)
    if reasons:
        translated.setdefault(semconv.FINISH_REASONS, tuple(reasons))
    for name, value in _address(str(attributes.get("gen_ai.openai.api_base") or "")).items():
        translated.setdefault(name, value)
    return translated


def _address(url: str) -> dict[str, Any]:
    try:
        base = urlsplit(url)
        port = base.port or (443 if base.scheme == "https" else 80)
    except ValueError:
        return {}
    return {"server.address": base.hostname, "server.port": port} if base.hostname else {}


def _outcome(span: ReadableSpan, record: ProviderTrace) -> dict[str, Any]:
    """Status and error; of the kinds of exception, those that mean that the caller went away are no errors."""
    raised: Attributes = next(
        (event.attributes or {} for event in reversed(span.events) if event.name == "exception"), {}
    )
    kind = record.error_type or raised.get("exception.type")
    if span.status.status_code is not StatusCode.ERROR and kind is None:
        return {}
    kind = str(kind or "_OTHER")
    status = _CALLERS.get(kind.rpartition(".")[2], "error")
    if status == "closed_early":
        return {"status": status, "error_type": None}
    message = record.error_message or span.status.description or raised.get("exception.message")
    return {"status": status, "error_type": kind, "error_message": None if message is None else str(message)}


def _service(span: ReadableSpan) -> str | None:
    name = span.resource.attributes.get("service.name")
    return name if isinstance(name, str) and not name.startswith("unknown_service") else None


def _context(attributes: Attributes, span: ReadableSpan) -> dict[str, Any]:
    """What goes into the record's own map: who made the span, and what the program had said about itself."""
    context: dict[str, Any] = {}
    scope = span.instrumentation_scope
    if scope is not None:
        context["otel.scope.name"] = scope.name
        if scope.version:
            context["otel.scope.version"] = scope.version
    for prefix in _CONTEXT_PREFIXES:
        context |= {key.removeprefix(prefix): value for key, value in attributes.items() if key.startswith(prefix)}
    metadata = parse_json(attributes.get("metadata"))
    return {**context, **metadata} if isinstance(metadata, dict) else context


# -- the conventions themselves ---------------------------------------------------------------------------------------


def _convention_operation(attributes: Attributes) -> str | None:
    operation = attributes.get(semconv.OPERATION)
    return operation if isinstance(operation, str) else None


def _native_reasons(attributes: Attributes) -> Sequence[str]:
    reason = attributes.get("anthropic.message.stop_reason")
    return (reason,) if isinstance(reason, str) else ()


def _convention_payload(attributes: Attributes) -> Payload:
    request = {
        "system": parse_content(attributes.get("gen_ai.system_instructions")),
        "messages": parse_content(attributes.get("gen_ai.input.messages")),
        "tools": parse_content(attributes.get("gen_ai.tool.definitions")),
    }
    output = parse_content(attributes.get("gen_ai.output.messages"))
    return without_empty(request), None if output is None else {"output": output}


_CONVENTIONS: Final = SpanDialect(
    name="OpenTelemetry GenAI, and the anthropic SDK",
    operation=_convention_operation,
    names={
        "gen_ai.openai.request.service_tier": "openai.request.service_tier",
        "gen_ai.openai.response.service_tier": "llmspan.response.service_tier",
        "openai.response.service_tier": "llmspan.response.service_tier",
        "anthropic.response.service_tier": "llmspan.response.service_tier",
        "anthropic.request.id": "llmspan.request.id",
        "anthropic.session.id": "gen_ai.conversation.id",
        "gen_ai.usage.cache_read_input_tokens": "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens": "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    },
    reasons=_native_reasons,
    payload=_convention_payload,
)

# -- OpenLLMetry ------------------------------------------------------------------------------------------------------

_REQUEST_TYPES: Final = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings"}


def _openllmetry_operation(attributes: Attributes) -> str | None:
    kind = attributes.get("llm.request.type")
    return None if kind is None else _REQUEST_TYPES.get(str(kind), "other")


def _openllmetry_reasons(attributes: Attributes) -> Sequence[str]:
    choices = numbered_items(build_tree(attributes, "gen_ai.completion."))
    reasons = [str(choice["finish_reason"]) for choice in choices if choice.get("finish_reason")]
    reason = attributes.get("llm.response.finish_reason") or attributes.get("llm.response.stop_reason")
    return reasons or ([str(reason)] if reason else [])


def _openllmetry_payload(attributes: Attributes) -> Payload:
    if "gen_ai.input.messages" in attributes or "gen_ai.output.messages" in attributes:
        return _convention_payload(attributes)
    messages = [_openllmetry_message(item) for item in numbered_items(build_tree(attributes, "gen_ai.prompt."))]
    tools = [without_empty({**item, "parameters": parse_json(item.get("parameters"))})
             for item in numbered_items(build_tree(attributes, "llm.request.functions."))]  # fmt: skip
    choices = [
        {"index": index, "message": _openllmetry_message(item), "finish_reason": item.get("finish_reason")}
        for index, item in enumerate(numbered_items(build_tree(attributes, "gen_ai.completion.")))
    ]
    return without_empty({"messages": messages, "tools": tools}), without_empty({"choices": choices})


def _openllmetry_message(item: Attributes) -> dict[str, Any]:
    content = item.get("content")
    parts = parse_json(content)
    calls = [
        {"id": call.get("id"), "type": "function",
         "function": {"name": call.get("name"), "arguments": call.get("arguments")}}
        for call in numbered_items(item.get("tool_calls"))
    ]  # fmt: skip
    message = {"role": item.get("role"), "content": parts if isinstance(parts, list) else content}
    return message | (without_empty({"tool_call_id": item.get("tool_call_id"), "tool_calls": calls}) or {})


_OPENLLMETRY: Final = SpanDialect(
    name="OpenLLMetry",
    operation=_openllmetry_operation,
    names={
        "llm.usage.prompt_tokens": "gen_ai.usage.input_tokens",
        "llm.usage.completion_tokens": "gen_ai.usage.output_tokens",
        "llm.usage.reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
        "llm.usage.cache_read_input_tokens": "gen_ai.usage.cache_read.input_tokens",
        "llm.usage.cache_creation_input_tokens": "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_read_input_tokens": "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens": "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
        "llm.vendor": semconv.PROVIDER,
        "llm.request.model": semconv.REQUEST_MODEL,
        "llm.response.model": "gen_ai.response.model",
        "llm.is_streaming": semconv.STREAM,
        "llm.user": "user.id",
        "traceloop.association.properties.user_id": "user.id",
        "traceloop.association.properties.session_id": "gen_ai.conversation.id",
    },
    reasons=_openllmetry_reasons,
    payload=_openllmetry_payload,
)

# -- OpenInference ----------------------------------------------------------------------------------------------------

_SPAN_KINDS: Final = {"LLM": "chat", "EMBEDDING": "embeddings"}


def _openinference_operation(attributes: Attributes) -> str | None:
    kind = attributes.get("openinference.span.kind")
    return None if kind is None else _SPAN_KINDS.get(str(kind).upper(), "other")


def _openinference_reasons(attributes: Attributes) -> Sequence[str]:
    reason = attributes.get("llm.finish_reason")
    return (reason,) if isinstance(reason, str) else ()


def _openinference_payload(attributes: Attributes) -> Payload:
    return (
        _openinference_value(attributes, "input.value")
        or without_empty(
            {
                **(parse_object(attributes.get("llm.invocation_parameters"))),
                "messages": _openinference_messages(attributes, "llm.input_messages."),
                "tools": [
                    parse_json(as_mapping(item.get("tool")).get("json_schema"))
                    for item in numbered_items(build_tree(attributes, "llm.tools."))
                ],
                "input": attributes.get("input.value"),
            },
            unless_only=parse_object(attributes.get("llm.invocation_parameters")).keys(),
        ),
        _openinference_value(attributes, "output.value")
        or without_empty(
            {
                "choices": [
                    {"index": index, "message": message}
                    for index, message in enumerate(_openinference_messages(attributes, "llm.output_messages."))
                ],
                "output": attributes.get("output.value"),
            }
        ),
    )


def _openinference_value(attributes: Attributes, name: str) -> dict[str, Any] | None:
    """``input.value`` and ``output.value`` are the provider's own request and response where they are JSON objects."""
    return parse_object(attributes.get(name)) or None


def _openinference_messages(attributes: Attributes, prefix: str) -> list[dict[str, Any]]:
    return [
        _openinference_message(as_mapping(item.get("message")))
        for item in numbered_items(build_tree(attributes, prefix))
    ]


def _openinference_message(message: Attributes) -> dict[str, Any]:
    parts = [
        _openinference_part(as_mapping(item.get("message_content"))) for item in numbered_items(message.get("contents"))
    ]
    calls = [
        _openinference_call(as_mapping(item.get("tool_call"))) for item in numbered_items(message.get("tool_calls"))
    ]
    content = message.get("content")
    return {"role": message.get("role"), "content": content if content is not None else parts or None} | (
        without_empty({"tool_call_id": message.get("tool_call_id"), "tool_calls": calls}) or {}
    )


def _openinference_part(part: Attributes) -> dict[str, Any]:
    url = as_mapping(as_mapping(part.get("image")).get("image")).get("url")
    return {key: value for key, value in part.items() if key != "image"} | (
        {"image_url": {"url": url}} if url is not None else {}
    )


def _openinference_call(call: Attributes) -> dict[str, Any]:
    return {"id": call.get("id"), "type": "function", "function": dict(as_mapping(call.get("function")))}


_OPENINFERENCE: Final = SpanDialect(
    name="OpenInference",
    operation=_openinference_operation,
    names={
        "llm.provider": semconv.PROVIDER,
        "llm.system": semconv.PROVIDER,
        "llm.request.model_name": semconv.REQUEST_MODEL,
        "llm.model_name": semconv.REQUEST_MODEL,
        "embedding.model_name": semconv.REQUEST_MODEL,
        "llm.response.model_name": "gen_ai.response.model",
        "llm.token_count.prompt": "gen_ai.usage.input_tokens",
        "llm.token_count.completion": "gen_ai.usage.output_tokens",
        "llm.token_count.prompt_details.cache_read": "gen_ai.usage.cache_read.input_tokens",
        "llm.token_count.prompt_details.cache_write": "gen_ai.usage.cache_write.input_tokens",
        "llm.token_count.prompt_details.audio": "gen_ai.usage.audio.input_tokens",
        "llm.token_count.completion_details.reasoning": "gen_ai.usage.reasoning.output_tokens",
        "llm.token_count.completion_details.audio": "gen_ai.usage.audio.output_tokens",
        "session.id": "gen_ai.conversation.id",
    },
    reasons=_openinference_reasons,
    payload=_openinference_payload,
)

# -- Langfuse ---------------------------------------------------------------------------------------------------------

_LANGFUSE: Final = SpanDialect(
    name="Langfuse",
    operation=langfuse_spans.operation,
    names=langfuse_spans.NAMES,
    reasons=langfuse_spans.finish_reasons,
    payload=langfuse_spans.payload,
    usage=langfuse_spans.usage,
    facts=langfuse_spans.facts,
)

#: in the order of asking: a span that says it in two dialects is taken by its own before the common one
DIALECTS: Final = (_OPENINFERENCE, _OPENLLMETRY, _LANGFUSE, _CONVENTIONS)


def _whole_request(record: ProviderTrace, request: dict[str, Any]) -> dict[str, Any]:
    return request if "model" in request or record.request_model is None else {"model": record.request_model, **request}
