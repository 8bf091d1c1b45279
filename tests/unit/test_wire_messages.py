"""Streams and bodies of messages: blocks, deltas, usage, gateways of other habits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmspan.usage import Usage
from llmspan.wire import Reply, ReplyError
from wires import both, start, wire


def opened(index: int, kind: str, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **block}}


def grown(index: int, kind: str, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **delta}}


def closed(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def over(reason: str = "end_turn", **usage: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return {"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}


def anthropic(*events: Any, end: str = "") -> tuple[Reply, Any]:
    """A stream with event names, as Anthropic sends it."""
    named = b"".join(b"event: " + event["type"].encode() + b"\n" + wire(event) for event in events)
    return both("messages", named + end.encode())


def content_of(*events: Any) -> list[Any]:
    return anthropic(start(input_tokens=1), *events, *over(output_tokens=1))[1]["content"]


def test_message():
    """A whole stream is the message: text, stop reason and what ``message_delta`` adds; pings are no chunks."""
    delta, stop = over(input_tokens=3, output_tokens=42)
    reply, response = anthropic(
        start(input_tokens=3, output_tokens=1, service_tier="standard"), {"type": "ping"}, opened(0, "text", text=""),
        grown(0, "text_delta", text="Hel"), {"type": "ping"}, grown(0, "text_delta", text="lo"), closed(0),
        {"type": "content_block_note", "index": 0, "delta": {"type": "text_delta", "text": "never heard of"}},
        {**delta, "context_management": {"applied_edits": []}}, stop,
    )  # fmt: skip
    assert reply == Reply(
        response_id="msg_1", response_model="claude", finish_reasons=("end_turn",), service_tier="standard",
        usage=Usage.from_raw({"input_tokens": 3, "output_tokens": 42, "service_tier": "standard"}),
        terminal=True, chunk_count=8, first_output_at=reply.first_output_at,
    )  # fmt: skip
    assert response == {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_sequence": None,
        "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 42, "service_tier": "standard"},
        "context_management": {"applied_edits": []},
    }  # fmt: skip


def test_cut_before_the_delta():
    """W8: a stream cut before ``message_delta`` has no output tokens: the 1 of ``message_start`` is no count."""
    reply, response = anthropic(
        start(input_tokens=10, cache_read_input_tokens=900, output_tokens=1,
              output_tokens_details={"thinking_tokens": 0}),
        opened(0, "text", text=""), grown(0, "text_delta", text="Hel"),
    )  # fmt: skip
    usage = reply.usage
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == (910, None, None)
    assert (usage.source, reply.terminal, reply.finish_reasons) == ("partial", False, (None,))
    assert response["content"] == [{"type": "text", "text": "Hel"}]


def test_the_delta_changes_the_input():
    """W9: server tools raise the input after the start: 25 and 1900 are reported, not 10 and 900, nor their sums."""
    reply, response = anthropic(
        start(input_tokens=10, cache_read_input_tokens=900, cache_creation_input_tokens=0, output_tokens=1),
        *over(input_tokens=25, cache_read_input_tokens=1900, cache_creation_input_tokens=None, output_tokens=42,
              server_tool_use={"web_search_requests": 1}),
    )  # fmt: skip
    assert (reply.usage.input_tokens, reply.usage.cache_read_tokens, reply.usage.cache_write_tokens) == (1925, 1900, 0)
    assert (reply.usage.output_tokens, reply.usage.details) == (42, {"web_search_requests": 1})
    assert response["usage"] == reply.usage.raw


@pytest.mark.parametrize(("later", "details"), [
    ({"cache_creation_input_tokens": 17_269}, {}),
    ({"cache_creation_input_tokens": 30}, {"cache_write_5m_tokens": 10, "cache_write_1h_tokens": 20}),
    ({}, {"cache_write_5m_tokens": 10, "cache_write_1h_tokens": 20}),
    ({"cache_creation_input_tokens": 40, "cache_creation": {"ephemeral_5m_input_tokens": 40}},
     {"cache_write_5m_tokens": 40}),
])  # fmt: skip
def test_stale_split_of_cache_writes(later, details):
    """The 5m/1h split of ``message_start`` is told only as long as its total stands or it was restated itself."""
    split = {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}
    reply, _ = anthropic(start(input_tokens=1, cache_creation_input_tokens=30, cache_creation=split, output_tokens=1),
                         *over(output_tokens=5, **later))  # fmt: skip
    assert reply.usage.details == details
    assert reply.usage.cache_write_tokens == later.get("cache_creation_input_tokens", 30)


def test_two_deltas():
    """Of two ``message_delta`` the later one's numbers stand, key by key."""
    first, _ = over(input_tokens=8, output_tokens=10)
    reply, _ = anthropic(start(input_tokens=5, output_tokens=1), first, *over("max_tokens", output_tokens=30))
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (8, 30)
    assert reply.finish_reasons == ("max_tokens",)


