"""Programs to be killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.children import Children


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    """Programs to be killed, one after the other, over one spool and one store."""
    made = Children(tmp_path)
    yield made
    made.end()
