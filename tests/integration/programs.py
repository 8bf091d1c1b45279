"""Running programs against the demo's provider, in an environment of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from llmspan.reader import Reader

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
#: the official instrumentations of the test environment stay out: they import every SDK at start
OTHERS_OFF = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "openai,anthropic"}
NO_OTLP = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}


class Provider(Protocol):
    """A server that speaks like both providers."""

    @property
    def openai_base_url(self) -> str: ...

    @property
    def anthropic_base_url(self) -> str: ...


def environment(provider: Provider, database: Path, **more: str) -> dict[str, str]:
    """What a user would have set, keys included, and nothing of this process's own OpenTelemetry or pytest settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LLMSPAN_", "PYTEST_"))}
    return {
        **kept,
        **OTHERS_OFF,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "OPENAI_BASE_URL": provider.openai_base_url,
        "ANTHROPIC_BASE_URL": provider.anthropic_base_url,
        "OPENAI_API_KEY": "sk-planted-secret",
        "ANTHROPIC_API_KEY": "sk-ant-planted-secret",
        "LLMSPAN_SQLITE_PATH": str(database),
        "COLUMNS": "120",
        **more,
    }


def run(
    *command: str, env: dict[str, str], cwd: Path = ROOT, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; its standard input is ours, or a text."""
    return subprocess.run(
        command, env=env, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=300, check=False
    )


def steps_in(database: Path) -> list[str]:
    """The ``step_id`` of every record, sorted."""
    with Reader.from_env(backends="sqlite", sqlite_path=database) as reader:
        return sorted(str(trace.step_id) for trace in reader.iterate())


@contextmanager
def running(*command: str, env: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own, which is gone at the end."""
    with (folder / "log.txt").open("wb") as log:
        launcher = [] if "/" in command[0] else [sys.executable, "-m"]
        process = subprocess.Popen(
            [*launcher, *command], env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process
        except BaseException:
            sys.stderr.write((folder / "log.txt").read_text()[-5000:])
            raise
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
