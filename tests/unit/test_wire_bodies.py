"""Bodies of calls that do not stream, and errors in all the forms that providers use."""

from __future__ import annotations

import json

import pytest

from llmspan.usage import Usage
from llmspan.wire import PARSERS, Reply, read_error, reassemble, summarize
from wires import both, created, ended, piece, start, wire


def test_embeddings():
    """Embeddings have an input and no output: a vendor's completion tokens stay in ``raw``."""
    raw = {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}
    body = {"object": "list", "data": [{"embedding": "AAAA"}], "model": "e", "usage": raw, "id": "vendor"}
    reply, response = both("embeddings", json.dumps(body).encode())
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.raw) == (5, None, raw)
    assert (reply.response_model, reply.response_id, reply.terminal, response) == ("e", None, True, body)


@pytest.mark.parametrize("data", [
    [{"embedding": [0.5, -1e-3, 2], "index": 0}, {"index": 1, "embedding": []}],
    [{"embedding": "AAAA", "index": 0}, {"embedding": 'a"b]c', "index": 1}],
    [{"embedding": [[0.5], [1.5]]}, {"text": 'its "embedding": [1, 2'}],
    [{"embedding": None}, {}],
])  # fmt: skip
def test_vectors_do_not_change_what_is_said_of_them(data):
    """Whatever they look like: numbers, base64, matrices, nothing at all."""
    body = {"object": "list", "data": data, "model": "e", "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    reply, response = both("embeddings", json.dumps(body).encode())
    assert (reply.usage.input_tokens, reply.response_model, response) == (5, "e", body)


def test_vectors_are_not_read_on_the_callers_thread():
    """They are megabytes of numbers, which would hold up an event loop: here they could not even be read."""
    body = b'{"data": [{"embedding": [0.5, ' + b"not a number" + b'], "index": 0}], "usage": {"prompt_tokens": 5}}'
    assert summarize("embeddings", body).usage.input_tokens == 5
    assert summarize("images", body).usage == Usage()


@pytest.mark.parametrize("api", PARSERS)
@pytest.mark.parametrize(("body", "message"), [
    (b'{"error": {"type": "t", "message": "m"}}', "m"),
    (b'[{"error": {"code": 400, "message": "m"}}]', "m"),
    (b'"plain"', "plain"),
    (b"\xef\xbb\xbf" + b'{"error": "m"}', "m"),
])  # fmt: skip
def test_error_bodies(api, body, message):
    """A JSON body that tells of an error is over, and tells it, for each API."""
    reply, _ = both(api, body)
    assert reply.error is not None
    assert (reply.error.message, reply.terminal, reply.usage) == (message, True, Usage())


@pytest.mark.parametrize("api", PARSERS)
@pytest.mark.parametrize("body", [b"", b'{"id": "c", "cho', b"{", b"[", b'"'])
def test_bodies_cut_short(api, body):
    """Nothing, or JSON that breaks off, is neither a response nor an end."""
    assert both(api, body) == (Reply(), None)


@pytest.mark.parametrize(("value", "kind", "code", "message"), [
    ({"error": {"type": "invalid_request_error", "code": "c", "message": "m"}}, "invalid_request_error", "c", "m"),
    # W21: no message is an error all the same
    ({"error": {"type": "overloaded_error"}}, "overloaded_error", None, None),
    ({"error": {"code": 429, "message": None}}, None, "429", None),
    ({"error": {"type": "", "code": "", "message": ""}}, None, None, None),
    ({"error": "m", "code": 7}, None, "7", "m"),
    ({"error": "m", "type": ["odd"]}, None, None, "m"),
    ({"error": "m", "error_type": "overloaded"}, "overloaded", None, "m"),  # text-generation-inference
    ({"type": "t", "message": "m", "code": True}, "t", None, "m"),  # Mistral and Azure: at the top
    ({"error": {"type": "t", "details": {"error_code": "c"}}}, "t", "c", None),  # Anthropic
    ({"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}, None, "INVALID_ARGUMENT", "m"),  # Google
    ({"detail": "m"}, None, None, "m"),
    ({"message": {"detail": []}}, None, None, None),
    ([{"error": {"message": "m"}}], None, None, "m"),
    ("m", None, None, "m"),
])  # fmt: skip
def test_read_error(value, kind, code, message):
    """Errors in all the forms that providers use; what cannot be told apart is left out, the whole is kept."""
    error = read_error(value)
    assert error is not None
    assert (error.type, error.code, error.message) == (kind, code, message)
    assert error.json == (value[0] if isinstance(value, list) else value)


@pytest.mark.parametrize("value", [None, {}, [], "", 0, 7, True, [[]], [None]])
def test_no_error(value):
    """What says nothing is no error."""
    assert read_error(value) is None


@pytest.mark.parametrize("error", [None, {}, "", False])
@pytest.mark.parametrize(("api", "event"), [
    ("chat_completions", {"choices": [piece(content="a")]}), ("completions", {"choices": [{"text": "a"}]}),
    ("responses", created()), ("responses", ended("completed")), ("messages", start(input_tokens=1)),
])  # fmt: skip
def test_null_is_no_error(api, event, error):
    """W21: ``error: null``, or an empty one, in an event, its response or a body is no error."""
    event = {**event, "error": error}
    if "response" in event:
        event["response"] = {**event["response"], "error": error}
    assert both(api, wire(event))[0].error is None
    assert both(api, json.dumps(event).encode())[0].error is None


def test_a_binary_body_is_not_judged():
    """Bytes that are neither JSON nor events nor whole frames tell nothing; above all not that the stream was cut."""
    odd = b"\x00\x00\x00\x81\x00\x00\x00\x4b" + bytes(range(121))
    for reply in (summarize("messages", odd), reassemble("messages", odd)[0]):
        assert reply.plain
        assert reply.usage.source == "none"
        assert reply.response_id is None
