"""Calls in large classes by :mod:`.price_columns`, with the bounds between which they are: one scan, and no JSON.

Whoever knows the prices of a model sees from the bounds whether one of its limits lies between them. Only then are the
finer classes of :mod:`.price_classes` asked for.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

from ..cost import PRICED_COUNTS
from ..query.statistics import check_groups
from ..trace import ProviderTrace
from .base import Filters, GroupBy
from .bounded_classes import BoundedClass
from .conditions import unnested_table
from .price_classes import PASSES, TOKEN_COLUMNS, WORDS
from .price_columns import SUMMED
from .query import Query, SqlDialect, _conditions, _group, _group_expressions, _number
from .rows import decode

__all__ = ["EveryKey", "bounded_class", "price_bounds"]

_SAME: Final = ("response_model", "request_model", "provider", "service_tier", "usage_source", "price_facts")
_COUNTS: Final = (*TOKEN_COLUMNS, *SUMMED)
#: of an example, so that its parts are within their whole, and each can be raised by itself
_ROOM: Final = 16


class EveryKey(Container[str]):
    """The keys of a database that reads all columns alike."""

    def __contains__(self, key: object) -> bool:
        return True


def price_bounds(dialect: SqlDialect, group_by: Sequence[GroupBy], filters: Filters | None, *, by_host: bool) -> Query:
    """The classes of the calls that are meant, for each group.

    Raises:
        QueryError: records cannot be grouped by that.
    """
    check_groups(group_by)
    conditions, values = _conditions(dialect, filters)
    groups = [f"group_{at}" for at in range(len(group_by))]
    expressions = _group_expressions(dialect, group_by, values)
    same = [*_SAME, *(["server_address"] if by_host else [])]
    # an index may have its rows in this order, and then nothing has to be sorted
    order = [] if by_host else [name for key, name in dialect.group_order.items() if key not in group_by]
    if not set(group_by) <= set(dialect.group_order):
        order = []
    started = dialect.started_at
    selected = [
        *(f"{expression} AS {name}" for expression, name in zip(expressions, groups, strict=True)),
        *same,
        "count(*) AS calls",
        f"min({started}) AS first_started",
        f"max({started}) AS last_started",
        "min(input_tokens) AS least_input",
        "max(input_tokens) AS most_input",
        *(f"count({name}) AS number_{name}" for name in TOKEN_COLUMNS),
        *(f"{dialect.total(name)} AS sum_{name}" for name in _COUNTS),
    ]
    table = unnested_table(dialect.conditions, dialect.table, group_by)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    key = ", ".join([*groups, *order, *same])
    sql = f"SELECT {', '.join(selected)} FROM {table} {where} GROUP BY {key}"  # noqa: S608 - all ours
    return Query(sql, values, is_grouped=True)


def bounded_class(group_by: Sequence[GroupBy], row: Mapping[str, Any]) -> BoundedClass:
    """The class of a row of :func:`price_bounds`."""
    group, calls = _group(group_by, row), int(row["calls"])
    model = str(row["response_model"] or row["request_model"] or "")
    if row["price_facts"] is None:
        return BoundedClass(group=group, calls=calls, model=model, example=None)
    facts: dict[str, Any] = json.loads(row["price_facts"] or "{}")
    counts = {name: value for name, value in facts.items() if name not in WORDS}
    sums = {name: _number(row[f"sum_{name}"]) or 0 for name in _COUNTS}
    sums |= {name: value * calls for name, value in counts.items() if name in PRICED_COUNTS}
    numbers = {name: int(row[f"number_{name}"]) for name in TOKEN_COLUMNS}
    is_mixed = any(0 < number < calls for number in numbers.values())
    words = {name: facts[name] for name in WORDS if name in facts}
    reported = (*map(bool, numbers.values()), *map(bool, sums.values()))
    return BoundedClass(
        group=group,
        calls=calls,
        model=model,
        example=None if is_mixed else _example(row, numbers, sums, counts, words),
        sums={name: sums.get(name, 0) for name in PRICED_COUNTS},
        times=(int(row["first_started"]), int(row["last_started"])),
        least_input=int(row["least_input"] or 0),
        key=(*(row[name] for name in _SAME), row.get("server_address"), *reported),
    )


def _example(
    row: Mapping[str, Any], numbers: Mapping[str, int], sums: Mapping[str, int], counts: Mapping[str, int],
    words: Mapping[str, str],
) -> ProviderTrace:  # fmt: skip
    """A call that might be one of the class: of each count that some call has, a few."""
    lifetimes = {name: 1 for name in SUMMED if sums[name]}
    details = {**counts, **lifetimes}
    parts = sum(value for name, value in details.items() if name not in PASSES)
    small = {"cache_read_tokens": 1 + parts, "cache_write_tokens": len(lifetimes) + 2, "output_tokens": parts + 2}
    small["input_tokens"] = max(int(row["most_input"] or 0), 4 * parts + _ROOM)
    usage = {name: (small[name] if sums[name] else 0) if numbers[name] else None for name in TOKEN_COLUMNS}
    facts = {name: row[name] for name in _SAME if name != "price_facts"} | {"server_address": row.get("server_address")}
    needed: dict[str, Any] = {"id": "-", "operation": "-", "api": "-", "status": "ok", "duration_ns": 0}
    needed |= {"usage_details": details, "usage_raw": words, "started_at": row["first_started"]}
    return decode({**needed, **facts, **usage})
