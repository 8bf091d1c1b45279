"""The commands in real terminals of 80 and of 120 columns: every line fits, and the zone of the times is there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

import pytest
from rich.cells import cell_len

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.usage import Usage
from records import DAY, NOON, full_trace, make_trace

_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_LONG_MODEL = "accounts/fireworks/models/llama-v3p1-405b-instruct"


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with calls of every length."""
    usage = Usage(input_tokens=1_123_456, cache_read_tokens=1_000_000, output_tokens=99_999, source="provider")
    path = tmp_path_factory.mktemp("terminals") / "calls.db"
    backend = SQLiteBackend(path)
    backend.write([
        make_trace(usage=usage, duration_ns=123_456_789_000, started_at=NOON),
        make_trace(response_model=_LONG_MODEL, provider="azure.ai.openai", status="closed_early"),
        make_trace(status="error", error_type="x" * 200, started_at=NOON + 5),
        full_trace(usage=usage, started_at=NOON + 30 * DAY),
    ])  # fmt: skip
    backend.shutdown()
    return path


def printed(columns: int, *words: str) -> list[str]:
    """The lines that llmspan prints in a terminal of so many columns."""
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environ |= {"TERM": "xterm", "TZ": "EST5EDT,M3.2.0,M11.1.0", "PYTHONIOENCODING": "utf-8"}
    process, terminal = pty.fork()
    if process == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        os.execve(sys.executable, [sys.executable, "-m", "llmspan", *words], environ)
    output = b""
    try:
        while piece := os.read(terminal, 65_536):
            output += piece
    except OSError:  # Linux's way of saying that the other end is closed
        pass
    os.close(terminal)
    assert os.waitpid(process, 0)[1] == 0, output
    return _CONTROLS.sub("", output.decode()).replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(
    ("words", "zone"),
    [
        (["tail", "--once"], "-05:00"),
        (["tail", "--once", "--utc"], "UTC"),
        (["stats"], None),
        (["stats", "--by", "day"], "day -05:00"),
        (["stats", "--by", "day,model"], "day -05:00"),
        (["stats", "--by", "provider,model", "--utc"], None),
        (["stats", "--by", "day,model,provider", "--utc"], "day UTC"),
        (["show"], "-05:00"),
        (["show", "--utc"], "UTC"),
    ],
)
def test_every_line_fits(db: Path, columns: int, words: list[str], zone: str | None) -> None:
    """No line is longer than the terminal is wide, and no number is cut."""
    lines = printed(columns, *words, "--db", str(db))
    assert [line for line in lines if cell_len(line) > columns] == []
    assert not re.search(r"[0-9],?…", "\n".join(lines))
    assert zone is None or zone in "\n".join(lines)


def test_the_demo_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does what a new user sees first."""
    pytest.importorskip("openai")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    lines = printed(80, "demo")
    assert [line for line in lines if cell_len(line) > 80] == []
    assert lines[1].split() == ["time", "status", "model", "in", "out", "ms", "id"]


def test_what_has_no_room_is_named(db: Path) -> None:
    """Sums that a narrow terminal leaves out are not silently missing."""
    narrow, wide = (printed(columns, "stats", "--by", "day,model", "--db", str(db)) for columns in (80, 120))
    assert "reasoning" not in narrow[0]
    assert any("not shown" in line and "reasoning" in line for line in narrow)
    assert "reasoning" in wide[0]
    assert not any("not shown" in line for line in wide)
