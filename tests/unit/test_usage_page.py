"""The table of docs/usage.md says what the code does with each provider's usage object."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from llmspan.usage import Usage

PAGE = (Path(__file__).parents[2] / "docs" / "usage.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("|")]
PROVIDERS = ROWS[0][1:]


@pytest.mark.parametrize("column", range(1, len(PROVIDERS) + 1), ids=PROVIDERS)
def test_the_sums_of_the_table_are_those_of_the_code(column: int) -> None:
    """An object with a count of its own in each field is read as the column says."""
    paths = {path for row in ROWS[2:] for path in re.findall(r"`([\w.]+)`", row[column])}
    counts = {path: 10**number for number, path in enumerate(sorted(paths))}
    usage = Usage.from_raw(nested(counts))
    for row in ROWS[2:]:
        parts = re.findall(r"`([\w.]+)`", row[column])
        expected = sum(counts[path] for path in parts) if parts else None
        assert (row[0], getattr(usage, row[0].strip("`"))) == (row[0], expected)


def nested(counts: dict[str, int]) -> dict[str, Any]:
    """The object that has each count at its path."""
    whole: dict[str, Any] = {}
    for path, count in counts.items():
        *levels, last = path.split(".")
        node = whole
        for level in levels:
            node = node.setdefault(level, {})
        node[last] = count
    return whole
