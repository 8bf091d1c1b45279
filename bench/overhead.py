"""What llmspan adds to a call and to a chunk, over the bare SDK in the same run.

    uv run python bench/overhead.py            # table
    uv run python bench/overhead.py --json     # the same as JSON
    uv run python bench/overhead.py --readme   # write the table into README.md

Calls go over an in-memory transport (no sockets), a streamed reply arrives event by event. Bare and observed calls
alternate in blocks; the figures are medians over the pairs of blocks. "Added" is CPU time of the calling thread: what
the program waits for. "Worker" is the CPU time that llmspan spends beside it, on its own threads, to reassemble and
store. The observed side has everything on: a recording span to a batch processor, the full record to SQLite.

Between two calls the worker does its work and leaves the processor's caches cold; it does so on both sides (on the bare
one with a record of an earlier call), so that the difference is what a call costs and not what a cold cache costs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import llmspan
from llmspan import pipeline, wiring

CHUNKS = 500
README = Path(__file__).parents[1] / "README.md"


@dataclass
class Row:
    """One line of the table; microseconds."""

    surface: str
    bare_us: float
    added_us: float
    ratio: float
    added_us_per_chunk: float | None
    worker_us: float


class Discard(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Events(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def __iter__(self) -> Any:
        yield from self.pieces

    async def __aiter__(self) -> Any:
        for piece in self.pieces:
            yield piece


def sse(event: dict[str, Any], *, named: bool = False) -> bytes:
    name = f"event: {event['type']}\n" if named else ""
    return f"{name}data: {json.dumps(event, separators=(',', ':'))}\n\n".encode()


def chat_chunks() -> list[bytes]:
    base = {"id": "chatcmpl-9fK2", "object": "chat.completion.chunk", "created": 1790000000, "model": "gpt-5-mini"}
    base |= {"service_tier": "default", "system_fingerprint": "fp_44709d6fcb"}

    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return sse({**base, "choices": [choice], "usage": None, "obfuscation": "x7Kq2"})

    usage = {"prompt_tokens": 1200, "completion_tokens": 350, "total_tokens": 1550}
    usage |= {"prompt_tokens_details": {"cached_tokens": 1024}, "completion_tokens_details": {"reasoning_tokens": 128}}
    pieces = [chunk({"role": "assistant", "content": ""})]
    pieces += [chunk({"content": f" word{n}"}) for n in range(CHUNKS - 3)]
    return [*pieces, chunk({}, "stop"), sse({**base, "choices": [], "usage": usage}), b"data: [DONE]\n\n"]


def response_events() -> list[bytes]:
    response: dict[str, Any] = {
        "id": "resp_1", "object": "response", "created_at": 1790000000, "status": "in_progress", "model": "gpt-5-mini",
        "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": None,
    }  # fmt: skip
    usage = {"input_tokens": 1200, "output_tokens": 350, "total_tokens": 1550}
    usage |= {"input_tokens_details": {"cached_tokens": 1024}, "output_tokens_details": {"reasoning_tokens": 128}}
    where = {"item_id": "msg_1", "output_index": 0}
    text = "".join(f" word{n}" for n in range(CHUNKS - 6))
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **where, "content_index": 0, "part": {**part, "text": ""}},
    ]
    delta = {"type": "response.output_text.delta", **where, "content_index": 0, "logprobs": []}
    events += [{**delta, "delta": f" word{n}"} for n in range(CHUNKS - 6)]
    events += [
        {"type": "response.output_text.done", **where, "content_index": 0, "text": text},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {
            "type": "response.completed",
            "response": {**response, "status": "completed", "output": [item], "usage": usage},
        },
    ]
    return [sse({**event, "sequence_number": n}, named=True) for n, event in enumerate(events)]


def message_events() -> list[bytes]:
    usage = {"input_tokens": 12, "cache_read_input_tokens": 30000, "cache_creation_input_tokens": 2000}
    usage |= {"cache_creation": {"ephemeral_5m_input_tokens": 1500, "ephemeral_1h_input_tokens": 500}}
    message: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5"}
    message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 7}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    delta = {"type": "content_block_delta", "index": 0}
    events += [{**delta, "delta": {"type": "text_delta", "text": f" word{n}"}} for n in range(CHUNKS - 5)]
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    events += [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {**usage, "output_tokens": 250}},
        {"type": "message_stop"},
    ]
    return [sse(event, named=True) for event in events]


CHAT = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1790000000, "model": "gpt-5-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris. " * 50}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1200, "completion_tokens": 350, "total_tokens": 1550},
}  # fmt: skip
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5",
    "content": [{"type": "text", "text": "Paris. " * 50}], "stop_reason": "end_turn", "stop_sequence": None,
    "usage": {
        "input_tokens": 12, "cache_read_input_tokens": 30000, "cache_creation_input_tokens": 0, "output_tokens": 250,
    },
}  # fmt: skip
PROMPT = [{"role": "user", "content": "Tell me about Paris. " * 40}]
CHAT_BODY = {"model": "gpt-5-mini", "messages": PROMPT, "temperature": 0.2}
RESPONSES_BODY = {"model": "gpt-5-mini", "input": PROMPT, "temperature": 0.2}
MESSAGES_BODY = {"model": "claude-sonnet-5", "messages": PROMPT, "max_tokens": 1000}


def mock(pieces: list[bytes], content_type: str) -> httpx2.MockTransport:
    headers = {"content-type": content_type, "x-request-id": "req_1", "request-id": "req_1"}
    return httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, stream=Events(pieces)))


def streaming(pieces: list[bytes]) -> httpx2.MockTransport:
    return mock(pieces, "text/event-stream")


def unary(body: dict[str, Any]) -> httpx2.MockTransport:
    return mock([json.dumps(body).encode()], "application/json")


def openai_client(transport: httpx2.MockTransport) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=transport))


def anthropic_client(transport: httpx2.MockTransport) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="k", open_telemetry=False, http_client=httpx2.Client(transport=transport))


def drain(stream: Any) -> None:
    for _ in stream:
        pass


def surfaces() -> dict[str, tuple[Callable[[], Any], int | None]]:
    """Name -> (one call, its number of chunks)."""
    chat, responses, messages = streaming(chat_chunks()), streaming(response_events()), streaming(message_events())
    a, b, c = openai_client(chat), openai_client(responses), anthropic_client(messages)
    d, e = openai_client(unary(CHAT)), anthropic_client(unary(MESSAGE))
    loop = asyncio.new_event_loop()
    f = openai.AsyncOpenAI(api_key="k", http_client=httpx2.AsyncClient(transport=chat))
    g = openai.AsyncOpenAI(api_key="k", http_client=httpx2.AsyncClient(transport=responses))
    h = anthropic.AsyncAnthropic(api_key="k", open_telemetry=False, http_client=httpx2.AsyncClient(transport=messages))

    async def adrain(request: Any) -> None:
        async for _ in await request:
            pass

    def run(make: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: loop.run_until_complete(adrain(make()))

    def with_helper() -> None:
        with c.messages.stream(**MESSAGES_BODY) as stream:  # type: ignore[arg-type]
            drain(stream.text_stream)

    options = {"include_usage": True}
    return {
        "chat.completions.create": (lambda: d.chat.completions.create(**CHAT_BODY), None),
        "messages.create": (lambda: e.messages.create(**MESSAGES_BODY), None),
        "chat.completions, stream": (
            lambda: drain(a.chat.completions.create(**CHAT_BODY, stream=True, stream_options=options)),
            CHUNKS,
        ),
        "chat.completions, async stream": (
            run(lambda: f.chat.completions.create(**CHAT_BODY, stream=True, stream_options=options)),
            CHUNKS,
        ),
        "responses, stream": (lambda: drain(b.responses.create(**RESPONSES_BODY, stream=True)), CHUNKS),
        "responses, async stream": (run(lambda: g.responses.create(**RESPONSES_BODY, stream=True)), CHUNKS),
        "messages, stream": (lambda: drain(c.messages.create(**MESSAGES_BODY, stream=True)), CHUNKS),
        "messages, async stream": (run(lambda: h.messages.create(**MESSAGES_BODY, stream=True)), CHUNKS),
        "messages.stream().text_stream": (with_helper, CHUNKS),
    }


def timed(call: Callable[[], Any]) -> float:
    """CPU time of the calling thread, in microseconds."""
    start = time.thread_time_ns()
    call()
    return (time.thread_time_ns() - start) / 1000


class Tap:
    """Stands before the pipeline and remembers the last call that went in."""

    def __init__(self, line: pipeline.Pipeline) -> None:
        self.line = line
        self.last: Any = None
        self.later, self.ensure_started = line.later, line.ensure_started

    def accept(self, pending: Any) -> None:
        self.last = pending
        self.line.accept(pending)

    def again(self) -> None:
        if self.last is not None:
            self.line.accept(self.last)


def block(call: Callable[[], Any], calls: int, between: Callable[[], Any]) -> tuple[float, float]:
    """The median call of a warm block, and what the process did beside the caller, per call."""
    for _ in range(calls // 2 + 1):  # a patched class makes the interpreter specialise its code anew
        call()
    llmspan.flush(30)
    gc.collect()
    others = time.process_time_ns() - time.thread_time_ns()
    times: list[float] = []
    for _ in range(calls):
        times.append(timed(call))
        between()
        llmspan.flush(30)
    others = time.process_time_ns() - time.thread_time_ns() - others
    return statistics.median(times), others / 1000 / calls


def measure(name: str, call: Callable[[], Any], chunks: int | None, pairs: int) -> Row:
    calls = 100 if chunks is None else 4
    figures: list[tuple[float, float, float]] = []
    tap = Tap(pipeline.shared())
    observer = wiring._state.observer
    assert observer is not None
    observer.sink = tap
    call()
    for _ in range(pairs):
        llmspan.uninstrument()
        bare, _ = block(call, calls, tap.again)
        llmspan.instrument()
        observed, beside = block(call, calls, lambda: None)
        figures.append((bare, observed, beside))
    added = statistics.median(observed - bare for bare, observed, _ in figures)
    return Row(
        name,
        round(statistics.median(bare for bare, _, _ in figures), 1),
        round(added, 1),
        round(statistics.median(observed / bare for bare, observed, _ in figures), 3),
        None if chunks is None else round(added / chunks, 3),
        round(statistics.median(beside for _, _, beside in figures), 1),
    )


def table(rows: list[Row]) -> str:
    lines = [
        "| surface | bare SDK, µs | added, µs | ratio | added per chunk, µs | worker, µs |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        chunk = "" if row.added_us_per_chunk is None else f"{row.added_us_per_chunk:.2f}"
        figures = f"{row.bare_us:,.0f} | {row.added_us:,.0f} | {row.ratio:.3f} | {chunk} | {row.worker_us:,.0f}"
        lines.append(f"| `{row.surface}` | {figures} |")
    return "\n".join(lines)


def write_readme(text: str) -> None:
    begin, end = "<!-- overhead: begin -->", "<!-- overhead: end -->"
    before, _, rest = README.read_text().partition(begin)
    _, _, after = rest.partition(end)
    README.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--only", default="", help="measure only surfaces whose name contains this")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--readme", action="store_true")
    options = parser.parse_args()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Discard()))
    trace.set_tracer_provider(provider)
    with tempfile.TemporaryDirectory() as folder:
        llmspan.instrument(backends="sqlite", sqlite_path=Path(folder) / "bench.db")
        rows = [
            measure(name, call, chunks, options.pairs)
            for name, (call, chunks) in surfaces().items()
            if options.only in name
        ]
        llmspan.flush(30)
    print(json.dumps([asdict(row) for row in rows], indent=1) if options.json else table(rows))
    if options.readme:
        write_readme(table(rows))


if __name__ == "__main__":
    main()
