"""The SDKs' own tests with llmspan active: no test may fail that passes bare.

    python tests/sdk_suites/run.py                 # streaming, client, response and lib parts, of all SDKs
    python tests/sdk_suites/run.py --all openai    # everything but the tests that need a mock server

All are run active, and bare only those that did not pass then: what passes active needs no comparison. Some of these
tests fail now and then, by the time of day or the machine's load. So a test that passed bare and not active is run
again, alone and then among the tests of its file. It is a new failure if it fails active more often than not and,
whenever it does, passes bare in the very next run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from suites import ROOT, SUITES, Suite

#: how often a test is run again, alone and among others
ROUNDS, ROUNDS_AMONG_OTHERS = 5, 3
#: so many tests do not fail by chance
MANY = 20
#: of the tests, so many have to pass, or the suite says nothing
MOST = 0.9
#: seconds for one run; it takes some minutes
PATIENCE = 3600


class Report(TypedDict):
    """What one process says of itself; see ``llmspan_active``."""

    spans: int
    failures: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Outcome:
    """What a run of tests came to: id -> passed, failed or skipped."""

    tests: dict[str, str]
    seconds: float
    reports: list[Report] = field(default_factory=list)

    def names(self, result: str) -> set[str]:
        return {name for name, found in self.tests.items() if found == result}

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.names(result)):,} {result}" for result in ("passed", "failed", "skipped"))
        return f"{counts} in {self.seconds:.0f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "sdks", nargs="*", choices=[*SUITES, []], metavar="SDK", help=f"{', '.join(SUITES)}; default: all"
    )
    parser.add_argument(
        "--all", action="store_true", help="all tests that need no mock server, not the core parts only"
    )
    parser.add_argument("-n", type=int, default=os.cpu_count() or 1, help="processes; one for each CPU by default")
    options = parser.parse_args()
    bad = [name for name in options.sdks or SUITES if not holds(SUITES[name], options)]
    return 1 if bad else 0


def holds(suite: Suite, options: argparse.Namespace) -> bool:
    """Whether no test of the suite fails that passes bare; says so."""
    suite.prepare()
    active = run(suite, suite.parts(everything=options.all), options.n, active=True)
    say(f"{suite.release}, active: {active}")
    bare = run_bare(suite, active, options.n)
    say(f"{suite.release}, bare, those that did not pass: {bare}")
    suspects = {name for name in bare.names("passed") - active.names("passed") if not suite.allows(name)}
    confirmed = new_failures(suite, suspects, options.n)
    for name in sorted(suspects):
        say(f"  {'NEW FAILURE' if name in confirmed else 'failed, and then did not'}: {name}")
    wrong = what_is_wrong(suite, active)
    for line in wrong:
        say(f"  {line}")
    say(f"{suite.release}: {len(active.names('passed')):,} tests passed active, {len(confirmed)} newly failing")
    return not confirmed and not wrong


def what_is_wrong(suite: Suite, active: Outcome) -> list[str]:
    """What else there is against a run, in words."""
    failed_in = (item for report in active.reports for item in report["failures"].items())
    found = [f"DEFECT of llmspan in {test}: {hooks}" for test, hooks in failed_in if not suite.allows(test)]
    passed, failed = len(active.names("passed")), len(active.names("failed"))
    if passed < MOST * (passed + failed) or not passed:
        found.append(f"NOT TESTED: of {passed + failed:,} tests only {passed:,} pass")
    if not sum(report["spans"] for report in active.reports):
        found.append("NOT TESTED: llmspan was not at work, it made no span")
    return found


def new_failures(suite: Suite, suspects: set[str], processes: int) -> set[str]:
    """Which of the tests that failed active, and not bare, do so again."""
    if len(suspects) >= MANY:
        suspects = suspects - run(suite, files_of(suspects), processes, active=True, only=suspects).names("passed")
    if len(suspects) >= MANY:
        return suspects

    def alone(names: set[str], active: bool) -> Outcome:
        return run(suite, files_of(names), 0, active=active, only=names)

    def among_others(names: set[str], active: bool) -> Outcome:
        return run(suite, files_of(names), processes, active=active)

    found = failing_again(suspects, alone, ROUNDS)
    return found | failing_again(suspects - found, among_others, ROUNDS_AMONG_OTHERS)


def failing_again(suspects: set[str], rerun: Callable[[set[str], bool], Outcome], rounds: int) -> set[str]:
    """Those that fail active in most of the rounds, and never in the bare run right after that."""
    failures = Counter[str]()
    left = suspects
    for at in range(1, rounds + 1):
        left = {name for name in left if failures[name] + rounds - at + 1 > rounds / 2}  # it still may come to most
        if left:
            failed = left - rerun(left, True).names("passed")
            failures.update(failed)
            left -= failed - (rerun(failed, False).names("passed") if failed else set())
    return {name for name in left if failures[name] > rounds / 2}


def files_of(names: Collection[str]) -> tuple[str, ...]:
    """The files that these tests are in."""
    return tuple(sorted({name.partition("::")[0] for name in names}))


def run_bare(suite: Suite, active: Outcome, processes: int) -> Outcome:
    """What the tests that did not pass active, skipped ones too, come to without llmspan."""
    doubtful = active.tests.keys() - active.names("passed")
    return run(suite, files_of(doubtful), processes, active=False, only=doubtful) if doubtful else Outcome({}, 0.0)


def run(
    suite: Suite, parts: tuple[str, ...], processes: int, *, active: bool, only: Collection[str] | None = None
) -> Outcome:
    """Run tests; ``only`` those of these ids, if it is given."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outcomes, wanted = folder / "outcomes", folder / "wanted"
        # native tracebacks: rendering deep ones in the default style kills workers of CPython 3.11.7
        pytest = [str(suite.python), "-m", "pytest", "-q", "--tb=native", "-p", "no:cacheprovider", "-p", "outcomes"]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("LLMSPAN_", "OTEL_", "PYTEST_"))}
        paths = [str(Path(__file__).parent)]
        environ = {**kept, **dict(suite.environ), "LLMSPAN_SUITE_OUTCOMES": str(outcomes)}
        if active:
            pytest += ["-p", "llmspan_active"]
            paths.append(str(ROOT / "src"))
            (folder / "reports").mkdir()
            environ["LLMSPAN_SUITE_REPORT"] = str(folder / "reports")
        if only is not None:
            wanted.write_text(json.dumps(sorted(only)))
            environ["LLMSPAN_SUITE_ONLY"] = str(wanted)
        environ["PYTHONPATH"] = os.pathsep.join(paths)
        words = [*pytest, *suite.options, "-n", str(processes), *parts]
        started = time.monotonic()
        done = subprocess.run(words, cwd=suite.source, env=environ, capture_output=True, check=False, timeout=PATIENCE)
        if not outcomes.exists():
            raise SystemExit(f"{suite.release}: the tests did not run:\n{done.stdout.decode()}\n{done.stderr.decode()}")
        reports = [json.loads(path.read_text()) for path in folder.glob("reports/*.json")]
        return Outcome(json.loads(outcomes.read_text()), time.monotonic() - started, reports)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
