"""The closing table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults import ledger
from faults.children import Children


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Fault, runs, accepted, delivered, lost, duplicated."""
    if ledger.LINES:
        terminalreporter.section("faults")
        for line in ledger.table():
            terminalreporter.write_line(line)


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    """Programs to be killed, one after the other, over one spool and one store."""
    made = Children(tmp_path)
    yield made
    made.end()
