"""How much memory llmspan holds for a stream that is open, and for a record that waits.

    uv run python bench/memory.py            # table
    uv run python bench/memory.py --json     # the same as JSON

Many streams are opened and read half, bare and observed; ``tracemalloc`` says what they hold. "Beyond the content" is
what llmspan adds, less the bytes received, which are kept because they are what is recorded. "Backend" is with all
spans sampled out; "both" is with a recording span too, which the OpenTelemetry SDK makes. Records wait in the inbox
while the worker is held up, and in a backend's queue while its write is; the content is request and response.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import llmspan
import report
from llmspan import pipeline
from observed import BOTH, SAMPLED_OUT, Observed, Way, switch
from sdk_calls import CHUNKS, Surface, surfaces

AIM = 2048
_WAITING = ("chat.completions.create", "messages.create", "messages, stream")


@dataclass
class Row:
    """One line of the table; bytes each."""

    what: str
    surface: str
    way: str
    chunks_read: int | None
    bare: int
    added: int
    content: int
    beyond: int


class Held:
    """Some threads of llmspan's stopped, until the end of the block."""

    def __init__(self) -> None:
        self._gate = threading.Event()

    def wait(self, *_: Any) -> None:
        self._gate.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._gate.set()


def grown(observed: Observed, make: Callable[[], Any]) -> tuple[int, Any]:
    """The bytes that exist more after ``make`` than before, and what it made."""
    before = settled(observed)
    made = make()
    return settled(observed) - before, made


def settled(observed: Observed) -> int:
    """The bytes that exist once all threads have let go of what they were done with."""
    observed.export_spans()
    last, now = -1024, 0
    for _ in range(50):
        gc.collect()
        time.sleep(0.02)
        now, _ = tracemalloc.get_traced_memory()
        if abs(now - last) < 512:
            break
        last = now
    return now


def half_read(surface: Surface, client: Any, chunks: int, loop: asyncio.AbstractEventLoop) -> Any:
    """A stream of which so many chunks have been read, with the last of them. The caller has to keep it."""
    result, chunk = surface.request(client), None
    if surface.is_async:
        return loop.run_until_complete(_begun(result, chunks))
    stream = result.__enter__() if surface.is_manager else result
    for _ in range(chunks):
        chunk = next(stream)
    return result, stream, chunk


async def _begun(request: Any, chunks: int) -> Any:
    stream, chunk = await request, None
    for _ in range(chunks):
        chunk = await anext(stream)
    return stream, chunk


def open_streams(observed: Observed, surface: Surface, client: Any, way: Way, *, count: int, chunks: int) -> Row:
    """What a stream holds of which ``chunks`` chunks have been read."""
    loop = asyncio.new_event_loop()
    calls = observed.observer.open_calls

    def opened() -> list[Any]:
        return [half_read(surface, client, chunks, loop) for _ in range(count)]

    def dropped(_: Any) -> None:
        gc.collect()
        loop.run_until_complete(loop.shutdown_asyncgens())
        llmspan.flush(60)

    observed.off()
    dropped(opened())
    bare, kept = grown(observed, opened)
    kept = dropped(kept)
    observed.on(way)
    dropped(opened())
    dropped(None)
    known = set(calls)
    total, kept = grown(observed, opened)
    content = sum(call.body.size for key, call in calls.items() if key not in known)
    kept = dropped(kept)
    dropped(kept)
    loop.close()
    return _row("open stream", surface, way, chunks, count, bare, total, content)


def in_inbox(observed: Observed, surface: Surface, count: int) -> Row:
    """What a call holds that has ended and waits for the worker."""
    call, line = surface.call(), pipeline.shared()

    def made() -> None:
        for _ in range(count):
            call()

    bare = _bare(observed, call, made)
    with Held() as held:
        line.defer(held.wait)
        total, _ = grown(observed, made)
        calls = [item.pending.call for item in line._inbox]
        content = sum(len(call.request_bytes or b"") + call.body.size for call in calls)
    llmspan.flush(60)
    return _row("call that waits for the worker", surface, BOTH, None, count, bare, total, content)


def in_queue(observed: Observed, surface: Surface, count: int) -> Row:
    """What a record holds that waits for its backend."""
    call, line = surface.call(), pipeline.shared()
    (delivery,) = line._workers

    def made() -> None:
        for _ in range(count):
            call()

    bare = _bare(observed, call, made)
    with Held() as held:
        delivery.backend.write = held.wait
        call()  # the batch that is being written
        until(lambda: delivery._writing_since is not None)
        total, _ = grown(observed, lambda: (made(), until(lambda: len(delivery._queue) == count)))
        records = [record for record, _ in delivery._queue._entries]
        content = sum(len(text) for record in records for text in (record.request_json, record.response_json))
        del delivery.backend.write
    llmspan.flush(60)
    return _row("record that waits for its backend", surface, BOTH, None, count, bare, total, content)


def _bare(observed: Observed, call: Callable[[], None], made: Callable[[], None]) -> int:
    """What the bare SDK keeps; leaves llmspan on, and warm."""
    pipeline.shared().ensure_started()
    observed.off()
    made()
    bare, _ = grown(observed, made)
    observed.on()
    made()
    llmspan.flush(60)
    return bare


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until ``holds()``.

    Raises:
        TimeoutError: it did not in time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("the pipeline has not come so far in time")
        time.sleep(0.001)


def _row(
    what: str, surface: Surface, way: Way, chunks: int | None, count: int, bare: int, total: int, content: int
) -> Row:
    added = round((total - bare) / count)
    kept = round(content / count)
    return Row(what, surface.name, way.name, chunks, round(bare / count), added, kept, added - kept)


def run(only: str = "", count: int = 50, chunks: int = CHUNKS // 2) -> list[Row]:
    """All rows, from ``count`` streams or records each; streams have just begun, and have been read to ``chunks``."""
    tracemalloc.start()
    try:
        with switch() as observed:
            streams = [surface for surface in surfaces(only) if surface.is_stream]
            waiting = [surface for surface in surfaces(only) if surface.name in _WAITING]
            clients = [(surface, surface.client(2 * chunks)) for surface in streams]
            rows = [
                open_streams(observed, surface, client, way, count=count, chunks=read)
                for surface, client in clients
                for way in (SAMPLED_OUT, BOTH)
                for read in (1, chunks)
            ]
            rows += [in_inbox(observed, surface, count) for surface in waiting]
            rows += [in_queue(observed, surface, count) for surface in waiting]
        return rows
    finally:
        tracemalloc.stop()


def table(rows: Sequence[Row]) -> str:
    lines = [
        "| what | surface | with | chunks read | bare SDK | added | content | beyond it |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        chunks = "" if row.chunks_read is None else str(row.chunks_read)
        figures = f"{row.bare:,} | {row.added:,} | {row.content:,} | {row.beyond:,}"
        lines.append(f"| {row.what} | `{row.surface}` | {row.way} | {chunks} | {figures} |")
    lines.append(f"| *aim, open streams* | | | | | | | *{AIM:,}* |")
    return "\n".join(lines)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--only", default="", help="measure only surfaces whose name contains this")
    parser.add_argument("--count", type=int, default=50, help="streams and records that are held at once")
    options = parser.parse_args()
    rows = run(options.only or "chat", 2, 10) if options.quick else run(options.only, options.count)
    report.give(options, [asdict(row) for row in rows], table(rows))


if __name__ == "__main__":
    main()
