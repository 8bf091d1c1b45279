"""Records made by hand: what is said is what is stored, what is not said is read from the response."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from opentelemetry.sdk.trace import TracerProvider

import llmspan
from llmspan import lifecycle, pipeline
from llmspan.backends.memory import MemoryBackend
from llmspan.content import ContentPolicy
from llmspan.errors import BackendError, PermanentError, RecordError, RetryableError, SettingsError
from llmspan.settings import Settings
from llmspan.trace import ProviderTrace
from streams import CHAT

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Memory(MemoryBackend):
    """A store whose writes wait, or fail, as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.writing = threading.Event()
        self.refusal: Exception | None = None

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        self.writing.set()
        assert self.gate.wait(30)
        if self.refusal is not None:
            raise self.refusal
        super().write(traces)


@pytest.fixture
def store() -> Iterator[Memory]:
    lifecycle.close(30)
    memory = Memory()
    pipeline.shared().add(memory)
    yield memory
    memory.gate.set()
    memory.refusal = None
    lifecycle.close(30)
    pipeline.shared().configure(Settings())


def stored(store: Memory, record_id: str) -> ProviderTrace:
    assert llmspan.flush(30)
    trace = store.get(record_id)
    assert trace is not None
    return trace


def test_what_is_said_is_stored(store: Memory) -> None:
    """Every argument has its place in the record; times are exact."""
    record_id = llmspan.record(
        provider="gcp.gemini",
        model="gemini-3",
        operation="generate_content",
        request={"contents": ["hi"]},
        response={"candidates": []},
        usage={"prompt_tokens": 3, "completion_tokens": 0},
        started_at=NOON,
        duration=timedelta(milliseconds=1500),
        time_to_first_chunk=0.25,
        stream=True,
        finish_reasons=["STOP"],
        http_status=200,
        attempts=2,
        response_model="gemini-3-001",
        response_id="r1",
        request_id="q1",
        service_tier="default",
        server_address="generativelanguage.googleapis.com",
        server_port=443,
        sdk="google-genai/2.0",
        source="shop",
        attributes={"tenant": "acme"},
    )
    trace = stored(store, record_id)
    assert (trace.provider, trace.operation, trace.api) == ("gcp.gemini", "generate_content", "generate_content")
    assert (trace.started, trace.duration_ns, trace.time_to_first_chunk_ns) == (NOON, 1_500_000_000, 250_000_000)
    assert (trace.usage.input_tokens, trace.usage.output_tokens) == (3, 0)
    assert (trace.usage.cache_read_tokens, trace.usage.source) == (None, "provider")
    assert (trace.request_json, trace.response_json) == ('{"contents":["hi"]}', '{"candidates":[]}')
    assert (trace.content, trace.status, trace.finish_reasons) == ("full", "ok", ("STOP",))
    assert (trace.request_bytes, trace.response_bytes) == (19, 17)
    assert trace.attributes == {"tenant": "acme"}
    assert (trace.response_model, trace.response_id, trace.request_id) == ("gemini-3-001", "r1", "q1")
    assert (trace.server_address, trace.server_port, trace.sdk, trace.source, trace.attempts) == (
        "generativelanguage.googleapis.com", 443, "google-genai/2.0", "shop", 2,
    )  # fmt: skip


def test_the_least_that_can_be_said(store: Memory) -> None:
    """A provider is enough; nothing is made up."""
    trace = stored(store, llmspan.record(provider="cohere"))
    assert (trace.operation, trace.status, trace.content) == ("chat", "ok", "metadata")
    assert (trace.usage.source, trace.usage.input_tokens, trace.duration_ns) == ("none", None, 0)
    assert (trace.trace_id, trace.span_id, trace.request_bytes) == (None, None, None)


def test_usage_is_found_in_the_response(store: Memory) -> None:
    """Without ``usage``, the response's own usage object is read; the one that is given wins."""
    response = {"usage": {"input_tokens": 7, "output_tokens": 2}}
    assert stored(store, llmspan.record(provider="x", response=response)).usage.input_tokens == 7
    given = llmspan.Usage(input_tokens=1, source="provider")
    assert stored(store, llmspan.record(provider="x", response=response, usage=given)).usage.input_tokens == 1


def test_a_stream_of_a_known_api_is_read(store: Memory) -> None:
    """The bytes of a stream in a shape that llmspan knows become the whole response, with its ids and numbers."""
    wire = b"".join(CHAT.stream)
    trace = stored(store, llmspan.record(provider="vllm", api="chat_completions", stream=True, response=wire))
    assert (trace.response_id, trace.usage.input_tokens) == (CHAT.response_id, CHAT.input_tokens)
    assert (trace.finish_reasons, trace.response_bytes) == (("stop",), len(wire))
    assert "Hello, wörld!" in (trace.response_json or "")
    named = llmspan.record(provider="vllm", api="chat_completions", response=wire, response_id="mine")
    assert stored(store, named).response_id == "mine"


