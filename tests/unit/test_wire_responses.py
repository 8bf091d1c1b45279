"""Streams and bodies of responses: items, parts, ends, failures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmspan.usage import Usage
from llmspan.wire import Reply, ReplyError
from wires import both, created, ended, wire


def of_item(kind: str, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": index, **more}


def item(index: int, kind: str, **more: Any) -> dict[str, Any]:
    return of_item("output_item.added", index, item={"id": f"i{index}", "type": kind, "status": "in_progress", **more})


R_USAGE = {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
           "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 29}  # fmt: skip


def test_response():
    """The terminal event's response is the response, whatever the deltas before it said."""
    whole = ended("completed", usage=R_USAGE, service_tier="default", output=[{"type": "message", "content": []}])
    reply, response = both("responses", wire(
        created(service_tier="auto"), item(0, "message", content=[]),
        of_item("output_text.delta", content_index=0, delta="ignored in the end"), whole,
    ))  # fmt: skip
    assert response == whole["response"]
    assert reply == Reply(
        response_id="resp_1", response_model="gpt", finish_reasons=("completed",), usage=Usage.from_raw(R_USAGE),
        normalized_reasons=("stop",), response_status="completed", service_tier="default", terminal=True,
        chunk_count=4, first_output_at=reply.first_output_at,
    )  # fmt: skip


def test_response_cut_mid_item():
    """A response cut mid-item is made of what came: arguments, summary, reasoning, text, refusal, annotations, code."""
    note = {"type": "url_citation", "url": "u"}
    reply, response = both("responses", wire(
        created(),
        item(0, "reasoning", summary=[]),
        of_item("reasoning_summary_part.added", summary_index=0, part={"type": "summary_text", "text": ""}),
        of_item("reasoning_summary_text.delta", summary_index=0, delta="**Pl"),
        of_item("reasoning_summary_text.delta", summary_index=0, delta="an**"),
        of_item("reasoning_summary_text.delta", summary_index=1, delta="then"),
        of_item("reasoning_text.delta", content_index=0, delta="raw"),
        of_item("reasoning_text.delta", content_index=1, delta="er"),
        item(1, "function_call", call_id="c", name="f", arguments=""),
        of_item("function_call_arguments.delta", 1, delta='{"a"'),
        of_item("function_call_arguments.delta", 1, delta=":"),
        item(2, "message", role="assistant", content=[]),
        of_item("content_part.added", 2, content_index=0, part={"type": "output_text", "text": "", "annotations": []}),
        of_item("output_text.delta", 2, content_index=0, delta="Hel"),
        of_item("output_text.annotation.added", 2, content_index=0, annotation=note),
        of_item("refusal.delta", 2, content_index=1, delta="I w"),
        of_item("refusal.delta", 2, content_index=1, delta="on't"),
        of_item("output_text.delta", 2, content_index=2, delta="Bye"),
        item(3, "custom_tool_call", input=""), of_item("custom_tool_call_input.delta", 3, delta="ls"),
        item(4, "mcp_call", arguments=""), of_item("mcp_call_arguments.delta", 4, delta="{}"),
        item(5, "code_interpreter_call", code=None), of_item("code_interpreter_call_code.delta", 5, delta="1+1"),
    ))  # fmt: skip
    assert (reply.terminal, reply.finish_reasons, reply.usage) == (False, (None,), Usage())
    assert response["status"] == "in_progress"
    reasoning, function, message, custom, mcp, code = response["output"]
    assert reasoning["summary"] == [
        {"type": "summary_text", "text": "**Plan**"},
        {"type": "summary_text", "text": "then"},
    ]
    assert [(part["type"], part["text"]) for part in reasoning["content"]] == [
        ("reasoning_text", "raw"), ("reasoning_text", "er"),
    ]  # fmt: skip
    assert (function["call_id"], function["arguments"]) == ("c", '{"a":')
    assert message["content"] == [
        {"type": "output_text", "text": "Hel", "annotations": [note]}, {"type": "refusal", "refusal": "I won't"},
        {"type": "output_text", "text": "Bye"},
    ]  # fmt: skip
    assert (custom["input"], mcp["arguments"], code["code"]) == ("ls", "{}", "1+1")


