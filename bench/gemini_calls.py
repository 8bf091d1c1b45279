"""What google-genai's calling thread spends on being recorded: a stream of 500 events, and a call that does not stream.

    uv run python bench/gemini_calls.py [ROUNDS]

Bare and observed rounds take turns, over a transport in memory. Each number is the least CPU time of the thread that
one call took in any round: what else the machine does only ever adds to it. The aims: a stream within 1.03 of the bare
SDK, a call within 100 microseconds, on a machine that does nothing else.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
from google import genai
from google.genai import types
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import llmspan

EVENTS = 500
ASKED = {"model": "gemini-2.5-flash", "contents": "hi"}
#: calls of one round
STREAMS, CALLS = 8, 100


def response(text: str, **more: Any) -> bytes:
    """A response, or an event of a stream."""
    return json.dumps({
        "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **more}],
        "usageMetadata": {
            "promptTokenCount": 1200, "candidatesTokenCount": 50, "totalTokenCount": 1250,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1200}],
        },
        "modelVersion": "gemini-2.5-flash", "responseId": "resp-1",
    }).encode()  # fmt: skip


WHOLE = response("word and more " * 50, finishReason="STOP")
STREAM = [
    *(b"data: %b\r\n\r\n" % response("word and more ") for _ in range(EVENTS - 1)),
    b"data: %b\r\n\r\n" % response("end", finishReason="STOP"),
]


class Events(httpx2.SyncByteStream):
    """The body of a stream, one event a chunk."""

    def __iter__(self) -> Iterator[bytes]:
        yield from STREAM


def answer(request: httpx2.Request) -> httpx2.Response:
    if "stream" in request.url.path:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Events())
    return httpx2.Response(200, headers={"content-type": "application/json"}, content=WHOLE)


def least(function: Callable[[], object], times: int) -> float:
    """The least CPU time of one run, in seconds."""
    gc.collect()
    gc.disable()
    best = float("inf")
    for _ in range(times):
        started = time.thread_time()
        function()
        best = min(best, time.thread_time() - started)
        llmspan.flush(30)
    gc.enable()
    return best


def main(rounds: int) -> None:
    warnings.simplefilter("ignore")
    sys.setswitchinterval(60)  # the worker waits until the caller is through, instead of in the middle of it
    trace.set_tracer_provider(TracerProvider())
    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = genai.Client(api_key="bench", http_options=types.HttpOptions(httpx_client=http))
    cases: dict[str, tuple[Callable[[], object], int]] = {
        "stream": (lambda: list(client.models.generate_content_stream(**ASKED)), STREAMS),
        "call": (lambda: client.models.generate_content(**ASKED), CALLS),
    }
    bare = dict.fromkeys(cases, float("inf"))
    observed = dict(bare)
    for _ in range(rounds):
        measure(cases, bare)
        llmspan.instrument(backends="memory")
        measure(cases, observed)
        llmspan.uninstrument()
    for name in cases:
        added = observed[name] - bare[name]
        print(
            f"{name}: bare {bare[name] * 1e6:,.0f} us, observed {observed[name] * 1e6:,.0f} us,"
            f" {added * 1e6:,.0f} us more, {observed[name] / bare[name]:.3f} of bare"
        )


def measure(cases: dict[str, tuple[Callable[[], object], int]], results: dict[str, float]) -> None:
    for name, (function, times) in cases.items():
        function()
        results[name] = min(results[name], least(function, times))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
