"""Finish reasons of observed calls: the conventions' words on spans and in events, the provider's in the record."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import anthropic
import openai
import pytest

from llmspan import semconv
from replay import client_for, transport
from streams import CHAT, MESSAGES, RESPONSES, Api, sse
from watching import watching

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}
SPAN = "gen_ai.response.finish_reasons"


def response(status: str, **fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "m", "output": [], "status": status, **fields}


def chat(*reasons: str | None) -> dict[str, Any]:
    choices = [{"index": at, "message": {"role": "assistant", "content": "hi"}, "finish_reason": reason}
               for at, reason in enumerate(reasons)]  # fmt: skip
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}


def message(reason: str | None) -> dict[str, Any]:
    return {"id": "m", "type": "message", "role": "assistant", "model": "claude", "content": [],
            "stop_reason": reason, "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip


CALL = {"type": "function_call", "id": "f", "call_id": "c", "name": "look", "arguments": "{}"}
CUT = {"reason": "max_output_tokens"}


@pytest.mark.parametrize(("api", "body", "on_span", "in_record"), [
    (CHAT, chat("stop"), ("stop",), ("stop",)),
    (CHAT, chat("tool_calls", "length"), ("tool_call", "length"), ("tool_calls", "length")),
    (MESSAGES, message("end_turn"), ("stop",), ("end_turn",)),
    (MESSAGES, message("tool_use"), ("tool_call",), ("tool_use",)),
    (MESSAGES, message("pause_turn"), ("pause_turn",), ("pause_turn",)),
    (RESPONSES, response("completed"), ("stop",), ("completed",)),
    (RESPONSES, response("completed", output=[CALL]), ("tool_call",), ("completed",)),
    (RESPONSES, response("incomplete", incomplete_details=CUT), ("length",), ("incomplete",)),
    (RESPONSES, response("failed", error={"code": "server_error", "message": "no"}), ("error",), ("failed",)),
    (RESPONSES, response("queued"), None, ("queued",)),
    (RESPONSES, response("in_progress"), None, ("in_progress",)),
])  # fmt: skip
def test_a_whole_reply(api: Api, body: dict[str, Any], on_span: Any, in_record: Any) -> None:
    """One panel spans all providers; the record has the raw values, and gets them back from the span."""
    with watching() as watch:
        client = client_for(api.provider, transport(200, JSON, [json.dumps(body).encode()]))
        api.method(client)(**api.arguments)
        record, span = watch.only()
    assert (span.attributes or {}).get(SPAN) == on_span
    assert record.finish_reasons == in_record
    assert semconv.from_span(span).finish_reasons == in_record
    assert semconv.to_attributes(record).get(SPAN) == on_span


STARTED = sse({"type": "response.created", "response": response("in_progress")})
BUSY = {"error": {"message": "busy", "type": "server_error"}}


@pytest.mark.parametrize(("api", "wire", "on_span"), [
    (RESPONSES, STARTED, ("error",)),  # cut
    (RESPONSES, STARTED + sse({"type": "response.incomplete", "response": response(
        "incomplete", incomplete_details=CUT)}), ("length",)),
    (RESPONSES, STARTED + sse({"type": "response.completed", "response": response("completed", output=[CALL])}),
     ("tool_call",)),
    (RESPONSES, STARTED + sse({"type": "response.failed", "response": response(
        "failed", error={"code": "server_error", "message": "no"})}), ("error",)),
    (RESPONSES, sse({"type": "error", "code": "server_error", "message": "no"}), ("error",)),
    (CHAT, sse(BUSY), ("error",)),
    (MESSAGES, sse({"type": "message_start", "message": message(None)}) + sse({"type": "error", **BUSY}), ("error",)),
])  # fmt: skip
def test_a_stream(api: Api, wire: bytes, on_span: Any) -> None:
    """Streams say the same; a generation that failed or broke off has the reason ``error``."""
    with watching() as watch:
        client = client_for(api.provider, transport(200, SSE, [wire]))
        with contextlib.suppress(openai.APIError, anthropic.APIError):
            for _ in api.method(client)(**api.arguments, stream=True):
                pass
        _, span = watch.only()
    assert (span.attributes or {}).get(SPAN) == on_span


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_refused_call(status: int) -> None:
    """Where the provider refused the call, nothing was generated, and there is no reason."""
    with watching() as watch:
        client = client_for("openai", transport(status, JSON, [json.dumps(BUSY).encode()]))
        with pytest.raises(Exception, match="busy"):
            CHAT.method(client)(**CHAT.arguments)
        _, span = watch.only()
    assert SPAN not in (span.attributes or {})
