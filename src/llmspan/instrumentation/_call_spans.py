"""Finds the span that somebody else has opened for the call that is about to be made.

The rule: a span is the call's if it says that it is one operation of a model and that operation is the call's; what
kind of span it is does not matter. The spans of agents, workflows and tools, and a program's own, are around the call.
Looked at are the current span and those that the wrappers of other instrumentations keep in their frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind

from .. import semconv
from ._wrapper_frames import spans_in_frames

#: set by util-genai instrumentations around calls that they already describe (its value stays theirs)
_GENAI_CONTEXT_KEY: Final = "opentelemetry.genai.client.inference.context"
#: set by OpenLLMetry's instrumentations of frameworks around calls that they already describe; some leave it behind
_OPENLLMETRY_CONTEXT_KEY: Final = "suppress_language_model_instrumentation"
#: the scope of the spans that the anthropic SDK makes of its calls
_ANTHROPIC_SCOPE: Final = "com.anthropic.sdk.python"
#: other words for operations of the conventions (semantic-kernel, OpenLIT, older OpenLLMetry)
_OPERATIONS: Final = {
    "chat.completions": "chat",
    "completion": "text_completion",
    "embedding": "embeddings",
    "text_completions": "text_completion",
}
#: where the dialects without an operation say what a span stands for, and what they call a model's embeddings
_KINDS: Final = {
    "openinference.span.kind": ("LLM", "EMBEDDING"),
    "langfuse.observation.type": ("generation", "embedding"),
}
#: OpenInference's instrumentation of LlamaIndex says what kind of span it is only at its end; these it says earlier
_EARLY_LLM: Final = frozenset({"llm.invocation_parameters", "llm.model_name"})
_EARLY_EMBEDDING: Final = "embedding.model_name"


def find_call_span(operation: str, model: str | None) -> Span | None:
    """The open span of somebody else's that stands for the call about to be made, or None if ours is wanted."""
    current = trace.get_current_span()
    if describes_call(current, operation) or _is_named_for_call(current, operation, model):
        return current
    for span, operations in spans_in_frames():
        if operation in operations if operations else describes_call(span, operation):
            return span
    return None


def describes_call(span: Any, operation: str) -> bool:
    """Whether ``span`` stands for a call of this operation. One that has ended, or is not recorded, stands for none."""
    attributes: Mapping[str, Any] | None = getattr(span, "attributes", None)
    if not attributes or not span.is_recording():
        return False
    if _is_of_anthropic_sdk(span):
        return True
    named = attributes.get(semconv.OPERATION)
    if named is not None:
        return _OPERATIONS.get(str(named), named) == operation
    if context.get_value(_GENAI_CONTEXT_KEY) is not None:
        return True
    if context.get_value(_OPENLLMETRY_CONTEXT_KEY) and any(name.startswith(("gen_ai.", "llm.")) for name in attributes):
        return True
    return _is_of_kind(attributes, is_embedding=operation == "embeddings")


def _is_named_for_call(span: Any, operation: str, model: str | None) -> bool:
    """Whether a span that says nothing yet has the name of this call by the conventions (OpenLIT tells all at its end).

    Only a CLIENT span: a program may call a span of its own anything.
    """
    if not span.is_recording() or getattr(span, "kind", None) is not SpanKind.CLIENT or model is None:
        return False
    is_silent = semconv.OPERATION not in (getattr(span, "attributes", None) or {})
    return is_silent and getattr(span, "name", None) == semconv.span_name(operation, model)


def _is_of_anthropic_sdk(span: Any) -> bool:
    """Whether the anthropic SDK has made this span of a request; those of its tool runners are of another kind."""
    scope_name = getattr(getattr(span, "instrumentation_scope", None), "name", "") or ""
    return scope_name.startswith(_ANTHROPIC_SCOPE) and getattr(span, "kind", None) is SpanKind.CLIENT


def _is_of_kind(attributes: Mapping[str, Any], *, is_embedding: bool) -> bool:
    """Whether a span that names no operation is that of a model's embeddings, or that of any other model call."""
    for name, (model, embedding) in _KINDS.items():
        kind = attributes.get(name)
        if kind is not None:
            return kind == (embedding if is_embedding else model)
    request_type = attributes.get("llm.request.type")
    if request_type is not None:
        return (request_type == "embedding") == is_embedding
    return _EARLY_EMBEDDING in attributes if is_embedding else not _EARLY_LLM.isdisjoint(attributes)
