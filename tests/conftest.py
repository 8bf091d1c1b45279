"""Fixtures for all tests; in how many processes they run, and how what those have found comes together."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import bytecode_cache  # noqa: F401 (imported for its effect, before the SDKs are)
import closing_lines
import interaction
import otelcol
import records
import row_sample
from faults import ledger
from llmspan import _guard
from stores import postgres

# A machine with other work to do is slow: a property is right or wrong, however long an example takes.
settings.register_profile("patient", deadline=None, max_examples=records.examples(100))
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    os.environ["TZ"] = "UTC"  # tests compare what is printed
    time.tzset()
    # A shell without job control and nohup start a job in the background so, and the tests' programs would inherit it.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    config.addinivalue_line("markers", "recordings: replays the recorded provider traffic")
    config.addinivalue_line("markers", "collector: needs a real OpenTelemetry Collector")
    config.addinivalue_line("markers", "every_row: on other versions of Python, too; see row_sample.py")
    config.addinivalue_line(
        "markers", "peer_fault(*ids): takes up faults of other instrumentations; see peer_faults.py"
    )
    if os.environ.get("CI") and os.environ.get("LLMSPAN_TEST_RECORDINGS") and not interaction.recording_ids():
        raise pytest.UsageError(f"no recordings in {interaction.RECORDINGS}, which LLMSPAN_TEST_RECORDINGS names")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items[:], left_out = row_sample.sample(items)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    for item in items:
        names = {name for mark in item.iter_markers("peer_fault") for name in mark.args}
        item.user_properties += [(closing_lines.TAKES_UP, name) for name in sorted(names)]
    if otelcol.find() is None:
        for item in items:
            if item.get_closest_marker("collector"):
                item.add_marker(pytest.mark.skip(reason=f"no Collector: {otelcol.WHERE}"))


def pytest_collection_finish() -> None:
    """Leave what is there before the first test out of collections: many tests wait for one, and it is large."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Named files are run by this process; else three processes for two cores, as a third of the time is waiting."""
    files = [Path(argument.partition("::")[0]) for argument in config.args]
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return 0 if all(file.is_file() for file in files) else max(1, cores * 3 // 2)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take in what one of several processes has found; nothing comes from one that has crashed."""
    if (told := getattr(node, "workeroutput", {}).get("llmspan")) is not None:
        closing_lines.add(told)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what was found; a promise that is not kept fails the run, even if no test has noticed."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["llmspan"] = closing_lines.findings()
        return
    closing_lines.add_stores(closing_lines.stores())
    if ledger.broken() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was tested."""
    closing_lines.write(terminalreporter)


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
    _guard.reset_error_counts()
    yield
    assert _guard.failures() == {}


@pytest.fixture
def anyio_backend() -> str:
    """The SDKs' async clients are driven on asyncio."""
    return "asyncio"
