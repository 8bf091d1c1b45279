"""What ``llmspan export`` and the commands that print do with their output: files, links, devices, full disks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main
from llmspan.errors import BackendError
from llmspan.trace import ProviderTrace
from records import make_trace

INDENTED = '{\n  "model": "m",\r\n\t"n": 1.50\n}'


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A store of three records, whose payloads are indented as api.openai.com indents them."""
    path = tmp_path / "some.db"
    backend = SQLiteBackend(path)
    backend.open()
    backend.write([make_trace(request_json=INDENTED, response_json=INDENTED) for _ in range(3)])
    backend.shutdown()
    return str(path)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("command", [["export"], ["tail", "--json", "--once"], ["show", "--last", "--json"]])
def test_one_object_a_line(db: str, command: list[str]) -> None:
    """However a provider spaces its JSON, a record is one line, and its payload has the same tokens."""
    lines = call(*command, "--db", db).stdout.splitlines()
    assert len(lines) == (1 if command[0] == "show" else 3)
    for line in lines:
        text = ProviderTrace.from_json(line).request_json
        assert text is None or text == INDENTED.translate(str.maketrans("\r\n\t", "   "))


def test_export_leaves_links_devices_and_pipes(db: str, tmp_path: Path) -> None:
    """A link's target is replaced, a device and a pipe are written to; no mode but that of the new file is changed."""
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    target.write_text("old")
    link.symlink_to(target)
    assert call("export", "--db", db, "-o", str(link)).exit_code == 0
    assert link.is_symlink()
    assert len(target.read_text().splitlines()) == 3
    os.mkfifo(pipe, 0o644)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert call("export", "--db", db, "-o", str(pipe)).exit_code == 0
    assert len(os.read(reader, 1 << 20).splitlines()) == 3
    os.close(reader)
    mode = Path("/dev/null").stat().st_mode
    assert call("export", "--db", db, "-o", "/dev/null").exit_code == 0
    assert (Path("/dev/null").stat().st_mode, pipe.stat().st_mode & 0o777) == (mode, 0o644)


def test_an_export_that_fails_keeps_the_old_file(db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of the last export is there until the new one is whole, and nothing else is left behind."""
    target = tmp_path / "out.jsonl"
    target.write_text("old")

    def broken(self: ProviderTrace) -> str:
        raise BackendError("gone")

    monkeypatch.setattr(ProviderTrace, "to_json_line", broken)
    assert call("export", "--db", db, "-o", str(target)).exit_code == 3
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if "out.jsonl" in path.name] == ["out.jsonl"]


@pytest.mark.parametrize("module", ["llmspan", "llmspan.cli"])
@pytest.mark.parametrize("command", [["export"], ["tail", "--json", "--once"], ["stats"]])
def test_a_full_disk_behind_the_output(db: str, module: str, command: list[str]) -> None:
    """One line says that the output cannot be written; no traceback, here or at exit."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", module, *command, "--db", db],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (1, "Error: the output cannot be written: No space left on device\n")
