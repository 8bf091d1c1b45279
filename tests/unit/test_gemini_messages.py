"""Requests and responses of Google's APIs as messages of the conventions, as turns to be read, and as attributes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from interaction import is_google, parameters, wire_ids
from llmspan.content import ContentPolicy
from llmspan.conversation import Turn, request_turns, response_turns
from llmspan.messages import INPUT, INSTRUCTIONS, OUTPUT, TOOLS, content_attributes
from llmspan.semconv_request import request_attributes
from llmspan.wire import reassemble
from wires import load

TEXT = {"type": "text", "content": "hi"}
BLOB = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "QQ=="}
CALL = {"type": "tool_call", "id": "c", "name": "f", "arguments": {"a": 1}}


@pytest.mark.parametrize(("part", "expected"), [
    ({"text": "hi"}, TEXT),
    ({"text": "hi", "thought": True}, {"type": "reasoning", "content": "hi"}),
    ({"text": "", "thoughtSignature": "c2ln"}, None),
    ({"thoughtSignature": "c2ln"}, None),
    ({"inlineData": {"mimeType": "image/png", "data": "QQ=="}}, BLOB),
    ({"inline_data": {"mime_type": "image/png", "data": "QQ=="}}, BLOB),
    ({"inlineData": {"mimeType": "application/pdf", "data": "QQ=="}, "mediaResolution": {"level": "LOW"}},
     {"type": "blob", "modality": "document", "mime_type": "application/pdf", "content": "QQ=="}),
    ({"fileData": {"fileUri": "gs://b/v.mp4", "mimeType": "video/mp4"}},
     {"type": "uri", "modality": "video", "mime_type": "video/mp4", "uri": "gs://b/v.mp4"}),
    ({"thoughtSignature": "c2ln", "functionCall": {"id": "c", "name": "f", "args": {"a": 1}}}, CALL),
    ({"executableCode": {"language": "PYTHON", "code": "1"}},
     {"type": "server_tool_call", "id": None, "name": "code_execution",
      "server_tool_call": {"type": "code_execution", "language": "PYTHON", "code": "1"}}),
    ({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
     {"type": "server_tool_call_response", "id": None,
      "server_tool_call_response": {"type": "code_execution", "outcome": "OUTCOME_OK", "output": "1"}}),
    ({"toolCall": {"toolType": "FILE_SEARCH", "id": "t", "args": {"q": 1}}},
     {"type": "server_tool_call", "id": "t", "name": "file_search",
      "server_tool_call": {"type": "file_search", "toolType": "FILE_SEARCH", "args": {"q": 1}}}),
    ({"newThing": {"a": 1}}, {"type": "new_thing", "new_thing": {"a": 1}}),
])  # fmt: skip
def test_parts(part: dict[str, Any], expected: dict[str, Any] | None) -> None:
    """Each kind of part is the conventions' part of its kind, whichever way its name is spelled."""
    (message,) = content_attributes({"contents": [{"role": "model", "parts": [part]}]}, None)[INPUT]
    assert message == {"role": "assistant", "parts": [] if expected is None else [expected]}


def test_request() -> None:
    """Instructions, answers of functions, and tools: declared ones by their names, the provider's own by theirs."""
    answer = {"functionResponse": {"name": "f", "response": {"result": 2}}}
    made = content_attributes(
        {
            "systemInstruction": {"role": "user", "parts": [{"text": "hi"}]},
            "contents": [{"parts": [{"text": "hi"}]}, {"role": "user", "parts": [answer]}],
            "tools": [{"functionDeclarations": [{"name": "f", "description": "d", "parameters": {"type": "OBJECT"}}]},
                      {"google_search": {}, "codeExecution": {}}],
        },
        None,
    )  # fmt: skip
    assert made[INSTRUCTIONS] == [TEXT]
    assert made[INPUT] == [
        {"role": "user", "parts": [TEXT]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "f", "response": {"result": 2}}]},
    ]
    assert made[TOOLS] == [
        {"type": "function", "name": "f", "description": "d", "parameters": {"type": "OBJECT"}},
        {"type": "google_search", "name": "google_search"}, {"type": "code_execution", "name": "code_execution"},
    ]  # fmt: skip


