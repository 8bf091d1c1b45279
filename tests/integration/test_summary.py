"""The line at the end of `llmspan run`: it comes once, however a program ends, and says what is where."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.programs import NO_OTLP, ROOT, environment, run, running
from integration.unix_http import PATIENCE, get
from llmspan.demo.server import DemoServer
from polling import until

#: nobody listens there
NOWHERE = "postgresql://user:secret-word@127.0.0.1:1/nowhere"
FOUR_CALLS = """
import openai
client = openai.OpenAI(max_retries=0)
for _ in range(4):
    client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hi"}])
"""
ON_SIGTERM = """
import os, signal, sys
def end(number, frame):
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
os.kill(os.getpid(), signal.SIGTERM)
signal.pause()
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[DemoServer]:
    with DemoServer() as server:
        yield server


@pytest.fixture
def env(provider: DemoServer, tmp_path: Path) -> dict[str, str]:
    return environment(provider, tmp_path / "t.db", LLMSPAN_EXIT_TIMEOUT="1", **NO_OTLP)


def lines_of(program: str, folder: Path, env: dict[str, str]) -> list[str]:
    """What the program and llmspan wrote to standard error."""
    (folder / "program.py").write_text(program)
    return run("llmspan", "run", str(folder / "program.py"), env=env, cwd=folder).stderr.splitlines()


def test_what_is_stored_is_said_to_be(env: dict[str, str], tmp_path: Path) -> None:
    """With a sound store the summary is the only line."""
    (line,) = lines_of(FOUR_CALLS, tmp_path, env)
    assert line.startswith("llmspan: 4 calls, 0 failed; tokens ")
    assert line.endswith(f"; stored in sqlite ({tmp_path}/t.db)")


@pytest.mark.parametrize("shutdown", ["", "import llmspan; llmspan.shutdown(1)"])
def test_what_is_lost_is_said_once(env: dict[str, str], tmp_path: Path, shutdown: str) -> None:
    """A store that is away is announced once, its loss is logged once, and the summary has the same number."""
    env |= {"LLMSPAN_BACKENDS": "sqlite,postgres", "LLMSPAN_POSTGRES_DSN": NOWHERE}
    lines = lines_of(FOUR_CALLS + shutdown, tmp_path, env)
    assert len(set(lines)) == len(lines)
    assert sum("tried again" in line or "trying again" in line for line in lines) == 1
    losses = [line for line in lines if re.search(r"lost|dropped", line)]
    assert losses == [
        "llmspan: the program ended before all records were written; postgres lost 4",
        lines[-1],
    ]
    assert lines[-1].endswith(
        f"; stored in sqlite ({tmp_path}/t.db); postgres (postgresql://user@127.0.0.1:1/nowhere): 0 of 4 stored, 4 lost"
    )
    assert "secret-word" not in "".join(lines)


def test_what_waits_is_said_to_wait(env: dict[str, str], tmp_path: Path) -> None:
    """With a spool nothing is lost; records of earlier programs that wait as well are counted apart."""
    spool = tmp_path / "spool"
    env |= {"LLMSPAN_BACKENDS": "postgres", "LLMSPAN_POSTGRES_DSN": NOWHERE, "LLMSPAN_SPOOL_DIR": str(spool)}
    first, second = (lines_of(FOUR_CALLS, tmp_path, env) for _ in range(2))
    assert not any("lost" in line for line in first + second)
    assert first[-1].endswith(f": 0 of 4 stored, 4 waiting in {spool}")
    assert second[-1].endswith(f": 0 of 8 (4 of earlier programs) stored, 8 waiting in {spool}")


def test_a_program_that_handles_its_signal(env: dict[str, str], tmp_path: Path) -> None:
    """A handler that ends the program by an exception leads to the summary, too."""
    assert lines_of(FOUR_CALLS + ON_SIGTERM, tmp_path, env)[-1].startswith("llmspan: 4 calls")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["single", "workers"])
def test_uvicorn(env: dict[str, str], tmp_path: Path, number: signal.Signals, workers: tuple[str, ...]) -> None:
    """An application without any code for it: after either signal the call is stored, and the summary is there."""
    text = (ROOT / "docs" / "delivery.md").read_text()
    match = re.search(r"```python\n# asgi_app.py\n(.*?)```", text, re.DOTALL)
    assert match is not None
    (tmp_path / "asgi_app.py").write_text(match[1].replace("llmspan.instrument()", ""))
    place, script = tmp_path / "s", str(Path(sys.executable).parent / "llmspan")
    command = (script, "run", "--", "uvicorn", *workers, "--uds", str(place), "asgi_app:app")
    with running(*command, env=env, folder=tmp_path) as process:
        until(lambda: get(place, "first"))
        process.send_signal(number)
        process.wait(PATIENCE)
    lines = [line for line in (tmp_path / "log.txt").read_text().splitlines() if line.startswith("llmspan: ")]
    (line,) = lines
    assert line.startswith("llmspan: 1 call, 0 failed")
    assert line.endswith(f"stored in sqlite ({tmp_path}/t.db)")
    assert process.returncode in (0, -number)
