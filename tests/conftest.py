"""Fixtures for all tests, and the closing lines that say what was really tested."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import otelcol
import peer_faults
import replay
from llmspan import _guard
from stores import clickhouse, postgres

#: the tests of the recordings, by the beginning of their names
_RECORDINGS = {
    "test_sync[": "sync", "test_async[": "async", "test_raw[": "sync, raw and streaming responses",
    "test_asyncraw[": "async, raw and streaming responses", "test_reassembled": "reassembled",
}  # fmt: skip

#: test -> the faults of other instrumentations that it takes up
_takes_up: dict[str, set[str]] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "recordings: replays the recorded provider traffic")
    config.addinivalue_line("markers", "collector: needs a real OpenTelemetry Collector")
    config.addinivalue_line(
        "markers", "peer_fault(*ids): takes up faults of other instrumentations; see peer_faults.py"
    )
    if os.environ.get("CI") and not replay.recording_ids():
        raise pytest.UsageError(f"no recordings in {replay.RECORDINGS}; set LLMSPAN_TEST_RECORDINGS to their folder")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        _takes_up[item.nodeid] = {name for mark in item.iter_markers("peer_fault") for name in mark.args}
    if otelcol.find() is None:
        for item in items:
            if item.get_closest_marker("collector"):
                item.add_marker(pytest.mark.skip(reason=f"no Collector: {otelcol.WHERE}"))


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
    _say_outcomes(terminalreporter)
    _say_peer_faults(terminalreporter)
    _say_planted(terminalreporter)
    if replay.EVERY > 1:
        terminalreporter.write_line(f"recordings: one of {replay.EVERY} was replayed")
    if not replay.recording_ids():
        terminalreporter.write_line(f"recordings: NOT TESTED, there are none in {replay.RECORDINGS}")
    _summarise_collector(terminalreporter)
    for line in filter(None, (postgres.tested(), clickhouse.tested())):
        terminalreporter.write_line(line)


def pytest_unconfigure() -> None:
    """End the servers that tests have started."""
    postgres.stop()


@pytest.fixture(autouse=True, scope="session")
def private_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept in the user's state directory (dead letters) is kept in the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def no_defects() -> Iterator[None]:
    """Nothing that we swallowed may have made a test green."""
    _guard.forget_failures()
    yield
    assert _guard.failures() == {}


def _say_outcomes(terminalreporter: pytest.TerminalReporter) -> None:
    counts = [
        sum("test_outcome" in r.nodeid and "::test_cell[" in r.nodeid for r in terminalreporter.stats.get(result, []))
        for result in ("passed", "failed")
    ]
    if any(counts):
        terminalreporter.write_line(f"outcome matrix: {counts[0]} of {sum(counts)} cells hold")


def _say_peer_faults(terminalreporter: pytest.TerminalReporter) -> None:
    passed, failed = (
        {name for report in terminalreporter.stats.get(result, []) for name in _takes_up.get(report.nodeid, ())}
        for result in ("passed", "failed")
    )
    if passed or failed:
        line = f"faults of other instrumentations: {len(passed | failed)} of {len(peer_faults.FAULTS)} tested"
        terminalreporter.write_line(f"{line}, ours: {', '.join(sorted(failed)) or 'none'}")


def _say_planted(terminalreporter: pytest.TerminalReporter) -> None:
    """Tests of planted escapes and secrets count what they searched, by ``record_property``."""
    for what in ("planted escapes", "planted secrets"):
        counts = [
            sum(int(n) for r in terminalreporter.stats.get(result, []) for name, n in r.user_properties if name == what)
            for result in ("passed", "failed")
        ]
        if any(counts):
            terminalreporter.write_line(f"{what}: {counts[0]} of {sum(counts)} outputs without one")


def _summarise_collector(terminalreporter: pytest.TerminalReporter) -> None:
    good, bad = (
        len({r.nodeid for r in terminalreporter.stats.get(outcome, []) if "test_collector" in getattr(r, "nodeid", "")})
        for outcome in ("passed", "failed")
    )
    if otelcol.find() is None:
        terminalreporter.write_line(f"collector: NOT TESTED, looked for {otelcol.WHERE}")
    elif good or bad:
        terminalreporter.write_line(f"collector: {good} of {good + bad} passed with {otelcol.version()}")


def _count(reporter: pytest.TerminalReporter, outcome: str, file: str, test: str) -> int:
    return sum(f"{file}::{test}" in report.nodeid for report in reporter.stats.get(outcome, []))


@pytest.fixture
def anyio_backend() -> str:
    """The SDKs' async clients are driven on asyncio."""
    return "asyncio"
