"""The one place that swallows exceptions.

Whatever runs inside a provider call runs through :func:`guarded`. A defect of ours is logged once per
place, counted every time, and never reaches the caller. ``BaseException`` (cancellation, Ctrl-C) is not
ours to keep and passes through.
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


def guarded(place: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Return ``function(*args, **kwargs)``, or ``None`` if it raised; ``place`` names the hook in log and count."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - this is the one blind except of the package
        note(place, error)
        return None


def note(place: str, error: BaseException) -> None:
    """Count a swallowed ``error`` under ``place``; log it with its traceback the first time only."""
    _failures[place] += 1
    if _failures[place] == 1:
        with suppress(Exception):  # from a log handler of the application's
            logger.error(
                "llmspan: internal error in %s (%s). Your call is not affected; further ones here are only counted.",
                place,
                type(error).__name__,
                exc_info=error,
            )


def failures() -> dict[str, int]:
    """How often each place has failed since the process started."""
    return dict(_failures)


def forget_failures() -> None:
    """Start counting, and logging, anew. For tests."""
    _failures.clear()


def outcome(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> BaseException | None:
    """Call ``function`` and return whatever it raised, or None.

    For our own threads, whose job is to act on any failure and to go on: a ``CancelledError`` or ``SystemExit`` that a
    backend lets out must not end them.
    """
    try:
        function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - returned, not swallowed
        return error
    return None
