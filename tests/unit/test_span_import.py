"""Spans of other instrumentations: what of them is a model call, and what becomes of their attributes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode

from llmspan import span_import
from llmspan.conversation import request_turns, response_turns
from llmspan.errors import RecordError
from llmspan.span_import import is_model_call, to_record
from llmspan.trace import ProviderTrace
from replay import client_for, transport
from streams import ALL, CHAT, MESSAGES

SSE = {"content-type": "text/event-stream"}

#: what each dialect says of one and the same call: 1200 tokens in (1024 of them cached, 100 written), 350 out
OPENLLMETRY = {
    "llm.request.type": "chat",
    "gen_ai.system": "Azure",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.response.model": "gpt-5-2026",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.openai.api_base": "https://example.openai.azure.com/openai/v1/",
    "llm.is_streaming": True,
    "llm.user": "ann",
    "llm.usage.total_tokens": 1550,
    "gen_ai.usage.prompt_tokens": 1200,
    "gen_ai.usage.completion_tokens": 350,
    "gen_ai.usage.cache_read_input_tokens": 1024,
    "gen_ai.usage.cache_creation_input_tokens": 100,
    "llm.usage.reasoning_tokens": 128,
    "gen_ai.prompt.0.role": "system",
    "gen_ai.prompt.0.content": "Be brief.",
    "gen_ai.prompt.1.role": "user",
    "gen_ai.prompt.1.content": '[{"type": "text", "text": "What is a trace?"}]',
    "gen_ai.prompt.10.role": "tool",
    "gen_ai.prompt.10.content": "42",
    "gen_ai.prompt.10.tool_call_id": "call_1",
    "llm.request.functions.0.name": "look_up",
    "llm.request.functions.0.parameters": '{"type": "object"}',
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.content": "A river.",
    "gen_ai.completion.0.finish_reason": "tool_calls",
    "gen_ai.completion.0.tool_calls.0.id": "call_2",
    "gen_ai.completion.0.tool_calls.0.name": "look_up",
    "gen_ai.completion.0.tool_calls.0.arguments": '{"word": "river"}',
    "traceloop.association.properties.session_id": "c-1",
    "traceloop.association.properties.tenant": "acme",
}
OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.system": "openai",
    "llm.provider": "azure",
    "llm.model_name": "gpt-5",
    "llm.invocation_parameters": '{"temperature": 0.5}',
    "llm.token_count.prompt": 1200,
    "llm.token_count.completion": 350,
    "llm.token_count.total": 1550,
    "llm.token_count.prompt_details.cache_read": 1024,
    "llm.token_count.prompt_details.cache_write": 100,
    "llm.token_count.completion_details.reasoning": 128,
    "llm.finish_reason": "tool_calls",
    "session.id": "c-1",
    "user.id": "ann",
    "metadata": '{"tenant": "acme"}',
    "tag.tags": ("a", "b"),
    "llm.input_messages.0.message.role": "system",
    "llm.input_messages.0.message.content": "Be brief.",
    "llm.input_messages.1.message.role": "user",
    "llm.input_messages.1.message.contents.0.message_content.type": "text",
    "llm.input_messages.1.message.contents.0.message_content.text": "What is a trace?",
    "llm.input_messages.2.message.role": "tool",
    "llm.input_messages.2.message.content": "42",
    "llm.input_messages.2.message.tool_call_id": "call_1",
    "llm.tools.0.tool.json_schema": '{"type": "function", "function": {"name": "look_up"}}',
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.content": "A river.",
    "llm.output_messages.0.message.tool_calls.0.tool_call.id": "call_2",
    "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "look_up",
    "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"word": "river"}',
}
OFFICIAL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "azure.ai.openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.usage.input_tokens": 1200,
    "gen_ai.usage.output_tokens": 350,
    "gen_ai.usage.cache_read.input_tokens": 1024,
    "gen_ai.usage.cache_write.input_tokens": 100,
    "gen_ai.usage.reasoning.output_tokens": 128,
    "gen_ai.response.finish_reasons": ("tool_calls",),
    "gen_ai.conversation.id": "c-1",
    "user.id": "ann",
    "gen_ai.system_instructions": '[{"type": "text", "content": "Be brief."}]',
    "gen_ai.input.messages": json.dumps(
        [
            {"role": "user", "parts": [{"type": "text", "content": "What is a trace?"}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": "42"}]},
        ]
    ),
    "gen_ai.tool.definitions": '[{"type": "function", "name": "look_up"}]',
    "gen_ai.output.messages": [
        {
            "role": "assistant",
            "parts": [
                {"type": "text", "content": "A river."},
                {"type": "tool_call", "id": "call_2", "name": "look_up", "arguments": {"word": "river"}},
            ],
        }
    ],
}
OLDER = {
    **{name: value for name, value in OFFICIAL.items() if not name.startswith("gen_ai.usage.cache_write")},
    "gen_ai.usage.cache_creation.input_tokens": 100,
    "gen_ai.system": "az.ai.openai",
}
del OLDER["gen_ai.provider.name"]
#: what Langfuse's SDK 5.0.4 writes around a chat completion with tools
LANGFUSE = {
    "langfuse.observation.type": "generation",
    "gen_ai.provider.name": "azure.ai.openai",
    "langfuse.observation.model.name": "gpt-5",
    "langfuse.observation.model.parameters": '{"temperature": 1, "max_tokens": "Infinity"}',
    "langfuse.observation.usage_details": json.dumps(
        {
            "prompt_tokens": 1200,
            "completion_tokens": 350,
            "total_tokens": 1550,
            "prompt_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 100},
            "completion_tokens_details": {"reasoning_tokens": 128},
        }
    ),
    "langfuse.observation.metadata.finish_reason": '"tool_calls"',
    "langfuse.observation.input": json.dumps(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What is a trace?"},
                {"role": "tool", "content": "42", "tool_call_id": "call_1"},
            ],
            "tools": [{"type": "function", "function": {"name": "look_up"}}],
        }
    ),
    "langfuse.observation.output": json.dumps(
        {
            "role": "assistant",
            "content": "A river.",
            "tool_calls": [
                {"id": "call_2", "type": "function", "function": {"name": "look_up", "arguments": '{"word": "river"}'}}
            ],
        }
    ),
    "session.id": "c-1",
    "user.id": "ann",
}
DIALECTS = {
    "Langfuse": LANGFUSE,
    "OpenLLMetry": OPENLLMETRY,
    "OpenInference": OPENINFERENCE,
    "official": OFFICIAL,
    "older": OLDER,
}


@contextmanager
def spans(**resource: str) -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create(dict(resource)))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


def span_of(attributes: Mapping[str, Any], *, error: BaseException | None = None) -> ReadableSpan:
    with spans(**{"service.name": "shop"}) as (provider, exporter):
        span = provider.get_tracer("theirs", "1.2").start_span("call", attributes=attributes)
        if error is not None:
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, str(error)))
        span.end()
        (found,) = exporter.get_finished_spans()
    return found


def said(turns: list[Any]) -> list[tuple[str, str, str]]:
    return [(turn.role, turn.kind, turn.text) for turn in turns if turn.kind != "note"]


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_say_the_same(name: str) -> None:
    """One call told in five dialects is one record: who, what, numbers, finish reason."""
    record = to_record(span_of(DIALECTS[name]))
    assert (record.provider, record.operation, record.request_model) == ("azure.ai.openai", "chat", "gpt-5")
    usage = record.usage
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (1200, 350, "provider")
    assert (usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (1024, 100, 128)
    assert (record.status, record.finish_reasons) == ("ok", ("tool_calls",))
    assert (record.conversation_id, record.user_id, record.source) == ("c-1", "ann", "shop")
    assert (record.attributes["otel.scope.name"], record.attributes["otel.scope.version"]) == ("theirs", "1.2")


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_carry_the_conversation(name: str) -> None:
    """What they say of the messages can be read again: every turn, in order, calls and results among them."""
    record = to_record(span_of(DIALECTS[name]))
    assert said(request_turns(record.request_json)) == [
        ("system", "text", "Be brief."),
        ("user", "text", "What is a trace?"),
        ("tool", "result", said(request_turns(record.request_json))[2][2]),
    ]
    assert "42" in said(request_turns(record.request_json))[2][2]
    assert ("assistant", "text", "A river.") in said(response_turns(record.response_json))
    calls = [turn for turn in response_turns(record.response_json) if turn.kind == "call"]
    assert [(turn.label, json.loads(turn.text)) for turn in calls] == [("look_up", {"word": "river"})]
    assert "look_up" in (record.request_json or "")


CONTENT = ("gen_ai.system_instructions", "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.definitions")


@pytest.mark.parametrize(
    "written",
    [json.dumps, lambda value: value, lambda value: tuple(json.dumps(item) for item in value)],
    ids=["JSON text", "maps", "a list of JSON texts"],
)
def test_content_is_read_however_it_is_written(written: Any) -> None:
    """The record of a span is the same, be its content one JSON text, maps and lists, or a list of JSON texts."""
    values = {name: OFFICIAL[name] for name in CONTENT}
    values = {name: json.loads(value) if isinstance(value, str) else value for name, value in values.items()}
    record = to_record(span_of(OFFICIAL | {name: written(value) for name, value in values.items()}))
    request, response = json.loads(record.request_json or ""), json.loads(record.response_json or "")
    assert [request["system"], request["messages"], response["output"], request["tools"]] == [*values.values()]


def test_openinference_values_are_read_however_they_are_written() -> None:
    """The provider's own JSON of OpenInference may be text or a map."""
    request, response = {"model": "gpt-5", "messages": []}, {"id": "chatcmpl-1", "choices": []}
    record = to_record(span_of(OPENINFERENCE | {"input.value": request, "output.value": response}))
    assert (json.loads(record.request_json or ""), json.loads(record.response_json or "")) == (request, response)


