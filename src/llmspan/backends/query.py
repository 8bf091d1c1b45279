"""The questions a store of rows is asked, as SQL; a :class:`SqlDialect` says what differs between databases.

Pure text and values: nothing here connects. Values are always parameters, and names are always ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from ..query.statistics import PERIODS, check_groups
from ..trace import FAILED, KEYS
from .base import Filters, GroupBy, StatsRow
from .conditions import ConditionDialect, Renderer, unnested_table
from .rows import LISTED_KEYS, Cell, check_limit, decode_cursor, plain_text

__all__ = [
    "SUMMED_TOKENS",
    "Query",
    "SqlDialect",
    "by_id",
    "by_step",
    "count",
    "ids_with_prefix",
    "listing",
    "stats",
    "stats_columns",
    "stats_order",
    "stats_row",
    "where",
]

#: the columns that :func:`stats_columns` sums up
SUMMED_TOKENS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")

#: periods may be numbers: of hours, and of days, since the epoch
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS: Final = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=1)}

#: what columns can hold: times outside are after all records, or before them
_FIRST: Final = -(2**63)
_LAST: Final = 2**63 - 1


def _unbounded(since: int | None, until: int | None) -> Sequence[str]:
    del since, until
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlDialect:
    """How one database writes what these queries need."""

    #: what stands behind FROM
    table: str
    #: the table of annotations
    annotations: str = "annotations"
    #: how a parameter is written, given its name and value: ``:name``, ``%(name)s``
    parameter: Callable[[str, Cell], str]
    #: how filters are written
    conditions: ConditionDialect
    #: the expression for the start of a record in integer nanoseconds
    started_at: str = "started_at"
    #: how a key is selected, where that is not the column of its name
    columns: Mapping[str, str] | None = None
    #: the exact sum of a column, however large: a number, or the text ``high:low``, for ``high * 2**32 + low``
    total: Callable[[str], str] = "sum({})".format
    #: whether values can be gathered into arrays and sorted there, as ClickHouse does, faster than by windows
    has_arrays: bool = False
    #: whether groups are read as lists of values, to be sorted here: faster where the database sorts slowly; without
    #: either, lists are sorted there as Postgres writes it (``array_agg``, ``unnest``, ``LATERAL``)
    has_lists: bool = False
    #: by name, groups that an index has in their order, and how they are written
    group_order: Mapping[str, str] = field(default_factory=dict[str, str])
    #: how a condition on few columns is written, so that rows are read only where it holds
    narrow: Callable[[str], str] = str
    #: further conditions that follow from ``since`` and ``until``, for a partition or sort key of another type
    bounds: Callable[[int | None, int | None], Sequence[str]] = _unbounded

    def select(self, keys: Sequence[str]) -> str:
        """The columns of ``keys``, each under its key's name."""
        other = self.columns or {}
        return ", ".join(f"{other[key]} AS {key}" if key in other else key for key in keys)


class Query(NamedTuple):
    """A statement and the values of its parameters."""

    sql: str
    values: Mapping[str, Cell]
    #: whether rows are made into groups by expressions, whose number a planner cannot know
    is_grouped: bool = False


def by_id(dialect: SqlDialect, record_id: str) -> Query:
    """The record with this ``id``, with payloads."""
    return _equal(dialect, "id", record_id, "LIMIT 1")


def by_step(dialect: SqlDialect, step_id: str, *, newest: bool) -> Query:
    """The newest record of a step, or all of them, oldest first; with payloads."""
    time = dialect.started_at
    tail = f"ORDER BY {time} DESC, id DESC LIMIT 1" if newest else f"ORDER BY {time}, id"
    return _equal(dialect, "step_id", step_id, tail)


def listing(
    dialect: SqlDialect, filters: Filters | None, limit: int, cursor: str | None, *, keys: Sequence[str] = LISTED_KEYS
) -> Query:
    """A page, newest first and with the columns of ``keys``, and one record more if there is a next page.

    Raises:
        SettingsError: the limit is too small, or the cursor is none of ours.
    """
    check_limit(limit)
    conditions, values = _conditions(dialect, filters)
    if cursor is not None:
        at, after = decode_cursor(cursor)
        values |= {"cursor_at": at, "cursor_id": after}
        position = f"({dialect.parameter('cursor_at', at)}, {dialect.parameter('cursor_id', after)})"
        conditions.append(f"({dialect.started_at}, id) < {position}")
        conditions.extend(dialect.bounds(None, at + 1))
    sql = (
        f"SELECT {dialect.select(keys)} FROM {dialect.table} {_where(conditions)}"  # noqa: S608 - all ours
        f" ORDER BY {dialect.started_at} DESC, id DESC LIMIT {limit + 1:d}"
    )
    return Query(sql, values)


def ids_with_prefix(dialect: SqlDialect, prefix: str, limit: int) -> Query:
    """Ids that begin with ``prefix``, compared character by character."""
    first = plain_text(prefix)
    values: dict[str, Cell] = {"first": first, "beyond": f"{first}\U0010ffff"}
    low, high = (dialect.parameter(name, value) for name, value in values.items())
    return Query(
        f"SELECT id FROM {dialect.table} WHERE id >= {low} AND id < {high} ORDER BY id LIMIT {limit:d}",  # noqa: S608
        values,
    )


