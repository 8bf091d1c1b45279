"""The closing table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults import ledger
from faults.children import Children


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What became of the records of each fault, and whether that is what is promised."""
    if ledger.LINES:
        terminalreporter.section("faults")
        for line in (*ledger.table(), *ledger.verdict()):
            terminalreporter.write_line(line)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A promise that is not kept fails the run, even if no test has noticed."""
    if ledger.broken() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    """Programs to be killed, one after the other, over one spool and one store."""
    made = Children(tmp_path)
    yield made
    made.end()
