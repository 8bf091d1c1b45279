"""The examples in the strictest mode that Python has: ``-X dev -W error`` finds nothing of ours to say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from integration.programs import ROOT, environment, run
from llmspan.demo.server import DemoServer

STRICT = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}


@pytest.mark.parametrize("example", ["openai_stream.py", "anthropic_stream.py"])
def test_observed_examples_say_what_they_say_bare(example: str, tmp_path: Path) -> None:
    """Under ``llmspan run`` an example prints what it prints alone, warnings being errors, and not a line more."""
    with DemoServer() as server:
        env = environment(server, tmp_path / "traces.db", **STRICT)
        bare = run(sys.executable, f"examples/{example}", env=env)
        seen = run("llmspan", "run", "--no-summary", f"examples/{example}", env=env)
    assert (bare.returncode, bare.stderr) == (0, "")
    assert (seen.returncode, seen.stdout, seen.stderr) == (0, bare.stdout, "")
    assert (tmp_path / "traces.db").exists()


def test_every_other_example_is_silent(tmp_path: Path) -> None:
    """Examples that set llmspan up themselves run through without a warning."""
    others = {path.name for path in (ROOT / "examples").glob("*.py")} - {"openai_stream.py", "anthropic_stream.py"}
    with DemoServer() as server:
        for example in sorted(others):
            env = environment(server, tmp_path / f"{example}.db", **STRICT)
            done = run(sys.executable, f"examples/{example}", env=env)
            assert (example, done.returncode, done.stderr) == (example, 0, "")
