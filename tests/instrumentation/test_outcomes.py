"""What the matrix of outcomes does not ask: times, broken gateways, on which thread a span ends, leftovers of ours."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx2
import openai
import pytest

from llmspan import _guard
from llmspan.instrumentation.body import Body
from llmspan.instrumentation.tee import observe_events_async
from replay import Pieces, client_for
from streams import ALL, BETA_MESSAGES, CHAT, MESSAGES, RESPONSES, Api
from watching import Watch, watching

apis = pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
SSE = {"content-type": "text/event-stream"}


def stamp_chunks(monkeypatch: pytest.MonkeyPatch, clock: Callable[[], int]) -> None:
    """Have the moments of chunks from ``clock``."""
    for module in ("chunk_collector", "tee"):
        monkeypatch.setattr(f"llmspan.instrumentation.{module}.perf_counter_ns", clock)


def server(pieces: list[bytes], error: Callable[[], BaseException] | None = None) -> httpx2.MockTransport:
    return httpx2.MockTransport(lambda _: httpx2.Response(200, headers=SSE, stream=Pieces(pieces, error)))


def client_of(api: Api, mock: httpx2.MockTransport) -> Any:
    return client_for(api.provider, mock, base_url="http://local.test/v1")


def stream_of(api: Api, mock: httpx2.MockTransport) -> Any:
    return api.method(client_of(api, mock))(**api.arguments, stream=True)


@apis
@pytest.mark.peer_fault("A4", "C10")
def test_time_to_first_chunk_is_of_the_first_output(api: Api, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the role, not ``message_start``, not a ping: the first event that carries what the model produced."""
    moments = iter(range(1_000_000, 9_000_000, 1_000))
    stamp_chunks(monkeypatch, lambda: next(moments))
    monkeypatch.setattr("llmspan.instrumentation.call.perf_counter_ns", lambda: 0)
    for _ in stream_of(api, server(api.stream)):
        pass
    (record,) = watch.records
    assert record.time_to_first_chunk_ns == 1_000_000 + api.first_output * 1_000


HELPERS: dict[str, tuple[Api, Callable[[Any], Any]]] = {
    "chat.completions.stream": (CHAT, lambda stream: list(stream)),
    "chat get_final_completion": (CHAT, lambda stream: stream.get_final_completion()),
    "responses.stream": (RESPONSES, lambda stream: list(stream)),
    "responses get_final_response": (RESPONSES, lambda stream: stream.get_final_response()),
    "messages.stream": (MESSAGES, lambda stream: list(stream)),
    "messages text_stream": (MESSAGES, lambda stream: list(stream.text_stream)),
    "messages get_final_message": (MESSAGES, lambda stream: stream.get_final_message()),
    "messages get_final_text": (MESSAGES, lambda stream: stream.get_final_text()),
    "messages until_done": (MESSAGES, lambda stream: stream.until_done()),
    "beta.messages text_stream": (BETA_MESSAGES, lambda stream: list(stream.text_stream)),
    "beta.messages get_final_message": (BETA_MESSAGES, lambda stream: stream.get_final_message()),
}


