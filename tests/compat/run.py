"""Runs a smoke test on old, new and turning-point versions of the SDKs, each in a throw-away environment.

``uv run python tests/compat/run.py`` runs all of them; ``openai`` or ``openai==2.0.0`` behind it, only those.
``old`` runs ``llmspan doctor`` beside SDKs that are older than those: what it says of them is what happens.
``phoenix`` runs ``read_by_phoenix.py`` instead: what that backend reads of our spans.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

#: version -> what has to be pinned beside it (the SDK of that day did not know how its dependencies would change)
MATRIX = {
    "openai": {"1.50.0": ["httpx<0.28"], "2.0.0": [], "3.0.0": [], "3.54.0": [], "3.57.0": []},
    "anthropic": {"0.51.0": [], "0.125.0": [], "1.0.0": [], "2.12.0": [], "2.14.0": []},
    "google-genai": {"1.32.0": [], "2.0.0": [], "2.34.0": [], "3.0.0": [], "3.6.1": []},
}
#: the scripts, and what they need beside the SDK; that of the first two is the default
SMOKE = {"google-genai": ("google_smoke.py", ["aiohttp", "httpx2"])}
#: older than the hooks are tested with, and recorded all the same
OLD = {"openai": "1.40.0", "anthropic": "0.45.0"}
#: the version that docs/compatibility.md speaks of, and what the tests need beside it
PHOENIX = [
    "arize-phoenix==20.26.1", "openai", "anthropic", "opentelemetry-exporter-otlp-proto-common", "websockets>=13",
    "pytest", "hypothesis",
]  # fmt: skip


def run(package: str, version: str) -> bool:
    """Whether the smoke test passes on one version; prints its line."""
    script, needed = SMOKE.get(package, ("smoke.py", ["websockets>=13"]))
    wanted = [f"{package}=={version}", *MATRIX[package].get(version, []), *needed]
    command = ["uv", "run", "--quiet", "--isolated", "--no-project", "--with-editable", str(ROOT)]
    for requirement in wanted:
        command += ["--with", requirement]
    done = subprocess.run([*command, "python", str(HERE / script), package], check=False, cwd=ROOT)
    return done.returncode == 0


def examine(package: str, version: str) -> bool:
    """Whether doctor says that a trial call of an old SDK is recorded, as a note, and finds no problem."""
    command = ["uv", "run", "--quiet", "--isolated", "--no-project", "--with-editable", str(ROOT)]
    command += ["--with", f"{package}=={version}", "--with", "httpx<0.28", "llmspan", "doctor", "--backend", "memory"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    is_noted = f"{package} {version} is older than" in done.stdout and "a trial call is recorded" in done.stdout
    print(f"{package} {version}: doctor ends with {done.returncode}, {done.stdout.splitlines()[-1:]}")
    return done.returncode == 0 and is_noted


def read_by_phoenix() -> bool:
    """Whether Phoenix's own reader reads the spans of all recordings; prints its lines."""
    command = ["uv", "run", "--quiet", "--isolated", "--no-project", "--with-editable", str(ROOT)]
    for requirement in PHOENIX:
        command += ["--with", requirement]
    done = subprocess.run([*command, "python", str(HERE / "read_by_phoenix.py")], check=False, cwd=ROOT)
    return done.returncode == 0


def main(names: list[str]) -> int:
    """Run what is asked for; the number of versions that failed."""
    if names == ["old"]:
        return sum(not examine(*case) for case in OLD.items())
    if names == ["phoenix"]:  # installs some 100 packages, so it runs only if asked for
        return 0 if read_by_phoenix() else 1
    cases = [(package, version) for package, versions in MATRIX.items() for version in versions]
    chosen = [case for case in cases if not names or case[0] in names or "==".join(case) in names]
    if not chosen:
        print(f"unknown: {', '.join(names)}; available: {', '.join('=='.join(case) for case in cases)}")
        return 2
    failed = [case for case in chosen if not run(*case)]
    print(f"compat: {len(chosen) - len(failed)} of {len(chosen)} versions")
    wrong = [] if names else [case for case in OLD.items() if not examine(*case)]
    return len(failed) + len(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
