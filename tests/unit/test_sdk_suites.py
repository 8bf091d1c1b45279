"""When a test of an SDK's counts as broken by us: a flaky one must not, a real one must."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[1] / "sdk_suites"


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program that runs the suites; it is a script, beside its other half."""
    monkeypatch.syspath_prepend(str(HERE))
    spec = importlib.util.spec_from_file_location("sdk_suites_run", HERE / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # for its dataclasses
    spec.loader.exec_module(module)
    return module


class Rerun:
    """Runs tests as a script says: for each test, whether it passes, active and bare, round by round."""

    def __init__(self, runner: Any, active: dict[str, str], bare: dict[str, str]) -> None:
        self.runner = runner
        self.script = {True: {name: list(told) for name, told in active.items()}, False: bare}
        self.runs: list[tuple[bool, set[str]]] = []

    def __call__(self, names: set[str], active: bool) -> Any:
        self.runs.append((active, set(names)))
        script = self.script[active]
        told = {name: script[name].pop(0) if active else script[name] for name in names}
        return self.runner.Outcome({name: "passed" if word == "+" else "failed" for name, word in told.items()}, 1.0)


@pytest.mark.parametrize(
    ("active", "bare", "is_new"),
    [
        ("-----", "+", True),
        ("+----", "+", True),
        ("-+-+-", "+", True),
        ("-+++", "+", False),
        ("+++", "+", False),
        ("-", "-", False),
    ],
)
def test_a_new_failure(active: str, bare: str, is_new: bool, runner: Any) -> None:
    """It fails active in most of five rounds, and never in the bare run right after; no round is for nothing."""
    rerun = Rerun(runner, {"a": active}, {"a": bare})
    assert runner.failing_again({"a"}, rerun, 5) == ({"a"} if is_new else set())
    assert rerun.script[True]["a"] == []


def test_only_what_is_still_open_is_run_again(runner: Any) -> None:
    """Each test has rounds of its own; nothing is run when nothing is left."""
    rerun = Rerun(runner, {"flaky": "-+++", "broken": "-----"}, {"flaky": "+", "broken": "+"})
    assert runner.failing_again({"flaky", "broken"}, rerun, 5) == {"broken"}
    assert [names for active, names in rerun.runs if active] == [{"flaky", "broken"}] * 4 + [{"broken"}]
    assert runner.failing_again(set(), rerun, 5) == set()
    assert len(rerun.runs) == 5 + 5


def outcome(runner: Any, passed: int, failed: int = 0, spans: int = 9, **failures: Any) -> Any:
    tests = {f"t{number}": "passed" if number < passed else "failed" for number in range(passed + failed)}
    return runner.Outcome(tests, 1.0, [{"spans": spans, "failures": failures}])


def test_what_else_is_wrong(runner: Any) -> None:
    """A hook that fails, a suite of which little runs, and one at which llmspan was not there are no success."""
    suite = runner.SUITES["anthropic"]
    assert runner.what_is_wrong(suite, outcome(runner, 100, 5)) == []
    (defect,) = runner.what_is_wrong(suite, outcome(runner, 100, t1={"stream": 1}))
    assert defect.startswith("DEFECT of llmspan in t1")
    (nothing,) = runner.what_is_wrong(suite, outcome(runner, 0))
    (little,) = runner.what_is_wrong(suite, outcome(runner, 80, 20))
    (absent,) = runner.what_is_wrong(suite, outcome(runner, 100, spans=0))
    assert all(line.startswith("NOT TESTED") for line in (nothing, little, absent))


def test_bare_only_what_did_not_pass(runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that failed or was skipped active is compared; one that passed is not, and none at all if all did."""
    asked: list[tuple[tuple[str, ...], set[str]]] = []

    def run(_suite: Any, parts: tuple[str, ...], _processes: int, *, active: bool, only: set[str]) -> Any:
        assert not active
        asked.append((parts, set(only)))
        return runner.Outcome(dict.fromkeys(only, "passed"), 1.0)

    monkeypatch.setattr(runner, "run", run)
    results = {"a.py::t1": "passed", "a.py::t2": "failed", "b.py::t3": "skipped", "c.py::t4": "passed"}
    bare = runner.run_bare(None, runner.Outcome(results, 1.0), 2)
    assert asked == [(("a.py", "b.py"), {"a.py::t2", "b.py::t3"})]
    assert bare.names("passed") == {"a.py::t2", "b.py::t3"}
    assert runner.run_bare(None, runner.Outcome({"a.py::t1": "passed"}, 1.0), 2).tests == {}
    assert len(asked) == 1


def test_what_may_fail(runner: Any) -> None:
    """A test that may fail is named in full, with whatever parameters."""
    suite = runner.SUITES["anthropic"]
    (name,) = suite.allowed
    assert suite.allows(f"tests/test_open_telemetry.py::TestX::{name}[sync-option]")
    assert not suite.allows(f"tests/test_open_telemetry.py::TestX::{name}_more")
