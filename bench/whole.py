"""What a call costs the whole process, beside other instrumentations: CPU time of all threads, and wall time.

    uv run python bench/whole.py                        # table; makes an environment for each peer, from the index
    uv run python bench/whole.py llmspan official       # some of them; the bare SDK is always there
    uv run python bench/whole.py --docs                 # the table in docs/performance.md

Each peer runs in a process of its own, and rounds take turns; a figure is the median of the rounds. Peers are the
newest on the package index, and their exporters do nothing; llmspan writes the full record to SQLite.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import report
from whole_peers import BASE, PEERS
from whole_program import SERIES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PAGE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
BARE = "bare SDK"
#: the series of the table; the JSON has all of them
SHOWN = (
    "messages", "messages, 5 ms apart", "messages, 20 chunks", "messages, 500 chunks",
    "chat", "chat, 5 ms apart", "chat, 20 chunks", "chat, 500 chunks",
)  # fmt: skip
#: the peers and series of the short table: instrumentations of OpenTelemetry that record content
COMPARED = ("official, content", "openinference", "llmspan")
SHORT = ("messages", "messages, 5 ms apart", "chat", "messages, 500 chunks", "chat, 500 chunks")
Rounds = dict[str, list[dict[str, dict[str, float]]]]


def command_of(name: str, *options: str, runner: Sequence[str] = ()) -> list[str]:
    """What runs ``whole_program.py`` in the environment of a peer, under ``runner``."""
    command = ["uv", "run", "--quiet", "--isolated", "--no-project", "--prerelease", "allow"]
    for requirement in (*BASE, *PEERS[name].requirements):
        command += ["--with", requirement]
    if PEERS[name].with_llmspan:
        command += ["--with-editable", str(ROOT)]
    return [*command, *runner, "python", str(HERE / "whole_program.py"), name, *options]


def run_once(name: str, *, quick: bool) -> dict[str, Any]:
    """One round of a peer in its environment.

    Raises:
        subprocess.CalledProcessError: it failed; its ``stderr`` says why.
    """
    command = command_of(name, *(["--quick"] if quick else []))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "LLMSPAN_"))}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=kept)
    line = next(line for line in done.stdout.splitlines() if line.startswith("JSON "))
    return json.loads(line.removeprefix("JSON "))


def measure(names: list[str], rounds: int, *, quick: bool) -> tuple[Rounds, dict[str, str]]:
    """The figures of all rounds, and the versions of what was measured."""
    found: Rounds = {name: [] for name in names}
    versions: dict[str, str] = {}
    for number in range(rounds):
        for name in names:
            try:
                result = run_once(name, quick=quick)
            except subprocess.CalledProcessError as error:
                print(f"round {number}, {name}: {error.stderr[-300:]}", file=sys.stderr)
                continue
            found[name].append(result["figures"])
            versions |= {key: value for key, value in result["versions"].items() if value}
    return found, versions


def rows_of(found: Rounds) -> list[dict[str, Any]]:
    """The medians of the rounds, one row for a peer and a series."""
    return [
        {"peer": name, "series": title}
        | {key: round(statistics.median(figures[title][key] for figures in rounds)) for key in rounds[0][title]}
        for name, rounds in found.items()
        for title, *_ in SERIES
        if rounds and title in rounds[0]
    ]


def table_of(rows: list[dict[str, Any]]) -> str:
    """Wall time and CPU time of each shown series, the bare SDK first."""
    cells = {(row["peer"], row["series"]): row for row in rows}
    lines = ["| wall p50, CPU of the process; µs | " + " | ".join(SHOWN) + " |", "|---" + "|---:" * len(SHOWN) + "|"]
    for name in dict.fromkeys(row["peer"] for row in rows):
        shown = [cells.get((name, title)) for title in SHOWN]
        texts = ["" if row is None else f"{row['wall_p50']:,}, {row['cpu']:,}" for row in shown]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def short_table_of(rows: list[dict[str, Any]]) -> str:
    """What a call adds to the bare SDK's CPU time, of a few peers and series."""
    cpu = {(row["peer"], row["series"]): row["cpu"] for row in rows}
    lines = ["| added CPU, µs a call | " + " | ".join(SHORT) + " |", "|---" + "|---:" * len(SHORT) + "|"]
    for name in COMPARED:
        added = [f"{cpu[name, title] - cpu[BARE, title]:,}" for title in SHORT]
        lines.append(f"| {name} | " + " | ".join(added) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/performance.md and README.md")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"one of: {', '.join(PEERS)}")
    options = parser.parse_args()
    unknown = set(options.peers) - PEERS.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    names = [name for name in PEERS if not options.peers or name in (BARE, *options.peers)]
    found, versions = measure(names, 1 if options.quick else options.rounds, quick=options.quick)
    rows = rows_of(found)
    table = table_of(rows)
    report.give(options, rows, table)
    if options.docs:
        measured = ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
        today = dt.datetime.now(dt.UTC).date()
        report.write_between(
            PAGE, "whole", f"{table}\n\nMeasured on {today}, median of {options.rounds} rounds: {measured}."
        )
        if not options.peers:
            report.write_between(README, "whole", short_table_of(rows))


if __name__ == "__main__":
    main()
