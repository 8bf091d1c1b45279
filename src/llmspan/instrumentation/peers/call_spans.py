"""Finds the span that another instrumentation has opened for the call that is about to be made.

A span is the call's if its attributes name an operation of a model and that operation is the call's; its span kind does
not matter. Spans of agents, workflows and tools, and the program's own, are parents of the call. The current span is
checked, and then those that the wrappers of other instrumentations keep in their frames.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind

from ... import semconv
from .wrapper_frames import INSTRUMENTATIONS, spans_in_frames

#: set by util-genai instrumentations around calls that they already describe (its value stays theirs)
_GENAI_CONTEXT_KEY: Final = "opentelemetry.genai.client.inference.context"
#: set by OpenLLMetry's instrumentations of frameworks around calls that they already describe; some do not reset it
_OPENLLMETRY_CONTEXT_KEY: Final = "suppress_language_model_instrumentation"
#: the scope of the spans that the anthropic SDK makes of its calls
_ANTHROPIC_SCOPE: Final = "com.anthropic.sdk.python"
#: names of other libraries for operations of the conventions (semantic-kernel, OpenLIT, older OpenLLMetry)
_OPERATIONS: Final = {
    "chat.completions": "chat",
    "completion": "text_completion",
    "embedding": "embeddings",
    "interactions.create": "generate_content",
    "interactions.get": "fetch_response",
    "text_completions": "text_completion",
}
#: where dialects without an operation name the kind of a span: the values for a model call and for embeddings
_KINDS: Final = {
    "openinference.span.kind": ("LLM", "EMBEDDING"),
    "langfuse.observation.type": ("generation", "embedding"),
}
#: OpenInference's instrumentation of LlamaIndex sets a span's kind at its end, and these attributes at its start
_EARLY_LLM: Final = frozenset({"llm.invocation_parameters", "llm.model_name"})
_EARLY_EMBEDDING: Final = "embedding.model_name"


def find_call_span(operation: str, model: str | None, current: Span | None = None) -> Span | None:
    """The open span of another instrumentation that stands for the call about to be made, or None.

    ``current`` is the current span, where the caller knows it.
    """
    if current is None:
        current = trace.get_current_span()
    if current is not trace.INVALID_SPAN and (
        describes_call(current, operation) or _is_named_for_call(current, operation, model)
    ):
        return current
    if sys.modules.keys().isdisjoint(INSTRUMENTATIONS):
        return None
    for span, operations in spans_in_frames():
        if operation in operations if operations else describes_call(span, operation):
            return span
    return None


def describes_call(span: Any, operation: str) -> bool:
    """Whether ``span`` stands for a call of this operation. One that has ended, or is not recording, does not."""
    attributes: Mapping[str, Any] | None = getattr(span, "attributes", None)
    if not attributes or not span.is_recording():
        return False
    if _is_of_anthropic_sdk(span):
        return True
    span_operation = attributes.get(semconv.OPERATION)
    if span_operation is not None:
        return _OPERATIONS.get(str(span_operation), span_operation) == operation
    if context.get_value(_GENAI_CONTEXT_KEY) is not None:
        return True
    if context.get_value(_OPENLLMETRY_CONTEXT_KEY) and any(name.startswith(("gen_ai.", "llm.")) for name in attributes):
        return True
    return _is_of_kind(attributes, is_embedding=operation == "embeddings")


def _is_named_for_call(span: Any, operation: str, model: str | None) -> bool:
    """Whether a span without an operation has the name of this call by the conventions: OpenLIT sets all at its end.

    Only a CLIENT span counts: the program's own spans may have any name.
    """
    if not span.is_recording() or getattr(span, "kind", None) is not SpanKind.CLIENT or model is None:
        return False
    has_no_operation = semconv.OPERATION not in (getattr(span, "attributes", None) or {})
    return has_no_operation and getattr(span, "name", None) == semconv.span_name(operation, model)


def _is_of_anthropic_sdk(span: Any) -> bool:
    """Whether the anthropic SDK has made this span of a request; those of its tool runners are of another kind."""
    scope_name = getattr(getattr(span, "instrumentation_scope", None), "name", "") or ""
    return scope_name.startswith(_ANTHROPIC_SCOPE) and getattr(span, "kind", None) is SpanKind.CLIENT


def _is_of_kind(attributes: Mapping[str, Any], *, is_embedding: bool) -> bool:
    """Whether a span without an operation is, by its dialect, of a call for embeddings, or of another model call."""
    for name, (model, embedding) in _KINDS.items():
        kind = attributes.get(name)
        if kind is not None:
            return kind == (embedding if is_embedding else model)
    request_type = attributes.get("llm.request.type")
    if request_type is not None:
        return (request_type == "embedding") == is_embedding
    return _EARLY_EMBEDDING in attributes if is_embedding else not _EARLY_LLM.isdisjoint(attributes)
