"""All benches in one go: a table a part, all figures as JSON, and the regression gate.

    uv run python bench/run.py                                # everything
    uv run python bench/run.py --only memory --only spool     # some parts
    uv run python bench/run.py --json FILE                    # figures, and what they were measured on
    uv run python bench/run.py --docs                         # the tables in docs/performance.md
    uv run python bench/run.py --only instructions --only memory --check     # compare with baseline.json
    uv run python bench/run.py --only instructions --only memory --update    # write baseline.json
    uv run python bench/run.py --quick                        # whether all of it runs; the figures mean nothing

Each part is a program of its own, so that none disturbs the other. ``--from FILE`` takes the figures of an earlier
``--json FILE`` instead of measuring. What cannot run here (no Valgrind) says so and is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import gate
import report

HERE = Path(__file__).parent
BASELINE = HERE / "baseline.json"
PAGE = HERE.parent / "docs" / "performance.md"
#: the program of each part, and what it is told
PARTS: Final = {
    "overhead": ("overhead.py", "--ways", "all"),
    "instructions": ("instructions.py", "--ways", "all"),
    "memory": ("memory.py",),
    "throughput": ("throughput.py",),
    "loop_lag": ("loop_lag.py",),
    "spool": ("spool.py",),
    "backends": ("backends.py",),
    "socket": ("backends_socket.py",),
}
#: those that cannot run without Valgrind, and take it a minute only to start
WITH_VALGRIND: Final = {"instructions"}
_PACKAGES: Final = ("llmspan", "openai", "anthropic", "httpx2", "pydantic", "opentelemetry-sdk")


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def measure(part: str, *, quick: bool) -> dict[str, Any] | None:
    """Run a part, which prints its table; its figures, or None if it left itself out.

    Raises:
        subprocess.CalledProcessError: it failed, and has said why.
    """
    script, *words = PARTS[part]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [sys.executable, str(HERE / script), *words, "--report", str(path), *(["--quick"] if quick else [])]
        subprocess.run(command, check=True)
        return json.loads(path.read_text()) if path.exists() else None


def run(parts: list[str], *, quick: bool) -> dict[str, Any]:
    """The figures of ``parts``, with what they were measured on. A part that fails does not stop the others."""
    found: dict[str, Any] = {}
    failed: list[str] = []
    for part in parts:
        print(f"\n## {part}\n", flush=True)
        try:
            figures = measure(part, quick=quick)
        except subprocess.CalledProcessError as error:
            print(f"{part}: failed with {error.returncode}", file=sys.stderr)
            failed.append(part)
            continue
        if figures is not None:
            found[part] = figures
    return {"environment": environment(), "quick": quick, "failed": failed, "parts": found}


def write_docs(results: dict[str, Any]) -> None:
    """Put the tables into the pages that show them."""
    about = results["environment"]
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items() if number)
    origin = f"Python {about['python']} on {about['machine']}, {about['processors']} processors; {packages}."
    for part, figures in results["parts"].items():
        report.write_between(PAGE, part, f"{figures['table']}\n\n{origin}")


def compare(results: dict[str, Any], path: Path) -> bool:
    """Say how the figures stand beside the baseline; whether they pass."""
    baseline = json.loads(path.read_text())
    verdict = gate.check(_ratios(results), baseline["ratios"])
    if baseline["environment"] != results["environment"]:
        print(f"\nThe baseline was measured on {baseline['environment']},\nthis on {results['environment']}.")
    print("\n" + "\n".join(verdict.lines()))
    return verdict.passes and verdict.compared > 0


def update(results: dict[str, Any], path: Path) -> None:
    """Write the baseline; parts that did not run keep their values."""
    old = json.loads(path.read_text())["ratios"] if path.exists() else {}
    made = {"environment": results["environment"], "ratios": gate.updated(_ratios(results), old)}
    path.write_text(json.dumps(made, indent=1) + "\n")


def _ratios(results: dict[str, Any]) -> gate.Ratios:
    return gate.ratios({part: figures["rows"] for part, figures in results["parts"].items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; may be repeated")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--from", type=Path, metavar="FILE", dest="earlier")
    parser.add_argument("--baseline", type=Path, metavar="FILE", default=BASELINE)
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    if options.earlier:
        results = json.loads(options.earlier.read_text())
        results["parts"] = {part: results["parts"][part] for part in options.only or results["parts"]}
    else:
        results = run(options.only or list(PARTS), quick=options.quick)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if results["quick"] and (options.docs or options.check or options.update):
        parser.error("figures of --quick mean nothing: they are not compared and not shown")
    if options.docs:
        write_docs(results)
    if options.update:
        update(results, options.baseline)
    passes = compare(results, options.baseline) if options.check else True
    sys.exit(0 if passes and not results["failed"] else 1)


if __name__ == "__main__":
    main()
