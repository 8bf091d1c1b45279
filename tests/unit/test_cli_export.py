"""What ``llmspan export`` and the commands that print do with their output: files, links, devices, full disks."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llmspan.backends.base import JsonPage
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

    def broken(self: SQLiteBackend, *arguments: Any, cursor: str | None = None, **more: Any) -> JsonPage:
        if cursor is not None:
            raise BackendError("gone")
        return JsonPage(["{}"], "the second page")

    monkeypatch.setattr(SQLiteBackend, "list_json", broken)
    assert call("export", "--db", db, "-o", str(target)).exit_code == 3
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if "out.jsonl" in path.name] == ["out.jsonl"]


_SENDS_ITSELF_A_SIGNAL = """
import os, sys
from llmspan.backends.base import JsonPage
from llmspan.backends.sqlite import SQLiteBackend
from llmspan import export_formats
from llmspan.cli import main
number, read = int(sys.argv.pop(1)), SQLiteBackend.list_json
def interrupted(*arguments, cursor=None, **more):
    if cursor is not None:
        os.kill(os.getpid(), number)
    return read(*arguments, cursor=cursor, **more)
SQLiteBackend.list_json, export_formats._PAGE = interrupted, 1
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_export_that_is_interrupted_leaves_nothing(db: str, tmp_path: Path, number: int) -> None:
    """A signal in the middle of an export: the file is as it was, none stands beside it, the exit code says it."""
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    words = [sys.executable, "-c", _SENDS_ITSELF_A_SIGNAL, str(int(number)), "export", "--db", db, "-o", str(target)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == (1 if number == signal.SIGINT else 128 + number)
    assert "Traceback" not in done.stderr
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if "out.jsonl" in path.name] == ["out.jsonl"]


@pytest.mark.parametrize("kind", ["a file", "a pipe", "the terminal"])
def test_progress_is_shown_on_a_terminal_only(db: str, tmp_path: Path, kind: str) -> None:
    """The bar is on standard error, if that is a terminal and the records do not go to one; piped, there is none."""
    own, other = pty.openpty()
    words = [sys.executable, "-m", "llmspan", "export", "--db", db]
    words += ["-o", str(tmp_path / "out.jsonl")] if kind == "a file" else []
    stdout = other if kind == "the terminal" else subprocess.PIPE
    environ = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run(words, stdout=stdout, stderr=other, env=environ, timeout=60)
    os.close(other)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(own, 65536):
            shown += piece
    os.close(own)
    assert done.returncode == 0
    assert (b"3/3" in shown) == (kind != "the terminal")
    assert (b"3 records to " in shown) == (kind == "a file")
    piped = subprocess.run(words, capture_output=True, timeout=60)
    assert b"3/3" not in piped.stdout + piped.stderr
    assert len((piped.stdout or (tmp_path / "out.jsonl").read_bytes()).splitlines()) == 3


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
