"""What spans and events say of fetched responses, compacted conversations and calls that raised."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from opentelemetry._logs import SeverityNumber

from llmspan.content import ContentPolicy
from llmspan.instrumentation import ContentCapture
from replay import client_for, transport
from signals import Logs
from streams import CHAT, MESSAGES, RESPONSES, sse
from watching import Watch, watching

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}
COMPACTED = "gen_ai.conversation.compacted"
EXCEPTION = "gen_ai.client.operation.exception"
ITEM = {"type": "compaction", "id": "cmp_1", "encrypted_content": "ENCRYPTED"}
BLOCK = {"type": "compaction", "content": "Ann said hi."}


def answer(body: Any, status: int = 200) -> httpx2.MockTransport:
    return transport(status, JSON, [json.dumps(body).encode()])


def attributes(watch: Watch) -> dict[str, Any]:
    (span,) = watch.spans
    return dict(span.attributes or {})


@pytest.mark.parametrize("status", ["queued", "in_progress", "completed", "incomplete", "cancelled"])
@pytest.mark.parametrize("resource", ["responses", "beta.responses"])
def test_a_fetched_response_has_its_id_and_status(status: str, resource: str, watch: Watch) -> None:
    """The span says which response was fetched, and how far it had come."""
    client: Any = client_for("openai", answer({**RESPONSES.body, "id": "resp_1", "status": status}))
    for name in resource.split("."):
        client = getattr(client, name)
    client.retrieve("resp_1")
    record, span = watch.only()
    found = span.attributes or {}
    assert (found["gen_ai.response.id"], found["gen_ai.response.status"]) == ("resp_1", status)
    assert record.response_id == "resp_1"


@pytest.mark.parametrize("status", [404, 500, None], ids=str)
def test_a_fetch_that_failed_has_the_id(status: int | None, watch: Watch) -> None:
    """The response whose fetch failed is named, by span and record; nothing is known of its status."""

    def refuse(request: httpx2.Request) -> httpx2.Response:
        if status is None:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(status, json={"error": {"message": "no"}})

    with pytest.raises(Exception, match=r"no|Connection"):
        client_for("openai", httpx2.MockTransport(refuse)).responses.retrieve("resp_9", extra_query={"a": "b"})
    record, span = watch.only()
    found = span.attributes or {}
    assert (record.response_id, found["gen_ai.response.id"]) == ("resp_9", "resp_9")
    assert "gen_ai.response.status" not in found


@pytest.mark.parametrize("api", [RESPONSES, CHAT, MESSAGES], ids=lambda api: api.name)
def test_only_fetches_have_a_status(api: Any, watch: Watch) -> None:
    """A response that is answered at once has finish reasons, no lifecycle status."""
    api.method(client_for(api.provider, answer(api.body)))(**api.arguments)
    assert "gen_ai.response.status" not in attributes(watch)


ECHO = {"context_management": [{"type": "compaction", "compact_threshold": 1000}]}
ITERATIONS = {"usage": {**MESSAGES.body["usage"], "iterations": [{"type": "compaction"}, {"type": "message"}]}}


@pytest.mark.parametrize(
    ("api", "arguments", "answered", "expected"),
    [
        (RESPONSES, {"input": [ITEM, {"role": "user", "content": "hi"}]}, {}, True),
        (RESPONSES, {}, {"output": [ITEM, *RESPONSES.body["output"]]}, True),
        (RESPONSES, {"extra_body": ECHO}, ECHO, None),
        (RESPONSES, {"input": 'the "compaction" of soil'}, {}, None),
        (MESSAGES, {"messages": [{"role": "assistant", "content": [BLOCK]}]}, {}, True),
        (MESSAGES, {}, ITERATIONS, True),
        (MESSAGES, {"metadata": {"user_id": "compaction"}}, {}, None),
        (CHAT, {"user": "compaction"}, {}, None),
    ],
    ids=["item sent", "item received", "setting", "text", "block sent", "iteration", "other value", "chat"],
)
def test_compacted_conversations(api: Any, arguments: Any, answered: Any, expected: Any, logs: Logs) -> None:
    """Span and event say that the model saw a compacted conversation, where that is certain; never that it did not."""
    with watching(capture=ContentCapture.from_mode("EVENT_ONLY", ContentPolicy()), logger=logs.logger) as watch:
        api.method(client_for(api.provider, answer({**api.body, **answered})))(**{**api.arguments, **arguments})
        assert len(watch.records) == 1
        assert attributes(watch).get(COMPACTED) is expected
    assert logs.events[0].attributes.get(COMPACTED) is expected


def test_compacted_conversations_of_streams(watch: Watch) -> None:
    """The same of what only the end of a stream tells."""
    events = [sse({"type": "response.completed", "response": {**RESPONSES.body, "output": [ITEM]}})]
    client = client_for("openai", transport(200, SSE, events))
    for _ in client.responses.create(**RESPONSES.arguments, stream=True):
        pass
    assert attributes(watch)[COMPACTED] is True


def test_compacting_is_no_compacted_conversation(watch: Watch) -> None:
    """``responses.compact`` reads the whole conversation and answers with the compacted one."""
    body = {"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [ITEM]}
    client_for("openai", answer(body)).responses.compact(model="gpt-5-mini", input="hi")
    assert COMPACTED not in attributes(watch)


def raised(api: Any, mock: httpx2.MockTransport, logs: Logs, **options: Any) -> list[Any]:
    """The exception events of one call that fails; its record and span are checked to be failures in their place."""
    with watching(logger=logs.logger, **options) as watch:
        with pytest.raises(Exception, match=r"slow|broken|Connection|sk-"):
            for _ in api.method(client_for(api.provider, mock))(**api.arguments, stream=True):
                pass
        record, span = watch.only()
    events = [event for event in logs.events if event.event_name == EXCEPTION]
    context = span.get_span_context()
    assert context is not None
    for event in events:
        assert (event.trace_id, event.span_id) == (context.trace_id, context.span_id)
        assert (event.severity_number, event.timestamp) == (SeverityNumber.WARN, span.end_time)
        assert event.attributes.get("exception.message") == record.error_message
    return events


def test_a_refused_call_has_an_exception_event(logs: Logs) -> None:
    """An API error is an event: the class of the exception, and what the provider said. No content is asked for."""
    (event,) = raised(CHAT, answer({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, 429), logs)
    assert dict(event.attributes) == {"exception.type": "openai.RateLimitError", "exception.message": "slow down"}


def test_an_unanswered_call_has_an_exception_event(logs: Logs) -> None:
    """So is a connection that cannot be made."""

    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("broken")

    (event,) = raised(MESSAGES, httpx2.MockTransport(refuse), logs)
    assert event.attributes["exception.type"] == "anthropic.APIConnectionError"


def test_a_stream_that_breaks_has_an_exception_event(logs: Logs) -> None:
    """And an error that is an event of a stream."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "broken"}}
    pieces = [MESSAGES.stream[0], b"event: error\n" + sse(error)]
    (event,) = raised(MESSAGES, transport(200, SSE, pieces), logs)
    assert event.attributes["exception.message"] == "broken"


def test_keys_are_masked_in_exception_events(logs: Logs) -> None:
    """What an exception says is masked as everywhere."""
    message = "no such key: sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH"
    (event,) = raised(CHAT, answer({"error": {"message": message}}, 401), logs)
    assert "abcdefghijkl" not in str(event.attributes)
    assert "masked" in event.attributes["exception.message"]


def test_no_exception_event_without_an_exception(logs: Logs) -> None:
    """A call that succeeds, one that is left early, and a response that failed without raising have none."""
    failed = {**RESPONSES.body, "status": "failed", "error": {"code": "server_error", "message": "no"}}
    with watching(logger=logs.logger) as watch:
        CHAT.method(client_for("openai", answer(CHAT.body)))(**CHAT.arguments)
        client_for("openai", answer(failed)).responses.create(**RESPONSES.arguments)
        stream = CHAT.method(client_for("openai", transport(200, SSE, list(CHAT.stream))))(
            **CHAT.arguments, stream=True
        )
        next(stream)
        stream.close()
        assert len(watch.records) == 3
    assert logs.events == []
