"""How many instructions llmspan adds to a call and to a chunk, counted by Valgrind: the same on a busy machine.

    uv run python bench/instructions.py                      # table
    uv run python bench/instructions.py --json               # the same as JSON
    uv run python bench/instructions.py --only "chat"        # surfaces whose name contains this
    uv run python bench/instructions.py --ways all           # also without spans, without backends

Each call runs warm, bare and observed, in one process, with chunk counts of 500 and 100; only the calls themselves are
counted (callgrind, between marks). "Added" is what the caller's thread does more in a call; "per chunk" is the slope
between the two lengths, "per call" what is left of it. "Worker" is what the worker does to make the record; sending it
to the store is not counted. Some 5,000 instructions of Python are a microsecond.

Counts do not know caches. They repeat within a percent, which wall time does not do on a machine with neighbours: so
they are what the regression gate (``run.py --check``) looks at.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import report
import valgrind_marks

_PROGRAM = Path(__file__).with_name("instructions_program.py")
_LENGTHS = (500, 100)
_WAYS = ("bare", "neither", "span", "backend", "both")
#: counted instructions of (surface, chunks, way, kind of thread), one per repetition
Counts = dict[tuple[str, int, str, str], list[int]]


@dataclass
class Row:
    """One line of the table; instructions. For a stream, ``added`` and ``bare`` are those of the longest."""

    surface: str
    way: str
    chunks: int
    bare: int
    added: int
    ratio: float
    added_per_call: int
    added_per_chunk: float | None
    worker: int
    #: (most - least) / median of the repetitions, on the caller's thread
    spread: float


def why_not() -> str | None:
    """Why nothing can be counted here; None if it can."""
    if shutil.which("valgrind") is None:
        return "instructions: skipped, valgrind is not installed (apt-get install valgrind)"
    if not valgrind_marks.is_known():
        return "instructions: skipped, valgrind's marks are known for x86_64 only"
    return None


def measure(
    only: str = "", ways: Iterable[str] = ("both",), repeat: int = 3, lengths: tuple[int, int] = _LENGTHS
) -> list[Row]:
    """Run the program under callgrind and read what it counted."""
    asked = {"only": only, "ways": ["bare", *ways], "repeat": repeat, "chunks": lengths}
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes", "--dump-line=no"]
        command += [f"--callgrind-out-file={folder}/out", sys.executable, str(_PROGRAM), json.dumps(asked)]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"valgrind ended with {done.returncode}:\n{done.stderr}")
        return _rows(_read(Path(folder)))


def _read(folder: Path) -> Counts:
    counts: Counts = defaultdict(list)
    for path in folder.iterdir():
        text = path.read_text()
        _, is_named, rest = text.partition("desc: Trigger: Client Request: ")
        surface, *key = rest.partition("\n")[0].split("|")
        if is_named and key:
            chunks, way, thread, _ = key
            counts[surface, int(chunks), way, thread].append(int(text.rpartition("totals: ")[2]))
    return counts


def _rows(counts: Counts) -> list[Row]:
    def middle(surface: str, chunks: int, way: str, kind: str = "caller") -> float:
        return statistics.median(counts[surface, chunks, way, kind] or [0])

    rows: list[Row] = []
    lengths = {surface: sorted({key[1] for key in counts if key[0] == surface}) for surface, *_ in counts}
    for surface, way in sorted({(key[0], key[2]) for key in counts if key[2] != "bare"}):
        added = {n: middle(surface, n, way) - middle(surface, n, "bare") for n in lengths[surface]}
        short, long = min(added), max(added)
        bare = middle(surface, long, "bare")
        slope = None if long == short else (added[long] - added[short]) / (long - short)
        once = added[long] - (slope or 0) * long
        times = counts[surface, long, way, "caller"]
        rows.append(
            Row(
                surface,
                way,
                long,
                round(bare),
                round(added[long]),
                round(1 + added[long] / bare, 4),
                round(once),
                None if slope is None else round(slope, 1),
                round(middle(surface, long, way, "worker") - middle(surface, long, "bare", "worker")),
                round((max(times) - min(times)) / statistics.median(times), 4),
            )
        )
    return rows


def table(rows: list[Row]) -> str:
    lines = [
        "| surface | with | bare SDK | added | ratio | added per call | added per chunk | worker |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        chunk = "" if row.added_per_chunk is None else f"{row.added_per_chunk:,.0f}"
        figures = f"{row.bare:,} | {row.added:,} | {row.ratio:.3f} | {row.added_per_call:,} | {chunk} | {row.worker:,}"
        lines.append(f"| `{row.surface}` | {row.way} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--only", default="", help="count only surfaces whose name contains this")
    parser.add_argument("--ways", choices=["both", "all"], default="both", help="which set-ups to count")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(reason, file=sys.stderr)
        return
    ways = _WAYS[1:] if options.ways == "all" else ("both",)
    rows = measure("embeddings", ways, 1) if options.quick else measure(options.only, ways, options.repeat)
    report.give(options, [asdict(row) for row in rows], table(rows))


if __name__ == "__main__":
    main()
