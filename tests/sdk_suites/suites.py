"""Which tests of which SDK, and the environment that they run in: the source distribution of the installed version.

Environments are made once, in a cache outside of the checkout (``LLMSPAN_SUITES_CACHE``), from the package index that
pip is set up for, and made anew when what they need has changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("LLMSPAN_SUITES_CACHE") or Path.home() / ".cache" / "llmspan" / "sdk-suites")
BUILD = ("hatchling", "hatch-fancy-pypi-readme", "pip")


@dataclass(frozen=True)
class Suite:
    """One SDK's tests: what they need, which of them are the core, which fail by what llmspan is for."""

    name: str
    needs: tuple[str, ...]
    core: tuple[str, ...]
    #: these ask a mock server that the source distribution does not have
    mocked: tuple[str, ...] = ("tests/api_resources",)
    allowed: frozenset[str] = frozenset()
    #: for pytest, and the variables of its process
    options: tuple[str, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()

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

    def parts(self, *, everything: bool) -> tuple[str, ...]:
        """What pytest is to be given; parts that this version does not have are left out."""
        there = (
            ("tests",)
            if everything and (self.source / "tests").exists()
            else tuple(part for part in self.core if (self.source / part).exists())
        )
        return (*there, *(f"--ignore={part}" for part in self.mocked))

    def allows(self, test: str) -> bool:
        """Whether the test of this id may fail."""
        return test.rpartition("::")[2].partition("[")[0] in self.allowed

    def prepare(self) -> None:
        """Make the environment and unpack the tests, unless they are there."""
        ready, wanted = self.folder / "ready", "\n".join((sys.version, *self._requirements()))
        if ready.exists() and ready.read_text() == wanted:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        _run("uv", "venv", "--quiet", "--python", sys.executable, str(self.folder / "venv"))
        _run("uv", "pip", "install", "--quiet", "--python", str(self.python), *self._requirements())
        self._fetch()
        ready.write_text(wanted)

    def _fetch(self) -> None:
        """Get the tests."""
        fetch = (str(self.python), "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:")
        pinned = f"{self.name}=={version(self.name)}"
        _run(*fetch, "--no-build-isolation", "--dest", str(self.folder), pinned)
        with tarfile.open(self.folder / f"{self.release}.tar.gz") as archive:
            archive.extractall(self.folder, filter="data")

    def _requirements(self) -> list[str]:
        ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        pinned = [
            f"{need}=={version(self.name)}" if need.partition("[")[0] == self.name else need for need in self.needs
        ]
        return [*pinned, *BUILD, *ours]


class WheelSuite(Suite):
    """A suite that comes with the installed package."""

    @property
    def source(self) -> Path:
        """Where packages are installed, so that no module of the SDK's hides one of the standard library."""
        return next((self.folder / "venv" / "lib").glob("python*")) / "site-packages"

    def _fetch(self) -> None:
        """The tests are there already."""


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
        mocked=("tests/api_resources", "tests/lib/test_fine_tuning_positional_arguments.py"),
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
    "google-genai": WheelSuite(
        name="google-genai",
        needs=("google-genai[aiohttp]", "httpx", "pytest", "pytest-asyncio", "pytest-xdist"),
        # most of the others replay traffic that is not public
        core=tuple(f"google/genai/tests/{part}" for part in ("client", "errors", "common", "interactions", "gaos")),
        mocked=(),
        options=("-o", "asyncio_mode=auto", "-o", "consider_namespace_packages=true"),
        environ=(("GOOGLE_API_KEY", "k"),),
    ),
}  # fmt: skip


def _run(*words: str) -> None:
    subprocess.run(words, check=True)
