"""However a call ends: one span, ended; one record; the right status; and for the caller nothing new."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from replay import Pieces, client_for
from streams import ALL, CHAT, MESSAGES, WORDS, Api
from watching import Watch, watching

apis = pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
SSE = {"content-type": "text/event-stream"}


def server(pieces: list[bytes], error: Callable[[], BaseException] | None = None) -> httpx2.MockTransport:
    return httpx2.MockTransport(lambda _: httpx2.Response(200, headers=SSE, stream=Pieces(pieces, error)))


def failing(status: int, body: Any, headers: dict[str, str] | None = None) -> httpx2.MockTransport:
    return httpx2.MockTransport(lambda _: httpx2.Response(status, json=body, headers=headers or {}))


def stream_of(api: Api, mock: httpx2.MockTransport) -> Any:
    client = client_for(api.provider, mock, base_url="http://local.test/v1")
    return api.method(client)(**api.arguments, stream=True)


async def async_stream_of(api: Api, mock: httpx2.MockTransport) -> Any:
    client = client_for(api.provider, mock, is_async=True, base_url="http://local.test/v1")
    return await api.method(client)(**api.arguments, stream=True)


def check(watch: Watch, status: str, *, error: str | None = None) -> Any:
    """One span and one record that agree; the record."""
    record, span = watch.only()
    assert span.end_time is not None
    assert record.status == status
    assert (span.attributes or {})["llmspan.status"] == status
    assert span.status.status_code is (StatusCode.ERROR if status == "error" else StatusCode.UNSET)
    assert record.error_type == error
    assert (span.attributes or {}).get("error.type") == error
    assert not trace.get_current_span().get_span_context().is_valid
    assert watch.observer.open_calls == {}
    return record


def text_in(record: Any) -> str:
    """The text of a reassembled response."""
    return "".join(word for word in WORDS if word in (record.response_json or "").encode().decode())


@apis
def test_read_to_the_end(api: Api, watch: Watch) -> None:
    """A stream that was read to its end is ok, and complete."""
    for _ in stream_of(api, server(api.stream)):
        pass
    record = check(watch, "ok")
    assert (record.usage.input_tokens, record.usage.output_tokens) == (api.input_tokens, api.output_tokens)
    assert record.response_id == api.response_id
    assert "".join(WORDS) in json.dumps(json.loads(record.response_json), ensure_ascii=False)


@apis
@pytest.mark.parametrize("how", ["break", "close", "with", "raise", "unread"])
def test_caller_stops_early(api: Api, how: str, watch: Watch) -> None:
    """Break, close, leaving the block, raising in it, not reading at all: closed_early, with what was received."""

    def run() -> None:
        stream = stream_of(api, server(api.stream))
        if how == "unread":
            return
        if how == "close":
            for _ in range(api.first_output + 1):
                next(stream)
            stream.close()
            return
        if how == "break":
            for number, _ in enumerate(stream):
                if number == api.first_output:
                    break
            return
        with stream:
            for number, _ in enumerate(stream):
                if number == api.first_output:
                    if how == "raise":
                        raise LookupError("mine")
                    break

    if how == "raise":
        with pytest.raises(LookupError, match="mine"):
            run()
    else:
        run()
    gc.collect()
    record = check(watch, "closed_early")
    assert record.usage.output_tokens is None  # the placeholder of message_start is no figure
    assert record.usage.source in ("none", "partial")
    if how != "unread":
        assert WORDS[0] in record.response_json


@pytest.mark.anyio
@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
@pytest.mark.parametrize("how", ["break", "close", "with", "raise", "unread"])
async def test_async_caller_stops_early(api: Api, how: str, watch: Watch) -> None:
    """The same, async."""

    async def run() -> None:
        stream = await async_stream_of(api, server(api.stream))
        if how == "unread":
            return
        if how == "close":
            for _ in range(api.first_output + 1):
                await anext(stream)
            await stream.close()
            return
        if how == "break":
            number = 0
            async for _ in stream:
                number += 1
                if number > api.first_output:
                    break
            return
        async with stream:
            async for _ in stream:
                if how == "raise":
                    raise LookupError("mine")
                break

    if how == "raise":
        with pytest.raises(LookupError, match="mine"):
            await run()
    else:
        await run()
    gc.collect()
    for _ in range(10):  # nested async generators are closed by the loop, one level a turn
        await asyncio.sleep(0)
    gc.collect()
    check(watch, "closed_early")


@apis
def test_cut_without_terminal_event(api: Api, watch: Watch) -> None:
    """Bytes that end before the provider said so: incomplete, finish reason ``error``, no invented usage."""
    for _ in stream_of(api, server(api.stream[: -api.tail])):
        pass
    record = check(watch, "incomplete")
    _, span = watch.only()
    assert "error" in (span.attributes or {})["gen_ai.response.finish_reasons"] or record.finish_reasons == (
        "in_progress",
    )
    assert record.usage.output_tokens is None
    assert record.usage.input_tokens == api.early_input_tokens
    assert record.usage.source == ("partial" if api.early_input_tokens else "none")


@apis
def test_connection_lost_mid_stream(api: Api, watch: Watch) -> None:
    """The caller gets the SDK's exception, the record its class and what had come."""
    lost = httpx2.ReadError("peer gone")
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which class it is, is the SDK's affair
        for _ in stream_of(api, server(api.stream[: api.first_output + 1], lambda: lost)):
            pass
    assert raised.value is lost or raised.value.__cause__ is lost
    kind = type(raised.value)
    record = check(watch, "error", error=f"{kind.__module__}.{kind.__qualname__}")
    assert WORDS[0] in record.response_json


