"""llmspan beside other instrumentations and in frameworks: one span with usage and one record for each real call.

    python tests/peers/run.py                      # every peer but the large ones, as a table; 1 if a cell is wrong
    python tests/peers/run.py --all                # the large ones, too
    python tests/peers/run.py Logfire OpenLIT -v   # these only, with what the programs print
    python tests/peers/run.py --all --update       # keep the outcome in results.json, then run `just docs`

A cell is right if the records, the spans with usage and the HTTP calls are equally many and say the same, and each span
is at its place in the trace. Cells that are known to be wrong are listed in ``known_wrong.py``; one of them that turns
right makes the run fail as well, so that the list only shrinks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from environments import REQUIREMENTS, Environment, build
from judge import Cell
from known_wrong import KNOWN_WRONG
from peer import SURFACES, ZERO_CODE, ZERO_CODE_PEER_FIRST, Peer
from registry import PEERS

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
#: seconds for one program, and how many run at a time
TIMEOUT, PROCESSES = 180, 2

#: surface -> what ``judge.Cell`` has
Cells = dict[str, dict[str, Any]]
#: peer -> order -> cells
Matrix = dict[str, dict[str, Cells]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"one of: {', '.join(PEERS)}")
    parser.add_argument("--all", action="store_true", help="the large peers, too")
    parser.add_argument("--update", action="store_true", help="keep the outcome in results.json")
    parser.add_argument("-v", "--verbose", action="store_true", help="print what the programs print")
    options = parser.parse_args()
    unknown = [name for name in options.peers if name not in PEERS]
    if unknown:
        parser.error(f"unknown peer {', '.join(unknown)}; available: {', '.join(PEERS)}")
    chosen = [PEERS[name] for name in options.peers] or [p for p in PEERS.values() if options.all or not p.is_large]
    started = time.monotonic()
    prepare({peer.environment for peer in chosen})
    matrix = run_all(chosen, options.verbose)
    print(table(matrix))
    problems = list(compare(matrix))
    print("\n".join(problems))
    if options.update:
        update(matrix)
    cells = [cell for orders in matrix.values() for row in orders.values() for cell in row.values()]
    right = sum(not cell["faults"] for cell in cells)
    known = len(cells) - right - sum(line.startswith("WRONG") for line in problems)
    print(f"peers: {right} of {len(cells)} cells right, {known} known to be wrong, {time.monotonic() - started:.0f} s")
    return 1 if problems else 0


def prepare(names: Iterable[str]) -> None:
    """Make the environments; says which, and what is in them."""
    for name in sorted(names):
        started = time.monotonic()
        made = Environment(name).prepare()
        took = f" (made in {time.monotonic() - started:.0f} s)" if made else ""
        print(f"{name}: {' '.join(REQUIREMENTS[name])}{took}", flush=True)


def run_all(peers: Iterable[Peer], verbose: bool) -> Matrix:
    """Run every peer in every order."""
    matrix: Matrix = {peer.name: {} for peer in peers}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(PROCESSES) as pool:
        package = Path(folder) / "llmspan"
        build(package)
        jobs = [(peer, order, Path(folder) / str(at)) for at, (peer, order) in enumerate(_pairs(matrix))]
        for _, _, own in jobs:
            own.mkdir()
        rows = pool.map(lambda job: run(*job, package, verbose), jobs)
        for (peer, order, _), cells in zip(jobs, rows, strict=True):
            matrix[peer.name][order] = cells
    return matrix


def _pairs(matrix: Matrix) -> list[tuple[Peer, str]]:
    return [(PEERS[name], order) for name in matrix for order in PEERS[name].orders]


def run(peer: Peer, order: str, folder: Path, package: Path, verbose: bool = False) -> Cells:
    """Run one program; if it dies, all of its cells are wrong."""
    environment, output = Environment(peer.environment), folder / "cells.json"
    command = [str(environment.scripts / "python"), str(HERE / "program.py"), peer.name, order, str(output)]
    if order in (ZERO_CODE, ZERO_CODE_PEER_FIRST):
        command.insert(0, str(environment.scripts / "opentelemetry-instrument"))
    try:
        done = subprocess.run(
            command, cwd=folder, env=environ(peer, order, folder, package), check=False, timeout=TIMEOUT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        printed, ended = done.stdout, f"exit code {done.returncode}"
    except subprocess.TimeoutExpired as expired:
        printed, ended = str(expired.stdout), f"no end after {TIMEOUT} s"
    cells: Cells = json.loads(output.read_text()) if output.exists() else {}
    if verbose:
        said = [
            f"{surface}: {fault}\n" for surface, cell in cells.items() for fault in cell["faults"] + cell["remarks"]
        ]
        print(f"--- {peer.name}, {order}\n{printed}{''.join(said)}", flush=True)
    if cells:
        return cells
    last = printed.strip().splitlines()[-1:] or ["it printed nothing"]
    return dict.fromkeys(peer.calls, asdict(Cell(0, 0, 0, faults=[f"{ended}: {last[0]}"])))


def environ(peer: Peer, order: str, folder: Path, package: Path) -> dict[str, str]:
    """The environment variables of a program: nothing of the caller's telemetry, and no way out to the network."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LLMSPAN_", "OTEL_", "OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "PYTHON"))
        and not name.lower().endswith("_proxy")
    }
    paths = [package, HERE]
    if order == ZERO_CODE_PEER_FIRST:
        paths.insert(0, Environment(peer.environment).packages)
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    return {
        **kept,
        **nowhere,
        "NO_PROXY": "127.0.0.1,localhost",
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "LLMSPAN_SQLITE_PATH": str(folder / "records.db"),
        "LLMSPAN_SUMMARY": "0",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ",".join(peer.disabled),
        **peer.environ,
    }