def count(dialect: SqlDialect, filters: Filters | None) -> Query:
    """How many records are meant, as ``records``."""
    conditions, values = _conditions(dialect, filters)
    return Query(f"SELECT count(*) AS records FROM {dialect.table} {_where(conditions)}", values)  # noqa: S608


def stats(dialect: SqlDialect, group_by: Sequence[GroupBy], filters: Filters | None) -> Query:
    """Sums per group, in the order of the group's values, records without the value first.

    Raises:
        SettingsError: a group is unknown.
    """
    check_groups(group_by)
    conditions, values = _conditions(dialect, filters)
    expressions = _group_expressions(dialect, group_by, values)
    groups = [f"{expression} AS group_{at}" for at, expression in enumerate(expressions)]
    counts = stats_columns(dialect)
    names = [f"group_{at}" for at in range(len(group_by))]
    table = unnested_table(dialect.conditions, dialect.table, group_by)
    sql = f"SELECT {', '.join([*groups, *counts])} FROM {table} {_where(conditions)}"  # noqa: S608 - all ours
    if not names:
        return Query(sql, values)
    # of the groups, not of the rows: a planner might sort all of these to have both
    grouped = f"SELECT * FROM ({sql} GROUP BY {', '.join(names)}) AS rows_grouped {stats_order(names)}"  # noqa: S608
    return Query(grouped, values, is_grouped=True)


def stats_columns(dialect: SqlDialect) -> list[str]:
    """What :func:`stats_row` reads of a group, beside what names it."""
    return [
        "count(*) AS calls",
        f"count(CASE WHEN status IN {FAILED} THEN 1 END) AS failures",
        "count(CASE WHEN usage_source = 'none' THEN 1 END) AS without_usage",
        *(f"{dialect.total(column)} AS sum_{column}" for column in SUMMED_TOKENS),
    ]


def stats_order(names: Sequence[str]) -> str:
    """The order of groups: by their values, as what these are; records without the value first."""
    return f"ORDER BY {', '.join(f'{name} NULLS FIRST' for name in names)}" if names else ""


def where(dialect: SqlDialect, filters: Filters | None) -> Query:
    """The condition that ``filters`` are, without the word WHERE; one that always holds if there are none."""
    conditions, values = _conditions(dialect, filters)
    return Query(" AND ".join(conditions) or "1 = 1", values)


def stats_row(group_by: Sequence[GroupBy], row: Mapping[str, Any]) -> StatsRow:
    """The row of :func:`stats`, whatever number type the database sums to."""
    return StatsRow(
        group=_group(group_by, row),
        calls=int(row["calls"]),
        failures=int(row["failures"]),
        without_usage=int(row["without_usage"]),
        **{column: _number(row[f"sum_{column}"]) for column in SUMMED_TOKENS},  # pyright: ignore[reportArgumentType]
    )


def _group_expressions(dialect: SqlDialect, group_by: Sequence[GroupBy], values: dict[str, Cell]) -> list[str]:
    """The value by which each group is made; parameters go into ``values``."""
    renderer = Renderer(dialect.conditions, dialect.parameter, values)
    return [renderer.group(name) for name in group_by]


def _group(group_by: Sequence[GroupBy], row: Mapping[str, Any]) -> Mapping[str, str | None]:
    return {name: _text(name, row[f"group_{at}"]) for at, name in enumerate(group_by)}


def _equal(dialect: SqlDialect, key: str, value: str, tail: str) -> Query:
    text = plain_text(value)
    condition = f"{key} = {dialect.parameter(key, text)}"
    return Query(f"SELECT {dialect.select(KEYS)} FROM {dialect.table} WHERE {condition} {tail}", {key: text})  # noqa: S608


def _conditions(dialect: SqlDialect, filters: Filters | None) -> tuple[list[str], dict[str, Cell]]:
    filters_or_all = filters or Filters()
    values: dict[str, Cell] = {}
    bounds = dialect.bounds(filters_or_all.since, filters_or_all.until)
    renderer = Renderer(dialect.conditions, dialect.parameter, values, bounds, dialect.table, dialect.annotations)
    conditions = [renderer.condition(condition) for condition in filters_or_all.all_conditions()]
    for name, sign, value in (("since", ">=", filters_or_all.since), ("until", "<", filters_or_all.until)):
        if value is not None:
            if _FIRST < value <= _LAST:
                values[name] = value
                conditions.append(f"{dialect.started_at} {sign} {dialect.parameter(name, value)}")
            elif (name == "since") == (value > _LAST):  # else it holds for every time that there can be
                conditions.append("1 = 0")
    conditions.extend(bounds)
    return conditions, values


def _where(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _number(value: Any) -> int | None:
    if isinstance(value, str):
        high, _, low = value.partition(":")
        return (int(high) << 32) + int(low)
    return None if value is None else int(value)


def _text(name: str, value: Any) -> str | None:
    if name in PERIODS and isinstance(value, int):
        return PERIODS[name](_EPOCH + value * _UNITS[name])
    return None if value is None else str(value)
