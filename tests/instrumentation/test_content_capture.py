"""Content for OpenTelemetry: nowhere unless asked for, then on spans, in events, or both; redacted first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmspan import semconv
from llmspan.content import ContentPolicy
from llmspan.instrumentation import ContentCapture, content_capture
from llmspan.messages import INPUT, INSTRUCTIONS, OUTPUT, TOOLS
from llmspan.redaction import MASK, Redactor
from replay import client_for, transport
from signals import Logs
from streams import ALL, CHAT, MESSAGES, RESPONSES
from watching import watching

SSE = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
CONTENT = {INPUT, OUTPUT, INSTRUCTIONS, TOOLS}


def stream(api: Any = CHAT, **arguments: Any) -> None:
    client = client_for(api.provider, transport(200, SSE, list(api.stream)))
    for _ in api.method(client)(**api.arguments | arguments, stream=True):
        pass


def words(messages: Any) -> list[tuple[str, list[Any]]]:
    """What was said, from JSON text or from structured values."""
    messages = json.loads(messages) if isinstance(messages, str) else messages
    return [(message["role"], [part.get("content") for part in message["parts"]]) for message in messages]


def plain(value: Any) -> Any:
    """A structured attribute as JSON values: the SDK keeps lists as tuples."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("mode", ["NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"])
def test_where_content_goes(mode: Any, logs: Logs) -> None:
    """Each mode puts it where its name says and nowhere else; stores have it in any case."""
    with watching(capture=ContentCapture.from_mode(mode, ContentPolicy()), logger=logs.logger) as watch:
        stream()
        record, span = watch.only()
    assert record.content == "full"
    on_span = {name for name in span.attributes or {} if name in CONTENT}
    assert on_span == ({INPUT, OUTPUT} if "SPAN" in mode else set())
    in_events = [{name for name in event.attributes if name in CONTENT} for event in logs.events]
    assert in_events == ([{INPUT, OUTPUT}] if "EVENT" in mode else [])


@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
def test_messages_of_every_api(api: Any, logs: Logs) -> None:
    """Span and event say what was asked and what was answered."""
    with watching(capture=ContentCapture.from_mode("SPAN_AND_EVENT", ContentPolicy()), logger=logs.logger) as watch:
        stream(api)
        _, span = watch.only()
    for attributes in (span.attributes or {}, logs.events[0].attributes):
        assert words(attributes[INPUT]) == [("user", ["hi"])]
        assert words(attributes[OUTPUT]) == [("assistant", ["Hello, wörld!"])]


def test_the_event_says_what_the_span_says(logs: Logs) -> None:
    """Same name of the call, parameters, numbers and ids; at its end, in its place."""
    with watching(capture=ContentCapture.from_mode("EVENT_ONLY", ContentPolicy()), logger=logs.logger) as watch:
        stream(MESSAGES, max_tokens=77)
        record, span = watch.only()
    (event,) = logs.events
    assert event.event_name == "gen_ai.client.inference.operation.details"
    assert event.timestamp == record.started_at + record.duration_ns == span.end_time
    context = span.get_span_context()
    assert context is not None
    assert (event.trace_id, event.span_id) == (context.trace_id, context.span_id)
    assert dict(span.attributes or {}).items() <= dict(event.attributes).items()
    assert event.attributes["gen_ai.request.max_tokens"] == 77
    assert event.attributes["anthropic.usage.cache_creation.ephemeral_1h_input_tokens"] == 500


def test_content_for_others_although_stores_keep_none(logs: Logs) -> None:
    """``LLMSPAN_CAPTURE_PAYLOADS=metadata`` is about the stores; what was asked for elsewhere is there."""
    policy = ContentPolicy(keep=False)
    with watching(
        policy=policy, capture=ContentCapture.from_mode("SPAN_AND_EVENT", policy), logger=logs.logger
    ) as watch:
        stream()
        record, span = watch.only()
    assert (record.content, record.request_json) == ("metadata", None)
    for attributes in (span.attributes or {}, logs.events[0].attributes):
        assert words(attributes[OUTPUT]) == [("assistant", ["Hello, wörld!"])]


