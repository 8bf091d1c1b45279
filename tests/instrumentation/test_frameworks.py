"""Calls inside of frameworks: whoever has opened a span for this very call keeps it, and there is no second one.

The spans around the call bear the attributes that the named instrumentations set before the SDK is called.
"""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from opentelemetry import context, trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind

import surface_calls
import surfaces
from foreign_spans import USAGE, call, inside, span_id
from replay import client_for
from streams import CHAT, MESSAGES, RESPONSES, Api
from watching import Watch

SHARED_KEY = "opentelemetry.genai.client.inference.context"


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
    ("strands-agents", "chat", SpanKind.INTERNAL,
     {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "strands-agents"}),
    ("semantic-kernel", "chat gpt-5-mini", SpanKind.INTERNAL,
     {"gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.request.model": "gpt-5-mini"}),
    ("agent-framework", "chat gpt-5-mini", SpanKind.INTERNAL,
     {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}),
    ("a producer", "chat", SpanKind.PRODUCER, {"gen_ai.operation.name": "chat"}),
    ("older semantic-kernel", "chat.completions gpt-5-mini", SpanKind.INTERNAL,
     {"gen_ai.operation.name": "chat.completions", "gen_ai.system": "openai"}),
    ("langfuse", "OpenAI-generation", SpanKind.INTERNAL, {"langfuse.observation.type": "generation"}),
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


#: (who, attributes at the time of the call)
EMBEDDINGS: list[tuple[str, dict[str, Any]]] = [
    ("pydantic-ai, agent-framework", {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "e"}),
    ("openlit", {"gen_ai.operation.name": "embedding", "gen_ai.system": "openai"}),
    ("openinference", {"openinference.span.kind": "EMBEDDING", "llm.provider": "openai"}),
    ("llama-index, openinference", {"embedding.model_name": "e"}),
    ("older openllmetry", {"llm.request.type": "embedding"}),
    ("langfuse", {"langfuse.observation.type": "embedding"}),
]
#: those of another model call, around which embeddings are made (by a semantic cache, say)
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("strands-agents", {"gen_ai.operation.name": "chat"}),
    ("openinference", {"openinference.span.kind": "LLM", "llm.model_name": "m"}),
    ("llama-index, openinference", {"llm.model_name": "m"}),
    ("openllmetry", {"llm.request.type": "chat"}),
    ("langfuse", {"langfuse.observation.type": "generation"}),
]


def embed() -> None:
    body = {"object": "list", "model": "e", "data": [], "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    with client_for("openai", httpx2.MockTransport(lambda _: httpx2.Response(200, json=body))) as client:
        client.embeddings.create(model="e", input="x", encoding_format="float")


@pytest.mark.parametrize("attributes", [pytest.param(a, id=who) for who, a in EMBEDDINGS])
def test_their_span_of_embeddings_is_the_one(attributes: dict[str, Any], watch: Watch) -> None:
    """Embeddings have one span with usage too, whatever word its maker has for them."""
    with inside(watch, "theirs", attributes) as span:
        embed()
    assert [(seen.name, (seen.attributes or {})[USAGE]) for seen in watch.spans] == [("theirs", 7)]
    assert [record.span_id for record in watch.records] == [f"{span.get_span_context().span_id:016x}"]


@pytest.mark.parametrize("attributes", [pytest.param(a, id=who) for who, a in MODELS])
def test_embeddings_below_another_model_call(attributes: dict[str, Any], watch: Watch) -> None:
    """The span of a model's answer does not stand for embeddings that are made below it."""
    with inside(watch, "theirs", attributes):
        embed()
    assert [(span.name, USAGE in (span.attributes or {})) for span in watch.spans] == [
        ("embeddings e", True), ("theirs", False),
    ]  # fmt: skip


@pytest.mark.parametrize("attributes", [pytest.param(a, id=who) for who, a in EMBEDDINGS])
def test_a_model_call_below_embeddings(attributes: dict[str, Any], watch: Watch) -> None:
    """Nor does the span of embeddings stand for a model's answer."""
    with inside(watch, "theirs", attributes):
        call(CHAT)
    assert [span.name for span in watch.spans] == ["chat gpt-5-mini", "theirs"]


@pytest.mark.parametrize("name", ["text_completion", "text_completions", "completion"])
def test_their_span_of_a_text_completion_is_the_one(name: str, watch: Watch) -> None:
    """The legacy completions of semantic-kernel and of older OpenLLMetry, by their words for it."""
    body = {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [],
            "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}}  # fmt: skip
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json=body))
    with inside(watch, "theirs", {"gen_ai.operation.name": name}), client_for("openai", mock) as client:
        client.completions.create(model="m", prompt="x")
    assert [span.name for span in watch.spans] == ["theirs"]


