"""How many instructions llmspan adds to a call and to a chunk, counted by Valgrind: the same on a busy machine.

    uv run python bench/instructions.py                      # table
    uv run python bench/instructions.py --json               # the same as JSON
    uv run python bench/instructions.py --only "chat"        # surfaces whose name contains this
    uv run python bench/instructions.py --ways all           # calls also without spans, without backends

Each call runs warm, bare and observed, in one process; only the calls themselves are counted (callgrind, between
marks), and of several repetitions the least counts, as whatever comes between only adds. "Added" is what the caller's
thread does more. Streams are counted with 300 chunks and with 100: "per chunk" is the slope, "per call" what is left of
it, and the ratio that of a stream of 500. "Worker" is what making the record takes; sending it to the store is not
counted. Some 5,000 instructions of Python are a microsecond.

Counts do not know caches, and leave out the garbage collector. They repeat within two percent, which wall time does
not do on a machine with neighbours: so they are what the regression gate (``run.py --check``) looks at.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Self

import report
import valgrind_marks

_PROGRAM = Path(__file__).with_name("instructions_program.py")
_LENGTHS = (300, 100)
#: chunks of the stream that the ratio is of
_STREAM = 500
_WAYS = ("bare", "neither", "span", "backend", "both")
#: counted instructions of (surface, chunks, way, kind of thread), one per repetition
Counts = dict[tuple[str, int, str, str], list[int]]


@dataclass
class Row:
    """One line of the table; instructions. What is per call is without what is per chunk."""

    surface: str
    way: str
    bare_per_call: int
    bare_per_chunk: int | None
    added_per_call: int
    added_per_chunk: int | None
    #: of the call, or of a stream of 500 chunks
    ratio: float
    worker_per_call: int
    worker_per_chunk: int | None


def why_not() -> str | None:
    """Why nothing can be counted here; None if it can."""
    if shutil.which("valgrind") is None:
        return "instructions: skipped, valgrind is not installed (apt-get install valgrind)"
    if not valgrind_marks.is_known():
        return "instructions: skipped, valgrind's marks are known for x86_64 only"
    return None


def measure(
    only: str = "", ways: Iterable[str] = ("both",), repeat: int = 4, lengths: tuple[int, int] = _LENGTHS
) -> list[Row]:
    """Run the program under callgrind and read what it counted."""
    asked = {"only": only, "ways": ["bare", *ways], "repeat": repeat, "chunks": lengths}
    asked["stream_ways"] = ["bare", "both"]  # a chunk costs the same in all of them
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
    least = {key: min(found) for key, found in counts.items()}
    rows: list[Row] = []
    for surface, way in dict.fromkeys((key[0], key[2]) for key in sorted(least) if key[2] != "bare"):
        lengths = sorted({key[1] for key in least if key[0] == surface})

        def line(way: str, thread: str = "caller", surface: str = surface, lengths: list[int] = lengths) -> _Line:
            return _Line.through({chunks: least[surface, chunks, way, thread] for chunks in lengths})

        bare, added = line("bare"), line(way) - line("bare")
        worker = line(way, "worker") - line("bare", "worker")
        is_stream = len(lengths) > 1
        rows.append(
            Row(
                surface,
                way,
                round(bare.per_call),
                round(bare.per_chunk) if is_stream else None,
                round(added.per_call),
                round(added.per_chunk) if is_stream else None,
                round(1 + added.at(_STREAM) / bare.at(_STREAM), 4),
                round(worker.per_call),
                round(worker.per_chunk) if is_stream else None,
            )
        )
    return rows


class _Line(NamedTuple):
    """A straight line: so much for the call, and so much for each chunk."""

    per_call: float
    per_chunk: float

    @classmethod
    def through(cls, points: dict[int, int]) -> Self:
        (short, low), (long, high) = min(points.items()), max(points.items())
        slope = (high - low) / (long - short) if long > short else 0.0
        return cls(low - slope * short, slope)

    def at(self, chunks: int) -> float:
        return self.per_call + self.per_chunk * chunks

    def __sub__(self, other: _Line) -> _Line:
        return _Line(self.per_call - other.per_call, self.per_chunk - other.per_chunk)


def table(rows: list[Row]) -> str:
    lines = [
        "| surface | with | bare: call | chunk | added: call | chunk | ratio | worker: call | chunk |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        bare = f"{row.bare_per_call:,} | {_number(row.bare_per_chunk)}"
        split = f"{row.added_per_call:,} | {_number(row.added_per_chunk)}"
        added = f"{split if row.added_per_call > 0 else '? | ?'} | {row.ratio:.3f}"
        worker = f"{row.worker_per_call:,} | {_number(row.worker_per_chunk)}"
        lines.append(f"| `{row.surface}` | {row.way} | {bare} | {added} | {worker} |")
    return "\n".join(lines)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--only", default="", help="count only surfaces whose name contains this")
    parser.add_argument("--ways", choices=["both", "all"], default="both", help="which set-ups to count")
    parser.add_argument("--repeat", type=int, default=4)
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
