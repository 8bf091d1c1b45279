"""How records are told and drawn: nothing made up, nothing obeyed, nothing too odd."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from llmspan.cli import render
from llmspan.conversation import Turn, request_turns, response_turns
from llmspan.usage import Usage
from records import full_trace, make_trace

KEYS = (
    "role type content text messages input output choices message tool_calls function name tools data embedding error"
)
KINDS = "message text tool_use reasoning function_call tool_result"
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS.split()) | st.text(max_size=3), inner | st.sampled_from(KINDS.split()), max_size=4
        )
    ),
    max_leaves=20,
)


def drawn(shown: RenderableType, width: int = 120) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def asked(**body: Any) -> list[Turn]:
    return request_turns(json.dumps(body))


def answered(**body: Any) -> list[Turn]:
    return response_turns(json.dumps(body))


def test_a_chat_is_told_turn_by_turn() -> None:
    """System, user, assistant with a call, its result, and the tools that were on offer."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5_000}}
    turns = asked(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Where is this?"}, picture]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "7 degrees"},
        ],
        tools=[{"type": "function", "function": {"name": "weather"}}, {"type": "web_search"}],
    )
    assert [(turn.role, turn.kind, turn.label) for turn in turns] == [
        ("system", "text", ""),
        ("user", "text", ""),
        ("user", "note", "image_url"),
        ("assistant", "call", "weather"),
        ("tool", "result", "call_1"),
        ("system", "note", "tools"),
    ]
    assert "image/png, 3,750 bytes" in turns[2].text
    assert (turns[3].text, turns[4].text, turns[5].text) == ('{"city":"Oslo"}', "7 degrees", "weather, web_search")


def test_a_chat_answer_is_told() -> None:
    """Reasoning, text, refusal and calls of every choice."""
    first = {"role": "assistant", "reasoning_content": "Hm.", "content": "Hi", "refusal": None}
    second = {"role": "assistant", "content": None, "refusal": "No."}
    assert answered(choices=[{"message": first}, {"message": second}]) == [
        Turn("assistant", "thinking", "Hm."),
        Turn("assistant", "text", "Hi"),
        Turn("assistant", "text", "No."),
    ]


def test_a_response_is_told() -> None:
    """Instructions, items in and items out, encrypted reasoning included."""
    turns = asked(
        instructions="Be brief.",
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
        ],
    )
    assert turns == [
        Turn("system", "text", "Be brief."),
        Turn("user", "text", "Hi"),
        Turn("assistant", "call", "{}", "weather"),
        Turn("tool", "result", "rain", "c1"),
    ]
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "x"}}
    assert answered(output=[{"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}, search, message]) == [
        Turn("assistant", "thinking", "[encrypted]"),
        Turn("assistant", "call", '{"query": "x"}', "web_search_call"),
        Turn("assistant", "text", "Hi"),
    ]


def test_a_message_is_told() -> None:
    """System blocks, tool use and result, thinking."""
    turns = asked(
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {}}]},
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "x", "is_error": True}],
            },
        ],
    )
    assert turns == [
        Turn("system", "text", "Be brief."),
        Turn("assistant", "call", "{}", "weather"),
        Turn("tool", "result", "[error] x", "t1"),
    ]
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    assert answered(type="message", content=[thinking, {"type": "text", "text": "Hi"}]) == [
        Turn("assistant", "thinking", "Hm."),
        Turn("assistant", "text", "Hi"),
    ]


def test_a_compaction_is_a_note() -> None:
    """The summary of a compacted conversation is no turn of it; one that is encrypted is shown as that."""
    summary = {"type": "compaction", "content": "Ann said hi.", "encrypted_content": "gAAA"}
    assert answered(content=[summary]) == [Turn("assistant", "note", "Ann said hi.", "compaction")]
    item = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"}
    assert answered(output=[item]) == [Turn("assistant", "note", "[encrypted]", "compaction")]


def test_tools_have_their_names() -> None:
    """A tool is named as it is called: by a name, one level down, or by its server."""
    tools = [{"function": {"name": "f"}}, {"name": "g"}, {"type": "mcp", "server_label": "wiki"},
             {"type": "mcp_toolset", "mcp_server_name": "crm"}, {"type": "web_search"}]  # fmt: skip
    (turn,) = asked(tools=tools)
    assert turn.text == "f, g, wiki, crm, web_search"


def test_completions_and_embeddings_are_told() -> None:
    """A prompt and its continuation; vectors by their number, tokens by their count."""
    assert asked(prompt="Once") == [Turn("user", "text", "Once")]
    assert asked(input=[[1, 2, 3], "a"]) == [Turn("user", "note", "3 tokens", "tokens"), Turn("user", "text", "a")]
    assert answered(choices=[{"text": " upon"}]) == [Turn("assistant", "text", " upon")]
    assert answered(data=[{"embedding": [0.1, 0.2]}]) == [
        Turn("assistant", "note", "1 vector of 2 numbers", "embeddings")
    ]


@pytest.mark.parametrize("payload", ['"text"', "[1]", "{}", '{"unheard": "of"}', "not JSON", "[" * 5_000])
def test_an_unknown_shape_is_a_note(payload: str) -> None:
    """What is in no known shape is shown as it is."""
    assert [turn.kind for turn in request_turns(payload)] == ["note"]
    assert [turn.kind for turn in response_turns(payload)] == ["note"]


def test_nothing_is_told_of_nothing() -> None:
    """A payload that is not there, or null, has no turns."""
    assert request_turns(None) == response_turns("null") == []


