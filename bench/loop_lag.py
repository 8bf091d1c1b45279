"""What 500 streams at once feel of stores that hang: the lag of the event loop, beside the bare SDK in the same run.

    uv run python bench/loop_lag.py           # table
    uv run python bench/loop_lag.py --json    # the same as JSON

A ticker sleeps for a millisecond, again and again, and notes how late it wakes. Bare and observed rounds take turns.
What else the machine does only ever adds to a lag, and p99 shows little else: it is two to five times as long in some
rounds, bare or not. So the quietest quarter of the rounds of each kind is compared, by their medians. All backends hang
in their first write until the last round is over.
"""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx2
import openai

import llmspan
import report
from llmspan import lifecycle, pipeline
from llmspan.backends.memory import MemoryBackend
from replies import chat_chunks
from sdk_calls import CHAT_BODY, CHUNKS, streaming

STREAMS, BACKENDS = 500, 3


class Hanging(MemoryBackend):
    gate = threading.Event()

    def write(self, traces: Sequence[Any]) -> None:
        self.gate.wait()


@dataclass
class Round:
    p50_ms: float
    p99_ms: float
    longest_ms: float


@dataclass
class Result:
    streams: int
    bare: Round
    observed: Round
    p99_ratio: float
    threads_added: int
    memory_added_mib: float
    records_waiting: int


async def one(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(**CHAT_BODY, stream=True, stream_options={"include_usage": True})
    async for _ in stream:
        await asyncio.sleep(random.uniform(0.05, 0.15))  # as a model would pace it


async def tick(lags: list[float], stop: asyncio.Event) -> None:
    while not stop.is_set():
        begun = time.perf_counter()
        await asyncio.sleep(0.001)
        lags.append((time.perf_counter() - begun - 0.001) * 1000)


async def measured(client: openai.AsyncOpenAI, streams: int) -> Round:
    lags: list[float] = []
    stop = asyncio.Event()
    ticking = asyncio.create_task(tick(lags, stop))
    await asyncio.gather(*(one(client) for _ in range(streams)))
    stop.set()
    await ticking
    ordered = sorted(lags)
    p50, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    return Round(round(p50, 3), round(p99, 3), round(ordered[-1], 3))


def quietest(rounds: list[Round]) -> Round:
    quiet = sorted(rounds, key=lambda one: one.p99_ms)[: max(1, len(rounds) // 4)]
    return Round(*(round(statistics.median(getattr(r, name) for r in quiet), 3) for name in Round.__annotations__))


def is_observed(number: int) -> bool:
    """Which kind a round is: bare, observed, observed, bare, and so on, so that neither always comes first."""
    return number % 4 in (1, 2)


async def run(rounds: int, chunks: int, streams: int) -> Result:
    pieces = chat_chunks(CHUNKS)
    client = openai.AsyncOpenAI(
        api_key="k", http_client=httpx2.AsyncClient(transport=streaming([*pieces[:chunks], *pieces[-3:]]))
    )
    await measured(client, streams)  # warm
    bare: list[Round] = []
    observed: list[Round] = []
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(2 * rounds):
        if is_observed(number):
            llmspan.instrument()
        else:
            llmspan.uninstrument()
        gc.collect()
        (observed if is_observed(number) else bare).append(await measured(client, streams))
    quiet, quiet_observed = quietest(bare), quietest(observed)
    ratio = quiet_observed.p99_ms / quiet.p99_ms
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    waiting = max(status.queued for status in llmspan.status())
    added = sum(thread.name.startswith("llmspan") for thread in threading.enumerate())
    return Result(streams, quiet, quiet_observed, round(ratio, 3), added, round(grown, 1), waiting)


def table(result: Result) -> str:
    lines = ["| | p50, ms | p99, ms | longest, ms | ratio of p99 |", "|---|---:|---:|---:|---:|"]
    for name, lag, ratio in (
        ("bare SDK", result.bare, ""),
        (f"{BACKENDS} hanging backends", result.observed, f"{result.p99_ratio:.3f}"),
    ):
        lines.append(f"| {name} | {lag.p50_ms:.2f} | {lag.p99_ms:.2f} | {lag.longest_ms:.1f} | {ratio} |")
    lines.append("| *aim* | | | | *1.100* |")
    lines.append(f"\n{result.streams} streams; {result.records_waiting} records wait.")
    lines.append(f"{result.threads_added} threads of ours for {BACKENDS} backends; {result.memory_added_mib} MiB more.")
    return "\n".join(lines)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--chunks", type=int, default=20)
    options = parser.parse_args()
    rounds, chunks, streams = (1, 3, 20) if options.quick else (options.rounds, options.chunks, STREAMS)
    llmspan.instrument(backends="memory", exit_timeout=0)
    line = pipeline.shared()
    for backend in line.backends:
        backend.write = Hanging().write  # type: ignore[method-assign]
    for _ in range(BACKENDS - 1):
        line.add(Hanging())
    result = asyncio.run(run(rounds, chunks, streams))
    Hanging.gate.set()
    lifecycle.close(30)
    report.give(options, asdict(result), table(result))


if __name__ == "__main__":
    main()
