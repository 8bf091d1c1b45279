"""Who said what in a request, and what its tools are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main
from llmspan.conversation import Turn, request_turns, response_turns
from records import make_trace
from stores import shutting_down

SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "description": "The city " + "x" * 300}}}


def asked(*, full_tools: bool = False, **body: Any) -> list[Turn]:
    return request_turns(json.dumps(body), full_tools=full_tools)


@pytest.mark.parametrize(
    ("item", "role", "kind"),
    [
        ({"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}, "assistant", "thinking"),
        ({"type": "reasoning", "encrypted_content": "gAAA", "summary": []}, "assistant", "thinking"),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, "assistant", "call"),
        ({"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"}, "assistant", "call"),
        ({"type": "web_search_call", "id": "w", "action": {"query": "x"}}, "assistant", "call"),
        ({"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}}, "assistant", "call"),
        ({"type": "mcp_call", "id": "m", "name": "f", "arguments": "{}"}, "assistant", "call"),
        ({"type": "program", "code": "f()"}, "assistant", "note"),
        ({"type": "compaction", "encrypted_content": "gAAA"}, "assistant", "note"),
        ({"type": "mcp_approval_request", "id": "m", "name": "f", "arguments": "{}"}, "assistant", "note"),
        ({"type": "output_text", "text": "Hi"}, "assistant", "text"),
        ({"type": "refusal", "refusal": "No."}, "assistant", "text"),
        ({"type": "mcp_list_tools", "server_label": "s", "tools": []}, "tool", "note"),
        ({"type": "function_call_output", "call_id": "c", "output": "x"}, "tool", "result"),
        ({"type": "program_output", "call_id": "c", "output": "x"}, "tool", "result"),
        ({"type": "additional_tools", "role": "developer", "tools": []}, "system", "note"),
        ({"type": "mcp_approval_response", "approval_request_id": "m", "approve": True}, "user", "note"),
        ({"type": "search_result", "title": "t", "source": "s", "content": []}, "user", "note"),
        ({"type": "input_image", "image_url": "https://x/y.png"}, "user", "note"),
        ({"role": "user", "content": "Hi"}, "user", "text"),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) and "type" in value else None,
)
def test_an_input_item_is_its_authors(item: dict[str, Any], role: str, kind: str) -> None:
    """What the model and the tools said before is theirs, though it stands in the input of the next request."""
    (turn,) = asked(input=[item])
    assert (turn.role, turn.kind) == (role, kind)


def test_a_call_is_the_models_in_any_message() -> None:
    """A message that has calls or reasoning but no role, or another one, does not make them the user's."""
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    used = {"type": "tool_use", "id": "t", "name": "g", "input": {}}
    turns = asked(messages=[{"tool_calls": [call], "reasoning_content": "Hm."}, {"role": "user", "content": [used]}])
    assert turns == [
        Turn("assistant", "thinking", "Hm."),
        Turn("assistant", "call", "{}", "f"),
        Turn("assistant", "call", "{}", "g"),
    ]


def test_the_arguments_of_a_call_are_whole() -> None:
    """Arguments that are an object are no more shortened than those that are text."""
    used = {"type": "tool_use", "id": "t", "name": "write", "input": {"text": "x" * 500}}
    (turn,) = asked(messages=[{"role": "assistant", "content": [used]}])
    assert "x" * 500 in turn.text


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "description": "Says.", "parameters": SCHEMA}}]},
        {"tools": [{"type": "function", "name": "f", "description": "Says.", "parameters": SCHEMA, "strict": True}]},
        {"tools": [{"name": "f", "description": "Says.", "input_schema": SCHEMA}]},
        {"functions": [{"name": "f", "description": "Says.", "parameters": SCHEMA}]},
    ],
    ids=["chat", "responses", "messages", "functions"],
)
def test_tools_are_named_or_shown_whole(body: dict[str, Any]) -> None:
    """A tool is its name; in full its description and its parameters, uncut."""
    assert asked(**body) == [Turn("system", "note", "f", "tools")]
    (turn,) = asked(full_tools=True, **body)
    assert (turn.role, turn.kind, turn.label) == ("system", "tool", "f")
    description, _, parameters = turn.text.partition("\n")
    assert description == "Says."
    assert SCHEMA in json.loads(parameters).values()


def test_tools_without_parameters_are_shown_by_what_they_have() -> None:
    """Configuration of a provider's tool is shown; the tools of a namespace follow it."""
    inner = {"type": "function", "name": "f", "parameters": SCHEMA}
    tools = [
        {"type": "web_search", "max_uses": 3},
        {"type": "bash"},
        {"type": "namespace", "name": "n", "tools": [inner]},
    ]
    assert [turn.label for turn in asked(full_tools=True, tools=tools)] == ["web_search", "bash", "n", "f"]
    search, bash, namespace, function = (turn.text for turn in asked(full_tools=True, tools=tools))
    assert json.loads(search) == {"max_uses": 3}
    assert (bash, namespace) == ("", "")
    assert json.loads(function) == {"parameters": SCHEMA}


