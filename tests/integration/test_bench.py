"""Every part of the bench runs, on tiny counts. How fast is not asked: that is what the bench is for."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from integration.programs import ROOT, run

sys.path.append(str(ROOT / "bench"))

from run import PARTS, WITH_VALGRIND
from whole import SHOWN, figures_of
from whole_program import SERIES

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LLMSPAN_"))}
#: several parts in one process, as importing the SDKs takes longer than they do
IN_ONE_PROCESS = """
import json, runpy, sys
sys.path.insert(0, "bench")
for command in json.loads(sys.argv[1]):
    sys.argv = command
    runpy.run_path("bench/" + command[0], run_name="__main__")
"""


def test_the_parts_run(tmp_path: Path) -> None:
    """Each part gives figures and a table; what Valgrind would count runs too, where its marks do nothing."""
    parts = sorted(PARTS.keys() - WITH_VALGRIND - {"backends"})
    commands = [[*PARTS[part], "--quick", "--report", str(tmp_path / part)] for part in parts]
    counted = {"only": "messages", "repeat": 1, "chunks": [20, 10]}
    counted |= {"ways": ["bare", "neither"], "stream_ways": ["bare", "both"]}
    commands.append(["instructions_program.py", json.dumps(counted)])
    done = run(sys.executable, "-c", IN_ONE_PROCESS, json.dumps(commands), env=ENVIRONMENT)
    assert (done.returncode, done.stderr) == (0, "")
    for part in parts:
        figures = json.loads((tmp_path / part).read_text())
        assert figures["rows"], part
        assert figures["table"] in done.stdout


def test_the_one_command(tmp_path: Path) -> None:
    """It prints the tables of parts and writes their figures, with what they were measured on; a part that cannot run
    for want of Valgrind says so, and is left out."""
    path = tmp_path / "results.json"
    only = [word for part in ("instructions", "backends", "spool") for word in ("--only", part)]
    done = run(
        sys.executable, "bench/run.py", "--quick", *only, "--json", str(path), env={**ENVIRONMENT, "PATH": "/nowhere"}
    )
    assert done.returncode == 0, done.stderr
    assert "valgrind is not installed" in done.stderr
    results = json.loads(path.read_text())
    assert list(results["parts"]) == ["backends", "spool"]
    assert all(figures["table"] in done.stdout for figures in results["parts"].values())
    assert results["environment"]["packages"]["openai"]


def test_the_commands_run(tmp_path: Path) -> None:
    """Each command is timed on a store, and so is a bare loop over its rows."""
    words = ["bench/million.py", "--quick", "--store", "sqlite", "--report", str(tmp_path / "report")]
    done = run(sys.executable, *words, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "report").read_text())["rows"]
    assert {"show", "tail", "stats", "stats --cost", "export", "a bare loop", "prune"} <= {
        figure["command"] for figure in figures
    }
    assert all(figure["seconds"] > 0 and figure["cpu_seconds"] > 0 and figure["memory_mib"] > 0 for figure in figures)


def test_the_whole_process_is_measured() -> None:
    """The program that runs in each peer's environment takes a turn in every series: llmspan, and the bare SDK."""
    titles = [title for title, *_ in SERIES]
    for peer in ("bare SDK", "llmspan"):
        turns = "".join(f"{title} 2\n" for title in titles)
        done = run(sys.executable, "bench/whole_program.py", peer, env=ENVIRONMENT, stdin=turns)
        assert (done.returncode, done.stderr) == (0, "")
        ready, *answers = [json.loads(line.removeprefix("JSON ")) for line in done.stdout.splitlines()]
        assert ready["series"] == titles
        assert ready["versions"]["openai"]
        figures = [figures_of([answer], 2) for answer in answers]
        assert len(figures) == len(titles)
        assert all(figure > 0 for row in figures for figure in row.values())
    assert set(SHOWN) <= {title for title, *_ in SERIES}
