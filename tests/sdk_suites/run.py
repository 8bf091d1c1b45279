"""The SDKs' own tests, bare and with llmspan active: no test may fail that passes bare.

    python tests/sdk_suites/run.py                 # streaming, client, response and lib parts, of both SDKs
    python tests/sdk_suites/run.py --all openai    # everything but the tests that need a mock server

The tests come from the source distributions of the installed versions, from the package index that pip is set up for.
They run in environments of their own, in a cache outside of the checkout (``LLMSPAN_SUITES_CACHE``); what failed bare
is kept there too, by version, and asked for again with ``--fresh``. A new failure is run again, alone and in both ways,
before it counts: some of these tests depend on the time of day.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("LLMSPAN_SUITES_CACHE") or Path.home() / ".cache" / "llmspan" / "sdk-suites")
BUILD = ("hatchling", "hatch-fancy-pypi-readme", "pip")


@dataclass(frozen=True)
class Suite:
    """One SDK's tests: what they need, which of them are the core, which fail by what llmspan is for."""

    name: str
    needs: tuple[str, ...]
    core: tuple[str, ...]
    allowed: frozenset[str] = frozenset()

    @property
    def release(self) -> str:
        return f"{self.name}-{version(self.name)}"

    @property
    def folder(self) -> Path:
        return CACHE / self.release

    @property
    def source(self) -> Path:
        return self.folder / self.release

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    def allows(self, text: str) -> bool:
        """Whether ``text`` names a test that may fail."""
        return any(test in text for test in self.allowed)


class Report(TypedDict):
    """What one process says of itself; see ``llmspan_active``."""

    spans: int
    failures: dict[str, dict[str, int]]