def test_show_prints_tools_in_full(tmp_path: Path) -> None:
    """``show`` prints the names of tools, ``show --full`` their descriptions and parameters."""
    path = tmp_path / "t.db"
    tool = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": SCHEMA}}
    with shutting_down(SQLiteBackend(path)) as backend:
        backend.open()
        backend.write([make_trace(request_json=json.dumps({"messages": [], "tools": [tool]}), content="full")])
    brief, full = (
        CliRunner().invoke(main, ["show", "--db", str(path), *more], catch_exceptions=False).stdout
        for more in ([], ["--full"])
    )
    assert "system note tools\n  weather" in brief
    assert "Tells it." not in brief
    assert "system tool weather\n  Tells it." in full
    assert '"properties": {' in full


PNG = "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAYAAACNMs+9AAAAFUlEQVR42mNk+M9Qz0AEYBxVSF+FAAhKDveksOjmAAAAAElFTkSuQmCC"
HASH = "027dc5630b363b12ba8a3ceddd70ff6d6ccbadb3a2469b01aacd57f25c938753"


@pytest.mark.parametrize(
    ("part", "label"),
    [
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}, "image_url"),
        ({"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}, "input_image"),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}, "image"),
        ({"type": "image", "source": {"data": {"type": "image/png", "bytes": 78, "sha256": HASH}}}, "image"),
    ],
)
def test_an_image_is_told_by_type_size_and_hash(part: dict[str, Any], label: str) -> None:
    """Of each API, and also where only its description was stored."""
    (turn,) = asked(messages=[{"role": "user", "content": [part]}])
    assert (turn.role, turn.kind, turn.label) == ("user", "note", label)
    assert turn.text == f"image/png, 78 bytes, sha256 {HASH}"
    (google,) = asked(contents=[{"parts": [{"inlineData": {"mimeType": "image/png", "data": PNG}}]}])
    assert (google.label, google.text) == ("image", turn.text)


@pytest.mark.parametrize(
    ("part", "label", "text"),
    [
        ({"type": "document", "title": "Notes", "source": {
            "type": "text", "media_type": "text/plain", "data": "Meeting notes of Monday"}},
         "document", "Notes\nMeeting notes of Monday"),
        ({"type": "custom_thing", "content": "yes"}, "custom_thing", '{"type": "custom_thing", "content": "yes"}'),
        ({"type": "thing", "thing": {"data": "yes"}}, "thing", '{"type": "thing", "thing": {"data": "yes"}}'),
        ({"type": "input_audio", "input_audio": {"data": PNG}}, "input_audio", f"image/png, 78 bytes, sha256 {HASH}"),
    ],
)  # fmt: skip
def test_words_are_no_media(part: dict[str, Any], label: str, text: str) -> None:
    """A text of letters and blanks decodes as base64; it is media only where the part says so."""
    (turn,) = asked(messages=[{"role": "user", "content": [part]}])
    assert (turn.kind, turn.label, turn.text) == ("note", label, text)


@pytest.mark.parametrize(
    ("response", "sources"),
    [
        ({"output": [{"type": "output_text", "text": "Hi", "annotations": [
            {"type": "url_citation", "url": "https://a.test", "title": "A"}] * 2}]}, "A https://a.test"),
        ({"choices": [{"message": {"role": "assistant", "content": "Hi", "annotations": [
            {"type": "url_citation", "url_citation": {"url": "https://a.test"}}]}}]}, "https://a.test"),
        ({"content": [{"type": "text", "text": "Hi", "citations": [
            {"type": "char_location", "document_title": "Doc", "cited_text": "words"}]}]}, "Doc: words"),
        ({"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "groundingMetadata": {"groundingChunks": [
            {"web": {"uri": "https://a.test", "title": "a"}}, {"retrievedContext": {"title": "b", "text": "x"}}]},
            "citationMetadata": {"citations": [{"uri": "https://c.test"}]}, "urlContextMetadata": {"urlMetadata": [
            {"retrievedUrl": "https://d.test"}]}}]}, "a https://a.test\nb\nhttps://c.test\nhttps://d.test"),
        ({"steps": [{"type": "model_output", "content": [{"type": "text", "text": "Hi", "annotations": [
            {"startIndex": 0, "uri": "https://a.test"}]}]}]}, "https://a.test"),
    ],
)  # fmt: skip
def test_sources_of_an_answer(response: dict[str, Any], sources: str) -> None:
    """Citations and grounding follow the words that they belong to, each source once."""
    text, note = response_turns(json.dumps(response))
    assert (text.kind, text.text) == ("text", "Hi")
    assert (note.role, note.kind, note.label, note.text) == ("assistant", "note", "sources", sources)
