"""The Responses WebSocket, against a real server: one span and one record per response, on whatever lane it comes."""

from __future__ import annotations

import gc
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from openai.lib.responses_websocket import (
    AsyncResponsesWebSocketSession,
    ResponsesWebSocketLimits,
    ResponsesWebSocketSession,
)
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from llmspan import _guard
from llmspan.content import ContentPolicy
from llmspan.instrumentation import ContentCapture
from llmspan.instrumentation.stainless.websocket import _Connection
from llmspan.messages import INPUT, OUTPUT
from llmspan.metrics import CallMetrics
from signals import INFERENCE, Logs, Meters
from streams import RESPONSES, WORDS
from watching import Watch, watching

Script = Callable[[ServerConnection], None]
EVENTS = [json.loads(event.decode().partition("data: ")[2]) for event in RESPONSES.stream]
LIMITS = ResponsesWebSocketLimits(
    max_lanes=4, max_events_per_lane=99, max_events=999, max_bytes_per_lane=1 << 20, max_bytes=1 << 22
)
places = pytest.mark.parametrize("place", ["responses", "beta.responses"])


@contextmanager
def server(script: Script) -> Iterator[str]:
    with serve(script, "127.0.0.1", 0) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.socket.getsockname()[1]}/v1"
        finally:
            listening.shutdown()
            thread.join()


def events(response_id: str, lane: str | None = None) -> list[str]:
    """The events of one response."""
    marks = {"stream_id": lane} if lane else {}
    return [json.dumps({**event, **marks}).replace("resp_1", response_id) for event in EVENTS]


def answering(socket: ServerConnection) -> None:
    """Answers every request in full, in order."""
    for number, message in enumerate(socket, start=1):
        asked = json.loads(message)
        for event in events(f"resp_{number}", asked.get("stream_id")):
            socket.send(event)


def connect(client: Any, place: str) -> Any:
    for part in place.split("."):
        client = getattr(client, part)
    return client.connect()


def sync_client(url: str) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", base_url=url)


def check(watch: Watch, *ids: str) -> None:
    """A span and a complete record for each of the responses, in order."""
    assert [record.response_id for record in watch.records] == list(ids)
    assert len(watch.spans) == len(ids)
    for record, span in zip(watch.records, watch.spans, strict=True):
        assert (record.status, record.api, record.operation, record.stream) == ("ok", "responses", "chat", True)
        assert (record.usage.input_tokens, record.usage.output_tokens) == (1200, 350)
        assert (span.attributes or {})["gen_ai.usage.output_tokens"] == 350
        assert span.name == "chat gpt-5-mini"
        assert record.chunk_count == len(EVENTS)
        assert record.time_to_first_chunk_ns is not None
        assert json.loads(record.response_json or "")["id"] == record.response_id
    assert watch.observer.open_calls == {}


@places
@pytest.mark.peer_fault("S2")
def test_each_response_is_a_call(place: str, watch: Watch) -> None:
    """Two responses on one connection are two calls, whether events are received, iterated or read as bytes."""
    with server(answering) as url, sync_client(url) as client, connect(client, place) as connection:
        connection.response.create(model="gpt-5-mini", input="one")
        for event in connection:
            if event.type == "response.completed":
                break
        connection.send({"type": "response.create", "model": "gpt-5-mini", "input": "two"})
        while b"response.completed" not in connection.recv_bytes():
            pass
    check(watch, "resp_1", "resp_2")
    assert json.loads(watch.records[1].request_json or "")["input"] == "two"


@pytest.mark.anyio
@places
async def test_each_response_is_a_call_async(place: str, watch: Watch) -> None:
    """The same, async."""
    with server(answering) as url:
        async with openai.AsyncOpenAI(api_key="k", base_url=url) as client, connect(client, place) as connection:
            for text in ("one", "two"):
                await connection.response.create(model="gpt-5-mini", input=text)
                async for event in connection:
                    if event.type == "response.completed":
                        break
    check(watch, "resp_1", "resp_2")


def check_signals(meters: Meters, logs: Logs, watch: Watch) -> None:
    """The points and the events of a plain stream, once for each of two responses."""
    assert len(watch.records) == 2
    points = meters.points()
    assert points.keys() == {
        INFERENCE + name
        for name in (
            "duration", "time_to_first_chunk", "usage.input_tokens", "usage.output_tokens",
            "usage.cache_read.input_tokens", "usage.cache_write.input_tokens", "usage.reasoning.output_tokens",
            "operation.input_tokens", "operation.output_tokens",
        )
    }  # fmt: skip
    counts = {name: points[INFERENCE + name][0].count for name in ("duration", "time_to_first_chunk")}
    assert counts == {"duration": 2, "time_to_first_chunk": 2}
    assert meters.sums("usage.output_tokens") == {"unknown": 700}
    spans = [(span.context.trace_id, span.context.span_id) for span in watch.spans if span.context is not None]
    assert [(event.trace_id, event.span_id) for event in logs.events] == spans
    for event, text in zip(logs.events, ("one", "two"), strict=True):
        assert event.event_name == "gen_ai.client.inference.operation.details"
        assert [part["content"] for part in event.attributes[INPUT][0]["parts"]] == [text]
        assert [part["content"] for part in event.attributes[OUTPUT][0]["parts"]] == ["".join(WORDS)]


