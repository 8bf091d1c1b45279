"""Provider-native JSON as messages of the GenAI conventions, compared with what the official instrumentations make."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from interaction import Interaction, interaction_ids, parameters, wire_ids
from llmspan.messages import INPUT, INSTRUCTIONS, OUTPUT, TOOLS, content_attributes
from llmspan.wire import reassemble
from records import patient
from replay import call, client_for, read, transport_of

#: the types of parts that the conventions know
PARTS = {
    "text", "reasoning", "tool_call", "tool_call_response", "server_tool_call", "server_tool_call_response", "blob",
    "file", "uri", "compaction",
}  # fmt: skip
#: the texts that a part of each must have, as the conventions' schemas require
REQUIRED = {
    "text": ("content",), "reasoning": ("content",), "tool_call": ("name",), "server_tool_call": ("name",),
    "uri": ("uri", "modality"), "file": ("file_id", "modality"), "blob": ("modality",),
}  # fmt: skip
#: and those of items that stay as the provider has them
OTHERS = {"mcp_approval_request", "mcp_list_tools", "program", "program_output", "tool_search_output"}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts)}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("text", {"messages": [{"role": "user", "content": "hi"}]}, [user(text("hi"))]),
    ("name", {"messages": [{"role": "user", "name": "ann", "content": "hi"}]}, [user(text("hi")) | {"name": "ann"}]),
    ("no content", {"messages": [{"role": "user", "content": None}]}, [user()]),
    ("prompt", {"prompt": "hi"}, [user(text("hi"))]),
    ("prompts", {"prompt": ["a", "b"]}, [user(text("a")), user(text("b"))]),
    ("tokens", {"prompt": [1, 2]}, None),
    ("responses text", {"input": "hi"}, [user(text("hi"))]),
    ("developer", {"input": [{"role": "developer", "content": "x"}]}, [{"role": "developer", "parts": [text("x")]}]),
    (
        "tool answer",
        {"messages": [{"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "42"}]}]},
        [{"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}]}],
    ),
    (
        "call and answer of Responses",
        {"input": [
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
            {"type": "function_call_output", "call_id": "c1", "output": "42"},
            {"type": "reasoning", "summary": []},
        ]},
        [
            {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "f", "arguments": {"a": 1}}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}]},
        ],
    ),
    (
        "messages blocks",
        {"messages": [{"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            {"type": "server_tool_use", "id": "t2", "name": "web_search", "input": {"q": "x"}},
            {"type": "web_search_tool_result", "tool_use_id": "t2", "content": []},
        ]}]},
        [{"role": "assistant", "parts": [
            {"type": "reasoning", "content": "hm"},
            {"type": "tool_call", "id": "t1", "name": "f", "arguments": {"a": 1}},
            {"type": "server_tool_call", "id": "t2", "name": "web_search",
             "server_tool_call": {"type": "web_search", "input": {"q": "x"}}},
            {"type": "server_tool_call_response", "id": "t2",
             "server_tool_call_response": {"type": "web_search", "content": []}},
        ]}],
    ),
    (
        "thinking of Mistral",
        {"messages": [{"role": "assistant", "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "2 plus"}, {"type": "text", "text": " 2"}]},
            {"type": "thinking", "thinking": [{"type": "reference", "reference_ids": [1]}]},
            {"type": "text", "text": "4"},
        ]}]},
        [{"role": "assistant", "parts": [{"type": "reasoning", "content": "2 plus 2"}, text("4")]}],
    ),
    (
        "thinking that is not shown",
        {"messages": [{"role": "assistant", "content": [
            {"type": "redacted_thinking", "data": "ENCRYPTED"},
            {"type": "thinking", "thinking": "", "signature": "ENCRYPTED"},
            {"type": "compaction", "content": "Ann said hi.", "encrypted_content": "ENCRYPTED", "signature": "S"},
            {"type": "compaction", "content": None, "encrypted_content": "ENCRYPTED"},
            {"type": "text", "text": "hi"},
        ]}]},
        [{"role": "assistant", "parts": [
            {"type": "compaction", "content": "Ann said hi."}, {"type": "compaction"}, text("hi"),
        ]}],
    ),
    (
        "items that are not shown",
        {"input": [
            {"type": "compaction", "id": "cmp_1", "encrypted_content": "ENCRYPTED"},
            {"type": "reasoning", "summary": [], "encrypted_content": "ENCRYPTED"},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}, {"text": "b"}],
             "encrypted_content": "ENCRYPTED"},
        ]},
        [
            {"role": "assistant", "parts": [{"type": "compaction", "id": "cmp_1"}]},
            {"role": "assistant", "parts": [{"type": "reasoning", "content": "a\nb"}]},
        ],
    ),
    (
        "reasoning of gateways",
        {"messages": [
            {"role": "assistant", "content": "4", "reasoning": "hm", "reasoning_content": "hm",
             "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
            {"role": "assistant", "content": "5", "reasoning_details": [
                {"type": "reasoning.summary", "summary": "so"}, {"type": "reasoning.encrypted", "data": "ENCRYPTED"}]},
            {"role": "assistant", "content": "6", "reasoning_details": [
                {"type": "reasoning.encrypted", "data": "ENCRYPTED"}]},
        ]},
        [
            {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, text("4")]},
            {"role": "assistant", "parts": [{"type": "reasoning", "content": "so"}, text("5")]},
            {"role": "assistant", "parts": [text("6")]},
        ],
    ),
    (
        "reasoning in the content, and types that mean something else to the schemas",
        {"messages": [{"role": "assistant", "content": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Six "}, {"text": "by seven."}]},
            {"type": "reasoning", "text": "So."},
            {"type": "reasoning", "encrypted": "ENCRYPTED"},
            {"type": "file", "name": "a.pdf"},
            {"type": "tool_call", "id": "c"},
            {"type": "uri", "url": 1},
        ]}]},
        [{"role": "assistant", "parts": [
            {"type": "reasoning", "content": "Six by seven."},
            {"type": "reasoning", "content": "So."},
            {"type": "file_part", "name": "a.pdf"},
            {"type": "tool_call_part", "id": "c"},
            {"type": "uri_part", "url": 1},
        ]}],
    ),
    (
        "files and what was said before",
        {"messages": [
            {"role": "user", "content": [
                {"type": "container_upload", "file_id": "file-1"},
                {"type": "document_url", "document_url": "https://x.example/a.pdf"},
                {"role": "user", "content": "a message in a message"},
            ]},
            {"role": "assistant", "content": None, "audio": {"id": "audio_1"}},
            {"role": "assistant", "images": [{"type": "image_url", "image_url": {"url": "https://x.example/b.png"}}]},
        ]},
        [
            user(
                {"type": "file", "modality": "document", "file_id": "file-1"},
                {"type": "uri", "modality": "document", "uri": "https://x.example/a.pdf"},
                text("a message in a message"),
            ),
            {"role": "assistant", "parts": [{"type": "file", "modality": "audio", "file_id": "audio_1"}]},
            {"role": "assistant", "parts": [
                {"type": "uri", "modality": "image", "uri": "https://x.example/b.png"}]},
        ],
    ),
    (
        "media",
        {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}},
            {"type": "input_image", "file_id": "file-1"},
            {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "mp3"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "QQ=="}},
            {"type": "image", "source": {"type": "url", "url": "https://x.example/b.png"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A"}},
            {"type": "input_audio", "input_audio": "QQ=="},
            {"type": "image_url", "image_url": {"url": {"type": "image/png", "bytes": 9, "sha256": "f"}}},
            {"type": "new_kind", "x": 1},
        ]}]},
        [user(
            {"type": "uri", "modality": "image", "uri": "https://x.example/a.png"},
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "QQ=="},
            {"type": "file", "modality": "image", "file_id": "file-1"},
            {"type": "blob", "modality": "audio", "mime_type": "audio/mpeg", "content": "QQ=="},
            {"type": "blob", "modality": "image", "mime_type": "image/gif", "content": "QQ=="},
            {"type": "uri", "modality": "image", "uri": "https://x.example/b.png"},
            {"type": "blob", "modality": "document", "mime_type": "text/plain", "content": "QQ=="},
            {"type": "blob", "modality": "audio", "mime_type": None, "content": "QQ=="},
            {"type": "blob", "modality": "image", "mime_type": "image/png",
             "content": {"type": "image/png", "bytes": 9, "sha256": "f"}},
            {"type": "new_kind", "x": 1},
        )],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("request_body", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_input(request_body, expected):
    """Each way to say something to a model has its parts; a part that the conventions do not know stays as it is."""
    assert content_attributes(request_body, None).get(INPUT) == expected


def test_instructions_and_tools():
    """What stands beside the conversation: text parts only, tools by name, schema and kind."""
    found = content_attributes(
        {
            "system": [{"type": "text", "text": "a"}, {"type": "image"}],
            "instructions": "b",
            "tools": [
                {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
                {"type": "function", "name": "g", "parameters": {}},
                {"name": "h", "input_schema": {"type": "object"}},
                {"type": "web_search_20250305", "name": "web_search"},
                {"type": "mcp", "server_label": "wiki", "authorization": "never"},
            ],
        },
        None,
    )
    assert found[INSTRUCTIONS] == [text("a"), text("b")]
    assert found[TOOLS] == [
        {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}},
        {"type": "function", "name": "g", "parameters": {}},
        {"type": "function", "name": "h", "parameters": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "mcp", "name": "wiki"},
    ]


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "description": "of a city"}
FUNCTION = {"type": "function", **WEATHER, "parameters": SCHEMA}


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ({"type": "function", "function": {**WEATHER, "parameters": SCHEMA, "strict": True}}, FUNCTION),
        ({"function": {**WEATHER, "parameters": SCHEMA}}, FUNCTION),
        ({"type": None, "function": {**WEATHER, "parameters": SCHEMA}}, FUNCTION),
        ({**WEATHER, "input_schema": SCHEMA}, FUNCTION),
        ({**WEATHER, "parameters": SCHEMA}, FUNCTION),
        ({"type": "custom", **WEATHER, "input_schema": SCHEMA, "cache_control": {}}, FUNCTION),
        ({"type": "function", "name": "f", "parameters": None, "description": None},
         {"type": "function", "name": "f"}),
        ({"type": "custom", **WEATHER, "format": {"type": "text"}}, {"type": "custom", **WEATHER}),
        ({"type": "custom", "custom": WEATHER}, {"type": "custom", **WEATHER}),
        ({"type": "memory_20250818", **WEATHER, "input_schema": SCHEMA},
         {"type": "memory_20250818", **WEATHER, "parameters": SCHEMA}),
        ({"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
         {"type": "web_search_20250305", "name": "web_search"}),
        ({"type": "web_search"}, {"type": "web_search", "name": "web_search"}),
        ({"type": "mcp", "server_label": "wiki", "server_description": "all of it", "authorization": "never"},
         {"type": "mcp", "name": "wiki", "description": "all of it"}),
        ({"type": "mcp_toolset", "mcp_server_name": "wiki", "configs": {}}, {"type": "mcp_toolset", "name": "wiki"}),
        ({}, {"type": "function", "name": "?"}),
    ],
    ids=str,
)  # fmt: skip
def test_tools(tool: dict[str, Any], expected: dict[str, Any]) -> None:
    """A tool keeps its name, description and parameters, wherever they stand and whether it says its type or not."""
    assert content_attributes({"tools": [tool]}, None)[TOOLS] == [expected]


def test_tools_in_a_namespace() -> None:
    """A namespace of tools is listed, and so are its tools."""
    namespace = {"type": "namespace", "name": "crm", "description": "d", "tools": [{"type": "function", **WEATHER}]}
    assert content_attributes({"tools": [namespace]}, None)[TOOLS] == [
        {"type": "namespace", "name": "crm", "description": "d"}, {"type": "function", **WEATHER},
    ]  # fmt: skip


@pytest.mark.parametrize("name", parameters(wire_ids()))
def test_interactions_obey_the_schemas(name: str) -> None:
    """Of every interaction, each message, part and tool has the members that the conventions' schemas require."""
    interaction = Interaction.load(name)
    _, response = reassemble(interaction.record_api, interaction.wire)
    found = content_attributes(interaction.request.get("body"), response)
    for tool in found.get(TOOLS, []):
        assert isinstance(tool["type"], str)
        assert isinstance(tool["name"], str)
        assert tool["name"] != "?"
    messages = [*found.get(INPUT, []), *found.get(OUTPUT, []), {"role": "system", "parts": found.get(INSTRUCTIONS, [])}]
    for message in messages:
        assert isinstance(message["role"], str)
        for part in message["parts"]:
            assert all(isinstance(part[member], str) for member in REQUIRED.get(part["type"], ()))
            assert part["type"] != "reasoning" or part["content"]
    assert all(isinstance(message["finish_reason"], str) for message in found.get(OUTPUT, []))


