"""docs/coverage.md says what the tests run."""

from __future__ import annotations

import subprocess
import sys

import surfaces
from interaction import ROOT


def test_the_page_is_current() -> None:
    """The page is generated from the table of surfaces; a row that is added there has to be on it."""
    done = subprocess.run(
        [sys.executable, "docs/coverage.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_rows_are_told_apart() -> None:
    """No two rows have one name."""
    names = [(surface.provider, surface.name) for surface in surfaces.ALL]
    assert len(set(names)) == len(names)
