"""Fixtures for all tests, and the closing lines that say what was really tested."""

from __future__ import annotations

import os

import pytest

import replay

#: the tests of the recordings, by the beginning of their names
_RECORDINGS = {
    "test_sync[": "sync", "test_async[": "async", "test_raw[": "sync, raw and streaming responses",
    "test_asyncraw[": "async, raw and streaming responses", "test_reassembled": "reassembled",
}  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "recordings: replays the recorded provider traffic")
    if os.environ.get("CI") and not replay.recording_ids():
        raise pytest.UsageError(f"no recordings in {replay.RECORDINGS}; set LLMSPAN_TEST_RECORDINGS to their folder")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many recordings and surfaces were exact: nothing is left out silently."""
    for test, what in _RECORDINGS.items():
        good, bad = (_count(terminalreporter, outcome, "test_recordings.py", test) for outcome in ("passed", "failed"))
        if good or bad:
            terminalreporter.write_line(f"recordings, {what}: {good} of {good + bad} exact")
    for test, what in (("test_sync[", "sync"), ("test_async[", "async")):
        good, bad = (_count(terminalreporter, outcome, "test_surfaces.py", test) for outcome in ("passed", "failed"))
        if good or bad:
            terminalreporter.write_line(f"surfaces, {what}, each in all its ways of reading: {good} of {good + bad}")
    if not replay.recording_ids():
        terminalreporter.write_line(f"recordings: NOT TESTED, there are none in {replay.RECORDINGS}")


def _count(reporter: pytest.TerminalReporter, outcome: str, file: str, test: str) -> int:
    return sum(f"{file}::{test}" in report.nodeid for report in reporter.stats.get(outcome, []))


@pytest.fixture
def anyio_backend() -> str:
    """The SDKs' async clients are driven on asyncio."""
    return "asyncio"
