"""``--db``: the forms of a path that LLMSPAN_SQLITE_PATH takes, in every command that has the option."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import COMMANDS, main
from records import make_trace
from stores import shutting_down

WITH_DB = [["show"], ["tail", "--once"], ["stats"], ["export"], ["migrate"]]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with shutting_down(SQLiteBackend(tmp_path / "x.db")) as backend:
        backend.write([make_trace()])
    return tmp_path / "x.db"


@pytest.mark.parametrize("command", WITH_DB)
def test_urls(path, command):
    """A URL names the same file as its path; none is made of the URL's text."""
    for given in (str(path), "x.db", "sqlite:///x.db", f"sqlite:///{path}", "file:x.db", f"file://{path}"):
        result = CliRunner().invoke(main, [*command, "--db", given], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert "no calls" not in result.output
    assert [file.name for file in path.parent.iterdir()] == ["x.db"]


@pytest.mark.parametrize("command", [*WITH_DB, ["doctor"], ["run", "x.py"], ["sidecar"]])
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("sqlite://x.db", "sqlite://x.db: a path begins after three slashes"),
        ("sqlite:///x.db?mode=ro", "options are not supported"),
        (":memory:", "it names no file"),
        ("postgresql://user:topsecret@host/db", "postgresql://...: postgresql:// does not name a SQLite file"),
    ],
)
def test_refused(path, command, given, reason):
    """What is no path is wrong usage; the message names the option and shows no password."""
    assert command[0] in COMMANDS
    result = CliRunner().invoke(main, [command[0], "--db", given, *command[1:]], catch_exceptions=False)
    assert result.exit_code == 2
    message = " ".join(result.stderr.replace("│", " ").split())
    assert "--db" in message
    assert reason in message
    assert "topsecret" not in message


def test_missing(path):
    """What is not there, or is a directory, cannot be read; a command that writes makes it."""
    for given in ("sqlite:///nope.db", "file:nope.db", "sqlite:///."):
        result = CliRunner().invoke(main, ["show", "--db", given], catch_exceptions=False)
        assert result.exit_code == 2
        assert "--db" in result.stderr
    assert CliRunner().invoke(main, ["migrate", "--db", "sqlite:///nope.db"]).exit_code == 0
    assert (path.parent / "nope.db").exists()
