"""``error.type`` of failed calls: span, metrics and record say the same, however the error came."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from llmspan import semconv
from llmspan.metrics import CallMetrics
from llmspan.wire import class_name
from replay import client_for, transport
from signals import INFERENCE, Meters
from streams import CHAT, MESSAGES, RESPONSES, Api, sse
from watching import watching

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}
INVALID = "invalid_request_error"


def body(**fields: Any) -> bytes:
    return json.dumps({"type": "error", "error": {"message": "no", **fields}}).encode()


def response(**fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "gpt-5-mini", "output": [], **fields}


STARTED = sse({"type": "response.created", "response": response(status="in_progress")})
FAILED = sse({"type": "response.failed", "response": response(
    status="failed", error={"code": "rate_limit_exceeded", "message": "no"})})  # fmt: skip
MESSAGE = sse({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
               "model": "claude", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}})  # fmt: skip

CASES = [
    pytest.param(CHAT, 401, body(type=INVALID, code="invalid_api_key"), "invalid_api_key", id="code"),
    pytest.param(CHAT, 401, body(type=INVALID, code=None), "401", id="401 without code"),
    pytest.param(CHAT, 404, body(type=INVALID, code=None), "404", id="404 without code"),
    pytest.param(CHAT, 400, body(type=INVALID, code=None), INVALID, id="400 without code"),
    pytest.param(CHAT, 429, body(type="tokens", code="rate_limit_exceeded"), "rate_limit_exceeded", id="rate limit"),
    pytest.param(CHAT, 429, body(type="requests", code=None), "429", id="rate limit without code"),
    pytest.param(RESPONSES, 500, b"<html>", "500", id="no JSON"),
    pytest.param(MESSAGES, 529, body(type="overloaded_error"), "overloaded_error", id="anthropic"),
    pytest.param(MESSAGES, 401, body(type="authentication_error"), "authentication_error", id="anthropic 401"),
    pytest.param(RESPONSES, 200, STARTED + FAILED, "rate_limit_exceeded", id="response.failed"),
    pytest.param(RESPONSES, 200, STARTED + sse({"type": "error", "code": "server_error", "message": "no"}),
                 "server_error", id="error event"),
    pytest.param(RESPONSES, 200, STARTED + sse({"type": "error", "error": {"type": "tokens", "message": "no",
                                                "code": "rate_limit_exceeded"}}) + FAILED,
                 "rate_limit_exceeded", id="error event and response.failed"),
    pytest.param(MESSAGES, 200, MESSAGE + sse({"type": "error", "error": {"type": "api_error", "message": "no"}}),
                 "api_error", id="anthropic error event"),
    pytest.param(CHAT, 200, sse({"error": {"message": "no", "code": 502}}), "502", id="gateway's error in a stream"),
]  # fmt: skip


@pytest.mark.parametrize(("api", "status", "wire", "expected"), CASES)
def test_one_value_everywhere(api: Api, status: int, wire: bytes, expected: str, meters: Meters) -> None:
    """Span, duration metric and record have the one value, and the span's status is ERROR."""
    with watching(metrics=CallMetrics(meters.provider)) as watch:
        client = client_for(api.provider, transport(status, SSE if status == 200 else JSON, [wire]))
        with contextlib.suppress(openai.APIError, anthropic.APIError):  # response.failed raises nothing
            for _ in api.method(client)(**api.arguments, stream=True):
                pass
        record, span = watch.only()
    (duration,) = meters.points()[INFERENCE + "duration"]
    assert span.attributes is not None
    assert (record.status, span.status.status_code.name) == ("error", "ERROR")
    assert (record.error_type, span.attributes["error.type"], duration.attributes["error.type"]) == (expected,) * 3


def test_a_connection_that_fails_after_a_refusal() -> None:
    """A retry that cannot connect is the failure of the call; the status of the attempt before says nothing of it."""
    attempts: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        attempts.append(request)
        if len(attempts) > 1:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(429, json={"error": {"message": "slow"}}, headers={"retry-after-ms": "1"})

    with watching() as watch:
        client = client_for("openai", httpx2.MockTransport(answer), max_retries=1)
        with pytest.raises(Exception, match="Connection error"):
            CHAT.method(client)(**CHAT.arguments)
        record, _ = watch.only()
    assert record.error_type == "openai.APIConnectionError"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, asyncio.CancelledError, SystemExit])
def test_an_interrupted_call_is_no_error(kind: type[BaseException], meters: Meters) -> None:
    """Neither span nor metrics have an error; the record and a span attribute say what interrupted the call."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        raise kind

    with watching(metrics=CallMetrics(meters.provider)) as watch:
        client = client_for("openai", httpx2.MockTransport(answer))
        with pytest.raises(kind):
            CHAT.method(client)(**CHAT.arguments)
        record, span = watch.only()
    (duration,) = meters.points()[INFERENCE + "duration"]
    attributes = span.attributes or {}
    assert (record.status, span.status.status_code.name) == ("cancelled", "UNSET")
    assert "error.type" not in attributes
    assert "error.type" not in duration.attributes
    assert attributes["llmspan.cancelled_by"] == record.error_type == class_name(kind)
    assert semconv.from_span(span).error_type == record.error_type


def test_a_stream_that_breaks_off_has_no_error_type(meters: Meters) -> None:
    """The caller got no error, so neither span nor metrics have a class of one."""
    with watching(metrics=CallMetrics(meters.provider)) as watch:
        client = client_for("openai", transport(200, SSE, [STARTED]))
        for _ in RESPONSES.method(client)(**RESPONSES.arguments, stream=True):
            pass
        record, span = watch.only()
    (duration,) = meters.points()[INFERENCE + "duration"]
    assert (record.status, record.error_type, span.status.status_code.name) == ("incomplete", None, "UNSET")
    assert "error.type" not in {**(span.attributes or {}), **duration.attributes}