def test_tool_inputs():
    """Tool inputs that come in pieces, interleaved, are objects; one that never came is what it opened with."""
    assert content_of(
        opened(0, "tool_use", id="a", name="f", input={}), opened(1, "tool_use", id="b", name="g", input={}),
        grown(1, "input_json_delta", partial_json=""), grown(0, "input_json_delta", partial_json='{"x"'),
        grown(1, "input_json_delta", partial_json='{"y":2}'), grown(0, "input_json_delta", partial_json=": 1}"),
        opened(2, "tool_use", id="c", name="h", input={}), closed(0), closed(1), closed(2),
    ) == [
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {"y": 2}},
        {"type": "tool_use", "id": "c", "name": "h", "input": {}},
    ]  # fmt: skip


@pytest.mark.parametrize("given", ['{"query": "wea', '{"a": 1,}', "[1", "{", "nul"])
def test_tool_input_cut_short(given):
    """Fine-grained tool input that was cut or is invalid is kept as text, in the wrapper that Anthropic proposes."""
    (block,) = content_of(opened(0, "tool_use", id="a", name="f", input={}),
                          *(grown(0, "input_json_delta", partial_json=letter) for letter in given))  # fmt: skip
    assert block == {"type": "tool_use", "id": "a", "name": "f", "input": {"INVALID_JSON": given}}


@pytest.mark.parametrize("indices", [(0, 0, 0), (None, None, None), (0, 1, 2), (2, 5, 9)])
def test_indices_of_blocks(indices):
    """Blocks of a gateway that repeats one index, has none or leaves some out are blocks of their own."""
    first, second, third = indices
    assert content_of(
        opened(first, "text", text=""), grown(first, "text_delta", text="Look"), grown(first, "text_delta", text="ing"),
        closed(first), opened(second, "tool_use", id="a", name="f", input={}),
        grown(second, "input_json_delta", partial_json='{"x"'), grown(second, "input_json_delta", partial_json=":1}"),
        opened(third, "tool_use", id="b", name="f", input={}),
        grown(third, "input_json_delta", partial_json='{"x":2}'), closed(third),
    ) == [
        {"type": "text", "text": "Looking"}, {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "f", "input": {"x": 2}},
    ]  # fmt: skip


def test_parallel_tools_of_one_index():
    """Tools opened under one index that never got input are several; the same start twice is one block."""
    tools = [opened(0, "tool_use", id=name, name="f", input={}) for name in ("a", "a", "b")]
    assert [block["id"] for block in content_of(*tools)] == ["a", "b"]


def test_citations():
    """Citations gather in a list beside the text."""
    cites = [{"type": "char_location", "cited_text": text} for text in ("one", "two")]
    (block,) = content_of(
        opened(0, "text", text="", citations=None), grown(0, "citations_delta", citation=cites[0]),
        grown(0, "text_delta", text="So."), grown(0, "citations_delta", citation=cites[1]),
    )  # fmt: skip
    assert block == {"type": "text", "text": "So.", "citations": cites}


def test_thinking():
    """Thinking grows; its signature replaces; redacted thinking arrives whole."""
    assert content_of(
        opened(0, "thinking", thinking="", signature=""), grown(0, "thinking_delta", thinking="Hm"),
        grown(0, "thinking_delta", thinking="m."), grown(0, "signature_delta", signature="old"),
        grown(0, "signature_delta", signature="sig=="), closed(0), opened(1, "redacted_thinking", data="xyz"),
    ) == [
        {"type": "thinking", "thinking": "Hmm.", "signature": "sig=="}, {"type": "redacted_thinking", "data": "xyz"},
    ]  # fmt: skip


def test_server_tools():
    """A server tool's input comes in pieces, its result whole; both stay beside the text."""
    result = {"tool_use_id": "s", "content": [{"type": "web_search_result", "url": "u"}]}
    assert content_of(
        opened(0, "server_tool_use", id="s", name="web_search", input={}),
        grown(0, "input_json_delta", partial_json='{"query": "x"}'), opened(1, "web_search_tool_result", **result),
        opened(2, "text", text=""), grown(2, "text_delta", text="Found."),
    ) == [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", **result},
        {"type": "text", "text": "Found."},
    ]  # fmt: skip


