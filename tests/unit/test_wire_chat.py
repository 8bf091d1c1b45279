"""Streams of chat completions: choices, tool calls, vendors' additions, and where usage comes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmspan.usage import Usage
from llmspan.wire import Reply, ReplyError
from wires import both, piece, wire


def chat(*choices: Any, end: str = "data: [DONE]\n\n", **last: Any) -> tuple[Reply, Any]:
    """A stream with a chunk for each of ``choices``, and one with the keys of ``last``."""
    chunks = [{"id": "c", "model": "m", "choices": [choice]} for choice in choices]
    if last:
        chunks.append({"id": "c", "model": "m", "choices": [], **last})
    return both("chat_completions", wire(*chunks, end=end))


def call_piece(index: Any, arguments: str | None, **more: Any) -> dict[str, Any]:
    """A chunk's choice with one piece of a tool call."""
    name = more.pop("name", None)
    return piece(tool_calls=[{"index": index, **more, "function": {"name": name, "arguments": arguments}}])


def messages_of(response: Any) -> list[Any]:
    return [choice["message"] for choice in response["choices"]]


def test_parallel_tool_calls():
    """W7: interleaved pieces of parallel tool calls go to their own call by index; none is lost."""
    reply, response = chat(
        piece(role="assistant", content=None),
        call_piece(0, "", id="call_a", type="function", name="first"),
        call_piece(1, "", id="call_b", type="function", name="second"),
        call_piece(1, '{"b":'),
        call_piece(0, '{"a":'),
        call_piece(0, "1}"),
        call_piece(1, "2}"),
        piece(finish="tool_calls"),
    )
    assert messages_of(response) == [{"role": "assistant", "content": None, "tool_calls": [
        {"id": "call_a", "type": "function", "function": {"name": "first", "arguments": '{"a":1}'}},
        {"id": "call_b", "type": "function", "function": {"name": "second", "arguments": '{"b":2}'}},
    ]}]  # fmt: skip
    assert reply.finish_reasons == ("tool_calls",)


