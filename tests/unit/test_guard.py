"""The guard: a defect of ours is counted and logged once; what is not ours to keep passes through."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from llmspan import _guard
from llmspan._guard import (
    exception_of,
    failures,
    guarded,
    guarded_on_worker,
    report_internal_error,
    reset_error_counts,
)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Failures counted in a test are its own."""
    reset_error_counts()
    yield
    reset_error_counts()


def broken(*args: object, **kwargs: object) -> None:
    raise LookupError("a defect of ours")


def test_result():
    """What the function returns is returned, with all its arguments; nothing is counted."""
    assert guarded("place", lambda *args, **kwargs: (args, kwargs), 1, None, key=2) == ((1, None), {"key": 2})
    assert guarded("place", lambda: 0) == 0
    assert failures() == {}


def test_defect(caplog):
    """A defect is None to the caller; it is counted each time and logged, with its traceback, the first time only."""
    for _ in range(3):
        assert guarded("hook.a", broken, 1, key=2) is None
    assert guarded("hook.b", broken) is None
    assert failures() == {"hook.a": 3, "hook.b": 1}
    first, second = caplog.records
    assert (first.name, first.levelno) == ("llmspan", logging.ERROR)
    assert "hook.a (LookupError). Your call is not affected" in first.getMessage()
    assert first.exc_info is not None
    assert str(first.exc_info[1]) == "a defect of ours"
    assert "hook.b" in second.getMessage()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_is_not_ours(error):
    """Interrupts, exits and cancellation are not defects: they pass through, uncounted."""

    def interrupted() -> None:
        raise error

    with pytest.raises(error):
        guarded("place", interrupted)
    assert isinstance(exception_of(interrupted), error)  # on our own threads, which go on whatever a backend lets out
    assert failures() == {}
    assert guarded_on_worker("worker", interrupted) is None
    assert failures() == {"worker": 1}


def test_note(caplog):
    """An error that was caught elsewhere is counted and logged like one that was caught here."""
    report_internal_error("place", ValueError("x"))
    report_internal_error("place", ValueError("y"))
    assert failures() == {"place": 2}
    (record,) = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "x"


def test_the_count_is_a_copy():
    """Nobody can change the count by what is told of it."""
    guarded("place", broken)
    failures()["place"] = 99
    assert failures() == {"place": 1}


def test_forgetting(caplog):
    """Behind ``reset_error_counts`` counting begins at zero, and the next failure is logged again."""
    guarded("place", broken)
    reset_error_counts()
    assert failures() == {}
    guarded("place", broken)
    assert failures() == {"place": 1}
    assert len(caplog.records) == 2


def test_outcome():
    """``outcome`` hands back what was raised, or None; it counts and logs nothing."""
    error = LookupError("x")

    def raising(value: Exception) -> None:
        raise value

    assert exception_of(raising, error) is error
    assert exception_of(lambda: "result") is None
    assert failures() == {}


def test_errors_of_the_log_itself():
    """A log handler that raises does not turn our defect into the caller's."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("no space left on device")

    handler = Broken()
    _guard.logger.addHandler(handler)
    try:
        assert guarded("place", broken) is None
    finally:
        _guard.logger.removeHandler(handler)
