"""What several processes have tested comes together in the closing lines; a broken promise of one fails the run."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import closing_lines
import conftest
from faults import ledger

POSTGRES = "postgres: tested on 17.10 of here"
ENGINE = "clickhouse: chDB 26.9, in the process"


@pytest.fixture(autouse=True)
def books(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "LINES", {})
    monkeypatch.setattr(closing_lines, "_stores", {})


def report(node: str, *properties: tuple[str, str]) -> SimpleNamespace:
    return SimpleNamespace(nodeid=node, user_properties=list(properties), keywords={})


def written(**stats: list[SimpleNamespace]) -> list[str]:
    lines: list[str] = []
    reporter: Any = SimpleNamespace(stats=stats, write_line=lines.append, section=lines.append)
    closing_lines.write(reporter)
    return lines


def process_with(line: ledger.Line | None = None, *stores: str) -> Any:
    """A process that has ended, whose findings have crossed the wire."""
    faults = [] if line is None else [("kill", "yes", vars(line))]
    return SimpleNamespace(workeroutput={"llmspan": json.loads(json.dumps({"stores": stores, "faults": faults}))})


def ended(**config: Any) -> Any:
    session: Any = SimpleNamespace(config=SimpleNamespace(**config), exitstatus=pytest.ExitCode.OK)
    conftest.pytest_sessionfinish(session)
    return session


def test_books_are_added_up() -> None:
    """The runs of one fault in two processes are one line; what no process could count stays unknown."""
    for line in (ledger.Line(2, 20, 18, 2, struck=1), ledger.Line(3, 30, 30), ledger.Line(1, 5, 5, struck=0)):
        conftest.pytest_testnodedown(process_with(line))
    (line,) = ledger.LINES.values()
    assert line == ledger.Line(6, 55, 53, 2, struck=1)
    assert written()[-1] == "6 runs of 1 faults: as promised"


def test_a_broken_promise_fails_the_run() -> None:
    """A loss that one process has counted fails the run as a whole."""
    conftest.pytest_testnodedown(process_with(ledger.Line(1, 20, 19, lost=1)))
    assert ended().exitstatus == pytest.ExitCode.TESTS_FAILED


def test_a_process_hands_over_what_it_knows() -> None:
    """One of several processes leaves the verdict to the one that has started it."""
    ledger.LINES["kill", "yes"] = ledger.Line(1, 20, 19, lost=1)
    session = ended(workeroutput={})
    assert session.exitstatus == pytest.ExitCode.OK
    told = json.loads(json.dumps(session.config.workeroutput["llmspan"]))
    assert told["faults"] == [["kill", "yes", vars(ledger.Line(1, 20, 19, lost=1))]]


def test_stores_of_all_processes() -> None:
    """Each store has one line, that of the process that has tested most of it."""
    for process in (process_with(None, ENGINE), process_with(None, f"{ENGINE} and behind HTTP"), process_with()):
        conftest.pytest_testnodedown(process)
    conftest.pytest_testnodedown(process_with(None, ENGINE, POSTGRES))
    conftest.pytest_testnodedown(SimpleNamespace())  # it has crashed
    assert written()[-2:] == [POSTGRES, f"{ENGINE} and behind HTTP"]


def test_faults_of_peers_come_with_the_reports() -> None:
    """What a test takes up is a property of its report, as the process that counts has not seen the test."""
    taken = [report("a::b", (closing_lines.TAKES_UP, name)) for name in ("M1", "M2", "M2")]
    (line,) = (line for line in written(passed=taken[:2], failed=taken[2:]) if line.startswith("faults of other"))
    assert line.startswith("faults of other instrumentations: 2 of ")
    assert line.endswith(", ours: M2")


class _Item(SimpleNamespace):
    __hash__ = object.__hash__


def test_a_mark_becomes_a_property() -> None:
    """The faults that a test takes up are properties of its report, in a process of its own as well."""
    mark = pytest.mark.peer_fault("M2", "M1").mark
    item: Any = _Item(
        nodeid="a::b", iter_markers=lambda _: [mark], get_closest_marker=lambda _: None, user_properties=[]
    )
    config: Any = SimpleNamespace()
    conftest.pytest_collection_modifyitems(config, [item])
    assert item.user_properties == [(closing_lines.TAKES_UP, "M1"), (closing_lines.TAKES_UP, "M2")]


@pytest.mark.parametrize(("arguments", "is_here"), [
    ([__file__, f"{__file__}::test_x[a::b]"], True),
    ([str(Path(__file__).parent)], False),
    ([__file__, "tests"], False),
])  # fmt: skip
def test_named_files_run_in_one_process(arguments: list[str], is_here: bool) -> None:
    """Files that are named are run here, those of a folder in several processes."""
    config: Any = SimpleNamespace(args=arguments)
    assert (conftest.pytest_xdist_auto_num_workers(config) == 0) is is_here


def test_ctrl_c_reaches_the_tests_programs() -> None:
    """A run that a shell has put into the background ignores SIGINT; programs that it starts do not."""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