SUITES = {
    "openai": Suite(
        name="openai",
        needs=(
            "openai[aiohttp,realtime,datalib,bedrock,vertex]", "pytest", "pytest-asyncio", "pytest-xdist", "pillow",
            "rich", "inline-snapshot", "azure-identity", "botocore", "trio", "griffe", "ruff", "jsonschema",
        ),
        core=(
            "tests/lib", "tests/test_client.py", "tests/test_streaming.py", "tests/test_response.py",
            "tests/test_legacy_response.py", "tests/test_sse_framing.py", "tests/test_stream_mode.py",
            "tests/test_module_client.py", "tests/test_httpx_compat.py", "tests/test_httpx2.py",
        ),
    ),
    "anthropic": Suite(
        name="anthropic",
        needs=(
            "anthropic[aiohttp,vertex,google_cloud,aws,bedrock,mcp,webhooks]", "respx", "pytest", "pytest-asyncio",
            "pytest-xdist", "time-machine", "dirty-equals", "importlib-metadata", "rich", "hypothesis",
            "inline-snapshot", "griffe", "http-snapshot[httpx]", "packaging", "opentelemetry-sdk", "ruff",
        ),
        core=(
            "tests/lib", "tests/test_client.py", "tests/test_streaming.py", "tests/test_response.py",
            "tests/test_middleware.py", "tests/test_tracing.py", "tests/test_open_telemetry.py", "tests/decoders",
        ),
        # "tracing that is switched off calls nothing of OpenTelemetry": we do, to open a span of our own
        allowed=frozenset({"test_disabled_spans_call_nothing_of_opentelemetry"}),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a run of tests came to: ``file::class::test`` -> passed, failed or skipped."""

    tests: dict[str, str]
    seconds: float

    def names(self, result: str) -> set[str]:
        return {name for name, found in self.tests.items() if found == result}

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.names(result)):,} {result}" for result in ("passed", "failed", "skipped"))
        return f"{counts} in {self.seconds:.0f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "sdks", nargs="*", choices=[*SUITES, []], metavar="SDK", help="openai, anthropic; default: both"
    )
    parser.add_argument(
        "--all", action="store_true", help="all tests that need no mock server, not the core parts only"
    )
    parser.add_argument("--fresh", action="store_true", help="run the bare tests again")
    parser.add_argument("-n", type=int, default=os.cpu_count() or 1, help="processes; one for each CPU by default")
    options = parser.parse_args()
    bad = [name for name in options.sdks or SUITES if not holds(SUITES[name], options)]
    return 1 if bad else 0


def holds(suite: Suite, options: argparse.Namespace) -> bool:
    """Whether no test of the suite fails that passes bare; says so."""
    prepare(suite)
    parts = ("tests", "--ignore=tests/api_resources") if options.all else suite.core
    parts = tuple(part for part in parts if part.startswith("-") or (suite.source / part).exists())
    bare = run_bare(suite, parts, options)
    say(f"{suite.release}, bare:   {bare}")
    reports: list[Report] = []
    active = run(suite, parts, options.n, reports)
    say(f"{suite.release}, active: {active}")
    spans = sum(report["spans"] for report in reports)
    broken = [f"{test}: {hooks}" for report in reports for test, hooks in report["failures"].items()]
    broken = [line for line in broken if not suite.allows(line)]
    say(f"{suite.release}: {spans:,} spans; defects of llmspan: {broken or 'none'}")
    new = [name for name in sorted(bare.names("passed") - active.names("passed")) if not suite.allows(name)]
    confirmed = [name for name in new if is_new_failure(suite, name)]
    for name in new:
        say(f"  {'NEW FAILURE' if name in confirmed else 'not reproduced alone'}: {name}")
    say(f"{suite.release}: {len(confirmed)} tests fail that pass bare")
    return not confirmed and not broken and spans > 0


def prepare(suite: Suite) -> None:
    """Make the environment and unpack the tests, unless they are there."""
    done = suite.folder / "ready"
    if done.exists():
        return
    shutil.rmtree(suite.folder, ignore_errors=True)
    suite.folder.mkdir(parents=True)
    command("uv", "venv", "--quiet", "--python", sys.executable, str(suite.folder / "venv"))
    pinned = [
        need if need.partition("[")[0] != suite.name else f"{need}=={version(suite.name)}" for need in suite.needs
    ]
    install = ("uv", "pip", "install", "--quiet", "--python", str(suite.python))
    command(*install, *pinned, *BUILD, "-r", str(ROOT / "pyproject.toml"))
    source = f"{suite.name}=={version(suite.name)}"
    download = (str(suite.python), "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:")
    command(*download, "--no-build-isolation", "--dest", str(suite.folder), source)
    with tarfile.open(suite.folder / f"{suite.release}.tar.gz") as archive:
        archive.extractall(suite.folder, filter="data")
    done.touch()


def run_bare(suite: Suite, parts: tuple[str, ...], options: argparse.Namespace) -> Outcome:
    kept = suite.folder / f"bare-{'all' if options.all else 'core'}.json"
    if kept.exists() and not options.fresh:
        found = json.loads(kept.read_text())
        return Outcome(found["tests"], found["seconds"])
    outcome = run(suite, parts, options.n)
    kept.write_text(json.dumps({"tests": outcome.tests, "seconds": outcome.seconds}))
    return outcome


def run(suite: Suite, parts: tuple[str, ...], processes: int, reports: list[Report] | None = None) -> Outcome:
    """Run tests; with ``reports`` given, llmspan is active and each process's report is put there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        junit = folder / "junit.xml"
        # native tracebacks: rendering deep ones in the default style kills workers of CPython 3.11.7
        pytest = [str(suite.python), "-m", "pytest", "-q", "--tb=native", "-p", "no:cacheprovider", "--durations=0"]
        pytest += ["-n", str(processes), f"--junitxml={junit}", "-o", "junit_family=xunit1"]
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("LLMSPAN_", "OTEL_"))}
        if reports is not None:
            pytest += ["-p", "llmspan_active"]
            environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(Path(__file__).parent)])
            environ["LLMSPAN_SUITE_REPORT"] = name
        started = time.monotonic()
        done = subprocess.run([*pytest, *parts], cwd=suite.source, env=environ, capture_output=True, check=False)
        if not junit.exists():
            raise SystemExit(f"{suite.release}: the tests did not run:\n{done.stdout.decode()}\n{done.stderr.decode()}")
        if reports is not None:
            reports += [json.loads(path.read_text()) for path in folder.glob("*.json")]
        return Outcome(read_junit(junit), time.monotonic() - started)


def read_junit(path: Path) -> dict[str, str]:
    tests: dict[str, str] = {}
    for case in ET.parse(path).iter("testcase"):
        name = f"{case.get('file')}::{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        kinds = {child.tag for child in case}
        result = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        tests[name] = "failed" if tests.get(name) == "failed" else result
    return tests


def is_new_failure(suite: Suite, name: str) -> bool:
    """Whether a test fails alone with llmspan active, and passes alone without."""
    file, _, test = name.partition("::")
    part = (file, "-k", test.rpartition("::")[2].partition("[")[0])
    active, bare = run(suite, part, 0, []), run(suite, part, 0)
    return bare.tests.get(name) == "passed" and active.tests.get(name) != "passed"


def command(*words: str) -> None:
    subprocess.run(words, check=True)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
