"""What a call costs the whole process, beside other instrumentations: CPU time of all threads, and wall time.

    uv run python bench/whole.py                        # table; makes an environment for each peer, from the index
    uv run python bench/whole.py llmspan official       # some of them; the bare SDK is always there
    uv run python bench/whole.py --docs                 # the table in docs/performance.md

Each peer runs in a process of its own. All of them take turns, a few calls each, in another order each time: so what
the machine is slowed down by for a second or a minute slows down all of them. A figure is that of all turns of a round,
and the median of the rounds. Peers are the newest on the package index, and their exporters do nothing; llmspan writes
the full record to SQLite.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

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
#: turns of a series, and the fewest calls of one
TURNS = 20
FEWEST_CALLS = 5
Rounds = dict[str, list[dict[str, dict[str, float]]]]


def command_of(name: str, *options: str, runner: Sequence[str] = ()) -> list[str]:
    """What runs ``whole_program.py`` in the environment of a peer, under ``runner``."""
    command = ["uv", "run", "--quiet", "--isolated", "--no-project", "--prerelease", "allow"]
    for requirement in (*BASE, *PEERS[name].requirements):
        command += ["--with", requirement]
    if PEERS[name].with_llmspan:
        command += ["--with-editable", str(ROOT)]
    return [*command, *runner, "python", str(HERE / "whole_program.py"), name, *options]


class PeerProcess:
    """A peer in its environment, that waits for its turns."""

    def __init__(self, name: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "LLMSPAN_"))}
        self.name = name
        self._files = ExitStack()
        self._errors = self._files.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115 - closed with the others
        self._process = subprocess.Popen(command_of(name), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=self._errors, text=True, cwd=ROOT, env=kept)  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._files.close()

    def start(self) -> None:
        """Wait until it is set up.

        Raises:
            ChildProcessError: it has ended; the message says why.
        """
        ready = self._answer()
        self.series: list[str] = ready["series"]
        self.versions: dict[str, str | None] = ready["versions"]

    def take_turn(self, title: str, calls: int) -> dict[str, Any]:
        """So many calls of a series.

        Raises:
            ChildProcessError: as :meth:`start`.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{title} {calls}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("JSON "):
                return json.loads(line.removeprefix("JSON "))
        self._errors.seek(0)
        raise ChildProcessError(f"{self.name} has ended: {self._errors.read()[-1000:]}")


def run_round(names: list[str], *, quick: bool) -> tuple[dict[str, dict[str, dict[str, float]]], dict[str, str]]:
    """The figures of one round, by peer and series, and the versions of what was measured.

    Raises:
        ChildProcessError: a peer that was set up has ended; the message says why.
    """
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in names}
    versions: dict[str, str] = {}
    with ExitStack() as running:
        peers = [running.enter_context(PeerProcess(name)) for name in names]
        for peer in list(peers):
            try:
                peer.start()
            except ChildProcessError as error:  # its newest version may not run: the others are measured
                print(error, file=sys.stderr)
                peers.remove(peer)
                continue
            versions |= {key: value for key, value in peer.versions.items() if value}
        for title, *_, calls in SERIES:
            taking_part = [peer for peer in peers if title in peer.series]
            each = 2 if quick else max(FEWEST_CALLS, calls // TURNS)
            for name, turns in take_turns(taking_part, title, each, 1 if quick else calls // each).items():
                found[name][title] = figures_of(turns, each)
    return found, versions


def take_turns(peers: list[PeerProcess], title: str, calls: int, count: int) -> dict[str, list[dict[str, Any]]]:
    """What so many turns of each peer took; one more, the first, is for the caches."""
    taken: dict[str, list[dict[str, Any]]] = {peer.name: [] for peer in peers}
    for number in range(count + 1):
        for peer in random.sample(peers, len(peers)):
            turn = peer.take_turn(title, calls)
            if number:
                taken[peer.name].append(turn)
    return taken


def figures_of(turns: list[dict[str, Any]], calls: int) -> dict[str, float]:
    """Microseconds of wall time (median and 90th percentile) and of the process's CPU time, per call."""
    walls = [wall for turn in turns for wall in turn["walls"]]
    p90 = statistics.quantiles(walls, n=10)[-1] if len(walls) > 1 else walls[0]
    cpu = sum(turn["cpu"] for turn in turns) / (len(turns) * calls)
    return {"wall_p50": statistics.median(walls) * 1e6, "wall_p90": p90 * 1e6, "cpu": cpu * 1e6}


def measure(names: list[str], rounds: int, *, quick: bool) -> tuple[Rounds, dict[str, str]]:
    """The figures of all rounds, and the versions of what was measured."""
    found: Rounds = {name: [] for name in names}
    versions: dict[str, str] = {}
    for _ in range(rounds):
        figures, versions = run_round(names, quick=quick)
        for name, of_series in figures.items():
            found[name].append(of_series)
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
        report.write_between(PAGE, "whole", f"{table}\n\nMeasured on {today}, rounds: {options.rounds}; {measured}.")
        if not options.peers:
            report.write_between(README, "whole", short_table_of(rows))


if __name__ == "__main__":
    main()