def test_compaction_and_deltas_to_come():
    """A compaction's content grows, and so does whatever delta is invented next; other values replace."""
    assert content_of(
        opened(0, "compaction", content=None), grown(0, "compaction_delta", content="Summ"),
        grown(0, "compaction_delta", content="ary"), opened(1, "dream", dream="", depth=0),
        grown(1, "dream_delta", dream="I ", depth=1), grown(1, "dream_delta", dream="fly", depth=2),
    ) == [{"type": "compaction", "content": "Summary"}, {"type": "dream", "dream": "I fly", "depth": 2}]  # fmt: skip


def test_error_in_a_message_stream():
    """W3, synthetic: ``event: error`` mid-stream is an error that keeps text and input, and ends the stream."""
    error = {"type": "error", "error": {"details": None, "type": "overloaded_error", "message": "Overloaded"},
             "request_id": "req_1"}  # fmt: skip
    reply, response = anthropic(start(input_tokens=7, output_tokens=1), opened(0, "text", text=""),
                                grown(0, "text_delta", text="So f"), error)  # fmt: skip
    assert reply.error == ReplyError(type="overloaded_error", code=None, message="Overloaded", json=error)
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.source) == (7, None, "partial")
    assert (reply.terminal, reply.finish_reasons) == (True, (None,))
    assert response["content"] == [{"type": "text", "text": "So f"}]


def test_gateways_sentinel():
    """``[DONE]`` at the end of an Anthropic stream (a gateway's) is no chunk and changes nothing."""
    events = (start(input_tokens=1, output_tokens=1), *over(output_tokens=2))
    bare = anthropic(*events)
    assert bare[0].chunk_count == 3
    assert anthropic(*events, end="event: data\ndata: [DONE]\n\n") == bare


@pytest.mark.parametrize("place", range(1, 6))
def test_gateways_order(place):
    """A gateway that sends ``message_delta`` before the blocks are closed, or begun, loses neither usage nor reason."""
    delta, stop = over("max_tokens", output_tokens=42)
    blocks = [opened(0, "text", text=""), grown(0, "text_delta", text="a"), grown(0, "text_delta", text="b"), closed(0)]
    events = [start(input_tokens=3, output_tokens=1), *blocks]
    reply, response = anthropic(*events[:place], delta, *events[place:], stop)
    assert (reply.usage.output_tokens, reply.usage.source, reply.finish_reasons) == (42, "provider", ("max_tokens",))
    assert response["content"] == [{"type": "text", "text": "ab"}]


def test_a_stop_without_a_reason():
    """``message_stop`` is an end, even of a message that never got its reason."""
    reply, response = anthropic(start(), {"type": "message_stop"})
    assert (reply.terminal, reply.finish_reasons, reply.usage) == (True, (None,), Usage())
    assert response["usage"] == {}


def test_a_message_without_usage():
    """A message about whose usage nothing was ever said has none, and none is made up."""
    begin = start()
    del begin["message"]["usage"]
    delta, stop = over()
    reply, response = anthropic(begin, {key: value for key, value in delta.items() if key != "usage"}, stop)
    assert reply.usage == Usage()
    assert "usage" not in response


@pytest.mark.parametrize("usage", [..., None, {}, {"output_tokens": None}, "odd", {"output_tokens": "7"}])
def test_a_delta_without_usage(usage):
    """Where ``message_delta`` brings no usage, the output of ``message_start`` stays a placeholder: not reported."""
    delta, stop = over()
    delta = {key: value for key, value in {**delta, "usage": usage}.items() if value is not ...}
    begin = start(input_tokens=10, cache_read_input_tokens=900, output_tokens=1,
                  output_tokens_details={"thinking_tokens": 0})  # fmt: skip
    reply, _ = anthropic(begin, opened(0, "text", text=""), grown(0, "text_delta", text="a"), delta, stop)
    found = reply.usage
    assert (found.input_tokens, found.cache_read_tokens, found.output_tokens, found.reasoning_tokens) == (
        910, 900, None, None,
    )  # fmt: skip
    assert (found.source, reply.terminal, reply.finish_reasons) == ("partial", True, ("end_turn",))
    assert "output_tokens" not in (found.raw or {})


