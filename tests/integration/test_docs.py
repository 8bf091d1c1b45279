"""The snippets of docs/privacy.md and docs/exporters.md do what the pages say."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from integration.programs import NO_OTLP, ROOT, environment, run
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.demo.server import DemoServer
from llmspan.reader import Reader
from llmspan.trace import ProviderTrace
from records import make_trace


def snippets(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    found = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [code for code in found if code.startswith("import llmspan")]


def stored(code: str, folder: Path) -> ProviderTrace:
    """The one record that a program makes."""
    database = folder / "x.db"
    with DemoServer() as provider:
        done = run(sys.executable, "-c", code, env=environment(provider, database, **NO_OTLP), cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    with Reader.from_env(backends="sqlite", sqlite_path=database) as reader:
        (found,) = reader.iterate()
        trace = reader.get(found.id)
    assert trace is not None
    return trace


def test_redaction(tmp_path: Path) -> None:
    """The system message is the function's, the address is masked, and the rest is there."""
    code, _ = snippets("privacy.md")
    trace = stored(code, tmp_path)
    assert '"content":"[our prompt]"' in (trace.request_json or "")
    assert "I am [masked by llmspan]. What is a trace?" in (trace.request_json or "")
    assert (trace.content, trace.usage.source) == ("full", "provider")
    assert not any(b"recipe" in file.read_bytes() for file in tmp_path.iterdir())


def test_records_by_hand(tmp_path: Path) -> None:
    """The record that the page makes is stored when the program ends."""
    (code,) = snippets("exporters.md")
    trace = stored(code, tmp_path)
    assert (trace.provider, trace.usage.input_tokens, trace.duration_ns) == ("gcp.gemini", 9, 800_000_000)


@pytest.mark.parametrize("page", ["privacy.md", "exporters.md"])
def test_pages_name_real_things(page: str) -> None:
    """Every setting and entry point that a page names exists."""
    text = (ROOT / "docs" / page).read_text()
    settings = (ROOT / "docs" / "settings.md").read_text()
    for name in re.findall(r"\bLLMSPAN_[A-Z_]+\b", text):
        assert f"`{name}`" in settings, name
    for name in re.findall(r"`(llmspan_[a-z]+)`", text):
        assert f"\n{name} = " in (ROOT / "pyproject.toml").read_text(), name


def test_deletion(tmp_path: Path) -> None:
    """A user's records are deleted from the store of the settings, and their number is printed."""
    _, code = snippets("privacy.md")
    backend = SQLiteBackend(tmp_path / "x.db")
    backend.write([make_trace(user_id=user) for user in ("user-1", "user-1", "user-2")])
    backend.shutdown()
    env = os.environ | {"LLMSPAN_BACKENDS": "sqlite", "LLMSPAN_SQLITE_PATH": str(tmp_path / "x.db")}
    done = run(sys.executable, "-c", code, env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")
