"""``llmspan delete`` and ``llmspan prune`` before they delete: what they show, ask and refuse, in a real terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main
from llmspan.errors import NoTablesError
from records import NOON, make_trace


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("LLMSPAN_", "OTEL_", "LETTA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A store of five records, four of them ann's, one of these with an escape sequence for a model."""
    path = tmp_path / "some.db"
    backend = SQLiteBackend(path)
    users = ["ann", "ann", "bob", "ann", "ann"]
    backend.write(
        [
            make_trace(id=f"id-{at}", user_id=user, started_at=NOON + at, request_model="m\x1b[31m" if at == 4 else "m")
            for at, user in enumerate(users)
        ]
    )
    backend.shutdown()
    return str(path)


def call(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False, prog_name="llmspan")


def count(db: str) -> int:
    backend = SQLiteBackend(db)
    try:
        return backend.count()
    finally:
        backend.shutdown()


#: makes standard input the controlling terminal, from which Ctrl-C comes, and becomes the program
BECOME = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


def in_terminal(*words: str, answer: bytes) -> tuple[int, str]:
    """Run a command in a terminal of its own, and type ``answer`` when it asks; its exit code and what was shown."""
    own, other = pty.openpty()
    command = [sys.executable, "-c", BECOME, sys.executable, "-m", "llmspan", *words]
    process = subprocess.Popen(command, stdin=other, stdout=other, stderr=other, start_new_session=True)
    os.close(other)
    shown, typed = b"", False
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := _read(own, again=answer if typed and answer == b"\x03" else b""):
            shown += piece
            if not typed and b"[y/N]" in shown:
                typed = True
                os.write(own, answer)
    code = process.wait(60)
    os.close(own)
    return code, shown.decode()


def _read(terminal: int, *, again: bytes) -> bytes:
    """What is shown next; ``again`` is typed until then: Python may miss an interrupt just before it reads a line."""
    poll = select.poll()  # a run of all tests has descriptors beyond what `select` takes
    poll.register(terminal, select.POLLIN)
    while again and not poll.poll(2000):
        os.write(terminal, again)
    return os.read(terminal, 65536)


def test_confirmed(db: str) -> None:
    """In a terminal, what would go is shown, and goes when the answer is yes."""
    code, shown = in_terminal("delete", "--db", db, "--where", "user_id=ann", answer=b"y\r")
    assert code == 0
    assert f"sqlite ({db}): 4 such calls" in shown
    assert "2026-01-31 12:00:00 +00:00  id-4  openai chat m\\x1b[31m" in shown
    assert "... and 1 older" in shown
    assert "Delete them permanently? [y/N]" in shown
    assert "sqlite: 4 deleted" in shown
    assert count(db) == 1


@pytest.mark.parametrize("answer", [b"n\r", b"\r", b"\x04", b"\x03"], ids=["no", "enter", "end", "interrupt"])
@pytest.mark.parametrize("words", [["delete", "--all"], ["prune", "--older-than", "1d"]])
def test_not_confirmed(db: str, words: list[str], answer: bytes) -> None:
    """Any other answer, also none, deletes nothing, and the exit code says so."""
    code, shown = in_terminal(*words, "--db", db, answer=answer)
    # one more interrupt may come when the command is about to end by the first
    assert code != 0 if answer == b"\x03" else code == 1, shown
    assert " deleted" not in shown.replace("nothing is deleted", "")
    assert count(db) == 5


def test_confirmed_with_json(db: str) -> None:
    """With ``--json``, what is asked about is on standard error, and standard output has the result only."""
    own, other = pty.openpty()
    os.write(own, b"y\n")
    words = [sys.executable, "-m", "llmspan", "delete", "--db", db, "--where", "id=id-2", "--json"]
    done = subprocess.run(words, stdin=other, capture_output=True, text=True, timeout=60)
    os.close(own)
    os.close(other)
    assert json.loads(done.stdout) == {
        "backend": "sqlite", "location": db, "matched": 1, "deleted": 1, "dry_run": False
    }  # fmt: skip
    assert "1 such call\n" in done.stderr
    assert "Delete it permanently?" in done.stderr


def test_nothing_to_ask_about(db: str) -> None:
    """Where there are no such calls, nothing is asked, and that is no failure."""
    code, shown = in_terminal("delete", "--db", db, "--where", "user_id=eve", answer=b"")
    assert (code, "0 such calls" in shown, "[y/N]" in shown) == (0, True, False)


