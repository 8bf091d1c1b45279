"""ClickHouse beside ``INSERT ... FROM INFILE`` of the same rows as Native, in the same batches, into the same table.

The engine is the embedded one, so that "CPU" has the engine's work on both sides.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from backends import SIZES, Figure, Round, batches, figure, records
from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.settings import Settings
from llmspan.trace import KEYS, ProviderTrace

DAY = 86_400_000_000_000
NAMES = ", ".join(KEYS)


def measure(rounds: int) -> list[Figure]:
    """The figures of each size of payload."""
    with tempfile.TemporaryDirectory(prefix="llmspan-bench-", ignore_cleanup_errors=True) as folder:
        settings = Settings(clickhouse_dsn=f"chdb://{folder}/chdb", clickhouse_ttl=None)
        backend = ClickHouseBackend.from_settings(settings)
        try:
            backend.open()
            return [_measure(backend, Path(folder), payload, rounds) for payload in SIZES]
        finally:
            backend.shutdown()


def _measure(backend: ClickHouseBackend, folder: Path, payload: str, rounds: int) -> Figure:
    size, batch, count = SIZES[payload]
    found = batches(records(count, size, time.time_ns() // DAY * DAY), batch)
    ours: list[Round] = []
    bound: list[Round] = []
    _write(backend, found)
    files = _files(backend, folder, found)
    for _ in range(rounds):
        ours.append(_write(backend, found))
        bound.append(_insert(backend, files))
    return figure("clickhouse", payload, "INSERT FROM INFILE, Native", count, ours, bound)


def _empty(backend: ClickHouseBackend) -> None:
    backend._client().command("TRUNCATE TABLE provider_traces")


def _write(backend: ClickHouseBackend, found: Sequence[Sequence[ProviderTrace]]) -> Round:
    _empty(backend)
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in found:
        backend.write(batch)
    return _round(backend, wall, cpu, sum(map(len, found)))


def _files(
    backend: ClickHouseBackend, folder: Path, found: Sequence[Sequence[ProviderTrace]]
) -> list[tuple[Path, int]]:
    """What is in the table, as one Native file a batch, and its rows."""
    files: list[tuple[Path, int]] = []
    for batch in found:
        path = folder / f"batch-{len(files)}-{batch[0].id}"
        backend._client().command(
            f"SELECT {NAMES} FROM provider_traces WHERE started_at BETWEEN {batch[0].started_at}"
            f" AND {batch[-1].started_at} INTO OUTFILE '{path}' FORMAT Native"
        )
        files.append((path, len(batch)))
    return files


def _insert(backend: ClickHouseBackend, files: Sequence[tuple[Path, int]]) -> Round:
    _empty(backend)
    wall, cpu = time.perf_counter(), time.process_time()
    for path, _ in files:
        backend._client().command(f"INSERT INTO provider_traces ({NAMES}) FROM INFILE '{path}' FORMAT Native")
    return _round(backend, wall, cpu, sum(rows for _, rows in files))


def _round(backend: ClickHouseBackend, wall: float, cpu: float, rows: int) -> Round:
    done = Round(time.perf_counter() - wall, time.process_time() - cpu)
    (found,) = backend._client().rows("SELECT count() AS n FROM provider_traces")
    assert found["n"] == rows, f"{found['n']} of {rows} rows"
    return done
