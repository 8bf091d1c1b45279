"""How many chunks a second pass through 1, 8 and 64 streams at once, on asyncio and on threads, bare and observed.

    uv run python bench/throughput.py           # table
    uv run python bench/throughput.py --json    # the same as JSON

Streams of 500 chunks are read as fast as the SDK can, one after the other in each lane; bare and observed rounds
alternate, and the ratio is the median over pairs of rounds. Wall time, to the last chunk; the worker runs meanwhile,
and takes the interpreter from the readers as it does in a program that never waits for its provider. "Written" counts
until the records are stored, too.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import llmspan
import report
from observed import Observed, switch
from sdk_calls import CHUNKS, Surface, surfaces

LANES = (1, 8, 64)
_SURFACES = {
    "threads": ("chat.completions, stream", "messages, stream"),
    "asyncio": ("chat.completions, async stream", "messages, async stream"),
}


@dataclass
class Row:
    """One line of the table; chunks a second of wall time, and observed over bare."""

    surface: str
    on: str
    streams_at_once: int
    bare_per_s: int
    observed_per_s: int
    ratio: float
    ratio_written: float


def on_threads(surface: Surface, client: Any, lanes: int, each: int) -> None:
    def lane(_: int) -> None:
        for _ in range(each):
            surface.run(client)

    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(lane, range(lanes)))


def on_asyncio(surface: Surface, client: Any, lanes: int, each: int) -> None:
    async def lane() -> None:
        for _ in range(each):
            await surface.start(client)

    async def all_lanes() -> None:
        await asyncio.gather(*(lane() for _ in range(lanes)))

    asyncio.run(all_lanes())


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """The seconds until all streams are read, and until their records are written."""
    gc.collect()
    begun = time.perf_counter()
    work()
    read = time.perf_counter() - begun
    llmspan.flush(60)
    return read, time.perf_counter() - begun


def measure(observed: Observed, surface: Surface, on: str, lanes: int, *, rounds: int, total: int, chunks: int) -> Row:
    """One row, from about ``total`` streams a round."""
    run = {"threads": on_threads, "asyncio": on_asyncio}[on]
    each = max(total // lanes, 1)
    read_chunks = each * lanes * chunks
    bare: list[float] = []
    pairs: list[tuple[float, float, float]] = []

    client = surface.client(chunks)

    def work() -> None:
        run(surface, client, lanes, each)

    for _ in range(rounds):
        observed.off()
        warm(surface, client)
        first, _ = timed(work)
        observed.on()
        warm(surface, client)
        read, written = timed(work)
        bare.append(first)
        pairs.append((read, read / first, written / first))
    reads, ratios, all_ratios = zip(*pairs, strict=True)
    return Row(
        surface.name,
        on,
        lanes,
        round(read_chunks / statistics.median(bare)),
        round(read_chunks / statistics.median(reads)),
        round(1 / statistics.median(ratios), 3),
        round(1 / statistics.median(all_ratios), 3),
    )


def warm(surface: Surface, client: Any) -> None:
    """The interpreter specialises its code anew after a change of a patched class."""
    (on_asyncio if surface.is_async else on_threads)(surface, client, 1, 3)
    llmspan.flush(60)


def run(
    only: str = "", lanes: Sequence[int] = LANES, *, rounds: int = 5, total: int = 16, chunks: int = CHUNKS
) -> list[Row]:
    """All rows."""
    with switch() as observed:
        return [
            measure(observed, surface, on, lane, rounds=rounds, total=total, chunks=chunks)
            for on, names in _SURFACES.items()
            for surface in surfaces(only)
            if surface.name in names
            for lane in lanes
        ]


def table(rows: Sequence[Row]) -> str:
    lines = [
        "| surface | on | streams at once | bare SDK, chunks/s | observed, chunks/s | ratio | written |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| `{row.surface}` | {row.on} | {row.streams_at_once} | {row.bare_per_s:,} | {row.observed_per_s:,}"
        f" | {row.ratio:.3f} | {row.ratio_written:.3f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--only", default="", help="measure only surfaces whose name contains this")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=16, help="streams a round")
    options = parser.parse_args()
    if options.quick:
        rows = run(options.only, LANES[:2], rounds=1, total=2, chunks=20)
    else:
        rows = run(options.only, rounds=options.rounds, total=options.streams)
    report.give(options, [asdict(row) for row in rows], table(rows))


if __name__ == "__main__":
    main()