@pytest.mark.parametrize(
    "words", [["delete", "--all"], ["delete", "--where", "id=no"], ["prune", "--older-than", "1d"]]
)
def test_without_a_terminal(db: str, words: list[str]) -> None:
    """Without a terminal nothing is deleted unless ``--yes`` says so; the calls are shown, and the way out is named."""
    result = call(*words, "--db", db)
    assert result.exit_code == 2
    assert "such call" in result.stdout
    assert "Add --yes to delete, or --dry-run to look only" in result.stderr
    assert count(db) == 5


def test_tables_that_are_made_meanwhile(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there were no tables when the calls were counted, nothing is deleted, though there are some now."""

    def count_nothing(backend: SQLiteBackend, filters: object) -> int:
        raise NoTablesError("no tables yet")

    with monkeypatch.context() as patch:
        patch.setattr(SQLiteBackend, "count", count_nothing)
        assert call("delete", "--all", "--db", db, "--yes").stdout.endswith("sqlite: 0 deleted\n")
    assert count(db) == 5


def test_dry_run_wins(db: str) -> None:
    """``--dry-run`` deletes nothing, also with ``--yes``."""
    result = call("delete", "--all", "--db", db, "--yes", "--dry-run")
    assert (result.exit_code, "5 such calls" in result.stdout, " deleted" in result.output) == (0, True, False)
    assert count(db) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["delete", "--yes"], "or else --all for all of them"),
        (["delete", "--yes", "--all", "--where", "id=x"], "or else --all for all of them"),
        (["delete", "--yes", "--where", "status=eror"], "status=eror: no record has that; choose from ok"),
        (["delete", "--yes", "--where", "usre=ann"], "usre is not a key; did you mean user?"),
        (["delete", "--yes", "--since", "yesterday"], "'yesterday'"),
        (["prune", "--yes"], "--older-than"),
        (["prune", "--yes", "--older-than", "30"], "'30': expected 30s, 15m"),
        (["prune", "--yes", "--older-than", "-3d"], "'-3d': expected 30s, 15m"),
        (["prune", "--yes", "--older-than", "3d", "--since", "1d"], "No such option"),
        (["prune", "--yes", "--older-than", "3d", "--backend", "nope"], "unknown backend 'nope'"),
    ],
)
def test_mistakes(db: str, words: list[str], message: str) -> None:
    """A mistake deletes nothing; its message names the input and what would be right."""
    result = call(*words, *([] if "--backend" in words else ["--db", db]))
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert count(db) == 5


def test_only_reading_is_allowed() -> None:
    """A file that may only be read is counted, and the deletion is an error that names it."""
    script = """
import os, sys
from llmspan.cli import main
from llmspan.errors import NoTablesError
main.main(["delete", "--db", sys.argv[1], "--where", "id=no", "--yes"], standalone_mode=False)
os.chmod(sys.argv[1], 0o444)
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
main.main(["delete", "--db", sys.argv[1], "--all", "--dry-run"], standalone_mode=False)
sys.exit(main.main(["delete", "--db", sys.argv[1], "--all", "--yes"], standalone_mode=False))
"""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        path = f"{name}/traces.db"
        backend = SQLiteBackend(path)
        backend.write([make_trace()])
        backend.shutdown()
        words = [sys.executable, "-c", script, path]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert (done.returncode, count(path)) == (2, 1), done.stderr
    assert done.stdout.count("1 such call\n") == 2
    assert f"Error: LLMSPAN_SQLITE_PATH={path}: it is not a file that can be read and written" in done.stderr


def test_what_is_not_deleted_is_named(db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead letters and a spool that may have more of the records are named, with what to do; others are not."""
    assert "not deleted" not in call("delete", "--db", db, "--where", "id=id-0", "--yes").stderr
    letters = tmp_path / "state" / "llmspan" / "dead-letters"
    letters.mkdir(parents=True)
    (letters / "sqlite.jsonl").write_text("{}\n")
    (letters / "postgres.jsonl").write_text("{}\n")
    (tmp_path / "spool" / "log-1").mkdir(parents=True)
    (tmp_path / "spool" / "log-1" / "seg-0001.log").write_text("x")
    monkeypatch.setenv("LLMSPAN_SPOOL_DIR", str(tmp_path / "spool"))
    shown = call("delete", "--db", db, "--where", "id=id-1", "--yes", "--json").stderr
    assert f"not deleted: the dead letters in {letters / 'sqlite.jsonl'}; remove" in shown
    assert "postgres.jsonl" not in shown
    assert f"not deleted: what waits in the spool {tmp_path / 'spool'}" in shown
