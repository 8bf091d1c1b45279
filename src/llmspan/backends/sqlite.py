"""The SQLite backend: one file, no server, several processes at once. What one gets without choosing.

One connection writes, one reads, each behind its lock. A write is one transaction; ``id`` is the primary key, so a
record that comes again changes nothing. Listings never select a payload.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from ..settings import Settings
from ..trace import FAILED, KEYS, ProviderTrace
from .base import Filters, GroupBy, Page, StatsRow, check_groups
from .rows import LISTED_KEYS, Cell, check_limit, decode, decode_cursor, encode, encode_cursor, plain_text
from .sqlite_file import Handle, refusals, transaction

__all__ = ["SQLiteBackend", "default_path"]

_COLUMNS: Final = ", ".join(KEYS)
_LISTED_COLUMNS: Final = ", ".join(LISTED_KEYS)
# Not OR IGNORE: that would also skip, silently, a row that breaks another rule of the table.
_INSERT: Final = (
    f"INSERT INTO provider_traces ({_COLUMNS}) VALUES ({', '.join(f':{key}' for key in KEYS)})"  # noqa: S608 - our names
    " ON CONFLICT (id) DO NOTHING"
)
_SUMS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
# Integer division cuts towards zero; a time before 1970 needs the floor.
_DAY: Final = "date(started_at / 1000000000 - (started_at % 1000000000 < 0), 'unixepoch')"
_EXPRESSIONS: Final[Mapping[str, str]] = {"model": "coalesce(response_model, request_model)", "day": _DAY}


def default_path() -> Path:
    """``$XDG_DATA_HOME/llmspan/traces.db``, or the same under ``~/.local/share``."""
    # The one place beside settings.py that reads the environment: these variables are the desktop's, not ours, and
    # matter only if LLMSPAN_SQLITE_PATH is not set. The XDG specification says to ignore a relative path.
    data = Path(os.environ.get("XDG_DATA_HOME") or "")
    try:
        base = data if data.is_absolute() else Path.home() / ".local" / "share"
    except RuntimeError:  # nobody's home: opening it will say so
        base = Path("~/.local/share")
    return base / "llmspan" / "traces.db"


class SQLiteBackend:
    """Provider traces in a SQLite file, at :func:`default_path` unless ``path`` says otherwise."""

    name: ClassVar[str] = "sqlite"
    readable: ClassVar[bool] = True

    def __init__(self, path: str | os.PathLike[str] | None = None, *, busy_timeout: float = 5.0) -> None:
        self._path = _settled(default_path() if path is None else Path(path))
        self._writer = Handle(self._path, busy_timeout, read_only=False)
        self._reader = Handle(self._path, busy_timeout, read_only=True)

    @classmethod
    def from_settings(cls, settings: Settings) -> SQLiteBackend:
        """The file that the settings name. Neither opens nor makes it."""
        return cls(settings.sqlite_path)

    @property
    def location(self) -> str:
        """The absolute path of the file."""
        return str(self._path)

    def open(self) -> None:
        """Make the file if it is not there, and bring it to the newest schema."""
        with self._writer.use():
            pass

    def close(self) -> None:
        """Release both connections."""
        self._reader.close()
        self._writer.close()

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        """Store all of ``traces`` or none; known ids stay as they are."""
        rows = [encode(trace) for trace in traces]
        with refusals(self._path), self._writer.use() as connection, transaction(connection):
            connection.executemany(_INSERT, rows)

    def get(self, trace_id: str, /) -> ProviderTrace | None:
        """The record with this ``id``."""
        return next(iter(self._traces("WHERE id = ?", [plain_text(trace_id)])), None)

    def get_by_step_id(self, step_id: str) -> ProviderTrace | None:
        """The newest record of a step."""
        tail = "WHERE step_id = ? ORDER BY started_at DESC, id DESC LIMIT 1"
        return next(iter(self._traces(tail, [plain_text(step_id)])), None)

    def list_by_step_id(self, step_id: str) -> Sequence[ProviderTrace]:
        """All records of a step, oldest first, with payloads."""
        return self._traces("WHERE step_id = ? ORDER BY started_at, id", [plain_text(step_id)])

    def list(self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None) -> Page:
        """A page of records, newest first, without payloads."""
        check_limit(limit)
        conditions, values = _conditions(filters)
        if cursor is not None:
            conditions.append("(started_at, id) < (?, ?)")
            values.extend(decode_cursor(cursor))
        tail = f"{_where(conditions)} ORDER BY started_at DESC, id DESC LIMIT ?"
        found = self._traces(tail, [*values, limit + 1], _LISTED_COLUMNS)
        page = found[:limit]
        return Page(page, encode_cursor(page[-1].started_at, page[-1].id) if len(found) > limit else None)

    def ids_with_prefix(self, prefix: str, limit: int) -> Sequence[str]:
        """At most ``limit`` ids that begin with ``prefix``, in their order."""
        first = plain_text(prefix)
        sql = "SELECT id FROM provider_traces WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
        return [str(row["id"]) for row in self._rows(sql, [first, f"{first}\U0010ffff", limit])]

    def stats(self, group_by: Sequence[GroupBy], filters: Filters | None = None) -> Sequence[StatsRow]:
        """Sums per group, in the order of the group's values."""
        check_groups(group_by)
        conditions, values = _conditions(filters)
        rows = self._rows(_stats_sql(group_by, _where(conditions)), values)
        return [_stats_row(group_by, row) for row in rows]

    def _traces(self, tail: str, values: Sequence[Cell], columns: str = _COLUMNS) -> Sequence[ProviderTrace]:
        sql = f"SELECT {columns} FROM provider_traces {tail}"  # noqa: S608 - values are parameters, the rest is ours
        return [decode(row) for row in self._rows(sql, values)]

    def _rows(self, sql: str, values: Sequence[Cell]) -> Sequence[dict[str, Cell]]:
        with refusals(self._path), self._reader.use() as connection:
            cursor = connection.execute(sql, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _settled(path: Path) -> Path:
    """``path`` made independent of the working directory, if there is one; opening it tells if that failed."""
    try:
        return path.expanduser().absolute()
    except (RuntimeError, OSError):
        return path


def _conditions(filters: Filters | None) -> tuple[list[str], list[Cell]]:
    meant = filters or Filters()
    given: dict[str, Cell] = {f"{name} = ?": plain_text(value) for name, value in meant.equalities().items()}
    given |= {
        condition: value
        for condition, value in (("started_at >= ?", meant.since), ("started_at < ?", meant.until))
        if value is not None
    }
    return list(given), list(given.values())


def _where(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _stats_sql(group_by: Sequence[GroupBy], where: str) -> str:
    groups = [f"{_EXPRESSIONS.get(name, name)} AS group_{at}" for at, name in enumerate(group_by)]
    counts = [
        "count(*) AS calls",
        f"count(CASE WHEN status IN {FAILED} THEN 1 END) AS failures",
        "count(CASE WHEN usage_source = 'none' THEN 1 END) AS without_usage",
        *(f"sum({column}) AS {column}" for column in _SUMS),
    ]
    order = ", ".join(f"group_{at}" for at in range(len(group_by)))
    tail = f"GROUP BY {order} ORDER BY {order}" if order else ""
    return f"SELECT {', '.join([*groups, *counts])} FROM provider_traces {where} {tail}"  # noqa: S608 - all ours


def _stats_row(group_by: Sequence[GroupBy], row: Mapping[str, Cell]) -> StatsRow:
    def count(name: str) -> int | None:
        value = row[name]
        return None if value is None else int(value)

    def text(value: Cell) -> str | None:
        return None if value is None else str(value)

    return StatsRow(
        group={name: text(row[f"group_{at}"]) for at, name in enumerate(group_by)},
        calls=count("calls") or 0,
        failures=count("failures") or 0,
        without_usage=count("without_usage") or 0,
        input_tokens=count("input_tokens"),
        output_tokens=count("output_tokens"),
        cache_read_tokens=count("cache_read_tokens"),
        cache_write_tokens=count("cache_write_tokens"),
        reasoning_tokens=count("reasoning_tokens"),
    )
