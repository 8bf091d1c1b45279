"""What a call that is over keeps alive until the worker has made its record: bytes, and as few objects as it can."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import httpx2
import openai
import pytest

from watching import watching

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"
REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"The key is {KEY}"}}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


class Provider:
    """Answers each request, and remembers them as long as somebody else does."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.requests: list[weakref.ref[httpx2.Request]] = []
        self._status, self._body = status, body
        http_client = httpx2.Client(transport=httpx2.MockTransport(self._answer))
        self.client = openai.OpenAI(api_key=KEY, http_client=http_client, max_retries=0)

    def call(self) -> None:
        self.client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Which?"}])

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(weakref.ref(request))
        return httpx2.Response(self._status, json=self._body, headers={"x-request-id": "req_1"})


def test_a_call_that_waits_does_not_keep_the_clients_request() -> None:
    """The record is as it would be at once: what it was made with is masked in what the provider said."""
    provider = Provider(200, REPLY)
    with watching() as watch:
        provider.call()
        gc.collect()
        assert [request() for request in provider.requests] == [None]
        record, _ = watch.only()
    assert json.loads(record.request_json or "{}")["model"] == "m"
    assert KEY not in (record.response_json or KEY)
    assert (record.request_id, record.status) == ("req_1", "ok")


def test_a_call_that_failed_keeps_what_its_error_may_repeat() -> None:
    """An error may repeat a header of the request, and what is in its URL."""
    provider = Provider(401, {"error": {"message": f"Incorrect API key provided: {KEY}", "type": "invalid"}})
    with watching() as watch:
        with pytest.raises(openai.AuthenticationError):
            provider.call()
        record, _ = watch.only()
    assert KEY not in (record.error_message or KEY)
    assert KEY not in (record.response_json or KEY)


@pytest.mark.parametrize(("headers", "request_id"), [
    ([("X-Request-Id", "req_2")], "req_2"),
    ([("Request-ID", "req_3"), ("x-other", "1")], "req_3"),
    ([("x-request-id", "req_4"), ("X-Request-Id", "req_5")], "req_4, req_5"),
    ([("x-request-id", ""), ("request-id", "req_6")], "req_6"),
    ([("x-request-id", "r\u00e9q")], "r\u00e9q"),
    ([], None),
])  # fmt: skip
def test_a_call_that_waits_keeps_no_headers(headers: list[tuple[str, str]], request_id: str | None) -> None:
    """Each is an object; what the record says of them is what the HTTP client would have said."""
    kept: list[weakref.ref[httpx2.Headers]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        named = [(name.encode(), value.encode()) for name, value in headers]
        response = httpx2.Response(200, json=REPLY, headers=[*named, (b"Content-Type", b"application/json")])
        kept.extend([weakref.ref(request.headers), weakref.ref(response.headers)])
        return response

    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = openai.OpenAI(api_key=KEY, http_client=http_client, max_retries=0)
    with watching() as watch:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Which?"}])
        gc.collect()
        assert [reference() for reference in kept] == [None, None]
        record, _ = watch.only()
    assert (record.request_id, record.usage.input_tokens) == (request_id, 3)
    assert KEY not in (record.response_json or KEY)


@pytest.mark.parametrize("header", ["x-session", "x-gateway-config", "Authorization"])
def test_headers_that_an_error_may_repeat_are_kept(header: str) -> None:
    """Those that only a call which failed is searched for, and a gateway's configuration, are masked, too."""
    secret = "planted-0123456789abcdef"
    value = json.dumps({"api_key": secret}) if header == "x-gateway-config" else secret
    provider = Provider(401, {"error": {"message": f"No access with {secret}", "type": "invalid"}})
    with watching() as watch:
        with pytest.raises(openai.AuthenticationError):
            provider.client.with_options(default_headers={header: value}).chat.completions.create(
                model="m", messages=[{"role": "user", "content": "Which?"}]
            )
        record, _ = watch.only()
    assert secret not in (record.error_message or secret)
    assert secret not in (record.response_json or secret)