def test_redaction_comes_first(logs: Logs) -> None:
    """What is redacted is so on spans and in events as well; what cannot be redacted is on none of them."""
    secret = [{"role": "user", "content": "I am ann@example.org"}]
    policy = ContentPolicy(redact=Redactor(("email",)))
    with watching(
        policy=policy, capture=ContentCapture.from_mode("SPAN_AND_EVENT", policy), logger=logs.logger
    ) as watch:
        stream(messages=secret)
        record, span = watch.only()
    for attributes in (span.attributes or {}, logs.events[0].attributes):
        assert words(attributes[INPUT]) == [("user", [f"I am {MASK}"])]
    assert "ann@" not in record.to_json()


def test_what_cannot_be_redacted_is_nowhere(logs: Logs, caplog: pytest.LogCaptureFixture) -> None:
    """A redaction that fails withholds content from span, event and store; the call and its numbers are recorded."""
    from llmspan import _guard

    def broken(value: Any) -> Any:
        raise ValueError(value)

    policy = ContentPolicy(redact=Redactor((), broken))
    with watching(
        policy=policy, capture=ContentCapture.from_mode("SPAN_AND_EVENT", policy), logger=logs.logger
    ) as watch:
        stream(messages=[{"role": "user", "content": "planted"}])
        record, span = watch.only()
        assert _guard.failures().keys() == {"content.redact"}
        _guard.reset_error_counts()
    assert (record.content, record.usage.input_tokens) == ("metadata", CHAT.input_tokens)
    assert dict(span.attributes or {}).items() <= dict(logs.events[0].attributes).items()
    assert not CONTENT & (span.attributes or {}).keys()
    assert not CONTENT & set(logs.events[0].attributes)
    assert "planted" not in f"{record}{span.to_json()}{logs.events}{caplog.text}"