def compare(matrix: Matrix) -> Iterable[str]:
    """What is wrong and not known to be, and what is known to be wrong and is not: a line each."""
    for name, orders in matrix.items():
        for order, cells in orders.items():
            for surface, cell in cells.items():
                known = (name, order, surface) in KNOWN_WRONG
                if cell["faults"] and not known:
                    yield f"WRONG {name}, {order}, {surface}: {'; '.join(cell['faults'])}"
                elif known and not cell["faults"]:
                    yield f"RIGHT {name}, {order}, {surface}: take it out of known_wrong.py"


def table(matrix: Matrix) -> str:
    """The table: a cell is spans with usage / records / calls, with a mark if it is wrong."""
    width = max(map(len, matrix))
    lines = [f"{'peer':{width}}  {'order':24} " + " ".join(f"{surface:>16}" for surface in SURFACES)]
    for name, rows in groupby(_rows(matrix), key=lambda row: row[0]):
        for at, (_, order, cells) in enumerate(rows):
            shown = " ".join(f"{_shown(cells.get(surface)):>16}" for surface in SURFACES)
            lines.append(f"{name if at == 0 else '':{width}}  {order:24} {shown}")
    return "\n".join(lines)


def _rows(matrix: Matrix) -> list[tuple[str, str, Cells]]:
    return [(name, order, cells) for name, orders in matrix.items() for order, cells in orders.items()]


def _shown(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "-"
    counts = f"{cell['spans']}/{cell['records']}/{cell['calls']}"
    return f"{counts} WRONG" if cell["faults"] else counts


def update(matrix: Matrix) -> None:
    """Keep the outcome of these peers; the others stay as they were."""
    kept = read_results()["cells"] if RESULTS.exists() else {}
    merged = {**kept, **{name: _outcomes(orders) for name, orders in matrix.items()}}
    ordered = {name: merged[name] for name in PEERS if name in merged}
    RESULTS.write_text(_one_cell_a_line({"requirements": REQUIREMENTS, "cells": ordered}))


def read_results() -> dict[str, Any]:
    """The kept outcome: ``requirements`` by environment, ``cells`` by peer, order and surface."""
    return json.loads(RESULTS.read_text())


def _outcomes(orders: Mapping[str, Cells]) -> dict[str, Cells]:
    """What is kept of the cells: nothing that differs from run to run."""
    return {order: {surface: _outcome(cell) for surface, cell in cells.items()} for order, cells in orders.items()}


def _outcome(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "right": not cell["faults"],
        **{name: cell[name] for name in ("calls", "records", "spans", "scopes")},
    }


def _one_cell_a_line(value: Any) -> str:
    """JSON that a diff can be read of."""

    def render(value: Any, depth: int) -> str:
        if not isinstance(value, dict) or "right" in value:
            return json.dumps(value)
        lines = [f"{' ' * (depth + 1)}{json.dumps(name)}: {render(item, depth + 1)}" for name, item in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"

    return render(value, 0) + "\n"


if __name__ == "__main__":
    sys.exit(main())