def test_candidates() -> None:
    """A message for each candidate, with its reason in the conventions' words."""
    call = {"content": {"role": "model", "parts": [{"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}}]}}
    candidates = [call | {"finishReason": "STOP"}, {"finishReason": "SAFETY"}, {"content": {"parts": [{"text": "hi"}]}}]
    assert content_attributes(None, {"candidates": candidates})[OUTPUT] == [
        {"role": "assistant", "parts": [CALL], "finish_reason": "tool_call"},
        {"role": "assistant", "parts": [], "finish_reason": "content_filter"},
        {"role": "assistant", "parts": [TEXT], "finish_reason": "error"},
    ]


def test_interactions() -> None:
    """The steps of an interaction are its messages, and its input may be text, contents or steps."""
    steps = [
        {"type": "user_input", "content": [{"type": "text", "text": "hi"}]},
        {"type": "thought", "signature": "c2ln"},
        {"type": "function_call", "id": "c", "name": "f", "arguments": {"a": 1}},
        {"type": "function_result", "call_id": "c", "name": "f", "result": "2"},
    ]
    assert content_attributes({"input": steps}, None)[INPUT] == [
        {"role": "user", "parts": [TEXT]}, {"role": "assistant", "parts": []}, {"role": "assistant", "parts": [CALL]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "2"}]},
    ]  # fmt: skip
    image = {"type": "image", "mime_type": "image/png", "data": "QQ=="}
    assert content_attributes({"input": [image], "system_instruction": "hi"}, None) == {
        INSTRUCTIONS: [TEXT], INPUT: [{"role": "user", "parts": [BLOB]}],
    }  # fmt: skip
    assert content_attributes({"input": "hi"}, None)[INPUT] == [{"role": "user", "parts": [TEXT]}]
    said = {"status": "requires_action", "steps": [steps[0], {"type": "model_output", "content": [image]}, steps[2]]}
    assert content_attributes(None, said)[OUTPUT] == [
        {"role": "assistant", "parts": [BLOB, CALL], "finish_reason": "tool_call"}
    ]


@pytest.mark.parametrize("name", parameters([name for name in wire_ids() if is_google(name)]))
def test_all_texts_are_shown(name: str) -> None:
    """Whatever an interaction says in its response is among the turns, and no request is shown as bare JSON."""
    interaction = load(name)
    _, response = reassemble(interaction.record_api, interaction.wire)
    turns = response_turns(json.dumps(response))
    assert (
        interaction.response["status"] >= 400
        or "".join(turn.text for turn in turns if turn.kind == "text") == interaction.expect["text"]
    )
    if "error" not in response and interaction.record_api in ("generate_content", "interactions"):
        calls = [turn.label for turn in turns if turn.kind == "call"]
        named = [call["name"] for call in interaction.expect["tool_calls"] if call["name"]]
        assert [label for label in calls if label in named] == named
    if interaction.record_api == "generate_content" and interaction.request["body"]:
        assert all(turn.label != "object" for turn in request_turns(json.dumps(interaction.request["body"])))


def test_turns() -> None:
    """Calls and results of functions and of the provider's tools, blocked prompts, and vectors."""
    contents = [
        {"role": "model", "parts": [{"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}}]},
        {"role": "user", "parts": [{"functionResponse": {"id": "c", "name": "f", "response": {"result": 2}}}]},
        {"role": "model", "parts": [{"executableCode": {"language": "PYTHON", "code": "print(1)"}},
                                    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}}]},
    ]  # fmt: skip
    assert request_turns(json.dumps({"contents": contents, "tools": [{"googleSearch": {}}]})) == [
        Turn("assistant", "call", '{"a": 1}', "f", "c"), Turn("tool", "result", '{"result": 2}', "c", "c"),
        Turn("assistant", "call", "print(1)", "code_execution"), Turn("tool", "result", "1\n", "code_execution"),
        Turn("system", "note", "google_search", "tools"),
    ]  # fmt: skip
    blocked = {"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "no"}}
    assert response_turns(json.dumps(blocked)) == [Turn("assistant", "note", "SAFETY: no", "blocked")]
    vectors = {"predictions": [{"embeddings": {"values": [1, 2]}}]}
    assert response_turns(json.dumps(vectors)) == [Turn("assistant", "note", "1 vector of 2 numbers", "embeddings")]


@pytest.mark.parametrize(("api", "body", "expected"), [
    ("generate_content",
     {"generationConfig": {"temperature": 0, "topP": 1, "topK": 40.0, "maxOutputTokens": 9, "seed": 7,
                           "stopSequences": ["x"], "candidateCount": 2, "frequencyPenalty": 1, "presencePenalty": 0.5,
                           "responseMimeType": "application/json", "thinkingConfig": {"thinkingLevel": "LOW"}}},
     {"request.temperature": 0.0, "request.top_p": 1.0, "request.top_k": 40, "request.max_tokens": 9, "request.seed": 7,
      "request.stop_sequences": ("x",), "request.choice.count": 2, "request.frequency_penalty": 1.0,
      "request.presence_penalty": 0.5, "output.type": "json", "request.reasoning.level": "LOW"}),
    ("generate_content", {"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}, {"output.type": "image"}),
    ("generate_content", {"generationConfig": {"responseModalities": ["AUDIO"]}}, {"output.type": "speech"}),
    ("generate_content", {"generationConfig": None, "contents": []}, {}),
    ("generate_content", {"generationConfig": ["temperature"]}, {}),
    ("interactions", {"generation_config": {"temperature": 1, "thinking_level": "low", "max_output_tokens": 9},
                      "previous_interaction_id": "v1",
                      "response_format": {"type": "text", "mime_type": "application/json"}},
     {"request.temperature": 1.0, "request.reasoning.level": "low", "request.max_tokens": 9,
      "request.previous_response.id": "v1", "output.type": "json"}),
    ("batch_embed_contents", {"requests": [{"outputDimensionality": 64}, {"outputDimensionality": 64}]},
     {"embeddings.dimension.count": 64}),
    ("predict", {"parameters": {"outputDimensionality": 64}}, {"embeddings.dimension.count": 64}),
    ("embed_content", {"outputDimensionality": 64}, {"embeddings.dimension.count": 64}),
    ("imagen_predict", {"instances": [{"prompt": "x"}], "parameters": {"sampleCount": 3}},
     {"request.choice.count": 3, "output.type": "image"}),
])  # fmt: skip
def test_request_attributes(api: str, body: dict[str, Any], expected: dict[str, Any]) -> None:
    """Parameters are found where each API has them."""
    assert request_attributes("gcp.gemini", api, body) == {f"gen_ai.{name}": value for name, value in expected.items()}


@pytest.mark.parametrize("place", [
    lambda data: {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": data}}]}]},
    lambda data: {"contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": data}}]}]},
    lambda data: {"predictions": [{"mimeType": "image/png", "bytesBase64Encoded": data}]},
    lambda data: {"steps": [{"content": [{"type": "image", "mime_type": "image/png", "data": data}]}]},
])  # fmt: skip
def test_media_are_described(place: Any) -> None:
    """Large inline data are replaced by what they were; the message part then says so."""
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(200_000)).decode()
    stored, _, content = ContentPolicy().apply_to_payloads(json.dumps(place(data)).encode(), None)
    assert stored is not None
    assert (content, data in stored, len(stored) < 400) == ("truncated", False, True)
    assert '"type":"image/png","bytes":200008' in stored.replace(" ", "")


@pytest.mark.parametrize("secret", ["AIza" + "Sy" + "d" * 33, "ya29." + "a" * 40])
def test_keys_of_an_error(secret: str) -> None:
    """A key is masked in what the API says of a request, in a URL's query as well."""
    facts = {
        "error_message": f"GET https://x.test/v1?key={secret}&alt=sse: API key {secret} not valid",
        "error_json": {"error": {"message": f"?key={secret}", "status": "INVALID_ARGUMENT"}},
    }
    assert secret not in json.dumps(ContentPolicy().clean_metadata(facts))


def test_media_of_answers_and_instructions() -> None:
    """An image within an answer of a function follows it, and one within the instruction is kept."""
    image = {"inlineData": {"mimeType": "image/png", "data": "QQ=="}}
    answer = {"functionResponse": {"id": "c", "name": "f", "response": {"a": 1}, "parts": [image]}}
    contents = [{"role": "user", "parts": [answer]}, {"role": "user", "parts": [answer, image]}]
    request = {"systemInstruction": {"parts": [{"text": "hi"}, image]}, "contents": contents}
    attributes = content_attributes(request, None)
    assert attributes[INSTRUCTIONS] == [TEXT, BLOB]
    parts = [{"type": "tool_call_response", "id": "c", "name": "f", "response": {"a": 1}}, BLOB]
    assert attributes[INPUT] == [{"role": "tool", "parts": parts}, {"role": "user", "parts": [*parts, BLOB]}]
    turns = request_turns(json.dumps(request))
    assert [(turn.role, turn.kind) for turn in turns[:4]] == [
        ("system", "text"), ("system", "note"), ("tool", "result"), ("tool", "note")]  # fmt: skip
    assert turns[1].text.startswith("image/png, 1 bytes")
