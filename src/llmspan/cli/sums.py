"""The sums that ``llmspan stats`` prints: rows, prices and estimates by group, with days of the command's time zone.

Stores have hours, days, weeks and months of UTC only. Others are asked for one by one, each by the times at which it
begins and ends: so a day has 23 or 25 hours where clocks are changed, and every store can do it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..bills import Bill, Group, bills
from ..cost import price_limits, price_version
from ..estimate import ESTIMATED_INPUT, ESTIMATED_OUTPUT
from ..query.statistics import PERIODS, groups_of
from ..trace import nanoseconds_of
from .zone import is_utc, offset, zoned

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..backends.base import Backend, Filters, GroupBy, StatsRow
    from ..own_prices import OwnPrices
    from ..reader import Reader
    from ..trace import ProviderTrace

__all__ = ["ESTIMATES", "Extras", "Sums", "add_estimates", "offset_of_periods", "sums_of"]

#: the columns to which estimates are added
ESTIMATES: Final = {ESTIMATED_INPUT: "input_tokens", ESTIMATED_OUTPUT: "output_tokens"}
_DAY: Final = timedelta(days=1)
#: of the name of a month, 2026-01
_MONTH_LENGTH: Final = 7


class Sums(NamedTuple):
    """The sums of each group, and the prices if they were asked for."""

    rows: Sequence[StatsRow]
    bills: Mapping[Group, Bill] | None
    #: the version of the prices
    prices: str = ""


@dataclass(frozen=True, slots=True)
class Extras:
    """What is summed up of each group, beside calls and tokens."""

    cost: bool = False
    estimates: bool = False
    measures: bool = False


_NONE: Final = Extras()


def sums_of(
    reader: Reader, names: Sequence[GroupBy], filters: Filters, extras: Extras = _NONE, *, fill: bool = False
) -> Sums:
    """The sums by ``names`` of the calls that are meant; ``fill``: also of the periods between them."""
    sums = _sums_with_periods(reader, names, filters, extras)
    if fill:
        from ..backends.series import fill_periods

        sums = sums._replace(rows=fill_periods(sums.rows, names, filters, UTC if is_utc() else None))
    return sums._replace(prices=price_version(reader.own_prices)) if extras.cost else sums


def _sums_with_periods(reader: Reader, names: Sequence[GroupBy], filters: Filters, extras: Extras) -> Sums:
    name = next((group for group in names if group in PERIODS), None)
    if name is None or is_utc():
        return _sums(reader, names, filters, extras)
    other_names = [group for group in names if group != name]
    at = names.index(name)
    rows: list[StatsRow] = []
    priced: dict[Group, Bill] = {}
    for period, filters_of_period in _local_periods(reader, name, filters):
        sums = _sums(reader, other_names, filters_of_period, extras)
        rows += [replace(row, group=_with_period(row.group, names, name, period)) for row in sums.rows if row.calls]
        priced |= {(*group[:at], period, *group[at:]): bill for group, bill in (sums.bills or {}).items()}
    rows.sort(key=lambda row: [(value is not None, value or "") for value in row.group.values()])
    return Sums(rows, priced if extras.cost else None)


def _with_period(
    group: Mapping[str, str | None], names: Sequence[GroupBy], name: str, period: str
) -> dict[str, str | None]:
    return {key: period if key == name else group[key] for key in names}


def _sums(reader: Reader, names: Sequence[GroupBy], filters: Filters, extras: Extras) -> Sums:
    if not extras.cost:
        rows, priced = reader.stats(names, filters, measures=extras.measures), None
    else:
        rows, priced = _rows_and_bills(reader, names, filters, extras)
    return Sums(add_estimates(rows, reader, names, filters) if extras.estimates else rows, priced)


def _rows_and_bills(
    reader: Reader, names: Sequence[GroupBy], filters: Filters, extras: Extras
) -> tuple[Sequence[StatsRow], Mapping[Group, Bill]]:
    """Both, and at the same time where the store gains from that: the prices are loaded while the database computes."""
    from concurrent.futures import ThreadPoolExecutor

    from ..backends.joint_reads import SupportsParallelReads

    if not isinstance(reader.backend, SupportsParallelReads):
        return reader.stats(names, filters, measures=extras.measures), bills(reader, names, filters)
    pool = ThreadPoolExecutor(2)
    pool.submit(_load, reader.own_prices)  # if that fails, it fails where they are used
    priced = pool.submit(bills, reader, names, filters)
    try:
        return reader.stats(names, filters, measures=extras.measures), priced.result()
    except BaseException:  # Ctrl-C, too: the program ends when the other thread does
        _cancel_until_done(reader.backend, priced)
        raise
    finally:
        pool.shutdown(wait=False)


def _load(own: OwnPrices) -> None:
    """Import what is needed when the database has answered: the prices, and what prints."""
    price_limits(own)
    from . import render  # noqa: F401  # pyright: ignore[reportUnusedImport]


def _cancel_until_done(backend: Backend, reading: Future[Any]) -> None:
    """End the queries of ``reading``: one that is asked between two of them meets none."""
    from concurrent.futures import wait

    from ..backends.base import SupportsCancel

    while isinstance(backend, SupportsCancel) and not reading.done():
        backend.cancel()
        wait([reading], timeout=0.05)


def _local_periods(reader: Reader, name: str, filters: Filters) -> Iterator[tuple[str, Filters]]:
    """The periods that may have calls, in their order, and the filters that mean the calls of each."""
    bounds: dict[int, tuple[str, int]] = {}
    for row in reader.stats([name], filters):
        begin = _begin(str(row.group[name]))
        for moment in (begin, _next(name, begin) - timedelta.resolution):
            period, since, until = _local_period(name, moment)
            bounds[since] = (period, until)
    for since, (period, until) in sorted(bounds.items()):
        first = since if filters.since is None else max(since, filters.since)
        last = until if filters.until is None else min(until, filters.until)
        yield period, replace(filters, since=first, until=last)


def _begin(period: str) -> datetime:
    return datetime.fromisoformat(f"{period}-01" if len(period) == _MONTH_LENGTH else period).replace(tzinfo=UTC)


def _next(name: str, begin: datetime) -> datetime:
    """The beginning of the next period."""
    if name == "month":
        return (begin.replace(day=1) + 31 * _DAY).replace(day=1)
    return begin + {"hour": timedelta(hours=1), "week": 7 * _DAY}.get(name, _DAY)


def _local_period(name: str, moment: datetime) -> tuple[str, int, int]:
    """The period of the command's zone in which ``moment`` is: its name, and when it begins and ends."""
    local = zoned(moment)
    if name == "hour":
        begin = nanoseconds_of(local.replace(minute=0, second=0, microsecond=0))
        return PERIODS[name](local), begin, begin + 3_600_000_000_000
    period = PERIODS[name](local)
    begin_date = _begin(period)
    return period, _midnight(begin_date.date()), _midnight(_next(name, begin_date).date())


def _midnight(day: date) -> int:
    return nanoseconds_of(zoned(datetime.combine(day, time())))


def offset_of_periods(rows: Iterable[StatsRow], name: str) -> str:
    """The offset of the periods of ``rows``; two if clocks were changed between them."""
    begins = [zoned(_begin(str(row.group[name])).replace(tzinfo=None)) for row in rows]
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
    for record in traces:
        if record.usage.source == "none":
            details = record.usage.details
            estimates = {name: details[name] for name in ESTIMATES if name in details}
            for group in groups_of(record, names):
                sums[group].update(estimates)
    return sums


def _with_estimates(row: StatsRow, sums: Mapping[str, int]) -> StatsRow:
    changes = {column: (getattr(row, column) or 0) + sums[name] for name, column in ESTIMATES.items() if name in sums}
    return replace(row, **changes, details={**row.details, **sums})
