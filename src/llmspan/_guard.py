"""The one place that swallows exceptions.

Whatever runs inside a provider call runs through :func:`guarded`. An internal error is logged once per
operation, counted every time, and never reaches the caller. ``BaseException`` (cancellation, Ctrl-C)
passes through, except on worker threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from ._log import logger

P = ParamSpec("P")
T = TypeVar("T")

_failures: Counter[str] = Counter()


def guarded(operation: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Return ``function(*args, **kwargs)``, or None if it raised; log and counts name the error by ``operation``."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - this is the one blind except of the package
        report_internal_error(operation, error)
        return None


def guarded_on_worker(operation: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """As :func:`guarded`, for any ``BaseException``: on a worker thread there is no caller to pass it to."""
    try:
        return function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - a function of the program raised it
        report_internal_error(operation, error)
        return None


def report_internal_error(operation: str, error: BaseException) -> None:
    """Count a swallowed ``error`` under ``operation``; log it with its traceback the first time only."""
    _failures[operation] += 1
    if _failures[operation] == 1:
        with suppress(Exception):  # from a log handler of the application's
            logger.error(
                "llmspan: internal error in %s (%s). Your call is not affected; further ones here are only counted.",
                operation,
                type(error).__name__,
                exc_info=error,
            )


def failures() -> dict[str, int]:
    """The number of errors of each operation since the process started."""
    return dict(_failures)


def reset_error_counts() -> None:
    """Reset the counts, and log the next error of each operation. For tests."""
    _failures.clear()


def exception_of(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> BaseException | None:
    """Call ``function`` and return the exception that it raised, or None.

    For worker threads, which have to handle any failure and continue: a ``CancelledError`` or ``SystemExit`` that a
    backend raises must not end them.
    """
    try:
        function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - returned, not swallowed
        return error
    return None
