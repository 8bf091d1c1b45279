"""Spans that other instrumentations have opened for a call without making them current, read from their frames.

OpenLLMetry's wrappers around anthropic, Langfuse's around openai and the LangChain callbacks of both OpenLLMetry and
OpenInference start a span and call the SDK without attaching it to the OpenTelemetry context; OpenInference's wrapper
of ``messages.stream()`` does so once the stream is entered, and its span of a LlamaIndex model has no attribute of a
call before its end. Only the frames that have led to the call show which span is this call's: batches and gathered
calls have several open at a time. Frames are read and never changed, and not read at all unless such an
instrumentation is imported. See docs/decisions/0026.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, Final

Locals = Mapping[str, Any]
#: operations that a span stands for; empty if its attributes say so
Operations = frozenset[str]

#: frames that are searched; frameworks have some 60 between a model's run and the SDK
_MAX_FRAMES: Final = 250
_BY_ATTRIBUTES: Final[Operations] = frozenset()
_TEXT_OPERATIONS: Final[Operations] = frozenset({"chat", "text_completion"})


def spans_in_frames() -> Iterator[tuple[Any, Operations]]:
    """The recording spans in the frames of wrappers around the caller, the innermost first, with their operations."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return
        reader = _READERS.get(frame.f_globals.get("__name__", ""))
        if reader is not None:
            span_of, operations = reader
            span = span_of(frame.f_locals)
            if span is not None and span.is_recording():
                yield span, operations
        frame = frame.f_back


def _span(values: Locals) -> Any:
    return values.get("span")


def _span_of_manager(values: Locals) -> Any:
    return getattr(values.get("self"), "_span", None)


def _span_of_proxy(values: Locals) -> Any:
    return getattr(getattr(values.get("self"), "_self_with_span", None), "_span", None)


def _span_of_stream(values: Locals) -> Any:
    return getattr(getattr(values.get("self"), "_with_span", None), "_span", None)


def _span_of_generation(values: Locals) -> Any:
    return getattr(values.get("generation"), "_otel_span", None)


def _span_of_run(values: Locals) -> Any:
    """The span that a callback handler has opened for the run of a LangChain model."""
    manager: Any = values.get("run_manager") or next(iter(values.get("run_managers") or ()), None)
    for handler in getattr(manager, "handlers", ()):
        span_of_run = _HANDLERS.get(type(handler).__module__)
        span = span_of_run(handler, manager.run_id) if span_of_run is not None else None
        if span is not None:
            return span
    return None


def _openllmetry_run(handler: Any, run_id: Any) -> Any:
    return getattr(handler.spans.get(run_id), "span", None)


def _openinference_run(handler: Any, run_id: Any) -> Any:
    return handler.get_span(run_id)


def _span_of_llama_index(values: Locals) -> Any:
    """The span that OpenInference has opened for a call of a LlamaIndex model; its attributes come at its end.

    A stream's request is sent when the span is no longer current: by then it is in the queue of spans to be exported.
    """
    dispatcher = getattr(sys.modules.get("llama_index.core.instrumentation"), "root_dispatcher", None)
    for handler in getattr(dispatcher, "span_handlers", ()):
        if type(handler).__module__ == _LLAMA_INDEX_HANDLER:
            own_id: Any = values.get("span_id")
            span = handler.open_spans.get(own_id) or handler._export_queue.spans.get(own_id)
            return getattr(span, "_otel_span", None)
    return None


_LLAMA_INDEX_HANDLER: Final = "openinference.instrumentation.llama_index._handler"
#: module of a callback handler's class -> the span of a run
_HANDLERS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "openinference.instrumentation.langchain._tracer": _openinference_run,
    "opentelemetry.instrumentation.langchain.callback_handler": _openllmetry_run,
}

#: module of a frame's function -> how to read its span from the local variables, and the operations that it stands for
_READERS: Final[dict[str, tuple[Callable[[Locals], Any], Operations]]] = {
    "opentelemetry.instrumentation.anthropic": (_span, _BY_ATTRIBUTES),
    "opentelemetry.instrumentation.anthropic.streaming": (_span_of_manager, _BY_ATTRIBUTES),
    "opentelemetry.instrumentation.google_generativeai": (_span, _BY_ATTRIBUTES),
    "openinference.instrumentation.anthropic._wrappers": (_span_of_proxy, _BY_ATTRIBUTES),
    "openinference.instrumentation.google_genai._stream": (_span_of_stream, _BY_ATTRIBUTES),
    "langfuse.openai": (_span_of_generation, _BY_ATTRIBUTES),
    "langchain_core.language_models.chat_models": (_span_of_run, _TEXT_OPERATIONS),
    "langchain_core.language_models.llms": (_span_of_run, _TEXT_OPERATIONS),
    "llama_index.core.llms.callbacks": (_span_of_llama_index, _TEXT_OPERATIONS),
}

#: frames need not be searched unless one of these modules is imported
INSTRUMENTATIONS: Final = frozenset(
    {name for name in _READERS if not name.startswith(("langchain_core.", "llama_index."))}
    | {*_HANDLERS, _LLAMA_INDEX_HANDLER}
)
