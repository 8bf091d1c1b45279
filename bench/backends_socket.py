"""The socket: frames a second and CPU a frame, beside what the system moves in the same run.

    uv run python bench/backends_socket.py [--rounds 3] [--json]

Each line is the best of several rounds, in which all ways alternate. The receivers are processes of their own:

- *raw sendmsg*: the same bytes in the same groups, to a reader that throws them away. The limit.
- *unacked*: records that were encoded before, over one greeted connection whose window is never full, to a reader that
  throws them away and acknowledges all at the end.
- *acked*: the same with the real window, in batches of 1000 as deliveries write them: each is acknowledged before the
  next begins. The receiver decodes frames and acknowledges what each read completed; it stores nothing.
- *write*: ``SocketBackend.write``, encoding included, to that receiver.
- *sidecar*: ``SocketBackend.write`` to ``llmspan sidecar``'s own code, which decodes every record and stores it.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import report
from llmspan.backends.memory import MemoryBackend
from llmspan.backends.socket import SocketBackend
from llmspan.backends.socket.connection import Link
from llmspan.backends.socket.protocol import MAX_FRAME, Received, Receiver, encode_frame
from llmspan.backends.socket.records import encode_record
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.settings import Settings
from llmspan.sidecar import RecordStore, Sidecar, bind_socket
from llmspan.trace import ProviderTrace, new_id
from llmspan.usage import Usage

SIZES = {"5 KB": 5_000, "64 KB": 64_000}
#: bytes of payload a round
VOLUME = 200_000_000
BATCH = 1000
GROUP = 256
FOR_EVER = 3600.0
_fork = multiprocessing.get_context("fork")


@dataclass
class Line:
    """One way at one size: the best round."""

    frames_per_s: float = 0.0
    cpu_us: float = 0.0

    def add(self, frames: int, seconds: float, cpu: float) -> None:
        if frames / seconds > self.frames_per_s:
            self.frames_per_s, self.cpu_us = frames / seconds, cpu / frames * 1e6


def record(size: int) -> ProviderTrace:
    """A call of an agent with a payload of so many bytes, nine tenths of them request."""
    request = json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": "x" * (size * 9 // 10)}]})
    response = json.dumps({"id": "r", "choices": [{"message": {"role": "assistant", "content": "y" * (size // 10)}}]})
    return ProviderTrace(
        id=new_id(), provider="openai", operation="chat", api="chat_completions", request_model="gpt-5",
        response_model="gpt-5-2026", response_id="resp_1", request_id="req_1", step_id="step-1", run_id="run-1",
        agent_id="agent-1", stream=True, server_address="api.openai.com", server_port=443, sdk="openai/3.54.0",
        status="ok", finish_reasons=("stop",), http_status=200, attempts=1, started_at=time.time_ns(),
        duration_ns=10**9, time_to_first_chunk_ns=10**8, chunk_count=50, content="full",
        usage=Usage(input_tokens=1000, output_tokens=50, cache_read_tokens=900, source="provider",
                    raw={"prompt_tokens": 1000, "completion_tokens": 50}),
        request_json=request, response_json=response, request_bytes=len(request), response_bytes=len(response),
    )  # fmt: skip


# -- the other ends -------------------------------------------------------------------------------------------------


def drain(listener: socket.socket) -> None:
    """Read everything, say one byte at its end."""
    buffer = bytearray(1024 * 1024)
    while True:
        connection, _ = listener.accept()
        with connection:
            while connection.recv_into(buffer):
                pass
            connection.sendall(b".")


def swallow(listener: socket.socket, count: int, size: int) -> None:
    """Greet with a window without end, throw away so many bytes, acknowledge so many records."""
    buffer = bytearray(1024 * 1024)
    connection, _ = listener.accept()
    with connection:
        connection.recv(65_536)
        endless = {"window_records": 10**9, "window_bytes": 10**15}
        connection.sendall(encode_frame({"type": "hello", "version": 4, "max_frame": MAX_FRAME} | endless))
        while size > 0:
            size -= connection.recv_into(buffer)
        connection.sendall(encode_frame({"type": "ack", "seq": count}))
        connection.recv(1)


def receive(listener: socket.socket) -> None:
    """Decode frames, and acknowledge after each read."""
    while True:
        connection, _ = listener.accept()
        with connection:
            receiver = Receiver("bench/1")
            while data := connection.recv(1024 * 1024):
                last = 0
                for item in receiver.feed(data):
                    if isinstance(item, Received):
                        last = item.seq
                    else:
                        connection.sendall(item)
                if last:
                    connection.sendall(receiver.ack(last))


def sidecar(path: Path, store: Path | None) -> None:
    backend = MemoryBackend() if store is None else SQLiteBackend(store)
    Sidecar(bind_socket(path, {}), RecordStore([backend], Settings()), allowed=None).serve()


@contextmanager
def running(directory: Path, target: Callable[..., None], *arguments: object, **options: object) -> Iterator[Path]:
    """A process that serves at the path that this gives."""
    path = directory / f"{target.__name__}.sock"
    first: tuple[object, ...] = (path,)
    if target is not sidecar:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        first = (listener,)
    process = _fork.Process(target=target, args=(*first, *arguments), kwargs=options, daemon=True)
    process.start()
    while not path.exists():
        time.sleep(0.01)
    try:
        yield path
    finally:
        process.kill()
        process.join()
        if target is not sidecar:
            first[0].close()  # type: ignore[attr-defined]
        path.unlink()
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)


# -- this end -------------------------------------------------------------------------------------------------------


def raw(path: Path, bodies: Sequence[bytes]) -> None:
    head = b"\0" * 30
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
        for at in range(0, len(bodies), GROUP // 2):
            views = [memoryview(part) for body in bodies[at : at + GROUP // 2] for part in (head, body)]
            while views:
                sent = connection.sendmsg(views)
                while views and sent >= len(views[0]):
                    sent -= len(views.pop(0))
                if sent:
                    views[0] = views[0][sent:]
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def unacked(path: Path, bodies: Sequence[bytes]) -> None:
    link = Link(path, time.monotonic() + FOR_EVER, MAX_FRAME)
    link.deliver(bodies, time.monotonic() + FOR_EVER)
    link.close()


def acked(path: Path, bodies: Sequence[bytes]) -> None:
    link = Link(path, time.monotonic() + FOR_EVER, MAX_FRAME)
    for at in range(0, len(bodies), BATCH):
        link.deliver(bodies[at : at + BATCH], time.monotonic() + FOR_EVER)
    link.close()


def write(path: Path, traces: Sequence[ProviderTrace]) -> None:
    backend = SocketBackend(path, write_timeout=FOR_EVER)
    for at in range(0, len(traces), BATCH):
        backend.write(traces[at : at + BATCH])
    backend.shutdown()


def bytes_on_the_wire(count: int, body: bytes) -> int:
    """All frames of ``count`` records: length, type and ``seq`` before each body."""
    return sum(len(f'    {{"type":"record","seq":{seq},') + len(body) for seq in range(1, count + 1))


def timed(line: Line, frames: int, function: Callable[[], None]) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    function()
    line.add(frames, time.perf_counter() - began, time.process_time() - cpu)


def measure(size: int, rounds: int, directory: Path, volume: int = VOLUME) -> dict[str, Line]:
    trace = record(size)
    count = volume // size
    body = encode_record(trace)
    bodies = [body] * count
    fewer = [replace(trace, id=new_id()) for _ in range(max(volume // 5 // size, 1))]
    ways = ["raw sendmsg", "unacked", "acked", "write", "sidecar (memory)", "sidecar (SQLite)"]
    lines = {way: Line() for way in ways}
    for at in range(rounds):
        with running(directory, drain) as path:
            timed(lines["raw sendmsg"], count, lambda: raw(path, bodies))
        with running(directory, swallow, count, bytes_on_the_wire(count, body)) as path:
            timed(lines["unacked"], count, lambda: unacked(path, bodies))
        with running(directory, receive) as path:
            timed(lines["acked"], count, lambda: acked(path, bodies))
            timed(lines["write"], len(fewer), lambda: write(path, fewer))
        for way, store in (("sidecar (memory)", None), ("sidecar (SQLite)", directory / f"{size}-{at}.db")):
            with running(directory, sidecar, store) as path:
                timed(lines[way], len(fewer), lambda: write(path, fewer))
    return lines


def table(found: dict[str, dict[str, Line]]) -> str:
    rows = ["| payload | way | frames/s | of raw | CPU of the sender, µs/frame |", "|---|---|---:|---:|---:|"]
    for label, lines in found.items():
        limit = lines["raw sendmsg"].frames_per_s
        rows += [
            f"| {label} | {way} | {line.frames_per_s:,.0f} | {line.frames_per_s / limit:.2f} | {line.cpu_us:.1f} |"
            for way, line in lines.items()
        ]
    return "\n".join(rows)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds, volume = (1, VOLUME // 50) if options.quick else (options.rounds, VOLUME)
    with tempfile.TemporaryDirectory(prefix="llmspan-") as name:
        found = {label: measure(size, rounds, Path(name), volume) for label, size in SIZES.items()}
    rows = {label: {way: vars(line) for way, line in lines.items()} for label, lines in found.items()}
    report.give(options, rows, table(found))


if __name__ == "__main__":
    main()