@given(request=anything, response=anything)
def test_any_payload_can_be_drawn(request: Any, response: Any) -> None:
    """Whatever JSON a gateway speaks, it is drawn without an error."""
    trace = make_trace(request_json=json.dumps(request), response_json=json.dumps(response))
    assert trace.id in drawn(render.call(trace))


def test_a_call_is_drawn_whole() -> None:
    """Who, what, when, the words, the numbers and the error are all there."""
    trace = full_trace(
        request_json='{"messages":[{"role":"user","content":"Hello there"}]}',
        response_json='{"choices":[{"message":{"role":"assistant","content":"General"}}]}',
    )
    text = drawn(render.call(trace))
    for part in ("Hello there", "General", "step step-1", "gpt-5-2026", "asked for gpt-5", "HTTP 429 RateLimitError"):
        assert part in text
    assert "slow down" in text
    assert "3 attempts" in text


def test_what_is_not_known_is_a_dash() -> None:
    """None is a dash and zero is a zero, in every view."""
    unknown, zero = make_trace(usage=Usage()), make_trace(usage=Usage(input_tokens=0, source="provider"))
    assert "not reported by the provider" in drawn(render.usage(unknown.usage))
    assert "input   0 " in drawn(render.usage(zero.usage))


def test_a_partial_usage_says_so() -> None:
    """Numbers of a stream that broke off are told to be a lower bound."""
    assert "a lower bound" in drawn(render.usage(Usage(input_tokens=5, source="partial")))


@given(
    counts=st.lists(st.none() | st.integers(-10, 10**12), min_size=5, max_size=5),
    source=st.sampled_from(["provider", "partial", "none"]),
)
def test_any_usage_has_a_bar(counts: list[int | None], source: Any) -> None:
    """Vendors report parts that exceed the whole: the bar stays within its width."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    text = drawn(render.usage(Usage(**dict(zip(names, counts, strict=True)), source=source)))
    assert all(line.count("█") <= 40 for line in text.splitlines())


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"output": "seven degrees"}, "seven degrees"),
        ({"output": [{"type": "text", "text": "seven"}]}, "seven"),
        ({"output": None, "error": "the server is away"}, "[error] the server is away"),
        ({"error": {"code": 500}}, '[error] {"code": 500}'),
        ({"output": None, "error": None}, None),
    ],
)
def test_a_call_with_its_own_result(facts: dict[str, Any], said: str | None) -> None:
    """A provider that runs a tool itself gives arguments and result in one item; both are shown, to their authors."""
    call = {"type": "mcp_call", "name": "weather", "arguments": "{}", "id": "mcp_1", **facts}
    for turns in (asked(input=[call]), answered(output=[call])):
        assert turns[0] == Turn("assistant", "call", "{}", "weather")
        assert [(turn.role, turn.kind, turn.label) for turn in turns[1:]] == [("tool", "result", "weather")] * bool(
            said
        )
        assert [turn.text for turn in turns[1:]] == [said] * bool(said)


def test_a_payload_cannot_steer_the_terminal() -> None:
    """Escape sequences of a model are made visible, and markup is not obeyed."""
    said = {"choices": [{"message": {"role": "assistant", "content": "\x1b[2J[red]\x9b\x07\r[/red] fine"}}]}
    trace = make_trace(response_json=json.dumps(said), request_model="m\x1b]0;x\x07", error_message="\x1b[31m")
    text = drawn(render.call(trace))
    assert r"\x1b[2J[red]\x9b\x07\r[/red] fine" in text
    assert not set(text) & set("\x1b\x9b\x07\r")


def test_a_long_turn_can_be_cut() -> None:
    """A cut says how much is missing and how to see it."""
    trace = make_trace(request_json=json.dumps({"prompt": "x" * 50}))
    assert "... 40 more characters (--full)" in drawn(render.call(trace, longest=10))
    assert "x" * 50 in drawn(render.call(trace))


def test_metadata_only_says_that_nothing_was_stored() -> None:
    """A record without payload says why it has none."""
    trace = make_trace(request_json=None, response_json=None, content="metadata")
    assert "not stored (content: metadata)" in drawn(render.call(trace))


def test_an_error_body_is_not_drawn_twice() -> None:
    """The error that the record names is not repeated as an odd response."""
    body = '{"error":{"type":"overloaded_error","message":"Overloaded"}}'
    trace = make_trace(status="error", error_type="overloaded_error", error_message="Overloaded", response_json=body)
    assert drawn(render.call(trace)).count("Overloaded") == 1


@pytest.mark.parametrize(
    ("nanoseconds", "text"), [(None, "-"), (0, "0.0"), (1_500_000, "1.5"), (2_345_600_000, "2,346")]
)
def test_durations_are_in_milliseconds(nanoseconds: int | None, text: str) -> None:
    """A decimal below ten, thousands separated above."""
    assert render.milliseconds(nanoseconds) == text


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_a_bar_takes_the_room_that_is_left(width: int) -> None:
    """Numbers are whole in a narrow terminal; what gets shorter is the bar."""
    usage = Usage(
        input_tokens=1_123_456, cache_read_tokens=1_000_000, cache_write_tokens=100_001, output_tokens=561_728,
        source="provider",
    )  # fmt: skip
    text = drawn(render.usage(usage), width=width)
    assert "…" not in text
    assert "cached 1,000,000  written 100,001" in text.splitlines()[0]
    longer, shorter = (line.count("█") for line in text.splitlines())
    assert 4 <= longer <= 40
    assert shorter == round(longer / 2)
