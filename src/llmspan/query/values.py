"""Values of the query language: whole numbers, durations, points in time, and truth, each from its text.

Nothing is rounded: what is not a whole number, or not a whole number of nanoseconds, is an error with an example.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Final

from .._clock import DAY, SECOND
from ..errors import QueryError
from ..trace import nanoseconds_of

__all__ = ["TIME_EXAMPLES", "boolean", "duration", "integer", "period"]

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNITS_NS: Final = {
    "ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000,
}  # fmt: skip
_MULTIPLES: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_NUMBER: Final = re.compile(r"(-?[0-9][0-9_]{0,30}(?:\.[0-9]{1,18})?)([a-zA-Z]{0,2})", re.ASCII)
_AGO: Final = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TRUTH: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_INT64: Final = 2**63
#: what a time looks like, for messages
TIME_EXAMPLES: Final = "expected 30s, 15m, 24h, 7d, 2w or a time such as 2026-01-31T12:00"


def integer(text: str) -> int:
    """A whole number, such as ``1000``, ``10k`` or ``1.5M``.

    Raises:
        QueryError: it is none, or one of more than 64 bits.
    """
    match = _NUMBER.fullmatch(text)
    if match and match[2] in _MULTIPLES:
        number = Decimal(match[1].replace("_", "")) * _MULTIPLES[match[2]]
        if number == int(number) and -_INT64 <= number < _INT64:
            return int(number)
    raise QueryError(f"{text!r} is not a whole number of 64 bits, such as 1000, 10k or 1.5M")


def duration(text: str, *, plain: bool) -> int:
    """Nanoseconds of a duration, such as ``350ms`` or ``1.5s``; ``plain``: a number without a unit is nanoseconds.

    Raises:
        QueryError: it is none.
    """
    match = _NUMBER.fullmatch(text)
    unit = match[2] or ("ns" if plain else "") if match else ""
    if match and unit in _UNITS_NS:
        nanoseconds = Decimal(match[1].replace("_", "")) * _UNITS_NS[unit]
        if nanoseconds == int(nanoseconds) and -_INT64 <= nanoseconds < _INT64:
            return int(nanoseconds)
    raise QueryError(f"{text!r} is not a duration such as 350ms, 2s, 1.5m or 1h")


def boolean(text: str) -> bool:
    """``true`` or ``false``.

    Raises:
        QueryError: it is neither.
    """
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    raise QueryError(f"{text!r} is neither true nor false")


def period(text: str, *, now: int | None = None, zone: tzinfo | None = None) -> tuple[int, int]:
    """The first nanosecond of what ``text`` names, and the first behind it: a day's for a date, else one nanosecond.

    Args:
        text: so long ago (``7d``), or an ISO date or time, of ``zone`` or its own.
        now: from when so long ago is counted; by this machine's clock if None.
        zone: None is the local one.

    Raises:
        QueryError: it is neither.
    """
    stripped = text.strip()
    if ago := _AGO.fullmatch(stripped):
        begin = (time.time_ns() if now is None else now) - int(ago[1]) * _SECONDS[ago[2]] * SECOND
        return begin, begin + 1
    try:
        if _DATE.fullmatch(stripped):
            day = date.fromisoformat(stripped)
            begin = _midnight(day, zone)
            # no date is behind the last one, and a day of 24 hours is right there
            return begin, begin + DAY if day == date.max else _midnight(day + timedelta(days=1), zone)
        moment = datetime.fromisoformat(stripped)
    except (ValueError, OverflowError):
        raise QueryError(f"{text!r}: {TIME_EXAMPLES}") from None
    begin = _nanoseconds(moment, zone)
    return begin, begin + 1


def _midnight(day: date, zone: tzinfo | None) -> int:
    return _nanoseconds(datetime(day.year, day.month, day.day), zone)  # noqa: DTZ001 - it gets its zone there


def _nanoseconds(moment: datetime, zone: tzinfo | None) -> int:
    if moment.tzinfo is not None:
        return nanoseconds_of(moment)
    if zone is not None:
        return nanoseconds_of(moment.replace(tzinfo=zone))
    try:
        return nanoseconds_of(moment.astimezone())
    except (OverflowError, ValueError, OSError):  # the system has no offset for the years 1 and 9999
        return nanoseconds_of(moment.replace(tzinfo=UTC))