def test_output():
    """Choices, items and blocks; reasons by the conventions' words; arguments that broke off stay text."""
    calls = [{"id": "c", "function": {"name": "f", "arguments": '{"a":'}}]
    chat = {"choices": [
        {"message": {"role": "assistant", "content": None, "tool_calls": calls}, "finish_reason": "tool_calls"},
        {"message": {"role": "assistant", "refusal": "no", "audio": {"data": "QQ==", "transcript": "t"}}},
        {"text": "completed", "finish_reason": "length"},
    ]}  # fmt: skip
    assert content_attributes(None, chat)[OUTPUT] == [
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c", "name": "f", "arguments": '{"a":'}],
         "finish_reason": "tool_call"},
        {"role": "assistant", "parts": [text("no"), {
            "type": "blob", "modality": "audio", "mime_type": None, "content": "QQ==", "transcript": "t"}],
         "finish_reason": "error"},
        {"role": "assistant", "parts": [text("completed")], "finish_reason": "length"},
    ]  # fmt: skip
    message = {"role": "assistant", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"}
    assert content_attributes(None, message)[OUTPUT] == [
        {"role": "assistant", "parts": [text("hi")], "finish_reason": "stop"}
    ]
    items = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]},
        {"type": "web_search_call", "id": "w", "status": "completed"},
    ]
    cut = {"output": items, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    (made,) = content_attributes(None, cut)[OUTPUT]
    assert [part["type"] for part in made["parts"]] == ["reasoning", "text", "server_tool_call"]
    assert made["finish_reason"] == "length"


def test_nothing_to_say():
    """What is in none of the shapes has no attributes."""
    for value in (None, [], "text", 5, {}, {"data": [{"embedding": [0.1]}]}, {"messages": "x", "choices": None}):
        assert content_attributes(value, value) == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "input", "content", "type", "role", "tool_calls", "function", "choices", "message",
                 "output", "image_url", "source", "data", "tools", "system", "arguments", "summary", "text",
                 "finish_reason"]
            ),
            inner | st.sampled_from(["image", "tool_use", "reasoning", "function_call", "input_audio", "document"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)  # fmt: skip


@patient
@given(json_values, json_values)
@example(None, {"role": 1, "content": []})
def test_odd_shapes_are_survived(request_body, response):
    """Whatever a gateway sends, the result is JSON, and each message has a role and parts with a type."""
    found = content_attributes(request_body, response)
    json.dumps(found)
    for message in [*found.get(INPUT, []), *found.get(OUTPUT, [])]:
        assert isinstance(message["role"], str)
        assert all(isinstance(part["type"], str) for part in message["parts"])


@pytest.fixture(scope="module")
def official() -> Iterator[InMemorySpanExporter]:
    """The official instrumentations at work, content on."""
    from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
        instrumentors = [OpenAIInstrumentor(), AnthropicInstrumentor()]
        for instrumentor in instrumentors:
            instrumentor.instrument(tracer_provider=provider, skip_dep_check=True)
        yield exporter
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
    provider.shutdown()


def compared() -> list[str]:
    """Finished calls of the three APIs that the official instrumentations read."""
    names = [name for name in interaction_ids() if name.startswith(("chat_completions-", "responses-", "messages-"))]
    loaded = [Interaction.load(name) for name in names]
    return [one.id for one in loaded if one.sdk_replay["outcome"] == "ok" and "official" not in one.data]


def encrypted(value: Any) -> set[str]:
    """What a request or a response holds of thinking that nobody can read."""
    if isinstance(value, dict):
        own = {value["data"]} if value.get("type") == "redacted_thinking" else set()
        return own.union(*map(encrypted, value.values()))
    return set[str]().union(*map(encrypted, value)) if isinstance(value, list) else set()


def told(messages: Any) -> list[tuple[str, dict[str, Any]]]:
    """The parts that the official instrumentations make whole: no empty ones, none of kinds that they pass over."""
    return [
        (message["role"], {key: value for key, value in part.items() if value is not None})
        for message in messages
        for part in message["parts"]
        if part.get("type") != "blob" and (part.get("content") or part.get("type") == "tool_call_response")
    ]


@pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")
@pytest.mark.parametrize("name", parameters(compared()))
def test_agrees_with_the_official_instrumentations(name: str, official: InMemorySpanExporter) -> None:
    """On calls of many vendors, what they say was said is what we say was said."""
    if "messages-stream-restarted" in str(name):
        return  # the official one joins a message and the one that replaces it
    interaction = Interaction.load(name)
    official.clear()
    seen: list[Any] = []
    client = client_for(interaction.client, transport_of(interaction, seen), **interaction.options)
    with suppress(TypeError):  # three recordings make the official one break its caller's call; its span is there
        read(interaction, call(client, interaction))
    span = next(iter(official.get_finished_spans()), None)
    if span is None or not seen or span.attributes is None or INPUT not in span.attributes:
        return  # a response that was fetched by its id
    _, response = reassemble(interaction.record_api, interaction.wire)
    request = json.loads(seen[-1].content or b"null")
    ours = content_attributes(request, response)
    unreadable = encrypted([request, response])  # they show it as reasoning
    for key in (INPUT, OUTPUT):
        found = told(ours.get(key, []))
        for part in told(json.loads(str(span.attributes.get(key, "[]")))):
            assert part in found or part[1].get("content") in unreadable
    assert not [data for data in unreadable if data in json.dumps(ours)]
    kinds = {part["type"] for key in (INPUT, OUTPUT) for message in ours.get(key, []) for part in message["parts"]}
    assert kinds <= PARTS | OTHERS
