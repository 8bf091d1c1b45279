"""How SQLite, Postgres and ClickHouse write the conditions of :mod:`.conditions`.

All of them must find what :meth:`llmspan.query.filters.Filters.matches` finds, whatever the records hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ..query.matching import lower
from .conditions import ConditionDialect

__all__ = ["CLICKHOUSE_CONDITIONS", "POSTGRES_CONDITIONS", "SQLITE_CONDITIONS", "SQLITE_DAY", "SQLITE_MODEL"]


def _escaped(text: str, special: str, escape: Callable[[str], str]) -> str:
    return "".join(escape(letter) if letter in special else letter for letter in text)


def _like_pattern(parts: Sequence[str]) -> str:
    return "%".join(_escaped(part, "\\%_", "\\{}".format) for part in parts)


def _tokens(first: str) -> str:
    either = "input_tokens IS NOT NULL OR output_tokens IS NOT NULL"
    return f"(CASE WHEN {either} THEN {first.format('coalesce(input_tokens, 0)')} + coalesce(output_tokens, 0) END)"


# -- SQLite


def _floor(length: int) -> str:
    return f"started_at / {length} - (started_at % {length} < 0)"


# The first two columns of the index provider_traces_groups, in the same words. Conditions have others: an index by
# which the calls of a model are found is of no use for the newest of them.
SQLITE_MODEL: Final = "ifnull(response_model, request_model)"
SQLITE_DAY: Final = _floor(86_400_000_000_000)
# Integer division cuts towards zero; a time before 1970 needs the floor.
_SQLITE_SECONDS: Final = "started_at / 1000000000 - (started_at % 1000000000 < 0), 'unixepoch'"


def _sqlite_unnested(table: str, column: str) -> str:
    is_first = (
        f"items.atom IS NOT NULL AND NOT EXISTS (SELECT 1 FROM json_each({column}) AS earlier"  # noqa: S608 - all ours
        " WHERE earlier.atom = items.atom AND earlier.key < items.key)"
    )
    join = f"records LEFT JOIN json_each({column}) AS items ON {is_first}"
    return f"(SELECT records.*, items.atom AS {column}_item FROM {table} AS {join})"  # noqa: S608


def _sqlite_member(name: str, value: str) -> str:
    return f"(SELECT {value} FROM json_each(attributes) AS member WHERE member.key = {name})"  # noqa: S608


_SQLITE_NUMERAL: Final = (
    "member.type = 'text' AND length(member.atom) <= 38 AND member.atom NOT GLOB '*[^0-9.-]*'"
    " AND json_valid(member.atom) AND instr(ltrim(member.atom, '-') || '.', '.') <= 19"
    " AND length(member.atom) - instr(member.atom || '.', '.') <= 18"
)
_SQLITE_IS_NUMBER: Final = f"(member.type IN ('integer', 'real') OR ({_SQLITE_NUMERAL}))"
_SQLITE_IS_SHORT: Final = (
    "(member.type = 'real' OR length(ltrim(replace(CAST(member.atom AS TEXT), '.', ''), '-0')) <= 15)"
)

#: The digits of a fraction as they are written: SQLite makes 15 of them. Of two values, json_extract gives a list, and
#: its JSON has them as they came; a path cannot have each name.
_SQLITE_DIGITS: Final = (
    "(CASE WHEN instr(member.key, '\"') = 0 AND instr(member.key, char(92)) = 0 THEN ("
    "SELECT substr(pair, 2, (length(pair) - 3) / 2)"
    " FROM (SELECT json_extract(attributes, member.fullkey, member.fullkey) AS pair))"
    " ELSE CAST(member.atom AS TEXT) END)"
)

SQLITE_CONDITIONS: Final = ConditionDialect(
    tokens=_tokens("{}"),
    like="{} GLOB {}".format,
    pattern=lambda parts: "*".join(_escaped(part, "[*?", "[{}]".format) for part in parts),
    any_item=lambda column, test: (
        f"EXISTS (SELECT 1 FROM json_each({column}) AS item WHERE {test('item.atom')})"  # noqa: S608 - all ours
    ),
    has_items=lambda column: f"EXISTS (SELECT 1 FROM json_each({column}) AS item WHERE item.atom IS NOT NULL)",  # noqa: S608
    attribute_text=lambda name: _sqlite_member(
        name,
        "CASE WHEN member.type = 'text' THEN member.atom WHEN member.type IN ('true', 'false') THEN member.type END",
    ),
    attribute_equal=lambda name: _sqlite_member(
        name,
        "CASE WHEN member.type = 'text' THEN member.atom WHEN member.type IN ('true', 'false') THEN member.type"
        " WHEN typeof(member.atom) = 'integer' THEN CAST(member.atom AS TEXT) END",
    ),
    attribute_exact_number=lambda name: _sqlite_member(
        name, f"CASE WHEN {_SQLITE_IS_NUMBER} AND {_SQLITE_IS_SHORT} THEN CAST(member.atom AS REAL) END"
    ),
    attribute_group=lambda name: _sqlite_member(
        name,
        "CASE WHEN member.type = 'text' THEN member.atom WHEN member.type IN ('true', 'false') THEN member.type"
        f" WHEN member.type = 'real' THEN {_SQLITE_DIGITS}"
        " WHEN member.type = 'integer' THEN CAST(member.atom AS TEXT) END",
    ),
    periods={
        "hour": _floor(3_600_000_000_000),
        "day": SQLITE_DAY,
        "week": f"{SQLITE_DAY} - (({SQLITE_DAY} + 3) % 7 + 7) % 7",  # day 0 was a Thursday
        "month": f"strftime('%Y-%m', {_SQLITE_SECONDS})",
    },
    unnested=_sqlite_unnested,
    attribute_number=lambda name: _sqlite_member(
        name, f"CASE WHEN {_SQLITE_IS_NUMBER} THEN CAST(member.atom AS REAL) END"
    ),
    has_attribute=lambda name: (
        f"EXISTS (SELECT 1 FROM json_each(attributes) AS member WHERE member.key = {name} AND member.type <> 'null')"  # noqa: S608
    ),
    contains=lambda column, mark: f"instr(lower({column}), lower({mark})) > 0",
    columns={},
    group_columns={"model": SQLITE_MODEL},
)


# -- Postgres


def _readable(column: str) -> str:
    """A column of JSON without the escape that Postgres has no character for, which fails wherever it is read."""
    text, nul = f"{column}::text", "'\\u0000'"
    return f"(CASE WHEN strpos({text}, {nul}) > 0 THEN replace({text}, {nul}, '\\ufffe')::json ELSE {column} END)"


def _postgres_number(name: str) -> str:
    text = f"({_readable('attributes')} ->> {name}::text)"
    kind = f"json_typeof({_readable('attributes')} -> {name}::text)"
    numeral = "'^-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,18})?$'"
    number = "'^-?[0-9]{1,99}(\\.[0-9]{1,99})?([eE][+-]?[0-9]{1,2})?$'"
    is_number = f"({kind} = 'number' AND {text} ~ {number}) OR ({kind} = 'string' AND {text} ~ {numeral})"
    return f"(CASE WHEN {is_number} THEN {text}::float8 END)"


def _postgres_exact_number(name: str) -> str:
    text = f"({_readable('attributes')} ->> {name}::text)"
    is_real = f"json_typeof({_readable('attributes')} -> {name}::text) = 'number' AND {text} ~ '[.eE]'"
    return f"(CASE WHEN ({is_real}) OR {text} ~ '^[-0.]*([0-9][.]?){{0,15}}$' THEN {_postgres_number(name)} END)"


def _postgres_equal(name: str) -> str:
    text = f"({_readable('attributes')} ->> {name}::text)"
    is_number = f"json_typeof({_readable('attributes')} -> {name}::text) = 'number'"
    limits = f"{text}::numeric BETWEEN -9223372036854775808 AND 9223372036854775807"
    is_integer = f"CASE WHEN {is_number} AND {text} ~ '^-?[0-9]{{1,19}}$' THEN {limits} ELSE false END"
    return f'(CASE WHEN {is_integer} THEN {text} ELSE {_postgres_text(name)} END COLLATE "C")'


def _postgres_text(name: str, kinds: str = "'string', 'boolean'") -> str:
    attributes = _readable("attributes")
    kind = f"json_typeof({attributes} -> {name}::text)"
    return f'(CASE WHEN {kind} IN ({kinds}) THEN {attributes} ->> {name}::text END COLLATE "C")'


def _postgres_floor(length: int) -> str:
    return f"(started_at_ns / {length} - (mod(started_at_ns, {length}) < 0)::int)"


# Not dates: to write one for each row takes half as long as everything else.
_POSTGRES_DAY: Final = _postgres_floor(86_400_000_000_000)


def _postgres_unnested(table: str, column: str) -> str:
    items = f'SELECT DISTINCT item.value COLLATE "C" AS {column}_item FROM {_postgres_items(column)}'  # noqa: S608
    join = f"LEFT JOIN LATERAL ({items} WHERE item.value IS NOT NULL) AS items ON true"
    return f"(SELECT records.*, items.{column}_item FROM {table} AS records {join})"  # noqa: S608


def _postgres_items(column: str) -> str:
    return f"json_array_elements_text({_readable(column)}) AS item(value)"


def _postgres_any_item(column: str, test: Callable[[str], str]) -> str:
    condition = test('item.value COLLATE "C"')
    return f"EXISTS (SELECT 1 FROM {_postgres_items(column)} WHERE {condition})"  # noqa: S608 - all ours


POSTGRES_CONDITIONS: Final = ConditionDialect(
    tokens=_tokens("{}::numeric"),
    like="{} LIKE {}".format,
    pattern=_like_pattern,
    any_item=_postgres_any_item,
    has_items=lambda column: f"EXISTS (SELECT 1 FROM {_postgres_items(column)} WHERE item.value IS NOT NULL)",  # noqa: S608
    attribute_text=_postgres_text,
    attribute_equal=_postgres_equal,
    attribute_exact_number=_postgres_exact_number,
    attribute_group=lambda name: _postgres_text(name, "'string', 'boolean', 'number'"),
    periods={
        "hour": _postgres_floor(3_600_000_000_000),
        "day": _POSTGRES_DAY,
        "week": f"({_POSTGRES_DAY} - mod(mod({_POSTGRES_DAY} + 3, 7) + 7, 7))",  # day 0 was a Thursday
        "month": "to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM') COLLATE \"C\"",
    },
    unnested=_postgres_unnested,
    attribute_number=_postgres_number,
    has_attribute=lambda name: f"coalesce(json_typeof({_readable('attributes')} -> {name}::text) <> 'null', false)",
    # As an index on the same expression has it, if one was made. Nothing else has to be asked of it.
    contains=lambda column, mark: f'lower({column}::text COLLATE "C") LIKE {mark}',
    content_value=lambda text: f"%{_like_pattern([lower(text)])}%",
    columns={"started_at": "started_at_ns"},
)


# -- ClickHouse


_NUMBERS: Final = "('Int64', 'UInt64', 'Double')"
_DAY_NS: Final = 86_400_000_000_000
_DAYS: Final = f"(intDiv(started_at, {_DAY_NS}) - (started_at % {_DAY_NS} < 0))"


def _clickhouse_text(name: str, number: str = "NULL") -> str:
    kind = f"JSONType(attributes, {name})"
    truth = f"if(JSONExtractBool(attributes, {name}), 'true', 'false')"
    text = f"JSONExtractString(attributes, {name})"
    return f"multiIf({kind} = 'String', {text}, {kind} = 'Bool', {truth}, {kind} IN {_NUMBERS}, {number}, NULL)"


def _clickhouse_day(days: str) -> str:
    """The date of a number of days since 1970. Dates begin in 1900; after 400 years the calendar repeats itself."""
    later = f"toDate32('1970-01-01'), {days} + 146097"  # days in 400 years
    year = f"toString(toYear(addDays({later})) - 400)"
    old = f"concat({year}, substring(toString(addDays({later})), 5))"
    return f"if({days} >= -25567, toString(addDays(toDate32('1970-01-01'), {days})), {old})"


def _clickhouse_unnested(table: str, column: str) -> str:
    kind = "'Array(Nullable(String))'"
    items = f"arrayDistinct(arrayFilter(text -> isNotNull(text), CAST({column}, {kind})))"
    item = f"arrayJoin(if(empty({items}), CAST([NULL], {kind}), {items}))"
    return f"(SELECT *, {item} AS {column}_item FROM {table})"  # noqa: S608 - all ours


def _clickhouse_number(name: str) -> str:
    kind = f"JSONType(attributes, {name})"
    text = f"JSONExtractString(attributes, {name})"
    numeral = "'^-?(0|[1-9][0-9]{0,17})(\\\\.[0-9]{1,18})?$'"
    return (
        f"multiIf({kind} IN {_NUMBERS}, JSONExtractFloat(attributes, {name}),"
        f" {kind} = 'String' AND match({text}, {numeral}), toFloat64OrNull({text}), NULL)"
    )


def _clickhouse_exact_number(name: str) -> str:
    kind = f"JSONType(attributes, {name})"
    text = f"if({kind} = 'String', JSONExtractString(attributes, {name}), JSONExtractRaw(attributes, {name}))"
    is_short = f"match({text}, '^[-0.]*([0-9][.]?){{0,15}}$')"
    return f"if({kind} = 'Double' OR {is_short}, {_clickhouse_number(name)}, NULL)"


CLICKHOUSE_CONDITIONS: Final = ConditionDialect(
    tokens=_tokens("toInt128({})"),
    like="{} LIKE {}".format,
    pattern=_like_pattern,
    any_item=lambda column, test: f"arrayExists(item -> ifNull({test('item')}, false), {column})",
    has_items=lambda column: f"arrayExists(item -> isNotNull(item), {column})",
    attribute_text=_clickhouse_text,
    attribute_equal=lambda name: _clickhouse_text(
        name, f"if(JSONType(attributes, {name}) = 'Int64', JSONExtractRaw(attributes, {name}), NULL)"
    ),
    attribute_exact_number=_clickhouse_exact_number,
    attribute_group=lambda name: _clickhouse_text(name, f"JSONExtractRaw(attributes, {name})"),
    periods={
        "hour": (
            f"concat({_clickhouse_day(_DAYS)}, 'T',"
            f" leftPad(toString(intDiv(positiveModulo(started_at, {_DAY_NS}), 3600000000000)), 2, '0'), ':00')"
        ),
        "day": _clickhouse_day(_DAYS),
        "week": _clickhouse_day(f"({_DAYS} - positiveModulo({_DAYS} + 3, 7))"),  # day 0 was a Thursday
        "month": f"substring({_clickhouse_day(_DAYS)}, 1, 7)",
    },
    unnested=_clickhouse_unnested,
    attribute_number=_clickhouse_number,
    has_attribute=lambda name: f"(JSONType(attributes, {name}) <> 'Null')",
    contains=lambda column, mark: f"(positionCaseInsensitive({column}, {mark}) > 0)",
    columns={},
    member="GLOBAL IN",  # the other table may be on several machines
)
