"""Terminals that are not UTF-8: every command that prints does so, and what cannot be encoded is an escape.

The records hold text of other people, and a lone surrogate among it, which UTF-8 cannot encode either.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmspan.backends.sqlite import SQLiteBackend
from records import full_trace

ENCODINGS = {
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
    "C locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
FOREIGN = "naïve €5 日本 🎉 \ud83d █"
SEPARATOR = "--- next ---"
#: all of them in one process: starting one for each takes most of the time
COMMANDS = """
import sys
from llmspan.cli import main

for words in {commands!a}:
    main([*words, "--db", sys.argv[1]], standalone_mode=False)
    sys.stdout.write({separator!a} + "\\n")
"""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A store with a call that is full of characters."""
    path = tmp_path / "naïve €.db"
    said = {"messages": [{"role": "user", "content": FOREIGN}]}
    trace = full_trace(
        request_json=json.dumps(said, ensure_ascii=True), step_id="schön", error_message=FOREIGN, agent_id="日本 🎉"
    )
    backend = SQLiteBackend(path)
    backend.open()
    backend.write([trace])
    backend.shutdown()
    return path


def printed(encoding: str, env: dict[str, str], db: Path, *commands: list[str]) -> list[str]:
    """What each command prints, in the encoding of its terminal."""
    program = COMMANDS.format(commands=commands, separator=SEPARATOR)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMSPAN_", "OTEL_", "LC_"))}
    done = subprocess.run(
        [sys.executable, "-c", program, str(db)], env={**kept, **env}, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done.stdout.decode("ascii" if encoding == "C locale" else encoding).split(f"{SEPARATOR}\n")[:-1]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_people_read(encoding: str, db: Path) -> None:
    """Every command prints, and bars and marks are of characters that the terminal has."""
    commands = [["show"], ["show", "--full"], ["tail", "--once"], ["stats", "--by", "agent_id"]]
    shown, *others = printed(encoding, ENCODINGS[encoding], db, *commands)
    assert ("███" in shown) == (encoding == "utf-8")
    assert ("###" in shown) == (encoding != "utf-8")
    assert len(others) == 3
    assert all(map(str.strip, others))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_programs_read(encoding: str, db: Path) -> None:
    """JSON is valid and exact in any encoding: what cannot be encoded is escaped as JSON has it."""
    outputs = printed(encoding, ENCODINGS[encoding], db, ["show", "--json"], ["tail", "--once", "--json"], ["export"])
    records = [json.loads(output) for output in outputs]
    assert [record["step_id"] for record in records] == ["schön"] * 3
    assert {record["agent_id"] for record in records} == {"日本 🎉"}
    request = records[0]["request_json"]
    assert (json.loads(request) if isinstance(request, str) else request)["messages"][0]["content"] == FOREIGN


def test_the_marks_of_doctor(db: Path) -> None:
    """It prints findings with marks of ASCII."""
    (told,) = printed("latin-1", ENCODINGS["latin-1"], db, ["doctor"])
    assert "\n+ backend sqlite: " in told


@pytest.mark.parametrize("encoding", ["latin-1", "C locale"])
def test_the_demo(encoding: str) -> None:
    """The first thing that people run works on any terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "llmspan.cli", "demo"],
        env={**os.environ, **ENCODINGS[encoding]},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"###" in done.stdout


PROGRAM = """
import sys
import llmspan
llmspan.instrument(backends="sqlite", sqlite_path=sys.argv[1], summary=True)
llmspan.record(provider="x", model="naïve 🎉", response={"usage": {"input_tokens": 1}})
"""


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_summary_of_a_run(encoding: str, tmp_path: Path) -> None:
    """It names the store, whatever the path is called."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    env = {**os.environ, **ENCODINGS[encoding]}
    command = [sys.executable, str(program), str(tmp_path / "naïve €.db")]
    done = subprocess.run(command, env=env, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0
    assert done.stderr.startswith(b"llmspan: 1 call, 0 failed")
    assert done.stderr.count(b"\n") == 1
