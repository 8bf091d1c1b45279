"""Runs the tests of units, instrumentation and contracts on every other CPython of this machine, all at the same time.

``uv run python tests/pythons/run.py`` runs all that it finds; ``3.13`` behind it, only that one. The version that runs
this is left out, as the whole suite runs there. Each has an environment of its own in the user's cache, which is kept.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmspan" / "pythons"
TESTS = ("tests/unit", "tests/instrumentation", "tests/contract")
OLDEST: Final = (3, 11)
#: how much of a run that failed is shown
SHOWN: Final = 12_000
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


def run(interpreter: Interpreter) -> bool:
    """Whether the tests pass on it; prints its line, and the end of its output if they do not."""
    place, begun = CACHE / interpreter.minor, time.monotonic()
    log = CACHE / f"{interpreter.minor}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(place)}
    env.pop("VIRTUAL_ENV", None)
    sync = ["uv", "sync", "--quiet", "--locked", "--python", str(interpreter.path)]
    test = [place / "bin" / "python", "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *TESTS]
    with log.open("w", encoding="utf-8") as output:
        for command in (sync, test):
            done = subprocess.run(command, check=False, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT)
            if done.returncode:
                break
    text = log.read_text(encoding="utf-8", errors="replace")
    verdict = "passed" if done.returncode == 0 else "FAILED"
    last = next((line for line in reversed(text.splitlines()) if re.search(r"\d (passed|failed|error)", line)), "")
    print(f"python {interpreter.name}: {verdict} in {time.monotonic() - begun:.0f} s; {last.strip('= ')}", flush=True)
    if done.returncode:
        print(text[-SHOWN:], flush=True)
    return done.returncode == 0


def main(names: list[str]) -> int:
    """Run what is asked for; the number of interpreters that failed."""
    if shutil.which("uv") is None:
        print("pythons: uv is not on the path; pip install uv")
        return 2
    found = find()
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    print(f"pythons: found {', '.join(f'{one.name} ({one.path})' for one in found) or 'none'}", flush=True)
    chosen = [one for one in found if (one.minor in names if names else one.minor != own)]
    missing = set(names) - {one.minor for one in found}
    if missing:
        print(f"pythons: not found: {', '.join(sorted(missing))}")
        return 2
    if not names:
        print(
            f"pythons: {own} runs the whole suite; here run {', '.join(o.name for o in chosen) or 'none'}", flush=True
        )
    with ThreadPoolExecutor(max(1, len(chosen))) as pool:
        passed = list(pool.map(run, chosen))
    print(f"pythons: {sum(passed)} of {len(chosen)} passed")
    return passed.count(False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
