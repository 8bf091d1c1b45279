"""Runs the tests of units, instrumentation and contracts on every other CPython of this machine, on as many as fit.

``uv run python tests/pythons/run.py`` runs all that it finds; ``3.13`` behind it, only that one. The version that runs
this is left out, as the whole suite runs there. Each has an environment of its own in ``.pythons``, which is kept.
Of the recordings one of twenty is replayed, of the examples of a property one of twenty is tried, and of tests with
many rows one row of five is run (``tests/row_sample.py``): what is read from the wire does not depend on the version of
Python. A version that the machine does not have is named and fails nothing,
unless it was asked for.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, TextIO

ROOT = Path(__file__).resolve().parents[2]
#: Environments and logs. In the tree: Postgres's programs run as somebody else if root runs the tests, and those of an
#: environment below root's home cannot be reached then.
PLACE = ROOT / ".pythons"
TESTS = ("tests/unit", "tests/instrumentation", "tests/contract")
OLDEST: Final = (3, 11)
#: the versions that the package is for; those that are not found are named
SUPPORTED: Final = ("3.11", "3.12", "3.13", "3.14")
#: of how many recordings and examples one is taken, unless the caller says
EVERY: Final = "20"
#: seconds without a word after which a run is ended, as a test hangs; a machine with other work to do is slow
SILENCE: Final = 900
#: of how many rows of a test one is run, unless the caller says
ROWS_EVERY: Final = "5"
#: how much of a run that failed is shown
SHOWN: Final = 12_000
#: pytest's exit code
_TESTS_FAILED: Final = 1
_COUNTS = re.compile(r"\d+ (passed|failed|error)")
_PROBE = "import sys, platform; print(platform.python_implementation(), *sys.version_info[:4])"


class Interpreter(NamedTuple):
    """A CPython, by its version; the newest of several with the same minor version is taken."""

    version: tuple[int, int, int]
    path: Path

    @property
    def name(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def minor(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"


def candidates() -> list[Path]:
    """Programs that may be an interpreter: ``python3.12`` and the like on the path, and pyenv's."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    named = [
        path for folder in folders for path in folder.glob("python3.*") if re.fullmatch(r"python3\.\d+", path.name)
    ]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return [*sorted(pyenv.glob("versions/*/bin/python")), *named]


def examine(path: Path) -> Interpreter | None:
    """The interpreter at ``path``; None if it does not start (as pyenv's shims may not), or is not supported."""
    try:
        done = subprocess.run([path, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.split()
    if done.returncode or len(words) != 5 or words[0] != "CPython" or words[4] != "final":
        return None
    version = (int(words[1]), int(words[2]), int(words[3]))
    return Interpreter(version, path) if version[:2] >= OLDEST else None


def find() -> list[Interpreter]:
    """One interpreter for each minor version, oldest first."""
    newest: dict[str, Interpreter] = {}
    for found in filter(None, map(examine, candidates())):
        best = newest.setdefault(found.minor, found)
        if found.version > best.version:
            newest[found.minor] = found
    return sorted(newest.values())


class Outcome(NamedTuple):
    """How the tests went on one interpreter; ``counts`` is pytest's last line."""

    passed: bool
    counts: str


def run(interpreter: Interpreter, processes: int) -> Outcome:
    """Run the tests on it, in so many processes; prints the end of their output if they do not pass."""
    place, begun = PLACE / interpreter.minor, time.monotonic()
    log = PLACE / f"{interpreter.minor}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    env = {
        "LLMSPAN_TEST_RECORDINGS_EVERY": EVERY,
        "LLMSPAN_TEST_EXAMPLES_EVERY": EVERY,
        "LLMSPAN_TEST_ROWS_EVERY": ROWS_EVERY,
        **os.environ,
        "UV_PROJECT_ENVIRONMENT": str(place),
    }
    env.pop("VIRTUAL_ENV", None)
    sync = ["uv", "sync", "--quiet", "--locked", "--python", str(interpreter.path)]
    test = [str(place / "bin" / "python"), "-m", "pytest", "--quiet", "-o", f"cache_dir={place / 'cache'}", *TESTS]
    again = [*test, "-n0", "--last-failed", "--last-failed-no-failures=none"]
    with log.open("w", encoding="utf-8") as output:
        code = _exit_code(sync, env, output) or _exit_code([*test, f"-n{processes}"], env, output)
        if code == _TESTS_FAILED:  # a deadline on a busy machine, perhaps: what fails twice is broken
            code = _exit_code(again, env, output)
    text = log.read_text(encoding="utf-8", errors="replace")
    last = next((line for line in reversed(text.splitlines()) if _COUNTS.search(line)), "no test was run")
    verdict = "passed" if code == 0 else "FAILED"
    print(f"python {interpreter.name}: {verdict} in {time.monotonic() - begun:.0f} s, all of it in {log}", flush=True)
    if code:
        print(text[-SHOWN:], flush=True)
    return Outcome(code == 0, last.strip("= "))


def _exit_code(command: list[str], env: dict[str, str], output: TextIO) -> int:
    """What the command ends with, or 1 if it has not written anything for too long."""
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT)
    before, size = -1, 0
    while size > before:
        try:
            return process.wait(SILENCE)
        except subprocess.TimeoutExpired:
            before, size = size, os.fstat(output.fileno()).st_size
    process.send_signal(signal.SIGINT)  # pytest ends the servers that tests have started
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
    output.write(f"\nended after {SILENCE} seconds without a word: a test hangs\n")
    process.wait()
    return 1


def main(names: list[str]) -> int:
    """Run what is asked for; the number of interpreters that failed."""
    if shutil.which("uv") is None:
        print("pythons: uv is not on the path; pip install uv")
        return 2
    found = find()
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    chosen = [one for one in found if (one.minor in names if names else one.minor != own)]
    unknown = sorted(set(names) - {one.minor for one in found})
    if unknown:
        print(f"pythons: {', '.join(unknown)} not found on the path and in ~/.pyenv/versions")
        return 2
    print(f"pythons: running on {', '.join(f'{one.name} ({one.path})' for one in chosen) or 'none'}", flush=True)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    processes = cores // len(chosen) if 0 < len(chosen) < cores else 0
    with ThreadPoolExecutor(min(cores, max(1, len(chosen)))) as pool:
        outcomes = list(pool.map(lambda one: run(one, processes), chosen))
    absent = [minor for minor in SUPPORTED if minor not in {own, *(one.minor for one in found)}]
    print(f"pythons: found {', '.join(one.name for one in found) or 'none'}; not found {', '.join(absent) or 'none'}")
    print(f"pythons: {own} runs the whole suite elsewhere")
    for one, outcome in zip(chosen, outcomes, strict=True):
        print(f"pythons: {one.name} {'passed' if outcome.passed else 'FAILED'}: {outcome.counts}")
    failed = sum(not outcome.passed for outcome in outcomes)
    if not chosen:
        print("pythons: NOT TESTED, there is no other CPython on the path and in ~/.pyenv/versions")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
