"""Sums of what stands in ``usage_details`` of the calls whose provider reported no usage, made by the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..query.statistics import check_groups
from .base import Filters, GroupBy
from .conditions import unnested_table
from .json_sql import JsonDialect
from .query import Query, SqlDialect, _conditions, _group, _group_expressions, _number

__all__ = ["detail_sums", "detail_sums_of"]


def detail_sums(
    dialect: SqlDialect, json: JsonDialect, group_by: Sequence[GroupBy], filters: Filters | None, names: Sequence[str]
) -> Query:
    """The sums of ``names`` for each group of the calls without usage that are meant.

    Raises:
        SettingsError: a group is unknown.
    """
    check_groups(group_by)
    conditions, values = _conditions(dialect, filters)
    groups = [f"group_{at}" for at in range(len(group_by))]
    expressions = [
        f"{group} AS {name}" for group, name in zip(_group_expressions(dialect, group_by, values), groups, strict=True)
    ]
    details = [f"{json.text('usage_details')} AS details", f"{json.members('usage_details')} AS details_members"]
    table = unnested_table(dialect.conditions, dialect.table, group_by)
    where = " AND ".join([*conditions, "usage_source = 'none'"])
    statement = f"SELECT {', '.join([*expressions, *details])} FROM {table} WHERE {where} {json.fence}"  # noqa: S608
    numbers = [f"{json.is_integer('details_members', name)} AS {name}" for name in names]
    counted = [*groups, f"{json.is_odd('details')} AS odd", *numbers]
    counts = f"SELECT {', '.join(counted)} FROM ({statement}) AS rows_read {json.fence}"  # noqa: S608
    odd = " OR ".join(["odd = 1", *(f"{name} < 0" for name in names)])
    sums = [f"{dialect.total(name)} AS sum_{name}" for name in names]
    selected = ", ".join([*groups, *sums, f"max(CASE WHEN {odd} THEN 1 ELSE 0 END) AS is_odd"])
    tail = f"GROUP BY {', '.join(groups)}" if groups else "HAVING count(*) > 0"
    return Query(f"SELECT {selected} FROM ({counts}) AS rows_counted {tail}", values)  # noqa: S608


def detail_sums_of(
    group_by: Sequence[GroupBy], names: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> dict[tuple[str | None, ...], dict[str, int]] | None:
    """The sums by group, of the names that some call has; None if the database could not read all of them."""
    if any(int(row["is_odd"]) for row in rows):
        return None
    sums = {
        tuple(_group(group_by, row).values()): {name: _number(row[f"sum_{name}"]) for name in names} for row in rows
    }
    return {
        group: {name: count for name, count in counts.items() if count is not None} for group, counts in sums.items()
    }
