"""Calls inside of frameworks: whoever has opened a span for this very call keeps it, and there is no second one.

The spans around the call bear the attributes that the named instrumentations set before the SDK is called.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind

import surface_calls
import surfaces
from replay import client_for, transport
from streams import CHAT, MESSAGES, RESPONSES, Api
from watching import Watch

USAGE = "gen_ai.usage.input_tokens"
SHARED_KEY = "opentelemetry.genai.client.inference.context"


@contextmanager
def inside(watch: Watch, name: str, attributes: dict[str, Any], kind: SpanKind = SpanKind.INTERNAL) -> Any:
    tracer = watch.tracer_provider.get_tracer("framework")
    with tracer.start_as_current_span(name, kind=kind, attributes=attributes) as span:
        yield span


def call(api: Api) -> None:
    options = {"open_telemetry": False} if api is MESSAGES else {}
    mock = transport(200, {"content-type": "text/event-stream"}, list(api.stream))
    client = client_for(api.provider, mock, **options)
    for _ in api.method(client)(**api.arguments, stream=True):
        pass


#: (who, span name, kind, attributes at the time of the call)
THEIRS = [
    ("langchain, openllmetry", "ChatOpenAI.chat", SpanKind.CLIENT,
     {"gen_ai.system": "Langchain", "llm.request.type": "chat", "traceloop.workflow.name": "w"}),
    ("langchain, official", "chat gpt-5-mini", SpanKind.CLIENT,
     {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5-mini"}),
    ("langchain, openinference", "ChatOpenAI", SpanKind.INTERNAL, {"openinference.span.kind": "LLM"}),
    ("llama-index, openinference", "OpenAI.chat", SpanKind.INTERNAL,
     {"llm.invocation_parameters": "{}", "llm.model_name": "gpt-5-mini"}),
    ("llama-index, openllmetry", "openai.chat", SpanKind.INTERNAL, {"llm.request.type": "chat"}),
    ("openai-agents, openinference", "response", SpanKind.INTERNAL,
     {"openinference.span.kind": "LLM", "llm.system": "openai"}),
    ("openai-agents, official", "chat gpt-5-mini", SpanKind.CLIENT,
     {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}),
]  # fmt: skip
theirs = pytest.mark.parametrize(
    ("name", "kind", "attributes"), [pytest.param(n, k, a, id=who) for who, n, k, a in THEIRS]
)


@theirs
@pytest.mark.parametrize("api", [CHAT, RESPONSES, MESSAGES], ids=lambda api: api.name)
def test_their_span_is_the_one(api: Api, name: str, kind: SpanKind, attributes: dict[str, Any], watch: Watch) -> None:
    """No second span; theirs gets the usage that it lacks, and the record takes its ids."""
    with inside(watch, name, attributes, kind) as span:
        call(api)
    assert [seen.name for seen in watch.spans] == [name]
    (record,) = watch.records
    assert record.span_id == f"{span.get_span_context().span_id:016x}"
    assert (watch.spans[0].attributes or {})[USAGE] == api.input_tokens


AROUND = [
    ("langchain chain", "RunnableSequence", {"openinference.span.kind": "CHAIN"}),
    ("langchain workflow, openllmetry", "RunnableSequence.workflow", {"traceloop.span.kind": "workflow"}),
    ("llama-index query", "RetrieverQueryEngine.query", {}),
    ("openai-agents agent", "Agent", {"openinference.span.kind": "AGENT", "llm.system": "openai"}),
    ("openai-agents tool", "get_weather", {"openinference.span.kind": "TOOL"}),
    ("semconv agent", "invoke_agent a", {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m"}),
    ("semconv tool", "execute_tool t", {"gen_ai.operation.name": "execute_tool"}),
    ("a chain that names its model", "chain", {"openinference.span.kind": "CHAIN", "llm.model_name": "m"}),
]


@pytest.mark.parametrize(("name", "attributes"), [pytest.param(n, a, id=who) for who, n, a in AROUND])
def test_a_span_around_the_call_is_its_parent(name: str, attributes: dict[str, Any], watch: Watch) -> None:
    """An agent's, a tool's or a chain's span is not the call's: ours is its child, and alone has the usage."""
    with inside(watch, name, attributes) as span:
        call(CHAT)
    ours, around = watch.spans
    assert (ours.name, around.name) == ("chat gpt-5-mini", name)
    assert ours.parent == span.get_span_context()
    assert [USAGE in (seen.attributes or {}) for seen in watch.spans] == [True, False]


def test_the_shared_context_key(watch: Watch) -> None:
    """A span that says nothing yet is the call's if the key of the GenAI utilities is set."""
    with inside(watch, "theirs", {"anything": "at all"}):
        token = context.attach(context.set_value(SHARED_KEY, object()))
        try:
            call(CHAT)
        finally:
            context.detach(token)
    assert [span.name for span in watch.spans] == ["theirs"]
    assert len(watch.records) == 1


def test_a_key_without_a_span_hides_nothing(watch: Watch) -> None:
    """The key alone, with no span around: ours is opened, so that the usage is somewhere."""
    token = context.attach(context.set_value(SHARED_KEY, object()))
    try:
        call(CHAT)
    finally:
        context.detach(token)
    assert [span.name for span in watch.spans] == ["chat gpt-5-mini"]


def test_a_flag_that_leaked_hides_nothing(watch: Watch) -> None:
    """OpenLLMetry's own flag, left behind in a context without an LLM span, costs no call its span."""
    token = context.attach(context.set_value("suppress_language_model_instrumentation", True))
    try:
        with inside(watch, "my own", {}):
            call(CHAT)
    finally:
        context.detach(token)
    assert "chat gpt-5-mini" in [span.name for span in watch.spans]


SURFACES = [pytest.param(row, id=f"{row.provider}-{row.name}".replace(" ", "")) for row in surfaces.ALL]


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_suppression_is_obeyed_everywhere(surface: Any, watch: Watch) -> None:
    """``suppress_instrumentation()`` silences every surface, and changes no call."""
    seen: list[Any] = []
    with suppress_instrumentation(), client_for(surface.provider, surface_calls.server(surface, seen)) as client:
        surface_calls.call(surface, "plain", client)
    assert len(seen) == 1
    assert (watch.spans, watch.records) == ([], [])
    assert not trace.get_current_span().get_span_context().is_valid
