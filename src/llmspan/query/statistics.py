"""What records come to, in groups: the names that can be grouped by, latencies, rates, and series without gaps.

Everything here is plain Python over records; stores compute the same in SQL, and tests compare the two. A percentile is
exact: the least value that is not exceeded by so many hundredths of the values (``percentile_disc`` of SQL).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from .._clock import SECOND
from ..errors import QueryError
from .keys import ATTRIBUTES, Key, key_of
from .matching import stored_text, values_of

if TYPE_CHECKING:
    from ..trace import ProviderTrace

__all__ = [
    "PERCENTS",
    "PERIODS",
    "Measures",
    "check_groups",
    "check_length",
    "group_key",
    "groups_of",
    "make_measures",
    "measures_of",
    "percentiles",
    "period_start",
    "periods_between",
]

#: the periods of time that can be grouped by, of UTC; a week begins on Monday and is named by that day
PERIODS: Final[Mapping[str, Callable[[datetime], str]]] = {
    "hour": lambda moment: f"{moment.isoformat()[:13]}:00",  # strftime does not write 4 digits of every year
    "day": lambda moment: moment.isoformat()[:10],
    "week": lambda moment: (moment - timedelta(days=moment.weekday())).isoformat()[:10],
    "month": lambda moment: moment.isoformat()[:7],
}
#: of durations and of times to the first chunk
PERCENTS: Final = (50, 95, 99)
#: buckets of a series that is filled
_MOST_PERIODS: Final = 10_000
#: how long a period takes, in nanoseconds
_LENGTHS_NS: Final[Mapping[str, int]] = {
    name: hours * 3_600_000_000_000 for name, hours in (("hour", 1), ("day", 24), ("week", 7 * 24), ("month", 31 * 24))
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Latencies and rates of a group of records, each over the records that report what it takes; None if none does."""

    duration_ns_p50: int | None = None
    duration_ns_p95: int | None = None
    duration_ns_p99: int | None = None
    time_to_first_chunk_ns_p50: int | None = None
    time_to_first_chunk_ns_p95: int | None = None
    time_to_first_chunk_ns_p99: int | None = None
    #: output tokens of all calls by the seconds that these took
    output_tokens_per_second: float | None = None
    #: the part of the input that was read from a cache, of the calls that say how much was
    cache_hit_ratio: float | None = None
    #: attempts beyond the first
    retries: int | None = None


def group_key(name: str) -> Key:
    """The key that a group is by; periods have keys of the kind ``time``.

    Raises:
        QueryError: records cannot be grouped by that.
    """
    key = Key(name, "time") if name in PERIODS else key_of(name)
    if key.kind == "annotation":
        raise QueryError(f"{name} is an annotation; calls can be chosen by it, not grouped")
    return key


def check_groups(group_by: Sequence[str]) -> None:
    """Raise :class:`QueryError` unless records can be grouped by all of ``group_by``."""
    for name in group_by:
        try:
            group_key(name)
        except QueryError as error:
            raise QueryError(f"cannot group by {name!r}: {error}; periods are {', '.join(PERIODS)}") from None
    periods = [name for name in group_by if name in PERIODS]
    if len(periods) > 1:
        raise QueryError(f"cannot group by {' and '.join(periods)} at once; choose one")


def groups_of(record: ProviderTrace, group_by: Sequence[str]) -> list[tuple[str | None, ...]]:
    """The groups that a record is in: one, but for tags and finish reasons, which it may have several of."""
    return list(product(*(_group_values(record, name) for name in group_by)))


def _group_values(record: ProviderTrace, name: str) -> Sequence[str | None]:
    if name in PERIODS:
        return [PERIODS[name](record.started)]
    key = group_key(name).name
    values = dict.fromkeys(_group_text(key, value) for value in values_of(record, key))
    return list(values) or [None]


def _group_text(key: str, value: Any) -> str | None:
    if isinstance(value, str):
        return stored_text(key, value)
    if isinstance(value, bool | int | float) or not key.startswith(ATTRIBUTES):
        return json.dumps(value)
    return None  # a list or an object


def measures_of(records: Sequence[ProviderTrace]) -> Measures:
    """The measures of a group."""
    durations = [record.duration_ns for record in records]
    chunks = [record.time_to_first_chunk_ns for record in records if record.time_to_first_chunk_ns is not None]
    spoken = [record for record in records if record.usage.output_tokens is not None and record.duration_ns > 0]
    usages = [record.usage for record in records]
    cached = [usage for usage in usages if usage.cache_read_tokens is not None and usage.input_tokens is not None]
    tries = [record.attempts - 1 for record in records if record.attempts is not None and record.attempts > 0]
    return make_measures(
        {"duration_ns": percentiles(durations), "time_to_first_chunk_ns": percentiles(chunks)},
        speed=(sum(record.usage.output_tokens or 0 for record in spoken), sum(record.duration_ns for record in spoken)),
        cache=(sum(usage.cache_read_tokens or 0 for usage in cached), sum(usage.input_tokens or 0 for usage in cached)),
        retries=sum(tries) if tries else None,
    )


def make_measures(
    latencies: Mapping[str, Sequence[int | None]],
    *,
    speed: tuple[int | None, int | None],
    cache: tuple[int | None, int | None],
    retries: int | None,
) -> Measures:
    """Measures of percentiles by key, output tokens and nanoseconds, cached tokens and input, and retries."""
    percents = {
        f"{key}_p{percent}": value
        for key, values in latencies.items()
        for percent, value in zip(PERCENTS, values, strict=True)
    }
    tokens, nanoseconds = speed
    read, input_tokens = cache
    return Measures(
        **percents,
        output_tokens_per_second=(tokens or 0) * SECOND / nanoseconds if nanoseconds else None,
        cache_hit_ratio=(read or 0) / input_tokens if input_tokens else None,
        retries=retries,
    )


def percentiles(values: Iterable[int]) -> Sequence[int | None]:
    """The percentiles of :data:`PERCENTS`; None of no values."""
    ordered = sorted(values)
    return [ordered[(percent * len(ordered) + 99) // 100 - 1] if ordered else None for percent in PERCENTS]


def check_length(name: str, since: int, until: int) -> None:
    """Raise :class:`QueryError` if there are too many periods of a kind between two times, which may be of any year."""
    if (until - since) // _LENGTHS_NS[name] > _MOST_PERIODS:
        raise QueryError(f"from since to until there are more than {_MOST_PERIODS} of {name}; name a later since")


def period_start(name: str, period: str) -> datetime:
    """When the period begins that a group is named by; UTC."""
    return datetime.fromisoformat(f"{period}-01" if name == "month" else period).replace(tzinfo=UTC)


def periods_between(name: str, first: str, last: str) -> list[str]:
    """All periods of a kind from ``first`` to ``last``, as groups name them.

    Raises:
        QueryError: there are too many.
    """
    moment = period_start(name, first)
    step = {"hour": timedelta(hours=1), "week": timedelta(days=7)}.get(name, timedelta(days=1))
    periods = [first]
    while periods[-1] < last:
        moment += step
        period = PERIODS[name](moment)
        if period != periods[-1]:
            periods.append(period)
        if len(periods) > _MOST_PERIODS:
            raise QueryError(f"from {first} to {last} there are more than {_MOST_PERIODS} of {name}; name a time")
    return periods
