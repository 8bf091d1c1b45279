"""The environments of the peers and the versions in them: the one place where a peer's version is chosen.

Environments are made once, in a cache outside of the checkout (``LLMSPAN_PEERS_CACHE``), from the package index that
uv is set up for, and made anew when their requirements, llmspan's dependencies or the interpreter change. llmspan
itself is not installed in them: ``build`` puts its wheel into a folder that ``PYTHONPATH`` names, so that checkouts can
share the cache and each run tests its own code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("LLMSPAN_PEERS_CACHE") or Path.home() / ".cache" / "llmspan" / "peers")
#: reads the environment variables of OpenTelemetry for ``opentelemetry-instrument``
DISTRO = "opentelemetry-distro==0.66b2"
NEWEST = ("openai==3.57.0", "anthropic==2.14.0")
GOOGLE, GOOGLE_2 = ("google-genai[aiohttp]==3.6.1", "google-genai[aiohttp]==2.34.0")
LANGCHAIN = ("langchain-openai==1.7.4", "langchain-anthropic==1.7.10")

#: environment -> its requirements. Peers that several environments could hold are apart where ``opentelemetry-
#: instrument`` would load them together (three packages call their entry point ``openai``), or where they ask for
#: other versions of the SDKs than the newest.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "openinference": (
        *NEWEST, *LANGCHAIN, DISTRO,
        "openinference-instrumentation-openai==0.1.66",
        "openinference-instrumentation-anthropic==3.1.0",
        "openinference-instrumentation-langchain==0.1.80",
    ),
    "openllmetry": (
        *NEWEST, *LANGCHAIN, DISTRO,
        "opentelemetry-instrumentation-openai==0.62.4",
        "opentelemetry-instrumentation-anthropic==0.62.4",
        "opentelemetry-instrumentation-langchain[instruments]==0.62.4",
    ),
    "official": (
        *NEWEST, DISTRO,
        "opentelemetry-instrumentation-genai-openai==1.3b0",
        "opentelemetry-instrumentation-genai-anthropic==1.3b0",
    ),
    "wrappers": (*NEWEST, DISTRO, "logfire==5.4.0", "langfuse==5.0.4"),
    "openlit": ("openai==2.54.0", "anthropic==0.125.0", "opentelemetry-distro==0.66b1", "openlit==1.45.0"),
    # the official one refuses google-genai 3
    "google-official": (GOOGLE_2, DISTRO, "opentelemetry-instrumentation-google-genai==1.3b0"),
    "google-openinference": (GOOGLE, DISTRO, "openinference-instrumentation-google-genai==1.4.14"),
    "google-openllmetry": (GOOGLE, DISTRO, "opentelemetry-instrumentation-google-generativeai==0.62.4"),
    "older-sdks": (
        "openai==2.54.0", "anthropic==0.125.0", "opentelemetry-distro==0.66b1",
        "autogen-agentchat==0.7.5",
        "autogen-ext[openai,anthropic]==0.7.5",
        "llama-index-embeddings-openai==0.7.0",
        "llama-index-llms-anthropic==0.12.3",
        "llama-index-llms-openai==0.8.3",
        "openinference-instrumentation-llama-index==4.6.1",
        "strands-agents[openai,anthropic]==1.62.0",
    ),
    "agent-framework": (
        "openai==3.57.0", "anthropic==1.17.0", DISTRO,
        "agent-framework-core==1.23.0",
        "agent-framework-openai==1.17.0",
        "agent-framework-anthropic==1.0.0b261022",
    ),
    "frameworks": (
        *NEWEST, DISTRO,
        "pydantic-ai-slim[openai,anthropic]==2.68.0",
        "haystack-ai==3.4.1",
    ),
    "semantic-kernel": (*NEWEST, DISTRO, "semantic-kernel==1.45.0"),
    "clients": (
        "openai==3.3.0", "anthropic==2.14.0", DISTRO,
        "agno==3.1.10",
        "dspy==3.4.1",
        "instructor==1.17.0",
        "litellm==1.110.2",
        "openai-agents==0.24.0",
        "smolagents[openai]==1.26.0",
    ),
    "crewai": ("openai==2.54.0", "anthropic==2.14.0", DISTRO, "crewai==1.15.30"),
}  # fmt: skip


@dataclass(frozen=True)
class Environment:
    """One environment in the cache."""

    name: str

    @property
    def folder(self) -> Path:
        return CACHE / self.name

    @property
    def scripts(self) -> Path:
        return self.folder / "venv" / "bin"

    @property
    def packages(self) -> Path:
        (folder,) = (self.folder / "venv" / "lib").glob("python3*/site-packages")
        return folder

    @property
    def requirements(self) -> list[str]:
        """What is installed: the peers, and what llmspan depends on."""
        ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        return [*REQUIREMENTS[self.name], *ours]

    def prepare(self) -> bool:
        """Make the environment unless it is there and current; whether it was made."""
        marker, wanted = self.folder / "ready", "\n".join((sys.version, *self.requirements))
        if marker.exists() and marker.read_text() == wanted:
            return False
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        _run("uv", "venv", "--quiet", "--python", sys.executable, str(self.folder / "venv"))
        python = str(self.scripts / "python")
        _run("uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *self.requirements)
        marker.write_text(wanted)
        return True


def build(folder: Path) -> None:
    """Install this checkout's llmspan, without its dependencies, into ``folder``."""
    _run("uv", "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target", str(folder), str(ROOT))


def _run(*words: str) -> None:
    subprocess.run(words, check=True)
