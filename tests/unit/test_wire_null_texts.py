"""Values that say nothing, empty or the text ``null``, and ends that do not say their status."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wires import both, created, ended, piece, start, wire

NOTHING = ["null", "", None]


@pytest.mark.parametrize("nothing", NOTHING)
def test_a_finish_reason_that_says_nothing(nothing: Any) -> None:
    """Such a reason is none: neither an end, nor the place of one that came before."""
    pieces = [{"id": "c", "choices": [piece(finish=nothing, content=text)]} for text in "ab"]
    reply, response = both("chat_completions", wire(*pieces))
    assert (any(reply.finish_reasons), reply.terminal) == (False, False)
    assert not response["choices"][0]["finish_reason"]
    stop = {"id": "c", "choices": [piece(finish="stop")]}
    reply, response = both("chat_completions", wire(*pieces, stop, *pieces))
    assert (reply.finish_reasons, response["choices"][0]["finish_reason"]) == (("stop",), "stop")
    body = {"id": "c", "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": nothing}]}
    assert not any(both("chat_completions", json.dumps(body).encode())[0].finish_reasons)


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("first", [True, False])
def test_a_head_that_says_nothing(nothing: Any, first: bool) -> None:
    """Id, model, tier and fingerprint are those that were said, before or after chunks that say nothing of them."""
    said = {"id": "c", "model": "m", "service_tier": "default", "system_fingerprint": "fp"}
    empty = dict.fromkeys(said, nothing)
    heads = [empty, said] if first else [said, empty]
    reply, _ = both("chat_completions", wire(*({**head, "choices": [piece(content="a")]} for head in heads)))
    assert (reply.response_id, reply.response_model) == ("c", "m")
    assert (reply.service_tier, reply.system_fingerprint) == ("default", "fp")


@pytest.mark.parametrize("nothing", NOTHING)
def test_a_role_that_says_nothing(nothing: Any) -> None:
    """Such a role is the assistant's, and does not take the place of one that was said."""
    for roles, expected in (((nothing,), "assistant"), (("tool", nothing), "tool"), ((nothing, "tool"), "tool")):
        _, response = both("chat_completions", wire(*({"choices": [piece(role=r, content="a")]} for r in roles)))
        assert response["choices"][0]["message"]["role"] == expected


@pytest.mark.parametrize("nothing", NOTHING)
def test_a_tool_call_that_says_nothing_later(nothing: Any) -> None:
    """Id, type and name of a tool call stay when later fragments say nothing of them; so do whole arguments."""
    first = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    later = {"index": 0, "id": nothing, "type": nothing, "function": {"name": nothing, "arguments": nothing}}
    for fragments in ([first, later], [later, first], [later, first, later]):
        _, response = both("chat_completions", wire(*({"choices": [piece(tool_calls=[one])]} for one in fragments)))
        assert response["choices"][0]["message"]["tool_calls"] == [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ]


@pytest.mark.parametrize("nothing", NOTHING)
def test_a_function_call_that_says_nothing_later(nothing: Any) -> None:
    """The same for the function call of old."""
    calls = [{"name": "f", "arguments": "{"}, {"name": nothing, "arguments": "}"}]
    _, response = both("chat_completions", wire(*({"choices": [piece(function_call=call)]} for call in calls)))
    assert response["choices"][0]["message"]["function_call"] == {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize("nothing", NOTHING)
def test_a_stop_reason_that_says_nothing(nothing: Any) -> None:
    """A message's reason stays when a later delta says nothing of it; alone, such a reason is no end."""
    deltas = [{"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 3}}
              for reason in ("end_turn", nothing)]  # fmt: skip
    reply, response = both("messages", wire(start(input_tokens=1), *deltas))
    assert (reply.finish_reasons, response["stop_reason"]) == (("end_turn",), "end_turn")
    reply, _ = both("messages", wire(start(input_tokens=1), deltas[1]))
    assert (reply.finish_reasons, reply.terminal) == ((None,), False)
    chunks = [{"type": "completion", "completion": "a", "stop_reason": reason} for reason in ("max_tokens", nothing)]
    assert both("complete", wire(*chunks))[0].finish_reasons == ("max_tokens",)


@pytest.mark.parametrize("nothing", ["null", "", None, {}, [], False])
@pytest.mark.parametrize("api", ["chat_completions", "images", "transcriptions", "messages", "decisions"])
def test_an_error_that_says_nothing(api: str, nothing: Any) -> None:
    """An ``error`` that is empty or the text ``null`` is no error, in a body or in an event."""
    assert both(api, json.dumps({"id": "x", "error": nothing}).encode())[0].error is None
    assert both(api, wire({"id": "x", "choices": [], "error": nothing}))[0].error is None


STATUSES = ["completed", "failed", "incomplete", "cancelled"]
SILENT = [..., None, "", "null", "in_progress", "queued"]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("silent", SILENT)
def test_a_terminal_event_without_its_status(status: str, silent: Any) -> None:
    """The event's type is the status of a response that has none of its own, or still that of its beginning."""
    end = ended(status, usage={"input_tokens": 1, "output_tokens": 2})
    end["response"]["status"] = silent
    if silent is ...:
        del end["response"]["status"]
    reply, response = both("responses", wire(created(), end))
    assert (reply.terminal, response["status"], reply.usage.source) == (True, status, "provider")


@pytest.mark.parametrize("status", STATUSES)
def test_a_terminal_event_without_a_response(status: str) -> None:
    """An end that carries no response ends the one that was created."""
    reply, response = both("responses", wire(created(), {"type": f"response.{status}"}))
    assert (reply.terminal, reply.response_id, response["status"]) == (True, "resp_1", status)


def test_a_terminal_event_with_another_status():
    """A status that is an end of its own is believed: a completed event may carry an incomplete response."""
    _, response = both("responses", wire(created(), ended("completed") | {"response": {"id": "r", "status": "failed"}}))
    assert response["status"] == "failed"
    reply, response = both("responses", wire(created(), {"type": "response.done", "response": {"id": "r"}}))
    assert (reply.terminal, response["status"]) == (True, "completed")
