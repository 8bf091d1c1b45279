"""A pytest plugin that writes down each test's outcome under its id: ``pytest -p outcomes``.

``LLMSPAN_SUITE_OUTCOMES`` names the JSON file that it leaves; the file that ``LLMSPAN_SUITE_ONLY`` names, if it is set,
has the ids of the tests to run, as a JSON list.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

_ORDER = ("passed", "skipped", "failed")
_outcomes: dict[str, str] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for."""
    path = os.environ.get("LLMSPAN_SUITE_ONLY")
    if path is not None:
        wanted = set(json.loads(Path(path).read_text()))
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in wanted])
        items[:] = [item for item in items if item.nodeid in wanted]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """The worst of setting up, calling and tearing down counts."""
    known = _outcomes.get(report.nodeid, "passed")
    _outcomes[report.nodeid] = max(known, report.outcome, key=_ORDER.index)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Write the file; with several processes, the one that hears of all tests does."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        Path(os.environ["LLMSPAN_SUITE_OUTCOMES"]).write_text(json.dumps(_outcomes))
