"""Calls in classes of the same price, summed up by the database.

A call's price depends on its counts of tokens and on little else: provider, model, service tier, what the provider said
of speed and region, and on which side of a few limits its input, its day and its hour are. Calls that agree in all of
that are one class, and only their sums are read. A call whose counts contradict each other, or whose JSON the database
might read in another way than Python, is never summed up: it is in a class of calls with exactly its usage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from ..cost import PRICED_COUNTS, PriceLimits
from ..query.statistics import check_groups
from ..trace import ProviderTrace
from .base import Filters, GroupBy, PriceClass
from .conditions import unnested_table
from .json_sql import JsonDialect
from .query import Query, SqlDialect, _conditions, _group, _group_expressions
from .rows import Cell, decode

__all__ = [
    "DETAILS",
    "FLAGS",
    "INPUT_PARTS",
    "LARGEST",
    "LEAST_SPAN",
    "OUTPUT_PARTS",
    "PASSES",
    "TOKEN_COLUMNS",
    "WORDS",
    "ClassReading",
    "price_classes",
]

#: the largest count that is summed up: so many calls are in no store that their sum would have more than 64 bits
LARGEST: Final = 10**9
#: classes of input tokens span so many at least; calls in between two limits that are closer are not summed up
LEAST_SPAN: Final = 64
TOKEN_COLUMNS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
DETAILS: Final = tuple(name for name in PRICED_COUNTS if name not in TOKEN_COLUMNS)
#: details that make a price unknown
FLAGS: Final = ("cache_write_12h_tokens", "cache_write_24h_tokens")
PASSES: Final = {"iterations_input_tokens": "input_tokens", "iterations_output_tokens": "output_tokens"}
#: words of the usage object that a price may depend on, and their columns: Postgres folds names to lower case
WORDS: Final = {"speed": "speed", "inference_geo": "inference_geo", "trafficType": "traffic_type"}
#: the host where no price depends on it
_NO_HOST: Final = "''"
#: the model whose price it is
_MODEL: Final = "coalesce(nullif(response_model, ''), nullif(request_model, ''), '')"
#: what the calls of a class have in common
_SAME: Final = ("provider", "model", "host", "service_tier", "usage_source", *WORDS.values())
#: what a call that is not summed up has by itself
_OWN: Final = (*(f"own_{name}" for name in TOKEN_COLUMNS), "own_details", "own_raw")
#: counts that are parts of the input and of the output
INPUT_PARTS: Final = (
    "cache_read_tokens", "cache_write_tokens", "audio_input_tokens", "image_input_tokens", "video_input_tokens",
)  # fmt: skip
OUTPUT_PARTS: Final = ("audio_output_tokens", "image_output_tokens")
#: the digits of a pattern
_PATTERN: Final = (*TOKEN_COLUMNS, *DETAILS, *FLAGS, *PASSES)
_PATTERNS: Final = 3 ** len(_PATTERN)
_ABOVE_ZERO: Final = 2
#: input tokens that leave room for all other counts of an example
_ROOM: Final = 16


def price_classes(
    dialect: SqlDialect, json: JsonDialect, group_by: Sequence[GroupBy], filters: Filters | None, limits: PriceLimits,
    models: Sequence[str] | None = None,
) -> Query:  # fmt: skip
    """The classes of the calls that are meant, for each group; of ``models`` and those without facts, if it is given.

    Raises:
        SettingsError: a group is unknown.
    """
    check_groups(group_by)
    conditions, values = _conditions(dialect, filters)
    if models is not None:
        # the other conditions are in the narrowed part, too: it would find all calls of a model else
        conditions.append(dialect.narrow(" AND ".join([_of_models(dialect, models, values), *conditions])))
    groups = [f"group_{at}" for at in range(len(group_by))]
    expressions = _group_expressions(dialect, group_by, values)
    unnested = replace(dialect, table=unnested_table(dialect.conditions, dialect.table, group_by))
    statement = _read(unnested, json, expressions, conditions, limits)
    counted = f"SELECT {', '.join([*groups, *_counted(json)])} FROM ({statement}) AS rows_read {json.fence}"  # noqa: S608
    judged = f"SELECT *, {_is_odd(limits)} AS odd FROM ({counted}) AS rows_counted {json.fence}"  # noqa: S608
    key = [*groups, *_SAME, "side", *_OWN]
    selected = [*groups, *_SAME, f"{_side(limits)} AS side", *_own(), *_sums()]
    return Query(f"SELECT {', '.join(selected)} FROM ({judged}) AS rows_judged GROUP BY {', '.join(key)}", values)  # noqa: S608


def _of_models(dialect: SqlDialect, models: Sequence[str], values: dict[str, Cell]) -> str:
    marks: list[str] = []
    for at, model in enumerate(models):
        values[f"model_{at}"] = model
        marks.append(dialect.parameter(f"model_{at}", model))
    is_one = f" OR {_MODEL} IN ({', '.join(marks)})" if marks else ""
    return f"(price_facts IS NULL{is_one})"


def _read(
    dialect: SqlDialect, json: JsonDialect, groups: Sequence[str], conditions: Sequence[str], limits: PriceLimits
) -> str:
    """The columns that matter, of the calls that are meant."""
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    selected = [
        *(f"{expression} AS group_{at}" for at, expression in enumerate(groups)),
        "provider",
        f"{_MODEL} AS model",
        f"{'server_address' if limits.by_host else _NO_HOST} AS host",
        "service_tier",
        "usage_source",
        f"{dialect.started_at} AS started",
        f"{json.daytime} AS daytime_ns",
        *TOKEN_COLUMNS,
        f"{json.text('usage_details')} AS details",
        f"{json.text('usage_raw')} AS raw",
        f"{json.members('usage_details')} AS details_members",
        f"{json.members('usage_raw')} AS raw_members",
    ]
    return f"SELECT {', '.join(selected)} FROM {dialect.table} {where} {json.fence}"  # noqa: S608


def _counted(json: JsonDialect) -> list[str]:
    numbers = [f"{json.is_integer('details_members', name)} AS {name}" for name in (*DETAILS, *FLAGS, *PASSES)]
    words = [f"{json.word('raw_members', name)} AS {column}" for name, column in WORDS.items()]
    columns = [
        "provider",
        "model",
        "host",
        "service_tier",
        "usage_source",
        "started",
        "daytime_ns",
        *TOKEN_COLUMNS,
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
    parts = " + ".join(f"coalesce({name}, 0)" for name in INPUT_PARTS)
    answered = " + ".join(f"coalesce({name}, 0)" for name in OUTPUT_PARTS)
    heard = "coalesce(cache_read_audio_tokens, 0)"
    lifetimes = "coalesce(cache_write_5m_tokens, 0) + coalesce(cache_write_1h_tokens, 0)"
    steps = [
        "odd_details = 1 OR odd_raw = 1",
        " OR ".join(f"{name} < 0 OR {name} > {LARGEST}" for name in _PATTERN),
        " OR ".join(f"{column} = '?'" for column in WORDS.values()),
        f"{parts} > coalesce(input_tokens, 0)",
        f"{lifetimes} > coalesce(cache_write_tokens, 0)",
        f"{answered} > coalesce(output_tokens, 0)",
        f"{heard} > coalesce(cache_read_tokens, 0) OR {heard} > coalesce(audio_input_tokens, 0)",
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
    digits = [f"CASE WHEN {name} IS NULL THEN 0 WHEN {name} = 0 THEN 1 ELSE 2 END" for name in TOKEN_COLUMNS]
    digits += [f"CASE WHEN {name} > 0 THEN 2 ELSE 0 END" for name in (*DETAILS, *FLAGS)]
    digits += [
        f"CASE WHEN {name} IS NULL THEN 0 WHEN {total} IS NULL OR {name} <> {total} THEN 2 ELSE 0 END"
        for name, total in PASSES.items()
    ]
    return " + ".join(f"{3**at} * {digit}" for at, digit in enumerate(digits))


def _own() -> list[str]:
    names = (*TOKEN_COLUMNS, "details", "raw")
    return [f"CASE WHEN odd = 1 THEN {name} END AS own_{name}" for name in names]


def _sums() -> list[str]:
    sums = [f"sum(CASE WHEN odd = 0 THEN {name} END) AS sum_{name}" for name in PRICED_COUNTS]
    return ["max(odd) AS is_odd", "count(*) AS calls", "min(started) AS first_started", *sums]


# -- what comes back


class ClassReading:
    """Rows of :func:`price_classes` as classes.

    A year of days by twenty models has a hundred thousand classes and few examples, which differ in their time only.
    """

    def __init__(self, group_by: Sequence[GroupBy], limits: PriceLimits) -> None:
        self._group_by = group_by
        self._limits = limits
        self._examples: dict[tuple[Any, ...], ProviderTrace] = {}

    def price_class(self, row: Mapping[str, Any]) -> PriceClass:
        """The class of a row.

        Raises:
            RecordError: the usage of a call is not what :func:`~llmspan.backends.rows.encode` would have stored.
        """
        is_odd = int(row["is_odd"]) == 1
        size, pattern = _sides(self._limits, int(row["side"]))
        key = (*(row[name] for name in _SAME), pattern)
        return PriceClass(
            group=_group(self._group_by, row),
            calls=int(row["calls"]),
            example=_record(row, _own_usage(row)) if is_odd else self._example(row, (*key, size), size, pattern),
            sums=None if is_odd else {name: int(row[f"sum_{name}"] or 0) for name in PRICED_COUNTS},
            key=key,
        )

    def _example(self, row: Mapping[str, Any], key: tuple[Any, ...], size: int, pattern: int) -> ProviderTrace:
        example = self._examples.get(key)
        if example is None:
            minimum = [0, *self._limits.tokens][size] + 1
            example = self._examples[key] = _record(row, _example_usage(row, pattern, minimum))
        return replace(example, started_at=int(row["first_started"]))


def _record(row: Mapping[str, Any], usage: Mapping[str, Any]) -> ProviderTrace:
    facts = {"provider": row["provider"], "response_model": row["model"], "service_tier": row["service_tier"]}
    facts |= {"server_address": row["host"]}
    needed = {"id": "-", "operation": "-", "api": "-", "status": "ok", "duration_ns": 0}
    return decode({**needed, **facts, **usage, "usage_source": row["usage_source"], "started_at": row["first_started"]})


def _own_usage(row: Mapping[str, Any]) -> Mapping[str, Any]:
    counts = {name: row[f"own_{name}"] for name in TOKEN_COLUMNS}
    return {**counts, "usage_details": row["own_details"], "usage_raw": row["own_raw"]}


def _example_usage(row: Mapping[str, Any], pattern: int, minimum: int) -> Mapping[str, Any]:
    """The least counts that a call of the class may have, and some more, so that each can be raised by itself."""
    digits = {name: pattern // 3**at % 3 for at, name in enumerate(_PATTERN)}
    details = {name: 1 for name in (*DETAILS, *FLAGS) if digits[name] == _ABOVE_ZERO}
    cache_write = details.get("cache_write_5m_tokens", 0) + details.get("cache_write_1h_tokens", 0) + 2
    answered = sum(details.get(name, 0) for name in OUTPUT_PARTS) + 2
    heard = details.get("cache_read_audio_tokens", 0)
    details |= {"audio_input_tokens": 1 + heard} if "audio_input_tokens" in details else {}
    counts = dict(zip(TOKEN_COLUMNS, (max(minimum, _ROOM), answered, 1 + heard, cache_write), strict=True))
    details |= {name: -1 for name in PASSES if digits[name] == _ABOVE_ZERO}  # not the total, whatever that is
    raw = {name: str(row[column])[1:] for name, column in WORDS.items() if row[column] is not None}
    usage = {name: (None, 0, count)[digits[name]] for name, count in counts.items()}
    return {**usage, "usage_details": details, "usage_raw": raw}