def test_what_only_openllmetry_says() -> None:
    """Its address, its stream flag and its association properties have a place in the record."""
    record = to_record(span_of(OPENLLMETRY))
    assert (record.server_address, record.server_port, record.stream) == ("example.openai.azure.com", 443, True)
    assert record.attributes["tenant"] == "acme"
    assert (record.response_model, record.response_id) == ("gpt-5-2026", "chatcmpl-1")


def test_what_only_openinference_says() -> None:
    """Metadata and tags; and where it carries the provider's own JSON, that is what is kept."""
    record = to_record(span_of(OPENINFERENCE))
    assert (record.attributes["tenant"], record.agent_tags) == ("acme", ("a", "b"))
    assert json.loads(record.request_json or "")["temperature"] == 0.5
    request, response = '{"model": "gpt-5", "messages": []}', '{"id": "chatcmpl-1", "choices": []}'
    native = to_record(span_of(OPENINFERENCE | {"input.value": request, "output.value": response}))
    assert json.loads(native.request_json or "") == json.loads(request)
    assert json.loads(native.response_json or "") == json.loads(response)


@pytest.mark.parametrize(
    ("attributes", "operation"),
    [
        ({"llm.request.type": "completion"}, "text_completion"),
        ({"llm.request.type": "embedding"}, "embeddings"),
        ({"openinference.span.kind": "EMBEDDING", "embedding.model_name": "m"}, "embeddings"),
        ({"gen_ai.operation.name": "generate_content"}, "generate_content"),
    ],
)
def test_other_model_calls(attributes: dict[str, Any], operation: str) -> None:
    """Completions and embeddings are calls too; a span without content or numbers makes a record without any."""
    record = to_record(span_of(attributes))
    assert (record.operation, record.provider) == (operation, "unknown")
    assert (record.request_json, record.response_json, record.usage.source) == (None, None, "none")


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"http.request.method": "POST"},
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 5},
        {"gen_ai.operation.name": "execute_tool"},
        {"gen_ai.operation.name": "fetch_response"},
        {"openinference.span.kind": "AGENT", "llm.token_count.prompt": 5},
        {"openinference.span.kind": "CHAIN", "gen_ai.operation.name": "chat"},
        {"traceloop.span.kind": "workflow", "gen_ai.usage.input_tokens": 5},
        {"traceloop.span.kind": "task", "llm.request.type": "chat"},
        {"llm.request.type": "rerank"},
    ],
)
def test_what_is_no_model_call(attributes: dict[str, Any]) -> None:
    """Agents, tools, workflows, chains, fetched responses and all that is not GenAI make no record."""
    assert not is_model_call(span_of(attributes))


