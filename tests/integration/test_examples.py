"""The examples in the strictest mode that Python has: ``-X dev -W error`` finds nothing of ours to say."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from integration.programs import ROOT, environment, run
from llmspan.demo.server import DemoServer
from llmspan.reader import Reader

STRICT = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
#: examples that set llmspan up themselves; the others know nothing of it
OWN = [path for path in EXAMPLES if "import llmspan" in path.read_text()]
#: the template of a provider is a module to copy, not a program: tests/instrumentation/test_provider_template.py
PLAIN = [path for path in EXAMPLES if path not in OWN and path.stem != "provider_template"]
#: the debug mode of asyncio tells of steps that took long on a busy machine
_SLOW = re.compile(r"^Executing <.*> took [\d.]+ seconds\n", re.MULTILINE)


@pytest.mark.parametrize("example", PLAIN, ids=lambda path: path.stem)
def test_observed_examples_say_what_they_say_bare(example: Path, tmp_path: Path) -> None:
    """Under ``llmspan run`` an example prints what it prints alone, warnings being errors, and not a line more."""
    with DemoServer() as server:
        env = environment(server, tmp_path / "traces.db", **STRICT)
        bare = run(sys.executable, str(example), env=env)
        seen = run("llmspan", "run", "--no-summary", str(example), env=env)
    assert (bare.returncode, _SLOW.sub("", bare.stderr)) == (0, "")
    assert (seen.returncode, seen.stdout, _SLOW.sub("", seen.stderr)) == (0, bare.stdout, "")
    assert statuses(tmp_path / "traces.db")


@pytest.mark.parametrize("example", OWN, ids=lambda path: path.stem)
def test_every_other_example_is_silent(example: Path, tmp_path: Path) -> None:
    """Examples that set llmspan up themselves run through without a warning."""
    with DemoServer() as server:
        env = environment(server, tmp_path / "traces.db", **STRICT)
        done = run(sys.executable, str(example), env=env)
    assert (done.returncode, _SLOW.sub("", done.stderr)) == (0, "")
    assert statuses(tmp_path / "traces.db")


def test_both_sdks_have_examples_in_both_colours() -> None:
    """What the two tests above are about includes each SDK, sync and async."""
    texts = [path.read_text() for path in PLAIN]
    for client in ("OpenAI", "AsyncOpenAI", "Anthropic", "AsyncAnthropic"):
        assert any(re.search(rf"\b{client}\(\)", text) for text in texts), client


def statuses(database: Path) -> list[str]:
    """How the recorded calls have ended."""
    with Reader.from_env(backends="sqlite", sqlite_path=str(database)) as reader:
        return [record.status for record in reader.iterate()]