def test_parts_as_they_open_and_close():
    """A part has all that its events say: what it opened with, and what it was when it was done."""
    done = {"type": "output_text", "text": "Whole", "logprobs": [1]}
    _, response = both("responses", wire(
        created(), item(0, "reasoning"), item(1, "message"),
        of_item("reasoning_summary_part.added", summary_index=0, part={"type": "summary_text", "text": "", "x": 1}),
        of_item("reasoning_summary_text.delta", summary_index=0, delta="So"),
        of_item("content_part.added", 1, content_index=0, part={"type": "output_text", "text": "", "logprobs": []}),
        of_item("content_part.added", 1, content_index=1, part={"type": "refusal", "refusal": "n"}),
        of_item("refusal.delta", 1, content_index=1, delta="o"),
        of_item("content_part.done", 1, content_index=0, part=done),
    ))  # fmt: skip
    assert response["output"][0]["summary"] == [{"type": "summary_text", "text": "So", "x": 1}]
    assert response["output"][1]["content"] == [done, {"type": "refusal", "refusal": "no"}]


def test_parts_of_odd_places():
    """A part below zero or beyond all reason is the first part: no event can make a list of any length."""
    places = [of_item("output_text.delta", content_index=place, delta="a") for place in (-1, 10**9, None, "1", 0)]
    assert both("responses", wire(created(), *places))[1]["output"] == [
        {"content": [{"type": "output_text", "text": "aaaaa"}]}
    ]


def test_parts_of_odd_types():
    """A part that is no object gives way to the text that is said to continue it."""
    _, response = both("responses", wire(created(), item(0, "message", content=["odd", None]),
                                         of_item("output_text.delta", content_index=0, delta="So"),
                                         of_item("refusal.delta", content_index=1, delta="no")))  # fmt: skip
    assert response["output"][0]["content"] == [
        {"type": "output_text", "text": "So"}, {"type": "refusal", "refusal": "no"},
    ]  # fmt: skip


@pytest.mark.parametrize(("event", "output"), [
    (created(), False), (item(0, "message", content=[]), False), (of_item("output_text.delta", delta=""), False),
    (of_item("output_text.delta", content_index=0, delta="a"), True), (of_item("output_item.done", item={}), True),
    (of_item("function_call_arguments.delta", delta="{"), True), (ended("completed"), True), (ended("failed"), False),
    (of_item("image_generation_call.partial_image"), True), (ended("incomplete"), True), ({"type": 7}, False),
])  # fmt: skip
def test_first_output_of_responses(event, output):
    """The first output is the first delta with content, a partial image, or an item or response that came whole."""
    body = wire(created(), event)
    assert both("responses", body)[0].first_output_at == (len(body) if output else None)


def test_response_cut_between_items():
    """An item that is done stands as it was sent, in the order of the items, beside one that is not."""
    done = {"id": "i0", "type": "message", "status": "completed", "content": [{"type": "output_text", "text": "Whole"}]}
    _, response = both("responses", wire(
        created(), item(1, "function_call", arguments=""), item(0, "message", content=[]),
        of_item("output_text.delta", content_index=0, delta="Who"), of_item("output_item.done", item=done),
        of_item("function_call_arguments.delta", 1, delta="{"),
    ))  # fmt: skip
    assert response["output"] == [
        done, {"id": "i1", "type": "function_call", "status": "in_progress", "arguments": "{"},
    ]  # fmt: skip


def named_item(index: Any, name: str, **more: Any) -> list[dict[str, Any]]:
    """The events of one function call whose item has an id: added, two deltas."""
    added = {"id": name, "type": "function_call", "name": name, "arguments": "", "status": "in_progress"}
    at = {} if index is ... else {"output_index": index}
    return [
        {"type": "response.output_item.added", **at, "item": added},
        *({"type": "response.function_call_arguments.delta", **at, "item_id": name, "delta": delta, **more}
          for delta in ('{"a"', f':"{name}"}}')),
    ]  # fmt: skip


@pytest.mark.parametrize("index", [0, None, ...], ids=["zero", "null", "missing"])
@pytest.mark.parametrize("item_id", ["same", "other", None])
def test_items_of_one_output_index(index, item_id):
    """Items that share an output index, or have none, are items of their own; so are their deltas, by id or by turn."""
    events: list[dict[str, Any]] = []
    for name in ("f", "g"):
        ids = {} if item_id == "same" else {"item_id": item_id}
        events += named_item(index, name, **ids)
        if item_id == "same":
            done = {"type": "response.output_item.done", "output_index": 0, "item": {"id": name, "name": name,
                    "arguments": f'{{"a":"{name}"}}', "status": "completed"}}  # fmt: skip
            events.append(done)
    _, response = both("responses", wire(created(), *events))
    assert [(item["name"], item["arguments"]) for item in response["output"]] == [
        ("f", '{"a":"f"}'), ("g", '{"a":"g"}'),
    ]  # fmt: skip


