"""Latencies and rates of groups, as one query: percentiles of sorted values, and the sums that rates are made of.

The percentiles are exact on every store, so that they are those of :func:`llmspan.query.statistics.percentiles`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..query.statistics import PERCENTS, Measures, check_groups, make_measures, percentiles
from .base import Filters, GroupBy
from .conditions import unnested_table
from .query import (
    SUMMED_TOKENS,
    Query,
    SqlDialect,
    _conditions,
    _group,
    _group_expressions,
    _number,
    _where,
    stats_columns,
    stats_order,
)

__all__ = ["measures", "measures_row"]

_LATENCIES: Final = ("duration_ns", "time_to_first_chunk_ns")
_COLUMNS: Final = (*_LATENCIES, "attempts", "input_tokens", "output_tokens", "cache_read_tokens")
_SPOKEN: Final = "output_tokens IS NOT NULL AND duration_ns > 0"
_CACHED: Final = "cache_read_tokens IS NOT NULL AND input_tokens IS NOT NULL"
#: what rates are made of, each a sum over the records that it holds for
_SUMS: Final = {
    "spoken_tokens": f"(CASE WHEN {_SPOKEN} THEN output_tokens END)",
    "spoken_ns": f"(CASE WHEN {_SPOKEN} THEN duration_ns END)",
    "cached_tokens": f"(CASE WHEN {_CACHED} THEN cache_read_tokens END)",
    "cacheable_tokens": f"(CASE WHEN {_CACHED} THEN input_tokens END)",
    "retries": "(CASE WHEN attempts > 0 THEN attempts - 1 END)",
}


def measures(
    dialect: SqlDialect, group_by: Sequence[GroupBy], filters: Filters | None, *, with_stats: bool = False
) -> Query:
    """The measures of each group that has records; ``with_stats``: and what :func:`.query.stats` gives, in one scan.

    Raises:
        QueryError: records cannot be grouped by that.
    """
    check_groups(group_by)
    conditions, values = _conditions(dialect, filters)
    expressions = _group_expressions(dialect, group_by, values)
    names = [f"group_{at}" for at in range(len(group_by))]
    groups = [f"{expression} AS {name}" for expression, name in zip(expressions, names, strict=True)]
    table = unnested_table(dialect.conditions, dialect.table, group_by)
    tail = f"GROUP BY {', '.join(names)}" if names else "HAVING count(*) > 0"
    sums = [f"{dialect.total(expression)} AS {name}" for name, expression in _SUMS.items()]
    sums += stats_columns(dialect) if with_stats else []
    order = stats_order(names) if with_stats else ""
    if dialect.has_lists:
        selected = [*groups, *(f"group_concat({key}) AS {key}" for key in _LATENCIES), *sums]
        return Query(f"SELECT {', '.join(selected)} FROM {table} {_where(conditions)} {tail} {order}", values)  # noqa: S608
    if dialect.has_arrays:
        columns = dict.fromkeys((*_COLUMNS, *(("status", "usage_source", *SUMMED_TOKENS) if with_stats else ())))
        records = f"SELECT {', '.join([*groups, *columns])} FROM {table} {_where(conditions)}"  # noqa: S608 - all ours
        selected = [*names, *_percentile_columns(_of_array), *sums]
        return Query(f"SELECT {', '.join(selected)} FROM ({records}) AS rows_read {tail} {order}", values)  # noqa: S608
    grouped = _sorted_lists(names, groups, sums, f"FROM {table} {_where(conditions)} {tail}")
    return Query(f"{grouped} {order}", values, is_grouped=True)


def _percentile_columns(percentile: Callable[[str, int], str]) -> list[str]:
    return [f"{percentile(key, percent)} AS {key}_p{percent}" for key in _LATENCIES for percent in PERCENTS]


def _sorted_lists(names: Sequence[str], groups: Sequence[str], sums: Sequence[str], source: str) -> str:
    """One scan that keeps a list of each group's latencies, which is sorted when it is whole: rows are never sorted."""
    lists = [f"array_agg({key}) FILTER (WHERE {key} IS NOT NULL) AS {key}_list" for key in _LATENCIES]
    grouped = f"SELECT {', '.join([*groups, *lists, *sums])} {source}"
    joins = [
        f"CROSS JOIN LATERAL (SELECT array_agg(item ORDER BY item) AS {key}_sorted FROM unnest({key}_list) AS item)"  # noqa: S608
        f" AS {key}_of_group"
        for key in _LATENCIES
    ]
    names_of_sums = [column.rpartition(" AS ")[2] for column in sums]
    selected = ", ".join([*names, *_percentile_columns(_of_sorted), *names_of_sums])
    return f"SELECT {selected} FROM ({grouped}) AS rows_grouped {' '.join(joins)}"  # noqa: S608 - all ours


def measures_row(group_by: Sequence[GroupBy], row: Mapping[str, Any]) -> tuple[tuple[str | None, ...], Measures]:
    """The group of a row of :func:`measures`, and its measures."""
    sums = {name: _number(row[name]) for name in _SUMS}
    group_measures = make_measures(
        {key: _percentiles(key, row) for key in _LATENCIES},
        speed=(sums["spoken_tokens"], sums["spoken_ns"]),
        cache=(sums["cached_tokens"], sums["cacheable_tokens"]),
        retries=sums["retries"],
    )
    return tuple(_group(group_by, row).values()), group_measures


def _percentiles(key: str, row: Mapping[str, Any]) -> Sequence[int | None]:
    if key in row:
        return percentiles(json.loads(f"[{row[key] or ''}]"))
    return [_number(row[f"{key}_p{percent}"]) for percent in PERCENTS]


def _of_sorted(key: str, percent: int) -> str:
    return f"{key}_sorted[({percent} * cardinality({key}_sorted) + 99) / 100]"


def _of_array(key: str, percent: int) -> str:
    position = f"intDiv({percent} * count({key}) + 99, 100)"
    return f"if(count({key}) = 0, NULL, arraySort(groupArray({key}))[{position}])"