def test_values_are_copied(store: Memory) -> None:
    """What the program changes after the call is not in the record."""
    store.gate.clear()
    request: dict[str, Any] = {"messages": ["a"]}
    usage = {"input_tokens": 1}
    attributes = {"tags": ["x"]}
    record_id = llmspan.record(provider="x", request=request, usage=usage, attributes=attributes)
    request["messages"].append("b")
    usage["input_tokens"] = 2
    attributes["tags"].append("y")
    store.gate.set()
    trace = stored(store, record_id)
    assert (trace.request_json, trace.usage.raw, trace.attributes) == (
        '{"messages":["a"]}', {"input_tokens": 1}, {"tags": ["x"]},
    )  # fmt: skip


def test_who_is_calling(store: Memory) -> None:
    """``llmspan.context`` and the current span are in the record, which is no span of its own."""
    tracer = TracerProvider().get_tracer("t")
    with llmspan.context(step_id="s", attributes={"a": 1}), tracer.start_as_current_span("turn") as span:
        record_id = llmspan.record(provider="x", attributes={"b": 2})
    trace = stored(store, record_id)
    assert (trace.step_id, trace.attributes) == ("s", {"a": 1, "b": 2})
    context = span.get_span_context()
    assert (trace.trace_id, trace.parent_span_id) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert trace.span_id is None


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        ("slow down", "error", "_OTHER"),
        (ValueError("slow down"), "error", "ValueError"),
        (asyncio.CancelledError("slow down"), "cancelled", "asyncio.exceptions.CancelledError"),
    ],
)
def test_errors(error: Any, status: str, kind: str, store: Memory) -> None:
    """An exception or a message makes it a failed call, an interruption a cancelled one; what is given wins."""
    trace = stored(store, llmspan.record(provider="x", error=error))
    assert (trace.status, trace.error_type, trace.error_message) == (status, kind, "slow down")
    told = llmspan.record(provider="x", error=error, error_type="overloaded", status="incomplete", error_json={"c": 1})
    assert (stored(store, told).status, stored(store, told).error_type) == ("incomplete", "overloaded")
    assert stored(store, told).error_json == {"c": 1}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"provider": 5}, "provider is 5; it must be text"),
        ({"status": "fine"}, "status is 'fine'; it must be one of ok, error"),
        ({"started_at": datetime(2026, 1, 31)}, "without a time zone"),  # noqa: DTZ001
        ({"duration": -1}, "-1 is not a length of time"),
        ({"duration": float("nan")}, "nan is not a length of time"),
        ({"time_to_first_chunk": "soon"}, "'soon' is not a length of time"),
        ({"usage": 5}, "usage is 5; it must be"),
        ({"server_port": "443"}, "server_port is '443'"),
        ({"finish_reasons": [1]}, "finish_reasons is"),
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, Any], message: str, store: Memory) -> None:
    """A value that a record cannot have is an error that names it, and nothing is stored."""
    with pytest.raises(RecordError, match=message):
        llmspan.record(**{"provider": "x"} | wrong)
    assert llmspan.flush(30)
    assert store.list().traces == []


def test_the_same_id_is_the_same_record(store: Memory) -> None:
    """Handed over twice under one id, it is stored once."""
    for _ in range(2):
        assert llmspan.record(provider="x", id="mine") == "mine"
    assert llmspan.flush(30)
    assert [trace.id for trace in store.list().traces] == ["mine"]


def test_the_content_policy_holds(store: Memory) -> None:
    """Metadata only, or cut to size: as for every other record."""
    pipeline.shared().policy = ContentPolicy(keep=False)
    trace = stored(store, llmspan.record(provider="x", request={"a": "secret"}, usage={"input_tokens": 1}))
    assert (trace.request_json, trace.content, trace.usage.input_tokens) == (None, "metadata", 1)
    pipeline.shared().policy = ContentPolicy(max_bytes=300)
    trace = stored(store, llmspan.record(provider="x", request={"a": "x" * 1000}))
    assert (trace.content, trace.request_bytes) == ("truncated", 1008)
    assert len(trace.request_json or "") <= 300


def test_a_full_queue_takes_the_payload_only(store: Memory) -> None:
    """Out of room, the record and its numbers stay."""
    pipeline.shared().configure(Settings(queue_max_bytes=4096))
    trace = stored(store, llmspan.record(provider="x", request={"a": "x" * 10_000}, usage={"input_tokens": 1}))
    assert (trace.request_json, trace.content, trace.usage.input_tokens) == (None, "truncated", 1)


