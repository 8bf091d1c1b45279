"""How fast the spool takes records in: 4 KB each, in groups as the pipeline makes them, beside the disk's own speed.

    uv run python bench/spool.py            # table
    uv run python bench/spool.py --json     # the same as JSON

"Bound" is the same bytes, written and synchronised in the same groups by plain ``write`` and ``fdatasync``, in the same
run, alternating. Figures are medians over rounds.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import report
from llmspan.pipeline.spool import Spool, SpoolConsumer
from llmspan.pipeline.statistics import DeliveryStats
from llmspan.settings import Settings

GROUP_RECORDS, GROUP_BYTES = 256, 1024 * 1024
#: records of 4 KB a second, with one fdatasync a group
AIM = 15_000


@dataclass
class Row:
    sync: str
    payload_bytes: int
    records_per_s: int
    bound_per_s: int
    ratio: float


def groups(payload: bytes, records: int, size: int) -> list[list[bytes]]:
    return [[payload] * size for _ in range(records // size)]


def rate(work: Callable[[Sequence[bytes]], None], all_groups: list[list[bytes]]) -> float:
    begun = time.perf_counter()
    for group in all_groups:
        work(group)
    return sum(map(len, all_groups)) / (time.perf_counter() - begun)


def through_spool(folder: Path, sync: Any, all_groups: list[list[bytes]]) -> float:
    spool = Spool(folder, Settings(spool_sync=sync, spool_max_bytes=1 << 34))
    spool.open([SpoolConsumer("none", "nowhere", DeliveryStats())])

    def work(group: Sequence[bytes]) -> None:
        spool.commit(group)
        spool.publish()

    return rate(work, all_groups)


def plain(folder: Path, sync: str, all_groups: list[list[bytes]]) -> float:
    descriptor = os.open(folder / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def work(group: Sequence[bytes]) -> None:
        os.write(descriptor, b"".join(group))
        if sync != "none":
            os.fdatasync(descriptor)

    try:
        return rate(work, all_groups)
    finally:
        os.close(descriptor)


def measure(sync: str, payload_bytes: int, rounds: int, share: int = 1) -> Row:
    """One row; ``share``: a fraction of the records, 1 in so many."""
    size = 1 if sync == "always" else min(GROUP_RECORDS, GROUP_BYTES // payload_bytes)
    records = {"always": 200, "group": 6400, "none": 12800}[sync] * (4096 if payload_bytes > 10_000 else 65536) // 65536
    all_groups = groups(b"x" * payload_bytes, max(records // share, size), size)
    figures: list[tuple[float, float]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            figures.append(
                (through_spool(Path(folder) / "spool", sync, all_groups), plain(Path(folder), sync, all_groups))
            )
    ours, bound = (statistics.median(pair[n] for pair in figures) for n in (0, 1))
    return Row(sync, payload_bytes, round(ours), round(bound), round(ours / bound, 2))


def table(rows: Sequence[Row]) -> str:
    lines = ["| sync | payload, bytes | records/s | write + fdatasync alone, records/s | ratio |"]
    lines.append("|---|---:|---:|---:|---:|")
    lines += [
        f"| `{row.sync}` | {row.payload_bytes:,} | {row.records_per_s:,} | {row.bound_per_s:,} | {row.ratio:.2f} |"
        for row in rows
    ]
    return "\n".join([*lines, f"| *aim, `group`* | *4,096* | *{AIM:,}* | | |"])


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rounds, share = (1, 20) if options.quick else (options.rounds, 1)
    rows = [measure(sync, size, rounds, share) for sync in ("always", "group", "none") for size in (4096, 65536)]
    report.give(options, [asdict(row) for row in rows], table(rows))


if __name__ == "__main__":
    main()