def test_interleaved_items_of_one_output_index():
    """Deltas of parallel items that share an output index go to the item of their id."""
    first, second = named_item(0, "f"), named_item(0, "g")
    events = [event for pair in zip(first, second, strict=True) for event in pair]
    _, response = both("responses", wire(created(), *events))
    assert [item["arguments"] for item in response["output"]] == ['{"a":"f"}', '{"a":"g"}']


def test_an_id_that_changes_with_each_event():
    """Copilot's ids differ from event to event: within one output index they are one item."""
    added, *deltas = named_item(0, "f")
    deltas = [{**delta, "item_id": f"x{at}"} for at, delta in enumerate(deltas)]
    done = of_item("output_item.done", item={"id": "y", "type": "function_call", "name": "f", "arguments": "{}"})
    _, response = both("responses", wire(created(), added, *deltas))
    assert [item["arguments"] for item in response["output"]] == ['{"a":"f"}']
    _, response = both("responses", wire(created(), added, *deltas, done))
    assert response["output"] == [done["item"]]


def test_failed_response():
    """W10: ``response.failed`` with a usage of null is a failure without usage, with id, error and what came before."""
    failed = ended("failed", error={"code": "rate_limit_exceeded", "message": "slow down"})
    text = of_item("output_text.delta", content_index=0, delta="So")
    reply, response = both("responses", wire(created(), item(0, "message", content=[]), text, failed))
    assert (reply.terminal, reply.finish_reasons, reply.usage, reply.response_id) == (
        True,
        ("failed",),
        Usage(),
        "resp_1",
    )
    assert reply.error == ReplyError(code="rate_limit_exceeded", message="slow down", json=failed["response"]["error"])
    assert response["output"][0]["content"] == [{"type": "output_text", "text": "So"}]


@pytest.mark.parametrize("error", [
    {"type": "error", "code": "insufficient_quota", "message": "no", "param": None, "sequence_number": 2},
    {"type": "error", "error": {"type": "quota", "code": "insufficient_quota", "message": "no"}},
])  # fmt: skip
def test_error_before_failed(error):
    """An ``error`` event, in either form, is the error; ``response.failed`` behind it still brings id and status."""
    begun = (created(), item(0, "message", content=[]), of_item("output_text.delta", content_index=0, delta="So"))
    reply, _ = both("responses", wire(*begun, error))
    assert reply.error is not None
    assert (reply.error.code, reply.error.message, reply.terminal) == ("insufficient_quota", "no", True)
    assert reply.error.type == error.get("error", {}).get("type")
    reply, _ = both(
        "responses", wire(*begun, error, ended("failed", error={"code": "insufficient_quota", "message": "no"}))
    )
    assert reply.error is not None
    assert (reply.error.code, reply.finish_reasons, reply.response_id) == ("insufficient_quota", ("failed",), "resp_1")


def test_errors_without_a_type():
    """A gateway's bare error is an error; an event of a known type that happens to have one is that event."""
    reply, _ = both("responses", wire(created(), {"error": {"type": "t", "message": "m"}}))
    assert reply.error is not None
    assert (reply.error.type, reply.terminal) == ("t", True)
    reply, response = both("responses", wire(created(), item(0, "mcp_call", arguments="{}") | {"error": "no"}))
    assert (reply.error, reply.terminal, len(response["output"])) == (None, False, 1)


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled"])
def test_responses_that_are_over(status):
    """Each of the four ends is an end; a response that comes behind it, doubled or late, does not undo it."""
    for last in ([], [created()], [ended("in_progress")], [ended(status, usage=R_USAGE)]):
        reply, response = both("responses", wire(created(), ended(status, usage=R_USAGE), *last))
        assert (reply.terminal, reply.finish_reasons, response["status"]) == (True, (status,), status)
        assert reply.usage.source == "provider"


def test_response_body():
    """A body that does not stream is the response to the letter, a background one that is only queued as well."""
    body = created(status="queued")["response"]
    reply, response = both("responses", json.dumps(body).encode())
    assert (reply.terminal, reply.finish_reasons, response) == (True, ("queued",), body)
