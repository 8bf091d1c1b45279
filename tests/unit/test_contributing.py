"""CONTRIBUTING.md says what is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_of_packages_names_all_of_them_and_no_other() -> None:
    """CONTRIBUTING's table has a row for each package and top-level module, and every file that it names exists."""
    package = ROOT / "src" / "llmspan"
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*?`) \| (.*) \|$", text.partition("| package or module |")[2], re.MULTILINE)
    first_cells = {name for row in rows for name in re.findall(r"`([^`]+)`", row[0])}
    present = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in package.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert present - {"__init__.py"} <= first_cells
    assert [name for name in first_cells if not (package / name).exists()] == []
    for cells in rows:
        folders = [package / name for name in re.findall(r"`([\w/]+/)`", cells[0])]
        for name in re.findall(r"`([\w/]+\.py)`", cells[1]):
            assert any(list(folder.rglob(name)) for folder in folders) or (package / name).exists(), name