def test_tool_calls_in_one_chunk():
    """Two pieces of one index in one chunk are one call."""
    pieces = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}},
              {"index": 0, "function": {"arguments": "}"}}]  # fmt: skip
    _, response = chat(piece(tool_calls=pieces))
    assert messages_of(response)[0]["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


@pytest.mark.parametrize("index", [None, ...], ids=["null", "missing"])
def test_tool_calls_without_index(index):
    """Gemini-compatible endpoints and Mistral send whole calls with an index of null, or without: each is a call."""
    calls = [{"index": index, "id": name, "function": {"name": name, "arguments": "{}"}} for name in "ab"]
    calls = [{key: value for key, value in call.items() if value is not ...} for call in calls]
    _, response = chat(piece(tool_calls=calls[:1]), piece(tool_calls=calls[1:], finish="tool_calls"))
    assert [call["id"] for call in messages_of(response)[0]["tool_calls"]] == ["a", "b"]
    assert "index" not in messages_of(response)[0]["tool_calls"][0]


@pytest.mark.parametrize("index", [None, ...], ids=["null", "missing"])
def test_choices_without_index(index):
    """A choice whose index is null or missing is the first one."""
    choices = [{**piece(content=text), "index": index} for text in ("Hel", "lo")]
    choices = [{key: value for key, value in choice.items() if value is not ...} for choice in choices]
    _, response = chat(*choices, piece(finish="stop"))
    assert [(choice["index"], choice["message"]["content"]) for choice in response["choices"]] == [(0, "Hello")]


def test_interleaved_choices():
    """W15: the pieces of n=2 choices, interleaved, are two texts, not one; each has its own finish reason."""
    reply, response = chat(
        piece(1, content="B"), piece(0, content="A"), piece(1, content="1"), piece(0, content="0"),
        piece(1, finish="length"), piece(0, content="b", finish="stop"),
    )  # fmt: skip
    assert [message["content"] for message in messages_of(response)] == ["A0b", "B1"]
    assert reply.finish_reasons == ("stop", "length")


def test_a_choice_that_never_finished():
    """One of two choices still open is no end; both readings know of the second choice even if it came late."""
    reply, _ = chat(piece(0, content="A"), piece(1, content="B"), piece(0, finish="stop"), end="")
    assert (reply.finish_reasons, reply.terminal) == (("stop", None), False)
    reply, _ = chat(piece(0, content="A"), piece(1, content="B"), end="")
    assert (reply.finish_reasons, reply.terminal) == ((None, None), False)


def test_refusal():
    """A refusal is put together like text, beside a content of null."""
    _, response = chat(piece(role="assistant", content=None, refusal=""), piece(refusal="I "), piece(refusal="won't."))
    assert messages_of(response) == [{"role": "assistant", "content": None, "refusal": "I won't."}]


def test_logprobs():
    """The log-probabilities of the chunks are one list, for content and for refusals; null ends nothing."""

    def logprobs(**lists: Any) -> dict[str, Any]:
        return {**piece(content="x"), "logprobs": {"content": None, "refusal": None, **lists}}

    _, response = chat(
        logprobs(content=[{"token": "a"}]), {**piece(content="x"), "logprobs": None},
        logprobs(content=[{"token": "b"}, {"token": "c"}]), logprobs(refusal=[{"token": "r"}]),
    )  # fmt: skip
    assert response["choices"][0]["logprobs"] == {
        "content": [{"token": "a"}, {"token": "b"}, {"token": "c"}], "refusal": [{"token": "r"}],
    }  # fmt: skip


def test_function_call():
    """The function call of old is put together by the same rules."""
    _, response = chat(piece(function_call={"name": "f", "arguments": ""}), piece(function_call={"arguments": '{"a"'}),
                       piece(function_call={"arguments": ":1}"}), piece(finish="function_call"))  # fmt: skip
    assert messages_of(response)[0]["function_call"] == {"name": "f", "arguments": '{"a":1}'}


def test_custom_tool():
    """A custom tool's input grows as a function's arguments do, and the call has the type of its key."""
    _, response = chat(piece(tool_calls=[{"index": 0, "id": "c", "custom": {"name": "sh", "input": "l"}}]),
                       piece(tool_calls=[{"index": 0, "custom": {"input": "s"}}]))  # fmt: skip
    assert messages_of(response)[0]["tool_calls"] == [
        {"id": "c", "custom": {"name": "sh", "input": "ls"}, "type": "custom"}
    ]


def test_vendors_reasoning():
    """Reasoning grows as text, detail by detail where it has an index; what classifies or identifies stays whole."""

    def detail(index: int, **more: Any) -> dict[str, Any]:
        return {"index": index, "type": "reasoning.text", "format": "anthropic-v1", **more}

    _, response = chat(
        piece(reasoning_content="Think", reasoning_details=[detail(0, text="Think", id="r")]),
        piece(reasoning_content="ing", reasoning_details=[detail(0, text="ing", signature=None), detail(1, text="B")]),
        piece(reasoning_details=[detail(0, signature="sig", id="r")]),
    )
    (message,) = messages_of(response)
    assert message["reasoning_content"] == "Thinking"
    assert message["reasoning_details"] == [detail(0, text="Thinking", id="r", signature="sig"), detail(1, text="B")]


def test_content_parts():
    """Mistral turns from parts to plain strings within a stream: parts of one kind that follow each other are one."""

    def thinking(text: str) -> list[Any]:
        return [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]

    _, response = chat(
        piece(role="assistant", content=""), piece(content=thinking("Let ")), piece(content=thinking("me.")),
        piece(content="Four"), piece(content=" it is."), piece(content=[{"type": "reference", "reference_ids": [1]}]),
        piece(content="", finish="stop"),
    )  # fmt: skip
    assert messages_of(response)[0]["content"] == [
        *thinking("Let me."), {"type": "text", "text": "Four it is."}, {"type": "reference", "reference_ids": [1]},
    ]  # fmt: skip


def test_a_message_beside_the_delta():
    """Perplexity repeats the message so far beside each delta: it is not added to it."""
    chunks = [{**piece(content=text), "message": {"role": "assistant", "content": whole}}
              for text, whole in (("a", "a"), ("b", "ab"))]  # fmt: skip
    assert messages_of(chat(*chunks)[1])[0]["content"] == "ab"
    whole = {"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}
    assert messages_of(chat(whole)[1])[0]["content"] == "ab"


def test_changing_heads():
    """Azure's first chunk has no id and no model, later ones may rename the model: first id, last model."""
    reply, response = both("chat_completions", wire(
        {"id": "", "model": "", "object": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {"id": "one", "created": 5, "model": "gpt", "choices": [piece(content="a")], "system_fingerprint": None},
        {"id": "two", "created": 6, "model": "gpt-2026", "choices": [piece(finish="stop")],
         "system_fingerprint": "fp", "service_tier": "default", "obfuscation": "xyz"},
    ))  # fmt: skip
    assert (reply.response_id, reply.response_model) == ("one", "gpt-2026")
    assert (reply.system_fingerprint, reply.service_tier) == ("fp", "default")
    assert response == {
        "id": "one", "object": "chat.completion", "created": 5, "model": "gpt-2026", "system_fingerprint": "fp",
        "service_tier": "default", "prompt_filter_results": [{"prompt_index": 0}],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop",
                     "logprobs": None}],
    }  # fmt: skip


USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 800},
         "completion_tokens_details": {"reasoning_tokens": 50}}  # fmt: skip