@pytest.mark.anyio
@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
async def test_async_connection_lost(api: Api, watch: Watch) -> None:
    """The same, async."""
    lost = httpx2.ReadError("peer gone")
    with pytest.raises(Exception) as raised:  # noqa: PT011
        async for _ in await async_stream_of(api, server(api.stream[: api.first_output + 1], lambda: lost)):
            pass
    assert raised.value is lost or raised.value.__cause__ is lost
    check(watch, "error", error=f"{type(raised.value).__module__}.{type(raised.value).__qualname__}")


ERROR_EVENTS = {
    "openai": b'data: {"error": {"message": "busy", "type": "server_error", "code": "overloaded"}}\n\n',
    "anthropic": b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}\n\n',
}


@apis
def test_error_event_mid_stream(api: Api, watch: Watch) -> None:
    """An error event: the SDK raises, the record says the provider's own type."""
    pieces = [*api.stream[: api.first_output + 1], ERROR_EVENTS[api.provider]]
    with pytest.raises(Exception, match="busy"):
        for _ in stream_of(api, server(pieces)):
            pass
    told = "server_error" if api.provider == "openai" else "overloaded_error"
    record = check(watch, "error", error=told)
    assert record.error_message == "busy"
    assert WORDS[0] in record.response_json


@apis
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
def test_http_error(api: Api, status: int, watch: Watch) -> None:
    """An error before the first byte: status, provider's type and message, request and error body."""
    body = {"type": "error", "error": {"type": "some_error", "message": "no", "code": None}}
    headers = {"x-request-id": "req_1", "request-id": "req_1"}
    with pytest.raises(Exception, match="no") as raised:
        stream_of(api, failing(status, body, headers))
    assert raised.value.status_code == status  # type: ignore[attr-defined]
    record = check(watch, "error", error="some_error")
    assert (record.http_status, record.request_id, record.error_message) == (status, "req_1", "no")
    assert json.loads(record.response_json) == body
    assert json.loads(record.request_json)["model"] == api.arguments["model"]
    assert record.usage.source == "none"