def test_a_delta_that_restates_the_input_only():
    """A final report without output reports the input; of the output nothing is known. A zero is reported."""
    reply, _ = anthropic(start(input_tokens=10, output_tokens=1), *over(input_tokens=12))
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.source) == (12, None, "provider")
    reply, _ = anthropic(start(input_tokens=10, output_tokens=1), *over(output_tokens=0))
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.source) == (10, 0, "provider")


def test_usage_in_one_of_two_deltas():
    """The usage of one ``message_delta`` stands, whether another one before or behind it has none."""
    bare = {"type": "message_delta", "delta": {"stop_reason": None}}
    for events in ((bare, *over(output_tokens=5)), (*over(output_tokens=5)[:1], bare)):
        reply, _ = anthropic(start(input_tokens=3, output_tokens=1), *events)
        assert (reply.usage.output_tokens, reply.usage.source, reply.finish_reasons) == (5, "provider", ("end_turn",))


def hop(source: str, target: str, index: int = 1) -> list[dict[str, Any]]:
    """The block that marks where one model's output gives way to another's."""
    block = {"from": {"model": source}, "to": {"model": target}, "trigger": {"type": "refusal"}}
    return [opened(index, "fallback", **block), closed(index)]


@pytest.mark.parametrize("hops", [1, 2])
@pytest.mark.parametrize("place", ["before any output", "within the output"])
def test_a_model_that_took_over(hops, place):
    """After a fallback the model is the one that answered, of several hops the last; the block stays in the content."""
    text = [opened(0, "text", text=""), *(grown(0, "text_delta", text="So ") for _ in range(3)), closed(0)]
    chain = [event for at in range(hops) for event in hop(f"m{at}", f"m{at + 1}", at + 1)]
    events = [*chain, *text] if place == "before any output" else [*text, *chain, grown(0, "text_delta", text="on")]
    delta, stop = over(output_tokens=9)
    reply, response = anthropic(start(input_tokens=3, output_tokens=1), *events, delta, stop)
    assert reply.response_model == response["model"] == f"m{hops}"
    assert [block["type"] for block in response["content"]].count("fallback") == hops


def test_a_model_that_took_over_without_a_block():
    """A model that served from the start is named by the last iteration of the usage; earlier hops are not it."""
    ran = {"type": "message", "model": "declined", "input_tokens": 3, "output_tokens": 1}
    served = {"type": "fallback_message", "model": "served", "input_tokens": 3, "output_tokens": 9}
    begin = start(input_tokens=3, output_tokens=1)
    reply, response = anthropic(begin, *over(output_tokens=9, iterations=[ran, served]))
    assert reply.response_model == response["model"] == "served"
    assert anthropic(begin, *over(output_tokens=9, iterations=[served, ran]))[0].response_model == "claude"
    assert anthropic(begin, *hop("claude", ""), *over(output_tokens=9))[0].response_model == "claude"


def test_the_same_start_once_more():
    """A ``message_start`` that comes again, also behind output, takes nothing back."""
    begin = start(input_tokens=3, output_tokens=1)
    text = [opened(0, "text", text=""), grown(0, "text_delta", text="a"), grown(0, "text_delta", text="b")]
    delta, stop = over("max_tokens", output_tokens=9)
    bare = {"type": "message_start", "message": {"model": "other"}}
    for events in ([begin, *text, begin, delta, stop], [begin, *text, delta, begin, stop], [begin, *text, bare, delta]):
        reply, response = anthropic(*events)
        assert (reply.response_model, reply.finish_reasons) == ("claude", ("max_tokens",))
        assert (reply.usage.input_tokens, reply.usage.output_tokens, response["content"][0]["text"]) == (3, 9, "ab")


def test_a_message_that_was_given_up():
    """A gateway that starts another message behind the first one's output answers with the other one."""
    other = start(input_tokens=7, output_tokens=1)
    other["message"] |= {"id": "msg_2", "model": "second"}
    first = [start(input_tokens=3, output_tokens=1), opened(0, "text", text=""), grown(0, "text_delta", text="a"),
             over(output_tokens=5)[0]]  # fmt: skip
    reply, response = anthropic(*first, other, opened(0, "text", text=""), grown(0, "text_delta", text="b"))
    assert (reply.response_id, reply.response_model, reply.terminal) == ("msg_2", "second", False)
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.source) == (7, None, "partial")
    assert response["content"] == [{"type": "text", "text": "b"}]


