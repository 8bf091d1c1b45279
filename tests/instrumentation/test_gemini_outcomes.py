"""Every way for a call of google-genai to end: one span, one record, and a caller who notices nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from gemini_outcomes import ENDINGS, Caller, Ending
from gemini_server import KEY, SDK_WARNINGS, USAGE, WAYS, WORDS, GeminiServer, Way, gemini_server
from watching import Watch, watching

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)
CELLS = [(ending, way) for ending in ENDINGS for way in WAYS if ending.exists(way)]


@pytest.fixture(scope="module")
def running() -> Iterator[GeminiServer]:
    with gemini_server() as server:
        yield server


@pytest.fixture
def server(running: GeminiServer) -> GeminiServer:
    running.reset()
    return running


def perform(ending: Ending, server: GeminiServer, way: Way) -> Caller:
    server.reset()
    server.answers(*ending.answers)
    caller = Caller(server, way, ending.attempts)
    ending.drive(caller)
    return caller


@pytest.mark.parametrize(("ending", "way"), CELLS, ids=lambda value: getattr(value, "name", value))
def test_cell(ending: Ending, way: Way, server: GeminiServer) -> None:
    """The caller sees what he sees without us; one ended span and one record say how the call ended."""
    bare = perform(ending, server, way)
    with watching() as watch:
        observed = perform(ending, server, way)
        assert (observed.events, observed.kinds, _raised(observed)) == (bare.events, bare.kinds, _raised(bare))
        assert len(server.requests) == ending.attempts
        assert not any("traceparent" in request.headers for request in server.requests)
        record = check_record(ending, watch, observed)
        assert watch.observer.open_calls == {}
    check_content(ending, record)
    assert KEY not in repr(record) + (record.request_json or "") + (record.response_json or "")
    assert record.request_json == server.requests[0].body.decode()


def _raised(caller: Caller) -> Any:
    return None if caller.error is None else (type(caller.error), str(caller.error))


def check_record(ending: Ending, watch: Watch, caller: Caller) -> Any:
    record, span = watch.only()
    attributes = span.attributes or {}
    error = ending.error
    if error == "raised":
        kind = type(caller.error)
        error = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    assert (record.status, record.error_type, record.attempts) == (ending.status, error, ending.attempts)
    assert span.status.status_code is (StatusCode.ERROR if ending.status == "error" else StatusCode.UNSET)
    assert attributes["llmspan.status"] == ending.status
    assert record.stream == ending.name.startswith("stream")
    assert (record.provider, record.request_model) == ("gcp.gemini", "gemini-2.5-flash")
    return record


def check_content(ending: Ending, record: Any) -> None:
    """Of the response, what had come; usage as the last event said."""
    response = record.response_json and json.dumps(json.loads(record.response_json), ensure_ascii=False)
    usage = record.usage
    if ending.keeps == "all":
        assert "".join(WORDS) in response
        assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == (1200, 350, 300)
        assert usage.raw == USAGE
        assert usage.source == "provider"
    elif ending.keeps == "words":
        assert WORDS[0] in response
    elif ending.keeps == "error":
        assert record.error_message == "no more"
        assert f"HTTP {record.http_status}" in ending.name
    else:
        assert response is None or "candidates" not in response


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_that_is_not_read_sends_nothing(way: Way, server: GeminiServer, watch: Watch) -> None:
    """The SDK sends a request when the first event is read: without that there is no call."""
    import asyncio

    caller = Caller(server, way)
    if way == "sync":
        caller.open(caller.client())
    else:
        asyncio.run(caller.open_async(caller.client()))
    assert (server.requests, watch.records, watch.spans) == ([], [], [])