def test_responses_are_measured_and_told(meters: Meters, logs: Logs) -> None:
    """Metrics and events are those of a stream over HTTP."""
    capture = ContentCapture.from_mode("EVENT_ONLY", ContentPolicy())
    with watching(metrics=CallMetrics(meters.provider), capture=capture, logger=logs.logger) as watch:
        with server(answering) as url, sync_client(url) as client, client.responses.connect() as connection:
            for text in ("one", "two"):
                connection.response.create(model="gpt-5-mini", input=text)
                while connection.recv().type != "response.completed":
                    pass
        check_signals(meters, logs, watch)


@pytest.mark.anyio
async def test_responses_are_measured_and_told_async(meters: Meters, logs: Logs) -> None:
    """The same, async."""
    capture = ContentCapture.from_mode("EVENT_ONLY", ContentPolicy())
    with watching(metrics=CallMetrics(meters.provider), capture=capture, logger=logs.logger) as watch:
        with server(answering) as url:
            async with openai.AsyncOpenAI(api_key="k", base_url=url) as client, client.responses.connect() as socket:
                for text in ("one", "two"):
                    await socket.response.create(model="gpt-5-mini", input=text)
                    while (await socket.recv()).type != "response.completed":
                        pass
        check_signals(meters, logs, watch)


def interleaved(socket: ServerConnection) -> None:
    """Waits for a request on each of two lanes, then answers both at once, event by event."""
    lanes = [json.loads(next(iter(socket)))["stream_id"] for _ in range(2)]
    both = zip(*(events(f"resp_{lane}", lane) for lane in lanes), strict=True)
    for pair in both:
        for event in pair:
            socket.send(event)
    for _ in socket:
        pass


def test_lanes(watch: Watch) -> None:
    """Responses that interleave on named lanes are told apart; the session's own sends are seen too."""
    with (
        server(interleaved) as url,
        sync_client(url) as client,
        client.responses.connect() as connection,
        ResponsesWebSocketSession(connection, limits=LIMITS) as session,
    ):
        lanes = [session.lane(name) for name in ("a", "b")]
        for lane in lanes:
            lane.send({"type": "response.create", "model": "gpt-5-mini", "input": "hi"})
        assert [lane.get_final_response(timeout=30).id for lane in lanes] == ["resp_a", "resp_b"]
    check(watch, "resp_a", "resp_b")


@pytest.mark.anyio
async def test_lanes_async(watch: Watch) -> None:
    """The same, async."""
    with server(interleaved) as url:
        async with (
            openai.AsyncOpenAI(api_key="k", base_url=url) as client,
            client.responses.connect() as connection,
            AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session,
        ):
            lanes = [session.lane(name) for name in ("a", "b")]
            for lane in lanes:
                await lane.send({"type": "response.create", "model": "gpt-5-mini", "input": "hi"})
            assert [(await lane.get_final_response()).id for lane in lanes] == ["resp_a", "resp_b"]
    check(watch, "resp_a", "resp_b")


def steered(socket: ServerConnection) -> None:
    """Answers a request, and goes on to a second response by itself."""
    next(iter(socket))
    for event in [*events("resp_1"), *events("resp_2")]:
        socket.send(event)
    for _ in socket:
        pass


def test_a_response_that_nobody_asked_for(watch: Watch) -> None:
    """The server's automatic successor of a steered response is a call of its own, without a request."""
    with server(steered) as url, sync_client(url) as client, client.responses.connect() as connection:
        connection.response.create(model="gpt-5-mini", input="one")
        done = 0
        while done < 2:
            done += connection.recv().type == "response.completed"
    assert [record.response_id for record in watch.records] == ["resp_1", "resp_2"]
    assert [record.request_json is None for record in watch.records] == [False, True]
    assert [record.usage.output_tokens for record in watch.records] == [350, 350]


def test_spans_belong_to_who_asked(watch: Watch) -> None:
    """A response's span is a child of the span in which it was asked for, whoever reads the answer."""
    tracer = watch.tracer_provider.get_tracer("app")
    with server(answering) as url, sync_client(url) as client, client.responses.connect() as connection:
        with tracer.start_as_current_span("asking") as asking:
            connection.response.create(model="gpt-5-mini", input="one")
        with tracer.start_as_current_span("reading"):
            while connection.recv().type != "response.completed":
                pass
    (ours,) = [span for span in watch.spans if span.name.startswith("chat")]
    assert ours.parent == asking.get_span_context()


