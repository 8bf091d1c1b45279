"""What runs in a peer's environment for ``whole.py``: one peer, which makes some calls whenever it is its turn.

    python bench/whole_program.py llmspan [--count CALLS]

A turn is a line of standard input, with the name of a series and the number of calls; each is answered with a line of
JSON. The CPU time is that of all threads, until all that was recorded is flushed.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import sdk_calls
from valgrind_marks import Marks
from whole_peers import BASE, PEERS, Running

#: the name of each series, its surface, chunks, seconds between two calls, and calls. A full garbage collection takes
#: 0.1 s and more, and comes once in a thousand calls or so: shorter series have the whole of one, or nothing of it
SERIES = (
    ("messages", "messages.create", 0, 0.0, 2000),
    ("messages, 5 ms apart", "messages.create", 0, 0.005, 1000),
    ("messages, async", "messages.create, async", 0, 0.0, 300),
    ("messages, 20 chunks", "messages, stream", 20, 0.0, 150),
    ("messages, 20 chunks, 5 ms apart", "messages, stream", 20, 0.005, 150),
    ("messages, 500 chunks", "messages, stream", 500, 0.0, 40),
    ("messages, 500 chunks, async", "messages, async stream", 500, 0.0, 40),
    ("chat", "chat.completions.create", 0, 0.0, 2000),
    ("chat, 5 ms apart", "chat.completions.create", 0, 0.005, 1000),
    ("chat, async", "chat.completions.create, async", 0, 0.0, 300),
    ("chat, 20 chunks", "chat.completions, stream", 20, 0.0, 150),
    ("chat, 20 chunks, 5 ms apart", "chat.completions, stream", 20, 0.005, 150),
    ("chat, 500 chunks", "chat.completions, stream", 500, 0.0, 20),
    ("chat, 500 chunks, async", "chat.completions, async stream", 500, 0.0, 20),
)


#: the series whose instructions are counted, and the surface of each
COUNTED = {"messages": "messages.create", "chat": "chat.completions.create"}


def count(call: Callable[[], None], flush: Callable[[], object], title: str, calls: int) -> None:
    """Have Valgrind write the instructions of so many calls, and of all that follows from them."""
    marks = Marks()
    for _ in range(30):
        call()
    flush()
    gc.collect()
    gc.disable()
    marks.start()
    marks.zero()
    for _ in range(calls):
        call()
    flush()
    marks.dump(f"{title}|{calls}")
    marks.stop()
    gc.enable()


def take_turn(call: Callable[[], None], flush: Callable[[], object], pause: float, calls: int) -> dict[str, Any]:
    """Seconds of wall time, of each call, and of the process's CPU time, of all of them."""
    walls: list[float] = []
    cpu = time.process_time()
    for _ in range(calls):
        if pause:
            time.sleep(pause)
        begun = time.perf_counter()
        call()
        walls.append(time.perf_counter() - begun)
    flush()
    return {"cpu": time.process_time() - cpu, "walls": walls}


def wrapped_call(surface: Any, chunks: int, running: Running) -> Callable[[], None]:
    """The call on a client that the peer has wrapped."""
    client = running.wrap(surface.client(chunks) if chunks else surface.client())
    if not surface.is_async:
        return lambda: surface.run(client)
    import asyncio

    loop = asyncio.new_event_loop()
    return lambda: loop.run_until_complete(surface.start(client))


def main() -> None:
    name = sys.argv[1]
    peer = PEERS[name]
    if name == "anthropic's own":
        sdk_calls.anthropic_options.clear()
    running = peer.set_up()
    surfaces = {surface.name: surface for surface in sdk_calls.surfaces("")}
    if "--count" in sys.argv:
        for title, surface_name in COUNTED.items():
            call = wrapped_call(surfaces[surface_name], 0, running)
            count(call, running.flush, title, int(sys.argv[-1]))
        os._exit(0)
    calls_of: dict[str, tuple[Callable[[], None], float]] = {}
    for title, surface_name, chunks, pause, _ in SERIES:
        surface = surfaces[surface_name]
        if surface.sdk in peer.sdks and (peer.is_whole or not (surface.is_async or surface.is_stream)):
            calls_of[title] = wrapped_call(surface, chunks, running), pause
    names = [*BASE, *peer.requirements, *(["llmspan"] if peer.with_llmspan else [])]
    _answer({"series": list(calls_of), "versions": {name: _version(name) for name in names}})
    for line in sys.stdin:
        title, _, calls = line.rstrip().rpartition(" ")
        call, pause = calls_of[title]
        _answer(take_turn(call, running.flush, pause, int(calls)))
    os._exit(0)  # what a peer would do at exit is of no interest


def _answer(value: dict[str, Any]) -> None:
    """A line for ``whole.py``, which passes over what a peer prints."""
    print("JSON " + json.dumps(value), flush=True)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
