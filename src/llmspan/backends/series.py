"""Sums by periods of time without gaps: a period without calls has a row, with no calls and nothing reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from ..query.statistics import PERIODS, check_length, period_start, periods_between
from ..trace import nanoseconds_of
from .base import NO_RECORDS, Filters, GroupBy, StatsRow

__all__ = ["fill_periods"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: a day behind the first time that there is, and before the last one, so that it has a local time in every zone
_FIRST: Final = datetime(1, 1, 2, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 30, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def fill_periods(
    rows: Sequence[StatsRow], group_by: Sequence[GroupBy], filters: Filters | None, zone: tzinfo | None = UTC
) -> list[StatsRow]:
    """``rows`` and those of the periods between them, for each combination of the other groups that there is.

    The first and the last period are those of ``since`` and ``until``, or of the first and the last row; ``zone`` is
    that of the periods, None the local one.

    Raises:
        QueryError: there would be too many.
    """
    name = next((group for group in group_by if group in PERIODS), None)
    periods = sorted(str(row.group[name]) for row in rows) if name is not None else []
    if name is None or not periods:
        return list(rows)
    since = None if filters is None else filters.since
    until = None if filters is None else filters.until
    begin, end = (nanoseconds_of(period_start(name, period)) for period in (periods[0], periods[-1]))
    check_length(name, begin if since is None else since, end if until is None else until)
    first = periods[0] if since is None else _period(name, since, zone)
    last = periods[-1] if until is None else _period(name, until - 1, zone)
    by_group = {tuple(row.group.items()): row for row in rows}
    combinations = dict.fromkeys(tuple((key, value) for key, value in row.group.items() if key != name) for row in rows)
    groups = [
        {key: period if key == name else dict(combination)[key] for key in group_by}
        for period in periods_between(name, first, last)
        for combination in combinations
    ]
    filled = [by_group.get(tuple(group.items())) or replace(NO_RECORDS, group=group) for group in groups]
    return sorted(filled, key=lambda row: [(value is not None, value or "") for value in row.group.values()])


def _period(name: str, at: int, zone: tzinfo | None) -> str:
    microseconds = max((_FIRST - _EPOCH) // _MICROSECOND, min(at // 1000, (_LAST - _EPOCH) // _MICROSECOND))
    return PERIODS[name]((_EPOCH + timedelta(microseconds=microseconds)).astimezone(zone))
