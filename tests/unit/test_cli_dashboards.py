"""``llmspan dashboards export``: the files of the package, where they are asked for."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from llmspan.cli import main


def call(*words: str) -> Result:
    return CliRunner().invoke(main, ["dashboards", "export", *words], catch_exceptions=False)


def test_dashboards_are_written_by_data_source(tmp_path: Path) -> None:
    """Five for each data source, as JSON; with --source those of one."""
    result = call(str(tmp_path / "all"))
    assert result.exit_code == 0
    files = sorted((tmp_path / "all").rglob("*.json"))
    assert [path.parent.name for path in files] == ["clickhouse"] * 5 + ["postgres"] * 5
    assert all(json.loads(path.read_text())["panels"] for path in files)
    assert sorted(result.stdout.splitlines()) == [str(path) for path in files]
    call("--source", "postgres", str(tmp_path / "one"))
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["postgres"]


def test_nothing_is_replaced_unless_that_is_asked_for(tmp_path: Path) -> None:
    """A file that is there stops the command before it writes any; --force replaces it."""
    changed = tmp_path / "postgres" / "usage.json"
    changed.parent.mkdir()
    changed.write_text("mine")
    result = call(str(tmp_path))
    assert (result.exit_code, "--force" in result.stderr) == (1, True)
    assert (changed.read_text(), len(list(tmp_path.rglob("*.json")))) == ("mine", 1)
    assert call("--force", str(tmp_path)).exit_code == 0
    assert json.loads(changed.read_text())["panels"]
