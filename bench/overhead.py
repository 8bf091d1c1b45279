"""What llmspan adds to a call and to a chunk, over the bare SDK in the same run.

    uv run python bench/overhead.py               # table
    uv run python bench/overhead.py --ways all    # also without a recording span, without a backend
    uv run python bench/overhead.py --json        # the same as JSON

Calls go over an in-memory transport (no sockets), a streamed reply arrives event by event. Bare and observed calls
alternate in blocks; the figures are medians over the pairs of blocks. "Added" is CPU time of the calling thread: what
the program waits for. "Worker" is the CPU time that llmspan spends beside it, on its own threads, to reassemble and
store. The observed side has everything on: a recording span to a batch processor, the full record to SQLite.

"A span alone" is what a bare call costs more with the same span around it, made by hand with OpenTelemetry's SDK: that
much of what is added is not llmspan's.

"Added per chunk" of a stream is all that is added to it, by its 500 chunks: the call is in it. ``instructions.py``
tells the two apart.

Between two calls the worker does its work and leaves the processor's caches cold; it does so on both sides (on the bare
one with a record of an earlier call), so that the difference is what a call costs and not what a cold cache costs.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import llmspan
import report
from llmspan import pipeline
from observed import BOTH, WAYS, Observed, Way, switch
from sdk_calls import CHUNKS, Surface, surfaces


@dataclass
class Row:
    """One line of the table; microseconds."""

    surface: str
    way: str
    bare_us: float
    added_us: float
    #: what the same span would add if it were made by hand
    span_us: float
    ratio: float
    added_us_per_chunk: float | None
    worker_us: float


class Pair(NamedTuple):
    """Blocks of bare calls, of bare calls with a span, and of observed calls, side by side; microseconds a call."""

    bare: float
    spanned: float
    observed: float
    beside: float


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
        self.defer, self.ensure_started = line.defer, line.ensure_started

    def submit(self, pending: Any) -> None:
        self.last = pending
        self.line.submit(pending)

    def again(self) -> None:
        if self.last is not None:
            self.line.submit(self.last)


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


def pairs_of(
    observed: Observed, call: Callable[[], Any], ways: Sequence[Way], *, calls: int, pairs: int
) -> dict[Way, list[Pair]]:
    """Bare blocks and those of each way, in turns."""
    tap = Tap(pipeline.shared())
    observed.observer.sink = tap
    observed.on(ways[0])
    call()
    spanned = observed.with_span(call)
    gc.collect()
    gc.freeze()  # what this call has imported and made for good need not be looked at in each block
    found: dict[Way, list[Pair]] = {way: [] for way in ways}
    for _ in range(pairs):
        for backend in sorted({way.backend for way in ways}):
            observed.off(backend=backend)
            bare, _ = block(call, calls, tap.again)
            with_span, _ = block(spanned, calls, tap.again)
            for way in ways:
                if way.backend is backend:
                    observed.on(way)
                    found[way].append(Pair(bare, with_span, *block(call, calls, lambda: None)))
    return found


def measure(
    observed: Observed, surface: Surface, ways: Sequence[Way], *, pairs: int, calls: int, chunks: int
) -> list[Row]:
    """The rows of one surface. ``calls`` in a block; of a stream, a twenty-fifth of it."""
    calls = max(calls // 25, 1) if surface.is_stream else calls
    found = pairs_of(observed, surface.call(chunks), ways, calls=calls, pairs=pairs)
    return [_row(surface, way, found[way], chunks) for way in ways]


def _row(surface: Surface, way: Way, pairs: Sequence[Pair], chunks: int) -> Row:
    added = statistics.median(pair.observed - pair.bare for pair in pairs)
    return Row(
        surface.name,
        way.name,
        round(statistics.median(pair.bare for pair in pairs), 1),
        round(added, 1),
        round(statistics.median(pair.spanned - pair.bare for pair in pairs), 1),
        round(statistics.median(pair.observed / pair.bare for pair in pairs), 3),
        round(added / chunks, 3) if surface.is_stream else None,
        round(statistics.median(pair.beside for pair in pairs), 1),
    )


def run(
    only: str = "", ways: Sequence[Way] = (BOTH,), *, pairs: int = 20, calls: int = 100, chunks: int = CHUNKS
) -> list[Row]:
    """All rows."""
    with switch() as observed:
        return [
            row
            for surface in surfaces(only)
            for row in measure(observed, surface, ways, pairs=pairs, calls=calls, chunks=chunks)
        ]


def table(rows: Sequence[Row]) -> str:
    """The rows with everything on, as a Markdown table."""
    lines = [
        "| surface | bare SDK, µs | added, µs | (a span alone) | ratio | added per chunk, µs | worker, µs |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        if row.way == BOTH.name:
            chunk = "" if row.added_us_per_chunk is None else f"{row.added_us_per_chunk:.2f}"
            alone = "" if row.added_us_per_chunk is not None else f"({row.span_us:,.0f})"  # lost in a stream's noise
            added = f"{row.bare_us:,.0f} | {row.added_us:,.0f} | {alone}"
            lines.append(f"| `{row.surface}` | {added} | {row.ratio:.3f} | {chunk} | {row.worker_us:,.0f} |")
    lines.append("| *aim, calls* | | *60* | | | | |")
    lines.append("| *aim, streams* | | | | *1.030* | *1.00* | |")
    return "\n".join(lines)


def matrix(rows: Sequence[Row]) -> str:
    """What is added in each of the ways, as a Markdown table: microseconds a call, and for streams a chunk."""
    names = [way.name for way in WAYS]
    lines = [f"| added, µs | {' | '.join(way.title for way in WAYS)} |", "|---|" + "---:|" * len(names)]
    cells = {(row.surface, row.way): _cell(row) for row in rows}
    lines += [
        f"| `{surface}` | {' | '.join(cells.get((surface, name), '') for name in names)} |"
        for surface in dict.fromkeys(row.surface for row in rows)
    ]
    return "\n".join(lines)


def _cell(row: Row) -> str:
    return f"{row.added_us:,.0f}" if row.added_us_per_chunk is None else f"{row.added_us_per_chunk:.2f} a chunk"


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--only", default="", help="measure only surfaces whose name contains this")
    parser.add_argument("--ways", choices=["both", "all"], default="both", help="which set-ups to measure")
    options = parser.parse_args()
    ways = WAYS if options.ways == "all" else (BOTH,)
    counts = {"pairs": 1, "calls": 1, "chunks": 20} if options.quick else {"pairs": options.pairs}
    rows = run(options.only, ways, **counts)
    tables = [table(rows), matrix(rows)] if options.ways == "all" else [table(rows)]
    report.give(options, [asdict(row) for row in rows], "\n\n".join(tables))


if __name__ == "__main__":
    main()
