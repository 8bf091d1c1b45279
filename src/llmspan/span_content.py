"""What of a span is kept: no usage, no content unless payloads are kept, no credentials, redacted, cut to size.

A span beside the records repeats what agents and tools were given, so that the settings that hold for payloads hold for
it. Its usage attributes go in any case: the numbers of a call are those of its record, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from .content import MASK, ContentPolicy
from .limits import cut_text
from .span_record import SpanRecord

__all__ = ["clean_span"]

#: bytes of one attribute
_LONGEST_VALUE: Final = 8192
_MOST_ATTRIBUTES: Final = 128
_USAGE: Final = (
    "gen_ai.usage.", "gen_ai.cost.", "llm.usage.", "llm.token_count.", "llm.cost.", "ai.usage.",
    "langfuse.observation.usage", "langfuse.observation.cost", "logfire.metrics",
)  # fmt: skip
#: attributes that hold what a model, an agent or a tool was given or answered
_CONTENT: Final = (
    "gen_ai.input.", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result", "gen_ai.tool.definitions", "gen_ai.prompt", "gen_ai.completion", "gen_ai.content",
    "llm.prompts", "llm.completions", "llm.input_messages", "llm.output_messages", "llm.prompt_template",
    "llm.invocation_parameters", "input.value", "output.value", "tool.parameters", "tool_arguments", "tool_response",
    "traceloop.entity.input", "traceloop.entity.output", "ai.prompt", "ai.response", "ai.toolCall.",
    "retrieval.documents", "pydantic_ai.all_messages", "all_messages_events", "final_result", "events",
    "langfuse.observation.input", "langfuse.observation.output", "langfuse.trace.input", "langfuse.trace.output",
    "mlflow.spanInputs", "mlflow.spanOutputs", "exception.stacktrace", "db.statement", "db.query.text",
    "db.query.parameter", "http.request.header", "http.response.header", "http.request.body", "http.response.body",
)  # fmt: skip
#: command lines, in which programs are given keys
_COMMANDS: Final = ("process.command",)
#: query strings of URLs without the mark by which a parameter that holds a credential is recognised
_QUERIES: Final = ("url.query", "http.query", "http.query_string", "http.request.query")
_RESOURCE: Final = ("service.", "deployment.", "telemetry.sdk.")


def clean_span(span: SpanRecord, policy: ContentPolicy) -> SpanRecord:
    """``span`` as it may be stored. Cleaning it again changes nothing."""
    dropped = (*_USAGE, *_COMMANDS) if policy.keep else (*_USAGE, *_COMMANDS, *_CONTENT)
    attributes = {name: value for name, value in span.attributes.items() if not name.startswith(dropped)}
    resource = {name: value for name, value in span.resource_attributes.items() if name.startswith(_RESOURCE)}
    return replace(
        span,
        name=policy.clean_text(span.name) or MASK,
        attributes=_clean(attributes, policy),
        resource_attributes=_clean(resource, policy),
        scope_name=policy.clean_text(span.scope_name) or "",
        scope_version=policy.clean_text(span.scope_version) or "",
        service_name=policy.clean_text(span.service_name) or "",
        trace_state=policy.clean_text(span.trace_state) or "",
        status_message=policy.clean_text(span.status_message) or "",
    )


def _clean(attributes: Mapping[str, str], policy: ContentPolicy) -> dict[str, str]:
    shortened = {
        cut_text(name): cut_text(_marked(name, value), 4 * _LONGEST_VALUE)
        for name, value in list(attributes.items())[:_MOST_ATTRIBUTES]
    }
    cleaned = policy.clean_attributes(shortened)
    return {
        name: cut_text(value.removeprefix("?") if name in _QUERIES else value, _LONGEST_VALUE)
        for name, value in cleaned.items()
        if isinstance(value, str)
    }


def _marked(name: str, value: str) -> str:
    return f"?{value.removeprefix('?')}" if name in _QUERIES else value