def test_a_span_that_only_has_its_name(watch: Watch) -> None:
    """OpenLIT's span says nothing before its end: a CLIENT span that is named for this call is the call's."""
    with inside(watch, "chat gpt-5-mini", {}, SpanKind.CLIENT):
        call(CHAT)
    assert [(span.name, span.instrumentation_scope and span.instrumentation_scope.name) for span in watch.spans] == [
        ("chat gpt-5-mini", "framework")
    ]
    assert [record.span_id for record in watch.records] == [span_id(watch.spans[0])]


@pytest.mark.parametrize(
    ("name", "kind", "attributes"),
    [
        ("chat gpt-5-mini", SpanKind.INTERNAL, {}),
        ("chat gpt-5", SpanKind.CLIENT, {}),
        ("chat", SpanKind.CLIENT, {}),
        ("POST", SpanKind.CLIENT, {}),
        ("chat gpt-5-mini", SpanKind.CLIENT, {"gen_ai.operation.name": "invoke_agent"}),
    ],
    ids=["internal", "another model", "no model", "http", "agent"],
)
def test_a_span_with_another_name(name: str, kind: SpanKind, attributes: dict[str, Any], watch: Watch) -> None:
    """The name alone counts only on a CLIENT span, whole, and where no operation is named."""
    with inside(watch, name, attributes, kind) as theirs:
        call(CHAT)
    ours, _ = watch.spans
    assert ours.parent == theirs.get_span_context()


AROUND = [
    ("langchain chain", "RunnableSequence", {"openinference.span.kind": "CHAIN"}),
    ("langchain workflow, openllmetry", "RunnableSequence.workflow", {"traceloop.span.kind": "workflow"}),
    ("llama-index query", "RetrieverQueryEngine.query", {}),
    ("openai-agents agent", "Agent", {"openinference.span.kind": "AGENT", "llm.system": "openai"}),
    ("openai-agents tool", "get_weather", {"openinference.span.kind": "TOOL"}),
    ("semconv agent", "invoke_agent a", {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m"}),
    ("strands-agents cycle", "execute_event_loop_cycle", {"gen_ai.event.start_time": "now"}),
    ("openllmetry task", "execute_task t", {"gen_ai.operation.name": "execute_task"}),
    ("workflow", "invoke_workflow w", {"gen_ai.operation.name": "invoke_workflow"}),
    ("another model call", "generate_content m", {"gen_ai.operation.name": "generate_content"}),
    ("langfuse agent", "agent", {"langfuse.observation.type": "agent"}),
    ("a program's own", "chat", {"my.attribute": "chat"}),
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
        with inside(watch, "my own", {"my.attribute": 1}):
            call(CHAT)
    finally:
        context.detach(token)
    assert "chat gpt-5-mini" in [span.name for span in watch.spans]


@pytest.mark.parametrize("name", ["gen_ai.system", "llm.vendor"])
def test_a_flag_with_their_span(name: str, watch: Watch) -> None:
    """With the flag, a span that only says whose model it calls is the call's; if it has an operation, that counts."""
    token = context.attach(context.set_value("suppress_language_model_instrumentation", True))
    try:
        with inside(watch, "theirs", {name: "openai"}):
            call(CHAT)
        with inside(watch, "agent", {"gen_ai.operation.name": "invoke_agent", name: "openai"}):
            call(CHAT)
    finally:
        context.detach(token)
    assert [span.name for span in watch.spans] == ["theirs", "chat gpt-5-mini", "agent"]


def test_a_span_that_has_ended_stands_for_no_call(watch: Watch) -> None:
    """A span that was left current after its end could not take the usage."""
    with inside(watch, "chat", {"gen_ai.operation.name": "chat"}) as span:
        span.end()
        call(CHAT)
    assert [seen.name for seen in watch.spans] == ["chat", "chat gpt-5-mini"]


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
