"""Calls in classes of the same price, summed up by the database.

A call's price depends on its counts of tokens and on little else: provider, model, service tier, what the provider said
of speed and region, and on which side of a few limits its input, its day and its hour are. Calls that agree in all of
that are one class, and only their sums are read. A call whose counts contradict each other, or whose JSON the database
might read in another way than Python, is never summed up: it is in a class of calls with exactly its usage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from ..cost import PRICED_COUNTS, PriceLimits
from ..trace import ProviderTrace
from .base import Filters, GroupBy, PriceClass, check_groups
from .json_sql import JsonDialect
from .query import Query, SqlDialect, _conditions, _group, _group_expressions
from .rows import decode

__all__ = ["LEAST_SPAN", "price_class", "price_classes"]

#: the largest count that is summed up: so many calls are in no store that their sum would have more than 64 bits
_LARGEST: Final = 10**9
#: classes of input tokens span so many at least; calls in between two limits that are closer are not summed up
LEAST_SPAN: Final = 64
_COLUMNS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_DETAILS: Final = tuple(name for name in PRICED_COUNTS if name not in _COLUMNS)
#: details that make a price unknown
_FLAGS: Final = ("cache_write_12h_tokens", "cache_write_24h_tokens")
_PASSES: Final = {"iterations_input_tokens": "input_tokens", "iterations_output_tokens": "output_tokens"}
_WORDS: Final = ("speed", "inference_geo")
#: what the calls of a class have in common
_SAME: Final = ("provider", "model", "service_tier", "usage_source", *_WORDS)
#: what a call that is not summed up has by itself
_OWN: Final = (*(f"own_{name}" for name in _COLUMNS), "own_details", "own_raw")
#: the digits of a pattern
_PATTERN: Final = (*_COLUMNS, *_DETAILS, *_FLAGS, *_PASSES)
_PATTERNS: Final = 3 ** len(_PATTERN)
_ABOVE_ZERO: Final = 2
#: input tokens that leave room for all other counts of an example
_ROOM: Final = 16


def price_classes(
    dialect: SqlDialect, json: JsonDialect, group_by: Sequence[GroupBy], filters: Filters | None, limits: PriceLimits
) -> Query:
    """The classes of the calls that are meant, for each group.

    Raises:
        SettingsError: a group is unknown.
    """
    check_groups(group_by)
    conditions, values = _conditions(dialect, filters)
    groups = [f"group_{at}" for at in range(len(group_by))]
    statement = _read(dialect, json, group_by, conditions)
    counted = f"SELECT {', '.join([*groups, *_counted(json)])} FROM ({statement}) AS rows_read {json.fence}"  # noqa: S608
    judged = f"SELECT *, {_is_odd(limits)} AS odd FROM ({counted}) AS rows_counted {json.fence}"  # noqa: S608
    key = [*groups, *_SAME, "side", *_OWN]
    selected = [*groups, *_SAME, f"{_side(limits)} AS side", *_own(), *_sums()]
    return Query(f"SELECT {', '.join(selected)} FROM ({judged}) AS rows_judged GROUP BY {', '.join(key)}", values)  # noqa: S608


def _read(dialect: SqlDialect, json: JsonDialect, group_by: Sequence[GroupBy], conditions: Sequence[str]) -> str:
    """The columns that matter, of the calls that are meant."""
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    selected = [
        *(f"{expression} AS group_{at}" for at, expression in enumerate(_group_expressions(dialect, group_by))),
        "provider",
        "coalesce(nullif(response_model, ''), nullif(request_model, ''), '') AS model",
        "service_tier",
        "usage_source",
        f"{dialect.started_at} AS started",
        f"{json.daytime} AS daytime_ns",
        *_COLUMNS,
        f"{json.text('usage_details')} AS details",
        f"{json.text('usage_raw')} AS raw",
        f"{json.members('usage_details')} AS details_members",
        f"{json.members('usage_raw')} AS raw_members",
    ]
    return f"SELECT {', '.join(selected)} FROM {dialect.table} {where} {json.fence}"  # noqa: S608


def _counted(json: JsonDialect) -> list[str]:
    numbers = [f"{json.is_integer('details_members', name)} AS {name}" for name in (*_DETAILS, *_FLAGS, *_PASSES)]
    words = [f"{json.word('raw_members', name)} AS {name}" for name in _WORDS]
    columns = [
        "provider",
        "model",
        "service_tier",
        "usage_source",
        "started",
        "daytime_ns",
        *_COLUMNS,
        "details",
        "raw",
    ]
    return [
        *columns,
        f"{json.is_odd('details')} AS odd_details",
        f"{json.is_odd('raw')} AS odd_raw",
        *numbers,
        *words,
    ]


def _is_odd(limits: PriceLimits) -> str:
    """1 for a call that must not be summed up."""
    parts = "coalesce(cache_read_tokens, 0) + coalesce(cache_write_tokens, 0) + coalesce(audio_input_tokens, 0)"
    lifetimes = "coalesce(cache_write_5m_tokens, 0) + coalesce(cache_write_1h_tokens, 0)"
    steps = [
        "odd_details = 1 OR odd_raw = 1",
        " OR ".join(f"{name} < 0 OR {name} > {_LARGEST}" for name in _PATTERN),
        " OR ".join(f"{name} = '?'" for name in _WORDS),
        f"{parts} > coalesce(input_tokens, 0)",
        f"{lifetimes} > coalesce(cache_write_tokens, 0)",
        "coalesce(audio_output_tokens, 0) > coalesce(output_tokens, 0)",
        *(f"input_tokens > {low} AND input_tokens <= {high}" for low, high in _narrow(limits)),
    ]
    return f"CASE {' '.join(f'WHEN {step} THEN 1' for step in steps)} ELSE 0 END"


def _narrow(limits: PriceLimits) -> list[tuple[int, int]]:
    return [(low, high) for low, high in pairwise([0, *limits.tokens]) if high - low < LEAST_SPAN]


def _side(limits: PriceLimits) -> str:
    """On which side of all limits a call is, and its pattern, as one number; :func:`_sides` takes it apart."""
    sizes = [f"WHEN input_tokens <= {limit} THEN {at}" for at, limit in enumerate(limits.tokens)]
    size = f"CASE WHEN input_tokens IS NULL THEN 0 {' '.join(sizes)} ELSE {len(sizes)} END"
    period, daytime = _behind("started", limits.instants), _behind("daytime_ns", limits.daytimes)
    times = f"{period} * {len(limits.daytimes) + 1} + {daytime}"
    return f"CAST(({times}) * {len(sizes) + 1} + {size} AS bigint) * {_PATTERNS} + {_pattern()}"


def _sides(limits: PriceLimits, side: int) -> tuple[int, int]:
    """How many limits of tokens are below the input, and the pattern."""
    remainder, pattern = divmod(side, _PATTERNS)
    return remainder % (len(limits.tokens) + 1), pattern


def _behind(column: str, limits: Sequence[int]) -> str:
    # the last first: most records are recent
    steps = [f"WHEN {column} >= {limit} THEN {at}" for at, limit in reversed(list(enumerate(limits, 1)))]
    return f"CASE {' '.join(steps)} ELSE 0 END" if steps else "0"


def _pattern() -> str:
    """Which counts are not reported, zero and above zero, a digit each, to the base 3."""
    digits = [f"CASE WHEN {name} IS NULL THEN 0 WHEN {name} = 0 THEN 1 ELSE 2 END" for name in _COLUMNS]
    digits += [f"CASE WHEN {name} > 0 THEN 2 ELSE 0 END" for name in (*_DETAILS, *_FLAGS)]
    digits += [
        f"CASE WHEN {name} IS NULL THEN 0 WHEN {total} IS NULL OR {name} <> {total} THEN 2 ELSE 0 END"
        for name, total in _PASSES.items()
    ]
    return " + ".join(f"{3**at} * {digit}" for at, digit in enumerate(digits))


def _own() -> list[str]:
    names = (*_COLUMNS, "details", "raw")
    return [f"CASE WHEN odd = 1 THEN {name} END AS own_{name}" for name in names]


def _sums() -> list[str]:
    sums = [f"sum(CASE WHEN odd = 0 THEN {name} END) AS sum_{name}" for name in PRICED_COUNTS]
    return ["max(odd) AS is_odd", "count(*) AS calls", "min(started) AS first_started", *sums]


# -- what comes back


def price_class(group_by: Sequence[GroupBy], limits: PriceLimits, row: Mapping[str, Any]) -> PriceClass:
    """The class of a row that :func:`price_classes` gives.

    Raises:
        RecordError: the usage of a call is not what :func:`~llmspan.backends.rows.encode` would have stored.
    """
    is_odd = int(row["is_odd"]) == 1
    size, pattern = _sides(limits, int(row["side"]))
    minimum = [0, *limits.tokens][size] + 1
    return PriceClass(
        group=_group(group_by, row),
        calls=int(row["calls"]),
        example=_record(row, _own_usage(row) if is_odd else _example_usage(row, pattern, minimum)),
        sums=None if is_odd else {name: int(row[f"sum_{name}"] or 0) for name in PRICED_COUNTS},
        key=(*(row[name] for name in _SAME), pattern),
    )


def _record(row: Mapping[str, Any], usage: Mapping[str, Any]) -> ProviderTrace:
    facts = {"provider": row["provider"], "response_model": row["model"], "service_tier": row["service_tier"]}
    needed = {"id": "-", "operation": "-", "api": "-", "status": "ok", "duration_ns": 0}
    return decode({**needed, **facts, **usage, "usage_source": row["usage_source"], "started_at": row["first_started"]})


def _own_usage(row: Mapping[str, Any]) -> Mapping[str, Any]:
    counts = {name: row[f"own_{name}"] for name in _COLUMNS}
    return {**counts, "usage_details": row["own_details"], "usage_raw": row["own_raw"]}


def _example_usage(row: Mapping[str, Any], pattern: int, minimum: int) -> Mapping[str, Any]:
    """The least counts that a call of the class may have, and some more, so that each can be raised by itself."""
    digits = {name: pattern // 3**at % 3 for at, name in enumerate(_PATTERN)}
    details = {name: 1 for name in (*_DETAILS, *_FLAGS) if digits[name] == _ABOVE_ZERO}
    cache_write = details.get("cache_write_5m_tokens", 0) + details.get("cache_write_1h_tokens", 0) + 2
    answered = details.get("audio_output_tokens", 0) + 2
    counts = dict(zip(_COLUMNS, (max(minimum, _ROOM), answered, 1, cache_write), strict=True))
    details |= {name: -1 for name in _PASSES if digits[name] == _ABOVE_ZERO}  # not the total, whatever that is
    raw = {name: str(row[name])[1:] for name in _WORDS if row[name] is not None}
    usage = {name: (None, 0, count)[digits[name]] for name, count in counts.items()}
    return {**usage, "usage_details": details, "usage_raw": raw}
