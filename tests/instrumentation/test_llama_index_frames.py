"""OpenInference's spans of LlamaIndex models: open, but without an attribute that says that they stand for the call.

The modules here have the names and the shape of the real ones, as far as it is read: ``tests/peers`` has those.
"""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from foreign_spans import USAGE, call, span_id
from streams import CHAT, MESSAGES
from watching import Watch

HANDLER = "openinference.instrumentation.llama_index._handler"
#: how LlamaIndex wraps the methods of a model
CALLBACKS = """
def wrapped_llm_chat(span_id, call):
    return call()

async def wrapped_async_llm_chat(span_id, call):
    return await call()

def stream(span_id, pieces):
    def wrapped_gen():
        for x in pieces():
            yield x, span_id
    return wrapped_gen()
"""


def imported(patch: pytest.MonkeyPatch, name: str, source: str = "") -> Any:
    module = ModuleType(name)
    exec(source, vars(module))
    patch.setitem(sys.modules, name, module)
    return module


class LlamaIndex:
    """LlamaIndex with OpenInference's handler: spans by id, those of streams in the queue of the exporter."""

    def __init__(self, watch: Watch, patch: pytest.MonkeyPatch, *, with_handler: bool = True) -> None:
        self._tracer = watch.tracer_provider.get_tracer(HANDLER)
        self.handler = imported(patch, HANDLER, "class Handler: pass").Handler()
        self.handler.open_spans = {}
        self.handler._export_queue = SimpleNamespace(spans={})
        self.callbacks = imported(patch, "llama_index.core.llms.callbacks", CALLBACKS)
        handlers = [object(), *([self.handler] if with_handler else [])]
        core = imported(patch, "llama_index.core.instrumentation")
        core.root_dispatcher = SimpleNamespace(span_handlers=handlers)

    def open(self, own_id: str, *, queued: bool = False) -> Any:
        span = self._tracer.start_span(own_id)
        spans = self.handler._export_queue.spans if queued else self.handler.open_spans
        spans[own_id] = SimpleNamespace(_otel_span=span)
        return span


def both(watch: Watch) -> list[str]:
    """The spans' ids that have usage, and that records name: the same, once each."""
    ids = [span_id(span) for span in watch.spans if USAGE in (span.attributes or {})]
    assert sorted(record.span_id or "" for record in watch.records) == sorted(ids)
    return ids


@pytest.mark.parametrize("api", [CHAT, MESSAGES], ids=lambda api: api.name)
def test_the_span_of_a_models_call(api: Any, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two spans that are open, the call takes that of its method, which is the one with usage."""
    llama = LlamaIndex(watch, monkeypatch)
    outer, inner = llama.open("complete"), llama.open("chat")
    wrapped = llama.callbacks.wrapped_llm_chat
    wrapped("complete", lambda: wrapped("chat", lambda: call(api)))
    inner.end()
    outer.end()
    assert both(watch) == [f"{inner.get_span_context().span_id:016x}"]


def test_the_span_of_a_stream(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream's request is sent when it is first read: its span is in the queue by then, and not current."""
    llama = LlamaIndex(watch, monkeypatch)
    span = llama.open("stream_chat", queued=True)
    list(llama.callbacks.stream("stream_chat", lambda: [call(CHAT)]))
    span.end()
    assert both(watch) == [f"{span.get_span_context().span_id:016x}"]


def test_spans_of_gathered_calls(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asynchronous calls that are under way together each have their own."""
    llama = LlamaIndex(watch, monkeypatch)
    spans = [llama.open(own_id) for own_id in ("a", "b")]

    async def one() -> None:
        await asyncio.sleep(0)
        call(CHAT)

    async def gathered() -> None:
        await asyncio.gather(*(llama.callbacks.wrapped_async_llm_chat(own_id, one) for own_id in ("a", "b")))

    asyncio.run(gathered())
    for span in spans:
        span.end()
    assert sorted(both(watch)) == sorted(f"{span.get_span_context().span_id:016x}" for span in spans)


@pytest.mark.parametrize("why", ["another handler", "unknown id", "ended"])
def test_a_call_without_an_open_span(why: str, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OpenInference, without a span for the id, or with one that has ended, the call has a span of ours."""
    llama = LlamaIndex(watch, monkeypatch, with_handler=why != "another handler")
    span = llama.open("chat")
    if why == "ended":
        span.end()
    llama.callbacks.wrapped_llm_chat("other" if why == "unknown id" else "chat", lambda: call(CHAT))
    span.end()
    assert [seen.name for seen in watch.spans if USAGE in (seen.attributes or {})] == ["chat gpt-5-mini"]
    assert len(both(watch)) == 1
