"""The benches' own logic: the regression gate, the reading of counts, the pages that tables are written into."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interaction import ROOT

sys.path.append(str(ROOT / "bench"))

import gate
import instructions
import report
import whole_instructions
from run import PARTS

CALL, STREAM = "instructions, messages, both, call", "instructions, messages, both, 500 chunks"
MEMORY = "memory, open stream, messages, stream, both, 250 chunks"


def counted(**changed: Any) -> dict[str, Any]:
    """A row of ``instructions.py``."""
    row = {
        "surface": "messages", "way": "both", "bare_per_call": 2_000_000, "bare_per_chunk": None,
        "added_per_call": 1_000_000, "added_per_chunk": None, "ratio": 1.5,
        "worker_per_call": 600_000, "worker_per_chunk": None,
    }  # fmt: skip
    return row | changed


def streamed(ratio: float) -> dict[str, Any]:
    """A row of ``instructions.py`` of a stream."""
    return counted(bare_per_chunk=160_000, added_per_chunk=1_600, ratio=ratio, worker_per_chunk=48_000)


def held(beyond: int) -> dict[str, Any]:
    """A row of ``memory.py``."""
    return {"what": "open stream", "surface": "messages, stream", "way": "both", "chunks_read": 250, "beyond": beyond}


def test_ratios_are_to_the_bare_call() -> None:
    """What is added is compared as a share of the bare call, or of the bare stream of 500 chunks."""
    rows = [counted(), streamed(1.02)]
    found = gate.ratios({"instructions": rows, "memory": [held(1500)], "backends": [{"rows_per_s": 1}]})
    assert (found[CALL], found[STREAM], found[MEMORY]) == (0.5, 0.02, 1500)
    assert found["instructions, messages, both, worker, chunk"] == 0.3
    assert {name.partition(",")[0] for name in found} == {"instructions", "memory"}


def test_every_part_with_a_clock_gives_ratios_that_grow_with_trouble() -> None:
    """Of each part, the worse figures give the larger value."""
    slow = {
        "overhead": [{"surface": "x", "way": "both", "ratio": 1.2}],
        "throughput": [{"surface": "x", "streams_at_once": 8, "ratio": 0.5}],
        "loop_lag": {"p99_ratio": 3.0},
        "spool": [{"sync": "group", "payload_bytes": 4096, "records_per_s": 10, "bound_per_s": 100}],
    }
    fast = {
        "overhead": [{"surface": "x", "way": "both", "ratio": 1.1}],
        "throughput": [{"surface": "x", "streams_at_once": 8, "ratio": 0.9}],
        "loop_lag": {"p99_ratio": 1.0},
        "spool": [{"sync": "group", "payload_bytes": 4096, "records_per_s": 90, "bound_per_s": 100}],
    }
    worse, better = gate.ratios(slow), gate.ratios(fast)
    assert worse.keys() == better.keys()
    assert len(worse) == len(slow)
    assert all(worse[name] > better[name] for name in worse)


def test_a_regression_is_caught_and_named() -> None:
    """A tenth more instructions a call than the baseline fails, and the verdict says which, how much, and the limit."""
    baseline = gate.ratios({"instructions": [counted()]})
    verdict = gate.check(gate.ratios({"instructions": [counted(added_per_call=1_100_000)]}), baseline)
    assert not verdict.passes
    assert [worse.name for worse in verdict.worse] == [CALL]
    assert verdict.lines()[0] == f"worse: {CALL}: 0.55, was 0.5, may be 0.53"


def test_a_regression_of_a_stream_is_caught() -> None:
    """A stream that was within 1.02 of the bare one, and is no longer within 1.03, fails."""
    baseline = gate.ratios({"instructions": [streamed(1.02)]})
    verdict = gate.check(gate.ratios({"instructions": [streamed(1.031)]}), baseline)
    assert [worse.name for worse in verdict.worse] == [STREAM]


@pytest.mark.parametrize("factor", [0.5, 0.97, 1.0, 1.03])
def test_noise_and_improvements_pass(factor: float) -> None:
    """Three percent more are noise, and less is welcome."""
    baseline = gate.ratios({"instructions": [counted()], "memory": [held(4000)]})
    again = counted(added_per_call=round(1_000_000 * factor), worker_per_call=round(600_000 * factor))
    verdict = gate.check(gate.ratios({"instructions": [again], "memory": [held(round(4000 * factor))]}), baseline)
    assert verdict.passes
    assert verdict.compared == 3


def test_a_baseline_at_zero_has_room_for_noise_only() -> None:
    """What cost nothing may not begin to cost something; a measured value below zero is no licence to fail later."""
    baseline = {MEMORY: -300.0}
    assert gate.check({MEMORY: 200.0}, baseline).passes
    assert not gate.check({MEMORY: 300.0}, baseline).passes


def test_what_the_baseline_lacks_is_named() -> None:
    """A new surface fails the gate until the baseline has it, so that none goes unwatched."""
    baseline = gate.ratios({"instructions": [counted()]})
    new = counted(surface="batches.create")
    verdict = gate.check(gate.ratios({"instructions": [counted(), new]}), baseline)
    assert not verdict.passes
    assert verdict.unknown == [f"instructions, batches.create, both, {what}" for what in ("call", "worker, call")]
    assert "not in the baseline: instructions, batches.create, both, call (--update writes it)" in verdict.lines()


def test_what_is_no_longer_measured_is_named() -> None:
    """A surface that has gone is told; parts that did not run are not asked for."""
    baseline = gate.ratios({"instructions": [counted(), counted(surface="gone")], "memory": [held(100)]})
    verdict = gate.check(gate.ratios({"instructions": [counted()]}), baseline)
    assert len(verdict.gone) == 2
    assert all(name.startswith("instructions, gone") for name in verdict.gone)


def test_an_update_replaces_the_parts_that_ran() -> None:
    """Values of other parts stay, values that are gone go."""
    baseline = gate.ratios({"instructions": [counted(), counted(surface="gone")], "memory": [held(100)]})
    found = gate.ratios({"instructions": [counted(added_per_call=5)]})
    new = gate.updated(found, baseline)
    assert new == dict(sorted((found | {MEMORY: 100}).items()))


def run_from(folder: Path, rows: list[dict[str, Any]], *words: str, quick: bool = False) -> Any:
    """``run.py`` on made-up figures."""
    results = folder / "results.json"
    parts = {"instructions": {"rows": rows, "table": "| a table |"}}
    results.write_text(json.dumps({"environment": {"python": "3"}, "quick": quick, "failed": [], "parts": parts}))
    command = [sys.executable, "bench/run.py", "--from", str(results), "--baseline", str(folder / "base.json"), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_fails_when_a_ratio_is_worse(tmp_path: Path) -> None:
    """``--update`` writes the baseline, ``--check`` passes on the same figures and fails on worse ones."""
    assert run_from(tmp_path, [counted()], "--update").returncode == 0
    same = run_from(tmp_path, [counted()], "--check")
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "2 values compared with the baseline: pass")
    worse = run_from(tmp_path, [counted(worker_per_call=700_000)], "--check")
    assert worse.returncode == 1
    assert "worse: instructions, messages, both, worker, call: 0.35, was 0.3" in worse.stdout


def test_quick_figures_are_no_baseline(tmp_path: Path) -> None:
    """What ``--quick`` counts is neither compared nor written."""
    done = run_from(tmp_path, [counted()], "--update", quick=True)
    assert done.returncode == 2
    assert "--quick" in done.stderr
    assert not (tmp_path / "base.json").exists()


def test_the_baseline_is_readable() -> None:
    """The baseline that is checked in has values of instructions and memory, each of a part that has a tolerance."""
    ratios = json.loads((ROOT / "bench" / "baseline.json").read_text())["ratios"]
    parts = {name.partition(",")[0] for name in ratios}
    assert {"instructions", "memory"} <= parts <= gate.TOLERANCES.keys()
    assert gate.check(ratios, ratios).passes


def test_counts_are_read_from_what_valgrind_writes(tmp_path: Path) -> None:
    """Call and chunk are told apart by two lengths, the least repetition counts, and what has no name is left out."""
    counts = {
        ("bare", "caller", 100): (1_100, 1_900), ("bare", "caller", 300): (3_100, 3_100),
        ("both", "caller", 100): (1_400, 1_350), ("both", "caller", 300): (3_600, 3_550),
        ("bare", "worker", 100): (10, 10), ("bare", "worker", 300): (10, 12),
        ("both", "worker", 100): (260, 250), ("both", "worker", 300): (650, 680),
    }  # fmt: skip
    for number, ((way, thread, chunks), totals) in enumerate(counts.items()):
        for n, total in enumerate(totals):
            mark = f"desc: Trigger: Client Request: messages|{chunks}|{way}|{thread}|{n}"
            (tmp_path / f"out.{number}-{n}").write_text(f"version: 1\n{mark}\n\nfn=(1) f\n0 1\n\ntotals: {total}\n")
    (tmp_path / "out.99").write_text("desc: Trigger: Client Request: before\n\ntotals: 7\n")
    (tmp_path / "out").write_text("desc: Trigger: Program termination\n\ntotals: 7\n")
    (row,) = instructions._rows(instructions._read(tmp_path))
    assert (row.surface, row.way) == ("messages", "both")
    assert (row.bare_per_call, row.bare_per_chunk) == (100, 10)
    assert (row.added_per_call, row.added_per_chunk) == (150, 1)
    assert (row.worker_per_call, row.worker_per_chunk) == (40, 2)
    assert row.ratio == round(1 + (150 + 500) / (100 + 5000), 4)


def test_instructions_of_a_process_are_those_of_a_call(tmp_path: Path) -> None:
    """Each series by its name, and for all but the bare SDK what a call adds to it."""
    for name, line in {
        "out.1": "Client Request: messages|40",
        "out.2": "Client Request: chat|40",
        "out": "Exit",
    }.items():
        (tmp_path / name).write_text(f"version: 1\ndesc: Trigger: {line}\n\nfn=(1) f\n0 1\n\ntotals: {len(line)}000\n")
    assert whole_instructions._read(tmp_path) == {"messages": 27_000 // 40, "chat": 23_000 // 40}
    table = whole_instructions.table_of(
        {"bare SDK": {"messages": 1_000, "chat": 10}, "x": {"messages": 1_700, "chat": 5}}
    )
    assert table.splitlines()[2:] == ["| bare SDK | 1,000 | 10 |", "| x | 700 | -5 |"]


def test_every_part_has_its_place_on_the_page() -> None:
    """docs/performance.md shows the table of each part, and states the gate's tolerances as they are."""
    page = (ROOT / "docs" / "performance.md").read_text()
    assert re.findall(r"<!-- (\w+): begin -->", page) == ["whole", "whole_instructions", *PARTS, "million"]
    for part, tolerance in gate.TOLERANCES.items():
        (line,) = [line for line in page.splitlines() if line.startswith("| `") and f"`{part}`" in line and "%" in line]
        assert f"| {tolerance.share:.0%}".replace("%", " %") in line
        assert f"{tolerance.noise:g}" in line


def test_a_table_goes_between_its_markers(tmp_path: Path) -> None:
    """Only what is between the markers changes; a page without them is an error that names what is missing."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- spool: begin -->\nold\n<!-- spool: end -->\nafter\n")
    report.write_between(page, "spool", "new")
    assert page.read_text() == "before\n<!-- spool: begin -->\nnew\n<!-- spool: end -->\nafter\n"
    with pytest.raises(ValueError, match=r"page.md has no place for 'memory': put <!-- memory: begin -->"):
        report.write_between(page, "memory", "new")