def test_a_span_of_nobody_is_refused() -> None:
    """Asked for a record of a span that is none of a model call, it says so."""
    with pytest.raises(RecordError, match=r"span 'call' has no gen_ai\.operation\.name"):
        to_record(span_of({"http.request.method": "POST"}))


def test_the_same_span_is_the_same_record() -> None:
    """The id follows from the ids of trace and span; two spans have two."""
    span = span_of(OFFICIAL)
    assert to_record(span).id == to_record(span).id
    assert to_record(span).id != to_record(span_of(OFFICIAL)).id


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ValueError("no"), "error", "ValueError"),
        (KeyboardInterrupt("stop"), "cancelled", "KeyboardInterrupt"),
        (GeneratorExit("closed"), "closed_early", None),
    ],
)
def test_outcomes(error: BaseException, status: str, kind: str | None) -> None:
    """An exception on the span is the record's error, unless it says that the caller went away."""
    record = to_record(span_of(OPENLLMETRY, error=error))
    assert (record.status, record.error_type) == (status, kind)
    assert record.error_message == (str(error) if kind else None)


def test_odd_values_do_no_harm() -> None:
    """Attributes of the wrong type, JSON that is none and gaps in numbering cost themselves only."""
    odd = {
        "llm.request.type": "chat",
        "gen_ai.usage.input_tokens": "many",
        "gen_ai.prompt.x.role": "user",
        "gen_ai.prompt.1": "flat",
        "gen_ai.prompt.1.content": "nested below",
        "gen_ai.prompt.7.content": "{not json",
        "gen_ai.openai.api_base": "http://[half",
        "llm.request.functions.0.parameters": "{",
    }
    record = to_record(span_of(odd))
    assert record.usage.input_tokens is None
    assert "{not json" in (record.request_json or "")
    ProviderTrace.from_json(record.to_json())