@apis
def test_retries_are_one_call(api: Api, watch: Watch) -> None:
    """Attempts that failed and one that succeeded are one span, one record, and a count."""
    answers = [httpx2.Response(429, json={}, headers={"retry-after-ms": "1"}) for _ in range(2)]
    answers.append(httpx2.Response(200, headers=SSE, stream=Pieces(api.stream)))
    mock = httpx2.MockTransport(lambda _: answers.pop(0))
    client = client_for(api.provider, mock, max_retries=2, base_url="http://local.test/v1")
    for _ in api.method(client)(**api.arguments, stream=True):
        pass
    record = check(watch, "ok")
    _, span = watch.only()
    assert record.attempts == 3
    assert (span.attributes or {})["http.request.resend_count"] == 2


@apis
def test_connection_refused(api: Api, watch: Watch) -> None:
    """No server: the SDK's exception, and a record with the request that was not answered."""

    def refuse(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with pytest.raises(Exception, match="Connection error") as raised:
        stream_of(api, httpx2.MockTransport(refuse))
    kind = type(raised.value)
    record = check(watch, "error", error=f"{kind.__module__}.{kind.__qualname__}")
    assert record.http_status is None
    assert json.loads(record.request_json)["model"] == api.arguments["model"]


@pytest.mark.anyio
@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
@pytest.mark.parametrize("when", ["before the first byte", "between chunks"])
async def test_task_cancelled(api: Api, when: str, watch: Watch) -> None:
    """A cancelled task: status cancelled, the same CancelledError, what was received is kept."""
    reached, never = asyncio.Event(), asyncio.Event()

    class Waits(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            for piece in api.stream[: api.first_output + 1]:
                yield piece
            reached.set()
            await never.wait()

    async def answer(_: httpx2.Request) -> httpx2.Response:
        if when == "before the first byte":
            reached.set()
            await never.wait()
        return httpx2.Response(200, headers=SSE, stream=Waits())

    async def run() -> None:
        async for _ in await async_stream_of(api, httpx2.MockTransport(answer)):
            pass

    task = asyncio.create_task(run())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    record = check(watch, "cancelled", error="asyncio.exceptions.CancelledError")
    assert json.loads(record.request_json)["model"] == api.arguments["model"]
    if when == "between chunks":
        assert WORDS[0] in record.response_json


def test_keyboard_interrupt(watch: Watch) -> None:
    """Ctrl-C while waiting is the caller's interruption, not an error of the call."""

    def interrupt() -> BaseException:
        return KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        for _ in stream_of(CHAT, server(CHAT.stream[:3], interrupt)):
            pass
    check(watch, "cancelled", error="KeyboardInterrupt")


@apis
def test_made_in_one_thread_and_read_in_another(api: Api, watch: Watch) -> None:
    """Threads may hand streams over: no context leaks into either of them."""
    tracer = watch.tracer_provider.get_tracer("app")
    with tracer.start_as_current_span("caller") as caller:
        stream = stream_of(api, server(api.stream))
        assert trace.get_current_span() is caller
        thread = threading.Thread(target=lambda: list(stream))
        thread.start()
        thread.join()
        assert trace.get_current_span() is caller
    (record,) = watch.records
    assert record.status == "ok"
    assert record.parent_span_id == f"{caller.get_span_context().span_id:016x}"
    ours = next(span for span in watch.spans if span.name != "caller")
    assert ours.parent == caller.get_span_context()


@apis
def test_spans_made_while_streaming_are_not_re_parented(api: Api, watch: Watch) -> None:
    """Our span is never the current one: what the program traces in its loop stays its own."""
    tracer = watch.tracer_provider.get_tracer("app")
    for _ in stream_of(api, server(api.stream)):
        with tracer.start_as_current_span("mine") as mine:
            assert getattr(mine, "parent", None) is None
    assert sum(span.name != "mine" for span in watch.spans) == 1


@pytest.mark.parametrize("api", [CHAT, MESSAGES], ids=lambda api: api.name)
def test_a_dropped_stream_can_be_collected(api: Api, watch: Watch) -> None:
    """We hold no reference: the stream and its response go when the caller lets go."""
    stream = stream_of(api, server(api.stream))
    next(stream)
    gone = weakref.ref(stream)
    response = weakref.ref(stream.response)
    del stream
    gc.collect()
    assert gone() is None
    assert response() is None
    check(watch, "closed_early")


@apis
def test_time_to_first_chunk_is_of_the_first_output(api: Api, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the role, not ``message_start``, not a ping: the first event that carries what the model produced."""
    moments = iter(range(1_000_000, 9_000_000, 1_000))
    monkeypatch.setattr("llmspan.instrumentation._tee._clock", lambda: next(moments))
    monkeypatch.setattr("llmspan.instrumentation._call.time.perf_counter_ns", lambda: 0)
    for _ in stream_of(api, server(api.stream)):
        pass
    (record,) = watch.records
    assert record.time_to_first_chunk_ns == 1_000_000 + api.first_output * 1_000


def test_a_broken_gateway_does_not_reach_the_caller(watch: Watch) -> None:
    """``index: null`` and other nonsense in chunks: the caller's loop goes on, the record keeps what is known."""
    odd = [
        {"id": None, "choices": [{"index": None, "delta": {"tool_calls": [{"index": None, "function": None}]}}]},
        {"choices": [{"delta": None}, None, {"index": "x", "delta": {"content": 5}}], "usage": "none"},
        {"choices": None, "usage": {"prompt_tokens": "many", "completion_tokens": None}},
        {"id": "c", "choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}]},
    ]
    pieces = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in odd]
    assert len(list(stream_of(CHAT, server([*pieces, b"data: [DONE]\n\n"])))) == len(odd)
    record = check(watch, "ok")
    assert record.response_id == "c"
    assert record.usage.input_tokens is None


@apis
def test_a_collected_stream_ends_on_another_thread(api: Api, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the collector takes a dropped stream apart, no span is ended inside a finaliser: it is handed over."""
    concluded: list[str] = []
    original = watch.observer.__class__.conclude

    def conclude(self: Any, call: Any) -> None:
        concluded.append(call.id)
        original(self, call)

    monkeypatch.setattr(watch.observer.__class__, "conclude", conclude)
    stream = stream_of(api, server(api.stream))
    next(stream)
    gc.collect()  # the stream and its generators are of an older generation now
    circle: list[Any] = [stream]
    circle.append(circle)
    del stream, circle
    gc.collect()
    assert concluded == []  # nothing was ended inline
    assert len(watch.spans) == 1
    assert len(concluded) == 1


def test_our_leftovers_under_another_patch_are_silent() -> None:
    """A wrapper of ours that somebody patched over stays in place after we leave; later it counts nothing."""
    kind = openai._base_client.BaseClient
    bare = kind._build_request
    with watching():
        leftover = kind._build_request
        kind._build_request = lambda self, *args, **kwargs: leftover(self, *args, **kwargs)
    try:
        with watching(include_usage=False) as again:
            list(stream_of(CHAT, server(CHAT.stream)))
        assert [record.attempts for record in again.records] == [1]
    finally:
        kind._build_request = bare


def test_time_is_asked_for_only_until_the_first_output(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long stream stops being stamped soon after its output began; a late first output has no invented time."""
    stamps: list[int] = []
    monkeypatch.setattr("llmspan.instrumentation._tee._clock", lambda: stamps.append(1) or len(stamps))
    delta = MESSAGES.stream[MESSAGES.first_output]
    for _ in stream_of(MESSAGES, server([*MESSAGES.stream[:3], *[delta] * 1000, *MESSAGES.stream[-3:]])):
        pass
    assert 4 <= len(stamps) <= 100
    role, words = CHAT.stream[0], CHAT.stream[1:]
    for _ in stream_of(CHAT, server([*[role] * 1000, *words])):
        pass
    first, second = watch.records
    assert first.time_to_first_chunk_ns is not None
    assert second.time_to_first_chunk_ns is None
    assert second.status == "ok"
