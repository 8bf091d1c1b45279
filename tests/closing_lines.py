"""The closing lines of a test run: what was really tested, and what was not. Nothing is left out silently.

Tests may run in several processes, so the lines are made of what comes back from them: the reports of tests with their
properties, and each process's findings about its stores and faults, which :func:`findings` collects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import interaction
import otelcol
import peer_faults
import row_sample
from faults import ledger
from stores import clickhouse, pgbouncer, postgres

#: the property of a test of an interaction: a way in which it was replayed, and whether all of it was as expected
INTERACTION = "interaction"
#: the property of a test that takes up a fault of other instrumentations
TAKES_UP = "takes up a peer's fault"

#: store -> what was tested of it, the line of the process that has tested most
_stores: dict[str, str] = {}


def findings() -> dict[str, Any]:
    """What this process knows of its tests beside their reports, of simple types."""
    return {"stores": stores(), "faults": ledger.dump()}


def add(process: dict[str, Any]) -> None:
    """Take in the findings of another process."""
    add_stores(process["stores"])
    ledger.add(process["faults"])


def stores() -> list[str]:
    """The servers that this process has tested, a line each."""
    return [line for line in (postgres.tested(), pgbouncer.tested(), clickhouse.tested()) if line]


def add_stores(lines: list[str]) -> None:
    """Take in a process's lines; of each store, the one that tells most stays."""
    for line in lines:
        store = line.partition(":")[0]
        _stores[store] = max(line, _stores.get(store, ""), key=len)


def write(reporter: pytest.TerminalReporter) -> None:
    """Write all lines."""
    for line in _lines(reporter):
        reporter.write_line(line)
    if ledger.LINES:
        reporter.section("faults")
        for line in (*ledger.table(), *ledger.verdict()):
            reporter.write_line(line)


def _browser(reporter: pytest.TerminalReporter) -> Iterator[str]:
    skipped = [report for report in reporter.stats.get("skipped", []) if "tests/browser/" in report.nodeid]
    if skipped:
        yield f"viewer: {len(skipped)} tests in a browser were NOT RUN, there is no Chromium or no axe-core"


def _lines(reporter: pytest.TerminalReporter) -> Iterator[str]:
    yield from _interactions(reporter)
    for test, what in (("test_sync[", "sync"), ("test_async[", "async")):
        good, bad = (_count(reporter, outcome, "test_surfaces.py", test) for outcome in ("passed", "failed"))
        if good or bad:
            yield f"surfaces, {what}, each in all its ways of reading: {good} of {good + bad}"
    yield from _outcomes(reporter)
    yield from _peer_faults(reporter)
    yield from _planted(reporter)
    if interaction.EVERY > 1:
        yield f"recordings: one of {interaction.EVERY} was replayed"
    if row_sample.EVERY > 1:
        yield f"rows: one of {row_sample.EVERY} was run, of tests that have {row_sample.MANY} or more"
    if not interaction.recording_ids():
        yield f"recordings: NOT TESTED, there are none in {interaction.RECORDINGS}"
    if not interaction.google_recording_ids():
        yield f"recordings of Google's APIs: NOT TESTED, there are none in {interaction.GOOGLE_RECORDINGS}"
    yield from _collector(reporter)
    yield from _browser(reporter)
    yield from (line for _, line in sorted(_stores.items(), reverse=True))


def _interactions(reporter: pytest.TerminalReporter) -> Iterator[str]:
    """Those of our own making and the recorded ones apart, by the mark of the latter."""
    reports = [report for result in ("passed", "failed") for report in reporter.stats.get(result, [])]
    for kind, is_recorded in (("own interactions", False), ("recordings", True)):
        chosen = (report for report in reports if ("recordings" in report.keywords) == is_recorded)
        ways = [value for report in chosen for name, value in report.user_properties if name == INTERACTION]
        for way in dict(ways):
            exact = [is_exact for other, is_exact in ways if other == way]
            yield f"{kind}, {way}: {sum(exact)} of {len(exact)} exact"


def _outcomes(reporter: pytest.TerminalReporter) -> Iterator[str]:
    counts = [
        sum("test_outcome" in r.nodeid and "::test_cell[" in r.nodeid for r in reporter.stats.get(result, []))
        for result in ("passed", "failed")
    ]
    if any(counts):
        yield f"outcome matrix: {counts[0]} of {sum(counts)} cells hold"


def _peer_faults(reporter: pytest.TerminalReporter) -> Iterator[str]:
    passed, failed = (
        {
            str(value)
            for report in reporter.stats.get(result, [])
            for name, value in report.user_properties
            if name == TAKES_UP
        }
        for result in ("passed", "failed")
    )
    if passed or failed:
        line = f"faults of other instrumentations: {len(passed | failed)} of {len(peer_faults.FAULTS)} tested"
        yield f"{line}, ours: {', '.join(sorted(failed)) or 'none'}"


def _planted(reporter: pytest.TerminalReporter) -> Iterator[str]:
    """Tests of planted escapes and secrets count what they searched, by ``record_property``."""
    good, bad = (_properties(reporter, "planted escapes", result) for result in ("passed", "failed"))
    if good or bad:
        yield f"planted escapes: {len(good)} of {len(good) + len(bad)} outputs without one"
    searched, leaking = (
        [number for result in ("passed", "failed") for number in _properties(reporter, name, result)]
        for name in ("planted secrets: searched", "planted secrets: found")
    )
    if searched:
        cells = f"{max(searched)} places x {len(searched)} sinks"
        yield f"planted secrets: {cells}, {sum(searched) - sum(leaking):,} of {sum(searched):,} without one"


def _properties(reporter: pytest.TerminalReporter, name: str, result: str) -> list[int]:
    reports = reporter.stats.get(result, [])
    return [int(value) for report in reports for key, value in report.user_properties if key == name]


def _collector(reporter: pytest.TerminalReporter) -> Iterator[str]:
    good, bad = (
        len({r.nodeid for r in reporter.stats.get(outcome, []) if "test_collector" in getattr(r, "nodeid", "")})
        for outcome in ("passed", "failed")
    )
    if otelcol.find() is None:
        yield f"collector: NOT TESTED, looked for {otelcol.WHERE}"
    elif good or bad:
        yield f"collector: {good} of {good + bad} passed with {otelcol.version()}"


def _count(reporter: pytest.TerminalReporter, outcome: str, file: str, test: str) -> int:
    return sum(f"{file}::{test}" in report.nodeid for report in reporter.stats.get(outcome, []))