def both(span_format: Any, logs: Logs, api: Any = CHAT, **arguments: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content attributes of the span and of the event of one call."""
    capture = ContentCapture.from_mode("SPAN_AND_EVENT", ContentPolicy(), span_format)
    with watching(capture=capture, logger=logs.logger) as watch:
        stream(api, **arguments)
        _, span = watch.only()
    return tuple(
        {name: value for name, value in attributes.items() if name in CONTENT}
        for attributes in (dict(span.attributes or {}), dict(logs.events[-1].attributes))
    )  # type: ignore[return-value]


REQUESTS: list[tuple[Any, dict[str, Any]]] = [
    (CHAT, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}),
    (RESPONSES, {"instructions": "Be brief.", "tools": [{"type": "web_search"}]}),
    (MESSAGES, {"system": "Be brief.", "tools": [{"name": "f", "input_schema": {"type": "object"}}]}),
]


@pytest.mark.parametrize(("api", "arguments"), REQUESTS, ids=lambda value: getattr(value, "name", ""))
def test_spans_carry_json_text(api: Any, arguments: dict[str, Any], logs: Logs) -> None:
    """Without a setting, every content attribute of a span is JSON text, and says what the event's maps say."""
    on_span, in_event = both("json", logs, api, **arguments)
    assert on_span.keys() == in_event.keys() >= {INPUT, OUTPUT, TOOLS}
    assert all(isinstance(value, str) for value in on_span.values())
    assert not any(isinstance(value, str) for value in in_event.values())
    assert {name: json.loads(value) for name, value in on_span.items()} == plain(in_event)


@pytest.mark.parametrize(("api", "arguments"), REQUESTS, ids=lambda value: getattr(value, "name", ""))
@pytest.mark.peer_fault("U8")
def test_structured_spans_on_request(api: Any, arguments: dict[str, Any], logs: Logs) -> None:
    """``LLMSPAN_SPAN_CONTENT_FORMAT=structured``: spans carry the maps and lists that events carry."""
    on_span, in_event = both("structured", logs, api, **arguments)
    assert not any(isinstance(value, str) for value in on_span.values())
    assert on_span == in_event


def test_text_where_spans_take_no_maps(monkeypatch: pytest.MonkeyPatch, logs: Logs) -> None:
    """Before OpenTelemetry 1.45 a span carries JSON text even if maps are asked for."""
    monkeypatch.setattr(content_capture, "_spans_accept_maps", lambda: False)
    on_span, _ = both("structured", logs)
    assert words(json.loads(on_span[OUTPUT])) == [("assistant", ["Hello, wörld!"])]


def test_nothing_is_read_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """With capture off, and for a span that does not record, content is not even looked at."""
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    looked: list[Any] = []
    monkeypatch.setattr(content_capture, "content_attributes", lambda *texts: looked.append(texts) or {})
    with watching() as watch:
        stream()
        assert len(watch.records) == 1
    with watching(sampler=ALWAYS_OFF, capture=ContentCapture.from_mode("SPAN_ONLY", ContentPolicy())) as watch:
        stream()
        assert len(watch.records) == 1
    assert looked == []


def test_errors_have_their_request() -> None:
    """A call that was refused has what was asked on its span, and no answer."""
    mock = transport(429, JSON, [b'{"error": {"message": "slow down"}}'])
    with watching(capture=ContentCapture.from_mode("SPAN_ONLY", ContentPolicy())) as watch:
        with pytest.raises(Exception, match="slow down"):
            CHAT.method(client_for("openai", mock))(**CHAT.arguments)
        _, span = watch.only()
    assert words((span.attributes or {})[INPUT]) == [("user", ["hi"])]
    assert OUTPUT not in (span.attributes or {})


CACHE_WRITES = {"new": "gen_ai.usage.cache_write.input_tokens", "old": "gen_ai.usage.cache_creation.input_tokens"}


def compatible(compat: Any, logs: Logs) -> dict[str, Any]:
    """The attributes of a span, which are those of its event as well."""
    with watching(
        compat=compat, capture=ContentCapture.from_mode("EVENT_ONLY", ContentPolicy()), logger=logs.logger
    ) as watch:
        stream(MESSAGES)
        _, span = watch.only()
    assert dict(span.attributes or {}).items() <= dict(logs.events[0].attributes).items()
    return dict(span.attributes or {})


def test_no_replaced_names_unless_asked_for(logs: Logs) -> None:
    """By default each value has its current name only."""
    attributes = compatible("off", logs)
    assert attributes[CACHE_WRITES["new"]] == 2000
    assert not {"gen_ai.system", "gen_ai.usage.prompt_tokens", CACHE_WRITES["old"]} & attributes.keys()


def test_replaced_names_beside_the_current_ones(logs: Logs) -> None:
    """``LLMSPAN_SEMCONV_COMPAT=beside``: what the current names say, under the old ones too."""
    attributes = compatible("beside", logs)
    assert attributes["gen_ai.system"] == attributes[semconv.PROVIDER]
    assert attributes[CACHE_WRITES["old"]] == attributes[CACHE_WRITES["new"]] == 2000
    assert attributes["gen_ai.usage.completion_tokens"] == MESSAGES.output_tokens


def test_replaced_names_instead_of_the_current_ones(logs: Logs) -> None:
    """``LLMSPAN_SEMCONV_COMPAT=instead``: a count that was renamed has its old name only, once in every sum."""
    attributes = compatible("instead", logs)
    assert attributes["gen_ai.system"] == attributes[semconv.PROVIDER]
    assert (attributes[CACHE_WRITES["old"]], attributes.get(CACHE_WRITES["new"])) == (2000, None)
    assert attributes["gen_ai.usage.output_tokens"] == MESSAGES.output_tokens
    counts = [name for name in attributes if name.startswith("gen_ai.usage.")]
    assert len({name.replace("cache_creation", "cache_write") for name in counts}) == len(counts)
    assert not {"gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens"} & attributes.keys()
