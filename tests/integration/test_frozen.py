"""Programs that PyInstaller builds: our hook brings what entry points name; without it, the error has the remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from integration.programs import NO_OTLP, environment, run, steps_in
from llmspan.demo.server import DemoServer

PROGRAM = """
import llmspan
from openai import OpenAI

llmspan.instrument()
with llmspan.context(step_id="frozen"):
    OpenAI().responses.create(model="gpt-5.4", input="What is a trace?")
"""
#: what the tests' environment has and the program does not use: a build with all of it takes four times as long
LEFT_OUT = (
    "aiohttp", "anthropic", "boto3", "botocore", "celery", "chdb", "clickhouse_connect", "cryptography",
    "debugpy", "distutils", "eventlet", "genai_prices", "gevent", "google", "grpc", "gunicorn", "hypothesis",
    "ipykernel", "IPython", "jedi", "jinja2", "jsonschema", "jupyter_client", "matplotlib", "mcp", "nbformat",
    "numpy", "pandas", "PIL", "polars", "prompt_toolkit", "psycopg", "pyarrow", "pygments", "pytest",
    "requests", "rich", "setuptools", "starlette", "tkinter", "tornado", "trio", "unittest", "urllib3",
    "uvicorn", "websockets", "xml", "yaml", "zmq",
)  # fmt: skip


def build(folder: Path, program: str, *options: str) -> Path:
    """A directory with a program that needs no Python."""
    (folder / "program.py").write_text(program)
    options = (*options, *(f"--exclude-module={name}" for name in LEFT_OUT))
    command = [sys.executable, "-m", "PyInstaller", "--log-level", "WARN", "--noconfirm", *options, "program.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3600, check=False)
    if "Python library not found" in done.stderr or "objdump" in done.stderr:
        pytest.skip(f"PyInstaller cannot build here: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return folder / "dist" / "program" / "program"


def test_a_frozen_program_records_its_calls(tmp_path: Path) -> None:
    """Nothing has to be named when it is built: providers, backends and SQL files are in it."""
    program = build(tmp_path, PROGRAM)
    with DemoServer() as provider:
        env = environment(provider, tmp_path / "traces.db", **NO_OTLP)
        done = run(str(program), env=env, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert steps_in(tmp_path / "traces.db") == ["frozen"]


@pytest.mark.parametrize("known", [True, False], ids=["metadata without modules", "nothing"])
def test_a_frozen_program_without_the_hook(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is to build it again, not to install something where it runs."""
    from importlib.metadata import EntryPoint

    from llmspan.backends import loading
    from llmspan.errors import SettingsError
    from llmspan.settings import Settings

    lost = EntryPoint("sqlite", "llmspan.backends.nowhere:SQLiteBackend", "llmspan.backends")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(loading, "entry_points", lambda group: [lost] if known else [])
    with pytest.raises(SettingsError, match="--collect-all llmspan") as caught:
        loading.load_backends(Settings())
    assert "install" not in str(caught.value).replace("where llmspan is installed", "")