@pytest.mark.parametrize("name", HELPERS)
@pytest.mark.peer_fault("A4")
def test_helpers_are_timed_and_counted_like_streams(name: str, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """``text_stream`` and ``get_final_message()`` skip events; time to first chunk and chunk count do not change."""
    api, read = HELPERS[name]
    moments = iter(range(1_000_000, 9_000_000, 1_000))
    stamp_chunks(monkeypatch, lambda: next(moments))
    monkeypatch.setattr("llmspan.instrumentation.call.perf_counter_ns", lambda: 0)
    with api.method(client_of(api, server(api.stream)), api.path.replace("create", "stream"))(
        **api.arguments
    ) as stream:
        read(stream)
    (record,) = watch.records
    assert record.time_to_first_chunk_ns == 1_000_000 + api.first_output * 1_000
    assert record.chunk_count == sum(b"[DONE]" not in piece and b'"ping"' not in piece for piece in api.stream)
    assert (record.status, record.usage.output_tokens) == ("ok", api.output_tokens)


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
    (record,) = watch.records
    assert (record.status, record.response_id) == ("ok", "c")
    assert record.usage.input_tokens is None


@apis
def test_a_collected_stream_ends_on_another_thread(api: Api, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the collector takes a dropped stream apart, no span is ended inside a finaliser: it is handed over."""
    concluded: list[str] = []
    original = watch.observer.__class__.finish_call

    def conclude(self: Any, call: Any) -> None:
        concluded.append(call.id)
        original(self, call)

    monkeypatch.setattr(watch.observer.__class__, "finish_call", conclude)
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


@apis
def test_a_failed_call_holds_on_to_no_frame(api: Api, watch: Watch) -> None:
    """While its record waits to be made, nothing of the caller's is kept alive by the exception that he got."""
    streams: list[weakref.ref[Any]] = []

    def lose() -> None:
        stream = stream_of(api, server(api.stream[:2], lambda: httpx2.ReadTimeout("slow")))
        streams.append(weakref.ref(stream))
        list(stream)

    with pytest.raises(Exception, match=r"slow|timed out"):
        lose()
    gc.collect()
    assert len(watch.pending) == 1
    assert streams[0]() is None
    assert watch.records[0].error_message in ("slow", "Request timed out. Caused by httpx2.ReadTimeout: slow")


@pytest.mark.parametrize("name", ["_build_request", "request"])
def test_our_leftovers_under_another_patch_are_silent(name: str) -> None:
    """A wrapper of ours that somebody patched over stays in place after we leave; later it counts and hides nothing."""
    kind: Any = openai._base_client.BaseClient if name == "_build_request" else openai._base_client.SyncAPIClient
    bare = getattr(kind, name)
    with watching():
        leftover = getattr(kind, name)
        setattr(kind, name, lambda self, *args, **kwargs: leftover(self, *args, **kwargs))
    try:
        with watching(include_usage="off") as again:
            list(stream_of(CHAT, server(CHAT.stream)))
        assert [record.attempts for record in again.records] == [1]
    finally:
        setattr(kind, name, bare)


def test_time_is_asked_for_only_until_the_first_output(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long stream stops being stamped soon after its output began."""
    stamps: list[int] = []
    stamp_chunks(monkeypatch, lambda: stamps.append(1) or len(stamps))
    delta = MESSAGES.stream[MESSAGES.first_output]
    for _ in stream_of(MESSAGES, server([*MESSAGES.stream[:3], *[delta] * 1000, *MESSAGES.stream[-3:]])):
        pass
    assert 4 <= len(stamps) <= 100
    (record,) = watch.records
    assert record.time_to_first_chunk_ns is not None


EMPTY_DELTAS = {
    "a role": {"role": "assistant", "content": ""},
    "nothing": {},
    "null": {"content": None, "refusal": None},
    "empty reasoning": {"role": "assistant", "content": "", "reasoning": "", "reasoning_details": []},
}


@pytest.mark.parametrize("count", [17, 100, 1000])
@pytest.mark.parametrize("kind", EMPTY_DELTAS)
def test_the_first_output_behind_empty_deltas(
    kind: str, count: int, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many empty deltas a model sends while it thinks, the time of its first output is known."""
    reads: list[int] = []
    stamp_chunks(monkeypatch, lambda: reads.append(1) or 10**12 + len(reads))
    monkeypatch.setattr("llmspan.instrumentation.call.perf_counter_ns", lambda: 10**12)
    chunk = {"id": "c", "choices": [{"index": 0, "delta": EMPTY_DELTAS[kind], "finish_reason": None}]}
    empty = f"data: {json.dumps(chunk)}\n\n".encode()
    words = CHAT.stream[CHAT.first_output :]
    for _ in stream_of(CHAT, server([*[empty] * count, *words])):
        pass
    (record,) = watch.records
    assert (record.time_to_first_chunk_ns, record.status) == (count + 1, "ok")


@pytest.mark.parametrize("api", [MESSAGES, RESPONSES], ids=lambda api: api.name)
def test_the_first_output_behind_empty_events(api: Api, watch: Watch) -> None:
    """The same for messages and responses, whose gateways send empty deltas and pings."""
    head, tail = api.stream[: api.first_output], api.stream[api.first_output :]
    data = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ""}}
    if api is RESPONSES:
        data = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "",
                "item_id": "i", "sequence_number": 1, "logprobs": []}  # fmt: skip
    empty = f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()
    for _ in stream_of(api, server([*head, *[empty] * 100, *tail])):
        pass
    (record,) = watch.records
    assert record.time_to_first_chunk_ns is not None


def test_a_defect_while_pieces_are_timed_invents_no_time(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces behind the one that failed cannot be told apart by their times: none is named, and no byte is lost."""

    def fail(_: Body) -> None:
        raise MemoryError

    monkeypatch.setattr(Body, "trim", fail)
    delta = MESSAGES.stream[MESSAGES.first_output]
    pieces = [*[b": still there\n\n"] * 40, *MESSAGES.stream[:3], *[delta] * 100, *MESSAGES.stream[-3:]]
    for _ in stream_of(MESSAGES, server(pieces)):
        pass
    (record,) = watch.records
    assert (record.time_to_first_chunk_ns, record.response_bytes) == (None, sum(map(len, pieces)))
    assert (record.status, record.usage.output_tokens) == ("ok", MESSAGES.output_tokens)
    assert _guard.failures().keys() == {"tee.take"}
    _guard.reset_error_counts()


@pytest.mark.anyio
async def test_a_loop_that_closes_all_generators_at_once() -> None:
    """A loop that ends closes the SDK's generator and ours side by side; ours leaves the other one to it."""
    gate = asyncio.Event()
    ends: list[str] = []

    async def events() -> Any:
        try:
            yield 1
        finally:
            await gate.wait()

    observer = SimpleNamespace(on_abandon=lambda _: ends.append("abandoned"))
    call: Any = SimpleNamespace(hides_event=None, observer=observer)
    theirs = events()
    ours: Any = observe_events_async(theirs, call)
    assert await anext(ours) == 1
    closing = asyncio.create_task(theirs.aclose())
    await asyncio.sleep(0)
    await ours.aclose()
    assert ends == ["abandoned"]
    gate.set()
    await closing
