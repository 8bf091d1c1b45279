"""How each database reads counts and words out of JSON, for sums that are made in it.

All of them must read what Python reads, or say that they cannot: text with a backslash, which may hide a key or a
character that a database has no place for, is never looked into.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["CLICKHOUSE", "POSTGRES", "SQLITE", "JsonDialect"]

_DAY_NS: Final = 86_400_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonDialect:
    """What one database writes for it. Names are ours, and keys have no quotes."""

    #: nanoseconds of a call's start since midnight, UTC
    daytime: str
    #: a column of JSON as text that can be grouped by
    text: Callable[[str], str]
    #: what ``is_integer`` and ``word`` look into: made of a column of JSON, NULL or empty where it cannot be read
    members: Callable[[str], str]
    #: 1 if the text under this name cannot be read, else 0
    is_odd: Callable[[str], str]
    #: the whole number of a key, NULL without the key, -1 if it is anything else or long
    is_integer: Callable[[str, str], str]
    #: the text of a key behind ``=``, NULL without the key, ``?`` if it is anything else
    word: Callable[[str, str], str]
    #: what ends a subquery whose expressions shall be computed once a row
    fence: str


def _sqlite_whole(members: str, key: str) -> str:
    value = f"json_extract({members}, '$.{key}')"
    kind = f"CASE typeof({value}) WHEN 'integer' THEN {value} WHEN 'null' THEN NULL ELSE -1 END"
    return f"CASE WHEN instr({members}, '\"{key}\"') > 0 THEN {kind} END"


def _sqlite_word(members: str, key: str) -> str:
    value = f"json_extract({members}, '$.{key}')"
    kind = f"CASE json_type({members}, '$.{key}') WHEN 'text' THEN '=' || {value} WHEN 'null' THEN NULL"
    kind += f" ELSE CASE WHEN json_type({members}, '$.{key}') IS NOT NULL THEN '?' END END"
    return f"CASE WHEN instr({members}, '\"{key}\"') > 0 THEN {kind} END"


SQLITE: Final = JsonDialect(
    daytime=f"((started_at % {_DAY_NS} + {_DAY_NS}) % {_DAY_NS})",
    text="{}".format,
    members=lambda column: f"CASE WHEN instr({column}, char(92)) = 0 AND json_valid({column}) THEN {column} END",
    is_odd=lambda name: f"CASE WHEN {name} IS NOT NULL AND {name}_members IS NULL THEN 1 ELSE 0 END",
    is_integer=_sqlite_whole,
    word=_sqlite_word,
    fence="LIMIT -1",
)


def _postgres_whole(members: str, key: str) -> str:
    value = f"({members} ->> '{key}')"
    return f"CASE WHEN {value} ~ '^[0-9]{{1,15}}$' THEN {value}::bigint WHEN {value} IS NOT NULL THEN -1 END"


def _postgres_word(members: str, key: str) -> str:
    value = f"{members} -> '{key}'"
    word = f"'=' || ({members} ->> '{key}')"
    return (
        f"CASE jsonb_typeof({value}) WHEN 'string' THEN {word} WHEN 'null' THEN NULL"
        f" ELSE CASE WHEN {value} IS NOT NULL THEN '?' END END COLLATE \"C\""
    )


POSTGRES: Final = JsonDialect(
    daytime=f"mod(mod(started_at_ns, {_DAY_NS}) + {_DAY_NS}, {_DAY_NS})",
    text='{}::text COLLATE "C"'.format,
    members=lambda column: f"CASE WHEN strpos({column}::text, chr(92)) = 0 THEN {column}::jsonb END",
    is_odd=lambda name: f"CASE WHEN {name} IS NOT NULL AND {name}_members IS NULL THEN 1 ELSE 0 END",
    is_integer=_postgres_whole,
    word=_postgres_word,
    fence="OFFSET 0",
)


def _clickhouse_value(members: str, key: str) -> str:
    # the last one, as in Python, if a key is there twice
    return f"arrayLast(member -> member.1 = '{key}', {members}).2"


def _clickhouse_whole(members: str, key: str) -> str:
    value = _clickhouse_value(members, key)
    return f"multiIf({value} = '', NULL, match({value}, '^[0-9]{{1,15}}$'), toInt64OrNull({value}), -1)"


def _clickhouse_word(members: str, key: str) -> str:
    value = _clickhouse_value(members, key)
    word = f"concat('=', substring({value}, 2, length({value}) - 2))"
    return f"multiIf({value} IN ('', 'null'), NULL, startsWith({value}, '\"'), {word}, '?')"


CLICKHOUSE: Final = JsonDialect(
    daytime=f"positiveModulo(started_at, {_DAY_NS})",
    text="{}".format,
    members=lambda column: f"JSONExtractKeysAndValuesRaw(ifNull({column}, ''))",
    is_odd=lambda name: f"if(ifNull(position({name}, char(92)), 0) > 0, 1, 0)",
    is_integer=_clickhouse_whole,
    word=_clickhouse_word,
    fence="",
)
