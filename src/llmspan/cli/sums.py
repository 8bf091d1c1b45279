"""The sums that ``llmspan stats`` prints: rows, prices and estimates by group, with days of the command's time zone.

Stores have days of UTC only. Other days are asked for one by one, each by the times at which it begins and ends: so a
day has 23 or 25 hours where clocks are changed, and every store can do it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from ..estimate import ESTIMATED_INPUT, ESTIMATED_OUTPUT
from ..trace import nanoseconds_of
from .bills import Bill, Group, bills, group_of
from .zone import is_utc, offset, zoned

if TYPE_CHECKING:
    from ..backends.base import Filters, GroupBy, StatsRow
    from ..reader import Reader
    from ..trace import ProviderTrace

__all__ = ["ESTIMATES", "Sums", "add_estimates", "offset_of_days", "sums_of"]

#: the columns to which estimates are added
ESTIMATES: Final = {ESTIMATED_INPUT: "input_tokens", ESTIMATED_OUTPUT: "output_tokens"}
_DAY: Final = timedelta(days=1)


class Sums(NamedTuple):
    """The sums of each group, and the prices if they were asked for."""

    rows: Sequence[StatsRow]
    bills: Mapping[Group, Bill] | None


def sums_of(
    reader: Reader, names: Sequence[GroupBy], filters: Filters, *, cost: bool = False, estimates: bool = False
) -> Sums:
    """The sums by ``names`` of the calls that are meant."""
    if "day" not in names or is_utc():
        return _sums(reader, names, filters, cost=cost, estimates=estimates)
    others: list[GroupBy] = [name for name in names if name != "day"]
    at = names.index("day")
    rows: list[StatsRow] = []
    priced: dict[Group, Bill] = {}
    for day, filters_of_day in _days(reader, filters):
        found = _sums(reader, others, filters_of_day, cost=cost, estimates=estimates)
        rows += [replace(row, group=_with_day(row.group, names, day)) for row in found.rows if row.calls]
        priced |= {(*group[:at], day, *group[at:]): bill for group, bill in (found.bills or {}).items()}
    rows.sort(key=lambda row: [(value is not None, value or "") for value in row.group.values()])
    return Sums(rows, priced if cost else None)


def _sums(reader: Reader, names: Sequence[GroupBy], filters: Filters, *, cost: bool, estimates: bool) -> Sums:
    rows = reader.stats(names, filters)
    priced = bills(reader, names, filters) if cost else None
    return Sums(add_estimates(rows, reader, names, filters) if estimates else rows, priced)


def _with_day(group: Mapping[str, str | None], names: Sequence[GroupBy], day: str) -> dict[str, str | None]:
    return {name: day if name == "day" else group[name] for name in names}


def _days(reader: Reader, filters: Filters) -> Iterator[tuple[str, Filters]]:
    """The days that may have calls, in their order, and the filters that mean the calls of each."""
    dates: set[date] = set()
    for row in reader.stats(["day"], filters):
        begin = datetime.combine(date.fromisoformat(str(row.group["day"])), time(), UTC)
        dates |= {zoned(begin).date(), zoned(begin + _DAY - timedelta.resolution).date()}
    for day in sorted(dates):
        since, until = _midnight(day), _midnight(day + _DAY)
        since = since if filters.since is None else max(since, filters.since)
        until = until if filters.until is None else min(until, filters.until)
        yield day.isoformat(), replace(filters, since=since, until=until)


def _midnight(day: date) -> int:
    return nanoseconds_of(zoned(datetime.combine(day, time())))


def offset_of_days(rows: Iterable[StatsRow]) -> str:
    """The offset of the days of ``rows``; two if clocks were changed between them."""
    begins = [zoned(datetime.fromisoformat(str(row.group["day"]))) for row in rows]
    return "/".join(dict.fromkeys(offset(begin) for begin in begins)) or offset(zoned(datetime.now(UTC)))


# -- estimates


def add_estimates(
    rows: Sequence[StatsRow], reader: Reader, names: Sequence[GroupBy], filters: Filters
) -> list[StatsRow]:
    """``rows`` with the estimates of their calls in the sums of input and output, and in ``details`` by their names."""
    sums = reader.detail_sums(names, filters, list(ESTIMATES))
    if sums is None:
        sums = _read_estimates(reader.iterate(filters), names)
    return [_with_estimates(row, sums.get(tuple(row.group.values()), {})) for row in rows]


def _read_estimates(traces: Iterable[ProviderTrace], names: Sequence[GroupBy]) -> Mapping[Group, Mapping[str, int]]:
    sums: defaultdict[Group, Counter[str]] = defaultdict(Counter)
    for trace in traces:
        if trace.usage.source == "none":
            details = trace.usage.details
            sums[group_of(trace, names)].update({name: details[name] for name in ESTIMATES if name in details})
    return sums


def _with_estimates(row: StatsRow, sums: Mapping[str, int]) -> StatsRow:
    changes = {column: (getattr(row, column) or 0) + sums[name] for name, column in ESTIMATES.items() if name in sums}
    return replace(row, **changes, details={**row.details, **sums})
