"""Postgres beside psql's ``\\copy ... (FORMAT BINARY)`` of the same rows, in the same batches, into the same table.

The server is one of our own on this machine, with fsync on; each batch is a transaction, on both sides.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

from backends import SIZES, Figure, Round, batches, figure, records
from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.postgres.store import _NAMES
from llmspan.trace import ProviderTrace
from stores.postgres import PASSWORD, Server, execute

DAY = 86_400_000_000_000


def measure(rounds: int) -> list[Figure]:
    """The figures of each size of payload."""
    server = Server(shared_buffers="512MB", max_wal_size="4GB", checkpoint_timeout="1h").start()
    try:
        return [_measure(server, payload, rounds) for payload in SIZES]
    finally:
        server.remove()


def _measure(server: Server, payload: str, rounds: int) -> Figure:
    size, batch, count = SIZES[payload]
    today = time.time_ns() // DAY * DAY
    found = batches(records(count, size, today), batch)
    backend = PostgresBackend(server.dsn())
    ours: list[Round] = []
    bound: list[Round] = []
    try:
        _write(server, backend, found)
        files = _files(server, found)
        for _ in range(rounds):
            ours.append(_write(server, backend, found))
            bound.append(_copy(server, files))
    finally:
        backend.shutdown()
    return figure("postgres", payload, "psql \\copy, binary", count, ours, bound)


def _empty(server: Server) -> None:
    execute(server.dsn(), "TRUNCATE provider_traces", "CHECKPOINT")


def _write(server: Server, backend: PostgresBackend, found: Sequence[Sequence[ProviderTrace]]) -> Round:
    backend.open()
    _empty(server)
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in found:
        backend.write(batch)
    return Round(time.perf_counter() - wall, time.process_time() - cpu)


def _files(server: Server, found: Sequence[Sequence[ProviderTrace]]) -> list[Path]:
    """What is in the table, as one binary file a batch."""
    files: list[Path] = []
    with psycopg.connect(server.dsn()) as connection, connection.cursor() as cursor:
        for at, batch in enumerate(found):
            low, high = batch[0].started_at, batch[-1].started_at
            statement = f"COPY (SELECT {_NAMES} FROM provider_traces WHERE started_at_ns BETWEEN {low} AND {high})"
            files.append(server.folder / f"batch-{at}")
            with files[-1].open("wb") as file, cursor.copy(f"{statement} TO STDOUT (FORMAT BINARY)") as copy:
                for piece in copy:
                    file.write(piece)
    return files


def _copy(server: Server, files: Sequence[Path]) -> Round:
    """psql's own: one process, one connection, a transaction a file."""
    _empty(server)
    commands = "".join(f"\\copy provider_traces ({_NAMES}) from '{file}' with (format binary)\n" for file in files)
    words = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", f"{server.port}", "-U", "postgres"]
    wall, cpu = time.perf_counter(), _children()
    subprocess.run(
        [server.bin / "psql", *words, "postgres"], input=commands, text=True, check=True,
        env={**os.environ, "PGPASSWORD": PASSWORD},
    )  # fmt: skip
    return Round(time.perf_counter() - wall, _children() - cpu)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