@pytest.mark.parametrize("key", ["container", "context_management", "input_transformations"])
def test_null_takes_nothing_away(key):
    """What ``message_start`` said stays where ``message_delta`` says null of it, as in the SDK's own message."""
    begin = start(input_tokens=3, output_tokens=1)
    begin["message"][key] = {"id": "x"}
    delta, stop = over(output_tokens=5)
    assert anthropic(begin, {**delta, key: None}, stop)[1][key] == {"id": "x"}
    assert anthropic(begin, {**delta, "delta": {**delta["delta"], key: None}}, stop)[1][key] == {"id": "x"}


def test_an_error_that_quotes_an_event():
    """An event's name in another event's text misleads nobody."""
    error = {"type": "error", "error": {"type": "api_error", "message": "no content_block_stop, no message_delta"}}
    delta, _ = over(output_tokens=42)
    reply, _ = anthropic(start(input_tokens=3, output_tokens=1), opened(0, "text", text="message_delta"), delta, error)
    assert (reply.usage.output_tokens, reply.finish_reasons) == (42, ("end_turn",))
    assert reply.error is not None


def test_the_type_may_be_the_events_name():
    """Data that has no ``type`` of its own has its event's name."""
    body = b"".join(
        b"event: " + kind.encode() + b"\n" + wire({key: value for key, value in event.items() if key != "type"})
        for event in (start(input_tokens=4, output_tokens=1), *over(output_tokens=9))
        for kind in [event["type"]]
    )
    reply, response = both("messages", body)
    assert (reply.usage.input_tokens, reply.usage.output_tokens, response["stop_reason"]) == (4, 9, "end_turn")


def test_gateways_that_start_differently():
    """Without usage in ``message_start``, or with content there already, the message keeps what was sent."""
    begin = start()
    del begin["message"]["usage"]
    del begin["message"]["content"]
    reply, response = anthropic(begin, *over(input_tokens=3, output_tokens=2))
    assert response["usage"] == reply.usage.raw == {"input_tokens": 3, "output_tokens": 2}
    assert (response["content"], reply.usage.source) == ([], "provider")
    begin["message"]["content"] = [{"type": "text", "text": "Hi"}]
    assert anthropic(begin, *over(output_tokens=2))[1]["content"] == [{"type": "text", "text": "Hi"}]
    reply, response = both(
        "messages", wire(start(input_tokens=3), grown(0, "text_delta", text="a"), *over(output_tokens=2))
    )
    assert response["content"] == [{"type": "text", "text": "a"}]  # neither event names nor a block's start
    assert (reply.usage.output_tokens, reply.terminal) == (2, True)


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": None}])
def test_message_body(usage):
    """W10: a body is the response to the letter; usage of null, or null within it, is not reported, not an error."""
    body = {"id": "msg_1", "type": "message", "model": "m", "stop_reason": "end_turn", "usage": usage}
    reply, response = both("messages", json.dumps(body).encode())
    assert (reply.terminal, reply.finish_reasons, response) == (True, ("end_turn",), body)
    assert reply.usage == Usage.from_raw(usage)
    assert reply.usage.cache_read_tokens is None


@pytest.mark.parametrize(("body", "kind"), [
    ({"type": "error", "message": "m"}, "error"), ({"type": "error", "error": {"type": "t", "message": "m"}}, "t"),
    ({"error": {"type": "t", "message": "m"}}, "t"),
])  # fmt: skip
def test_error_as_message_body(body, kind):
    """A body is an error by its type or by its ``error``, and is no message then."""
    reply, response = both("messages", json.dumps(body).encode())
    assert reply.error is not None
    assert (reply.error.type, reply.error.message, reply.terminal, response) == (kind, "m", True, None)


@pytest.mark.parametrize(("event", "output"), [
    (opened(0, "text", text=""), False), (opened(0, "thinking", thinking=""), False), (closed(0), False),
    (opened(0, "tool_use", id="a"), True), (opened(0, "redacted_thinking", data="x"), True),
    (grown(0, "text_delta", text=""), False), (grown(0, "text_delta", text="a"), True),
    (grown(0, "thinking_delta", thinking="a"), True), (over()[0], False), ({"type": "ping"}, False),
])  # fmt: skip
def test_first_output_of_messages(event, output):
    """The first output is the first delta with content, or a block that opens with content."""
    body = wire(start(), event)
    assert both("messages", body)[0].first_output_at == (len(body) if output else None)
