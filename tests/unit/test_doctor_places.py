"""``llmspan doctor`` tries out what would fail silently later: the redact function and the spool's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmspan.cli.doctor_checks import Finding, run_checks
from llmspan.settings import Settings
from scripted import file_limit


def finding(check: str, **settings: Any) -> Finding:
    (found,) = (one for one in run_checks(Settings.from_env({}, **settings), (), {}) if one.check == check)
    return found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nowhere_at_all:function", "No module named 'nowhere_at_all'"),
        ("json:no_such_function", "no_such_function"),
        ("json:__name__", "LLMSPAN_REDACT=json:__name__"),
        ("broken_module:function", "invalid syntax"),
    ],
)
def test_a_redact_function_that_is_missing(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It withholds all payloads, so it is a problem, and the report says what is wrong with it."""
    (tmp_path / "broken_module.py").write_text("def function(:")
    monkeypatch.syspath_prepend(tmp_path)
    found = finding("redaction", redact=text)
    assert found.level == "problem"
    assert told in found.message
    assert "no request and no response is stored" in found.message


def test_a_redact_function_that_is_there() -> None:
    """A function that can be imported is well; where none is set, nothing is said."""
    assert finding("redaction", redact="json:loads").level == "ok"
    assert not [one for one in run_checks(Settings.from_env({}), (), {}) if one.check in ("redaction", "spool")]


def test_a_spool_that_can_be_written(tmp_path: Path) -> None:
    """Nothing of the trial is left behind, also where the directory was not there."""
    for place in (tmp_path, tmp_path / "new" / "spool"):
        assert finding("spool", spool_dir=place).level == "ok"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["/proc/nowhere/spool", "a-file/spool", "a-file"])
def test_a_spool_that_cannot_be_made(place: str, tmp_path: Path) -> None:
    """A directory that cannot be made is a problem that names the setting."""
    (tmp_path / "a-file").touch()
    found = finding("spool", spool_dir=tmp_path / place)
    assert found.level == "problem"
    assert "LLMSPAN_SPOOL_DIR=" in found.message


@pytest.mark.parametrize("size", [0, 4096, 1 << 19])
def test_a_spool_on_a_full_disk(size: int, tmp_path: Path) -> None:
    """A directory that takes no record is a problem, though it is there and its rights are good."""
    with file_limit(size):
        found = finding("spool", spool_dir=tmp_path / "spool")
    assert found.level == "problem"
    assert "File too large" in found.message
    assert not list(tmp_path.iterdir())