@pytest.fixture(scope="module")
def official() -> Iterator[tuple[InMemorySpanExporter, TracerProvider]]:
    """The official instrumentations at work, content on."""
    from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    with pytest.MonkeyPatch.context() as patch, spans() as (provider, exporter):
        patch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
        instrumentors = [OpenAIInstrumentor(), AnthropicInstrumentor()]
        for instrumentor in instrumentors:
            instrumentor.instrument(tracer_provider=provider, skip_dep_check=True)
        yield exporter, provider
        for instrumentor in instrumentors:
            instrumentor.uninstrument()


@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
def test_real_official_spans(api: Any, official: tuple[InMemorySpanExporter, TracerProvider]) -> None:
    """A streamed call under the official instrumentation: its numbers, ids and words are in the record."""
    exporter, _ = official
    exporter.clear()
    client = client_for(api.provider, transport(200, SSE, list(api.stream)))
    for _ in api.method(client)(**api.arguments, stream=True):
        pass
    (span,) = exporter.get_finished_spans()
    assert is_model_call(span)
    if "gen_ai.response.id" not in (span.attributes or {}):  # seen once, after tests that import the SDKs anew
        pytest.skip("the official instrumentation has not read the stream")
    record = to_record(span)
    assert (record.provider, record.response_id, record.stream) == (api.provider, api.response_id, True)
    assert (record.usage.input_tokens, record.usage.output_tokens) == (api.input_tokens, api.output_tokens)
    assert [turn.text for turn in response_turns(record.response_json)] == ["Hello, wörld!"]
    assert record.time_to_first_chunk_ns is not None