@pytest.mark.parametrize("place", ["own chunk", "with a choice", "x_groq"])
def test_where_usage_comes(place):
    """Usage is found in a chunk of its own, in one with choices, and where Groq puts it."""
    last = {"own chunk": {"usage": USAGE}, "with a choice": {"choices": [piece(finish="stop")], "usage": USAGE},
            "x_groq": {"x_groq": {"id": "req", "usage": USAGE}}}[place]  # fmt: skip
    reply, response = chat(piece(content="a"), piece(finish="stop"), **last)
    assert reply.usage == Usage.from_raw(USAGE)
    assert response["usage"] == USAGE


def test_usage_on_many_chunks():
    """W13: cumulative usage on each chunk is replaced, not added; null in a later chunk takes nothing away."""
    early = {**USAGE, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 700}}
    chunks = [{"choices": [piece(content="a")], "usage": early}, {"choices": [piece(finish="stop")], "usage": USAGE},
              {"choices": [], "usage": None}]  # fmt: skip
    reply, _ = both("chat_completions", wire(*chunks))
    assert (reply.usage.input_tokens, reply.usage.cache_read_tokens) == (1000, 800)
    assert (reply.usage.output_tokens, reply.usage.reasoning_tokens) == (100, 50)
    reply, _ = both("chat_completions", wire(chunks[0]))
    assert (reply.usage.output_tokens, reply.usage.source) == (10, "partial")


def test_no_usage_is_no_estimate():
    """W15: a stream without usage, or one cut before it, has none; a reported zero is zero."""
    assert chat(piece(content="a"), piece(finish="stop"))[0].usage == Usage()
    assert chat(piece(content="a"), end="")[0].usage == Usage()
    reply, _ = chat(piece(finish="stop"), usage={"prompt_tokens": 0, "completion_tokens": 0})
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (0, 0)


def test_error_in_a_chat_stream():
    """W3: an error mid-stream is an error, with the text that came before it, and with the usage beside it."""
    error = {
        "error": {"code": 502, "message": "upstream", "metadata": {}},
        "usage": USAGE,
        "choices": [piece(finish="error")],
    }
    reply, response = both("chat_completions", wire({"id": "c", "choices": [piece(content="so far")]}, error))
    assert reply.error == ReplyError(type=None, code="502", message="upstream", json=error, status=502)
    assert (reply.terminal, reply.usage.input_tokens, reply.finish_reasons) == (True, 1000, ("error",))
    assert messages_of(response)[0]["content"] == "so far"
    reply, response = both("chat_completions", wire({"id": "c", "choices": [piece(content="a")]}, {"error": "boom"}))
    assert (reply.error, reply.finish_reasons) == (ReplyError(message="boom", json={"error": "boom"}), (None,))
    assert messages_of(response)[0]["content"] == "a"


@pytest.mark.parametrize(("delta", "output"), [
    ({"role": "assistant"}, False), ({"role": "assistant", "content": "", "channel": "x"}, False), ({}, False),
    ({"content": None, "tool_calls": []}, False), ({"content": "a"}, True), ({"reasoning_content": "a"}, True),
    ({"tool_calls": [{}]}, True), ({"refusal": "no"}, True),
])  # fmt: skip
def test_first_output_of_chat(delta, output):
    """The first output is the first delta with more than a role and empty values."""
    body = wire({"choices": [piece(**delta)]})
    assert both("chat_completions", body)[0].first_output_at == (len(body) if output else None)


SPELLINGS = [(",", ":"), (", ", ": "), (" , ", " : ")]


def spelled(event: Any, separators: tuple[str, str]) -> bytes:
    return f"data: {json.dumps(event, separators=separators)}\n\n".encode()


@pytest.mark.parametrize("separators", SPELLINGS)
def test_facts_in_any_spelling(separators):
    """However JSON is spaced, the facts are found: the last usage that says anything, every finish, every choice."""
    used = [{"id": "c", "choices": [piece(content="a")], "usage": {"prompt_tokens": 5, "completion_tokens": n}}
            for n in range(1, 4)]  # fmt: skip
    ends = [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": {}}]
    reply, _ = both("chat_completions", b"".join(spelled(event, separators) for event in used + ends))
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.finish_reasons) == (5, 3, ("stop",))
    others = [{"choices": [{"index": index, "delta": {"content": "b"}}]} for index in (1, 2)]
    reply, _ = both("chat_completions", b"".join(spelled(event, separators) for event in [*used, *others, ends[0]]))
    assert reply.finish_reasons == ("stop", None, None)


@pytest.mark.parametrize(("early", "late"), [(SPELLINGS[0], SPELLINGS[1]), (SPELLINGS[1], SPELLINGS[0])])
def test_a_gateway_that_spells_differently(early, late):
    """Of two usages, one of them written by a gateway in another style, the later one counts."""
    first = {"choices": [piece(content="a")], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    second = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}
    reply, _ = both("chat_completions", spelled(first, early) + spelled(second, late))
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (5, 7)
