"""What other instrumentations leave out of a call, or leave open after it."""

from __future__ import annotations

import gc
from typing import Any

import httpx2
import pytest

import llmspan
from replay import Pieces, client_for, transport
from streams import ALL, BETA_MESSAGES, CHAT, MESSAGES, RESPONSES, Api, json, sse
from watching import Watch

SSE = {"content-type": "text/event-stream"}


def client(api: Api, events: list[bytes]) -> Any:
    return client_for(api.provider, transport(200, SSE, list(events)))


def answer(watch: Watch) -> Any:
    """The response as it was recorded."""
    return json.loads(watch.only()[0].response_json or "")


@pytest.mark.peer_fault("O10")
def test_a_responses_stream_that_is_closed_early_has_its_id(watch: Watch) -> None:
    """Official GenAI: neither id nor finish reasons of a Responses stream that is closed before its end."""
    stream = client(RESPONSES, RESPONSES.stream).responses.create(**RESPONSES.arguments, stream=True)
    next(stream)
    stream.close()
    record, span = watch.only()
    assert (record.status, record.response_id) == ("closed_early", "resp_1")
    assert (span.attributes or {})["gen_ai.response.id"] == "resp_1"


@pytest.mark.peer_fault("O11")
@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
def test_closing_the_http_response_is_an_end(api: Api, watch: Watch) -> None:
    """Official GenAI: a stream whose HTTP response is closed has no end until it is collected."""
    stream = api.method(client(api, api.stream))(**api.arguments, stream=True)
    next(stream)
    gc.disable()
    try:
        stream.response.close()
        (span,) = watch.exporter.get_finished_spans()
    finally:
        gc.enable()
    assert span.status.is_unset
    assert watch.only()[0].status == "closed_early"


@pytest.mark.peer_fault("E5")
@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
def test_a_helper_that_is_never_entered_is_no_call(api: Api, watch: Watch) -> None:
    """Traceloop, OpenInference, OpenLIT, Laminar, Braintrust begin a span that nothing ends."""
    manager = api.method(client(api, api.stream), api.path.replace("create", "stream"))(**api.arguments)
    del manager
    gc.collect()
    assert (watch.spans, watch.records, watch.observer.open_calls) == ([], [], {})


@pytest.mark.peer_fault("E6")
@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
def test_a_helper_that_is_left_unread(api: Api, watch: Watch) -> None:
    """Traceloop, OpenLIT lose it, MLflow never had it."""
    with api.method(client(api, api.stream), api.path.replace("create", "stream"))(**api.arguments):
        pass
    assert watch.only()[0].status == "closed_early"


@pytest.mark.peer_fault("C5")
@pytest.mark.parametrize("api", [MESSAGES, BETA_MESSAGES], ids=lambda api: api.name)
def test_thinking_is_kept_with_its_signature(api: Api, watch: Watch) -> None:
    """OpenLIT, LangSmith lose the thinking, Traceloop and Datadog its signature."""
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    deltas = [{"type": "thinking_delta", "thinking": "hm"}, {"type": "thinking_delta", "thinking": "m"}]
    deltas.append({"type": "signature_delta", "signature": "c2ln"})
    block = [
        sse({"type": "content_block_start", "index": 0, "content_block": thinking}),
        *(sse({"type": "content_block_delta", "index": 0, "delta": delta}) for delta in deltas),
        sse({"type": "content_block_stop", "index": 0}),
    ]
    list(api.method(client(api, [api.stream[0], *block, *api.stream[-2:]]))(**api.arguments, stream=True))
    assert answer(watch)["content"] == [{"type": "thinking", "thinking": "hmm", "signature": "c2ln"}]


@pytest.mark.peer_fault("C6")
def test_reasoning_summaries_are_kept(watch: Watch) -> None:
    """Logfire, OpenLIT lose the summary of the reasoning."""
    item = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "because"}]}
    done = {"type": "response.completed", "sequence_number": 1, "response": {**RESPONSES.body, "output": [item]}}
    events = [RESPONSES.stream[0], sse(done)]
    list(client(RESPONSES, events).responses.create(**RESPONSES.arguments, stream=True))
    assert answer(watch)["output"] == [item]


@pytest.mark.peer_fault("C7")
def test_tool_calls_of_streams_are_put_together(watch: Watch) -> None:
    """MLflow has no tool calls of streams."""
    pieces = [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":'}}]
    pieces.append({"function": {"arguments": ' "sky"}'}})
    deltas = [{"tool_calls": [{"index": 0} | piece]} for piece in pieces]
    chunks = [{"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": d}]} for d in deltas]
    list(client(CHAT, [*map(sse, chunks), *CHAT.stream[-3:]]).chat.completions.create(**CHAT.arguments, stream=True))
    (call,) = answer(watch)["choices"][0]["message"]["tool_calls"]
    assert (call["id"], call["function"]) == ("call_1", {"name": "look", "arguments": '{"at": "sky"}'})


@pytest.mark.peer_fault("C4")
@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
def test_a_streams_output_is_the_answer(api: Api, watch: Watch) -> None:
    """MLflow writes the stream object's ``repr``."""
    list(api.method(client(api, api.stream))(**api.arguments, stream=True))
    assert answer(watch)["id"] == api.response_id


@pytest.mark.peer_fault("C11", "U11")
@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
def test_the_call_is_kept_as_it_was_made(api: Api, watch: Watch) -> None:
    """Nobody keeps it; the hook of the official utilities gets messages. Ours is the bytes, under the program's id."""
    sent: list[httpx2.Request] = []
    body = json.dumps(api.body).encode()

    def respond(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, headers={"content-type": "application/json"}, stream=Pieces([body]))

    with llmspan.context(step_id="step-1"):
        api.method(client_for(api.provider, httpx2.MockTransport(respond)))(
            **api.arguments, extra_body={"knob": {"b": 1, "a": [None, 1.0]}}
        )
    record, _ = watch.only()
    assert record.step_id == "step-1"
    assert (record.request_json or "").encode() == sent[0].content
    assert json.loads(record.response_json or "") == api.body


@pytest.mark.peer_fault("C12", "A6")
def test_anthropics_own_span_says_less(watch: Watch) -> None:
    """The SDK's span has no finish reason, no parameters and a name of its own; official has no tier and no effort."""
    body = {**MESSAGES.body, "usage": {**MESSAGES.body["usage"], "service_tier": "priority"}}
    more = {"temperature": 0.5, "stop_sequences": ["END"], "output_config": {"effort": "high"}}
    found = client_for("anthropic", httpx2.MockTransport(lambda _: httpx2.Response(200, json=body)))
    found.messages.create(**MESSAGES.arguments, extra_body=more)
    record, span = watch.only()
    attributes = dict(span.attributes or {})
    assert span.name == "chat claude-sonnet-5"
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes["gen_ai.request.max_tokens"] == 100
    assert record.service_tier == "priority"


@pytest.mark.peer_fault("O4")
def test_the_response_before_this_one(watch: Watch) -> None:
    """Official GenAI: neither the effort nor the response that is gone on from is on the span."""
    arguments = {**RESPONSES.arguments, "previous_response_id": "resp_0", "reasoning": {"effort": "low"}}
    list(client(RESPONSES, RESPONSES.stream).responses.create(**arguments, stream=True))
    attributes = watch.only()[1].attributes or {}
    assert attributes["gen_ai.request.previous_response.id"] == "resp_0"
    assert attributes["gen_ai.request.reasoning.level"] == "low"