def test_real_official_error(official: tuple[InMemorySpanExporter, TracerProvider]) -> None:
    """A refused call under the official instrumentation is an error with its kind."""
    exporter, _ = official
    exporter.clear()
    body = b'{"error": {"message": "slow down", "type": "rate_limit"}}'
    client = client_for("openai", transport(429, {"content-type": "application/json"}, [body]))
    with pytest.raises(Exception, match="slow down"):
        CHAT.method(client)(**CHAT.arguments)
    (span,) = exporter.get_finished_spans()
    record = to_record(span)
    assert (record.status, record.error_type) == ("error", "openai.RateLimitError")
    assert "slow down" in (record.error_message or "")


def test_real_native_anthropic_span() -> None:
    """The span that the anthropic SDK makes by itself: inclusive input, cache lifetimes, stop reason, request id."""
    with spans() as (provider, exporter):
        headers = {**SSE, "request-id": "req_9"}
        mock = transport(200, headers, list(MESSAGES.stream))
        client = client_for(
            "anthropic", mock, open_telemetry={"tracer_provider": provider, "traces": {"enabled": True}}
        )
        for _ in MESSAGES.method(client)(**MESSAGES.arguments, stream=True):
            pass
        (span,) = exporter.get_finished_spans()
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name.startswith("com.anthropic.sdk.python")
    record = to_record(span)
    assert (record.provider, record.operation, record.status) == ("anthropic", "chat", "ok")
    assert (record.usage.input_tokens, record.usage.output_tokens) == (32012, 250)
    assert (record.finish_reasons, record.request_id) == (("end_turn",), "req_9")
    assert record.usage.details["cache_write_5m_tokens"] == 1500


def test_every_dialect_is_tested() -> None:
    """A dialect that is added gets its attribute set here."""
    assert {dialect.name for dialect in span_import.DIALECTS} == {
        "OpenTelemetry GenAI, and the anthropic SDK", "OpenLLMetry", "OpenInference", "Langfuse",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("details", "numbers"),
    [
        ({"input": 10, "output": 5, "total": 15, "input_cached_tokens": 3}, (10, 5, 3, None)),
        ({"input": 7, "output": 4, "input_cached_tokens": 3, "output_reasoning_tokens": 1}, (10, 5, 3, 1)),
        ({"input": 7, "output": 5, "total": 15, "cache_read_input_tokens": 3}, (10, 5, 3, None)),
        ({"input": 1}, (1, None, None, None)),
        ({"output": 0}, (None, 0, None, None)),
        ({"input_tokens": 7, "cache_read_input_tokens": 3, "output_tokens": 5}, (10, 5, 3, None)),
    ],
)
def test_usage_of_langfuse(details: dict[str, int], numbers: tuple[int | None, ...]) -> None:
    """Its own counts exclude each other, unless the total says otherwise; a provider's object is read as such."""
    attributes = LANGFUSE | {"langfuse.observation.usage_details": json.dumps(details)}
    usage = to_record(span_of(attributes)).usage
    found = (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.reasoning_tokens)
    assert (found, usage.raw) == (numbers, details)


def test_only_generations_of_langfuse_are_calls() -> None:
    """Its spans of agents, tools and chains repeat what is within; one without counts says that it has none."""
    for kind in ("span", "agent", "tool", "chain", "retriever"):
        assert not is_model_call(span_of({**LANGFUSE, "langfuse.observation.type": kind}))
    bare = {"langfuse.observation.type": "generation", "langfuse.observation.output": "A river."}
    record = to_record(span_of(bare))
    assert (record.provider, record.usage.source, record.usage.input_tokens) == ("unknown", "none", None)
    assert said(response_turns(record.response_json)) == [("assistant", "text", "A river.")]