def test_it_never_waits_for_the_store(store: Memory) -> None:
    """A store that does not answer holds nobody up."""
    store.gate.clear()
    ids = {llmspan.record(provider="x") for _ in range(10)}
    assert store.list().traces == []
    store.gate.set()
    assert llmspan.flush(30)
    assert {trace.id for trace in store.list().traces} == ids


def test_without_any_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first record opens what the environment names; settings that are wrong are an error that says so."""
    lifecycle.close(30)
    monkeypatch.setenv("LLMSPAN_BACKENDS", "nowhere")
    with pytest.raises(SettingsError, match="LLMSPAN_BACKENDS=nowhere"):
        llmspan.record(provider="x")
    monkeypatch.setenv("LLMSPAN_BACKENDS", "sqlite")
    monkeypatch.setenv("LLMSPAN_SQLITE_PATH", str(tmp_path / "x.db"))
    record_id = llmspan.record(provider="x")
    assert llmspan.flush(30)
    with llmspan.Reader.from_env() as reader:
        assert reader.get(record_id) is not None
    lifecycle.close(30)


@pytest.mark.anyio
async def test_create_waits_until_it_is_stored(store: Memory) -> None:
    """It comes back when the store has the record, and the loop runs on meanwhile."""
    store.gate.clear()
    waiting = asyncio.create_task(llmspan.create(provider="x", usage={"input_tokens": 1}))
    await asyncio.to_thread(store.writing.wait, 30)
    assert not waiting.done()
    store.gate.set()
    trace = store.get(await waiting)
    assert trace is not None
    assert trace.usage.input_tokens == 1


@pytest.mark.anyio
async def test_create_is_not_in_a_programs_mock_of_sleep(store: Memory) -> None:
    """A test that counts the pauses of its program finds none of ours."""
    program, sleep, pauses = threading.current_thread(), asyncio.sleep, list[float]()

    async def counted(seconds: float) -> None:
        if threading.current_thread() is program:
            pauses.append(seconds)
        else:  # a server of another test, which is still running
            await sleep(seconds)

    store.gate.clear()
    with mock.patch("asyncio.sleep", counted):
        waiting = asyncio.create_task(llmspan.create(provider="x"))
        await asyncio.to_thread(store.writing.wait, 30)
        store.gate.set()
        assert store.get(await waiting) is not None
    assert not pauses


@pytest.mark.anyio
async def test_create_waits_for_its_own_only(store: Memory) -> None:
    """Records of others that go on arriving do not keep it waiting."""
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            llmspan.record(provider="busy")
            while llmspan.status()[0].queued > 100 and not stop.wait(0.001):  # not so many that the queue drops some
                pass

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        async with asyncio.timeout(30):
            record_id = await llmspan.create(provider="x")
    finally:
        stop.set()
        thread.join()
    assert store.get(record_id) is not None


@pytest.mark.anyio
async def test_create_says_if_it_was_not_stored(store: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that the store refuses, or does not take in time, is an error with the store's own reason."""
    store.refusal = PermanentError("no such column")
    with pytest.raises(BackendError, match=r"was not stored: memory: PermanentError: no such column"):
        await llmspan.create(provider="x")
    store.refusal = RetryableError("gone for lunch")
    monkeypatch.setenv("LLMSPAN_WRITE_TIMEOUT", "0")
    with pytest.raises(BackendError, match=r"is not stored yet; it stays queued"):
        await llmspan.create(provider="x")
    with pytest.raises(RecordError):
        await llmspan.create(provider=5)  # type: ignore[arg-type]


def test_create_and_record_take_the_same() -> None:
    """One signature, one to wait for and one not."""
    assert inspect.signature(llmspan.create).parameters == inspect.signature(llmspan.record).parameters
    assert inspect.iscoroutinefunction(llmspan.create)
    assert "event loops" in (llmspan.create.__doc__ or "")
    documented = {line.partition(":")[0].strip() for line in (llmspan.record.__doc__ or "").splitlines()}
    assert set(inspect.signature(llmspan.record).parameters) <= documented


def test_what_a_record_has_can_be_said() -> None:
    """Every key that is not the context's, the pipeline's or the span's is an argument."""
    others = {
        "trace_id", "span_id", "parent_span_id", "schema_version", "content", "request_bytes", "response_bytes",
        "chunk_count", "duration_ns", "time_to_first_chunk_ns", "request_json", "response_json", "request_model",
        "error_message",
    }  # fmt: skip
    scope = {field.name for field in dataclasses.fields(llmspan.call_context.CallContext)}
    keys = {field.name for field in dataclasses.fields(ProviderTrace)} - others - scope
    assert keys <= set(inspect.signature(llmspan.record).parameters)