def failing(socket: ServerConnection) -> None:
    next(iter(socket))
    error = {"code": "previous_response_not_found", "message": "gone", "type": "invalid_request_error"}
    socket.send(json.dumps({"type": "error", "status": 400, "error": error}))
    for _ in socket:
        pass


def test_error_event(watch: Watch) -> None:
    """An error event is the end of the request that it answers, with the provider's own words."""
    with server(failing) as url, sync_client(url) as client, client.responses.connect() as connection:
        connection.response.create(model="gpt-5-mini", input="one")
        assert connection.recv().type == "error"
        assert watch.observer.open_calls == {}
    record, _ = watch.only()
    assert (record.status, record.error_type, record.error_message) == ("error", "previous_response_not_found", "gone")


def cutting(socket: ServerConnection) -> None:
    """Breaks off in the middle of a response, as the request says how."""
    how = json.loads(next(iter(socket)))["input"]
    for event in events("resp_1")[:5]:
        socket.send(event)
    socket.close(1000 if how == "ok" else 1011)


def read_on(connection: Any) -> None:
    while True:
        connection.recv()


@pytest.mark.parametrize(("how", "status"), [("ok", "incomplete"), ("error", "error")])
def test_connection_lost(how: str, status: str, watch: Watch) -> None:
    """A connection that closes mid-response leaves what had come; an abnormal end is an error."""
    with server(cutting) as url, sync_client(url) as client, client.responses.connect() as connection:
        connection.response.create(model="gpt-5-mini", input=how)
        with pytest.raises(ConnectionClosed):
            read_on(connection)
    record, span = watch.only()
    assert record.status == status
    assert "Hello" in (record.response_json or "")
    assert record.usage.source == "none"
    assert span.end_time is not None


def starting(socket: ServerConnection) -> None:
    next(iter(socket))
    for event in events("resp_1")[:5]:
        socket.send(event)
    for _ in socket:
        pass


def begun(url: str) -> Any:
    """A connection with a response in its middle."""
    connection = sync_client(url).responses.connect().enter()
    connection.response.create(model="gpt-5-mini", input="one")
    while connection.recv().type != "response.output_text.delta":
        pass
    return connection


def test_caller_closes(watch: Watch) -> None:
    """Closing the connection mid-response: closed early, with what was received."""
    with server(starting) as url:
        begun(url).close()
    record, _ = watch.only()
    assert record.status == "closed_early"
    assert "Hello" in (record.response_json or "")


def leaving(socket: ServerConnection) -> None:
    """Sends the beginning of a response, and closes."""
    next(iter(socket))
    for event in events("resp_1")[:5]:
        socket.send(event)


def collected(socket: weakref.ref[Any]) -> None:
    """Wait until a socket is gone; its own thread lets go of it last."""
    deadline = time.monotonic() + 20
    while socket() is not None and time.monotonic() < deadline:
        gc.collect()
        threading.Event().wait(0.01)
    assert socket() is None


def test_caller_drops(watch: Watch) -> None:
    """A connection that nobody holds any more ends its responses once its socket is gone, but not in the finaliser."""
    with server(leaving) as url:
        collected(weakref.ref(begun(url)._connection))
    assert len(watch.observer.open_calls) == 1
    record, _ = watch.only()
    assert record.status == "closed_early"
    assert watch.observer.open_calls == {}


def test_a_drop_that_raises(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong at the end of a dropped connection is told once, and not in the finaliser."""
    with watching() as watch:
        real = _Connection._pop_calls

        def failing(connection: _Connection) -> Any:
            # not for what earlier tests have dropped, which is collected at any time
            return 1 / 0 if connection._hooks.observer is watch.observer else real(connection)

        monkeypatch.setattr(_Connection, "_pop_calls", failing)
        with server(leaving) as url:
            collected(weakref.ref(begun(url)._connection))
        assert (_guard.failures(), caplog.messages) == ({}, [])
        assert watch.records == []
        assert _guard.failures() == {"socket.dropped": 1}
        (line,) = caplog.records
        assert line.args == ("socket.dropped", "ZeroDivisionError")
        _guard.reset_error_counts()


def test_suppressed(watch: Watch) -> None:
    """``suppress_instrumentation`` around a request: its response is not recorded, the next one is."""
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    with server(answering) as url, sync_client(url) as client, client.responses.connect() as connection:
        for text in ("one", "two"):
            if text == "one":
                with suppress_instrumentation():
                    connection.response.create(model="gpt-5-mini", input=text)
            else:
                connection.response.create(model="gpt-5-mini", input=text)
            while connection.recv().type != "response.completed":
                pass
    check(watch, "resp_2")


def test_the_connection_is_the_sdks_own(watch: Watch) -> None:
    """Types of connection and socket are what they are without us."""
    with server(answering) as url, sync_client(url) as client, client.responses.connect() as connection:
        assert type(connection).__module__ == "openai.resources.responses.responses"
        assert type(connection._connection).__module__.startswith("websockets.")
        assert connection._connection.recv.__name__ == "recv"
