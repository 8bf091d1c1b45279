"""The days in Postgres: a partition each, made ahead of time and dropped when old, by the server's clock alone.

The clock of one program may be wrong by days, and partitions are shared by all programs. Records keep the times that
their programs gave them: a record of a day far from the server's goes to the default partition.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import date, timedelta
from time import time_ns
from typing import Final

import psycopg
from psycopg import sql

from ..._clock import monotonic
from ..._guard import logger
from ..._log import WarningsOnce
from ...errors import BackendError
from ...trace import ProviderTrace
from .connection import Connection, transaction
from .schema import SchemaInfo

__all__ = [
    "DAYS_AHEAD",
    "MIGRATED_DAYS",
    "OLDEST_DAYS",
    "DayPartitions",
    "add_day_partitions",
    "clock_difference",
    "count_before",
    "drop_day_partitions",
    "may_delete",
    "server_time",
]

#: for how many days after today there are partitions
DAYS_AHEAD: Final = 3
#: for how many days, today's included, `migrate` makes them, for writers who may not
MIGRATED_DAYS: Final = 30
#: age in days up to which a day gets a partition of its own
OLDEST_DAYS: Final = 400

_DAY_SECONDS: Final = 86_400
_DAY_NANOSECONDS: Final = 86_400_000_000_000
_EPOCH: Final = date(1970, 1, 1)
#: the day before the first that a record can have, whose nanoseconds have 64 bits
_BEFORE_ALL: Final = -(2**63) // _DAY_NANOSECONDS
_DDL_TIMEOUT: Final = 10.0
#: seconds until partitions that could not be made or dropped are tried again
_RETRY_SECONDS: Final = 600.0
#: seconds after which the server is asked for its time again: it may be another server by then
_CLOCK_SECONDS: Final = 3600.0
#: seconds by which a program's clock may differ before it is worth a warning
_TOLERATED_SECONDS: Final = 3600.0

_PARTITIONS: Final = """
SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = to_regclass(%(table)s)
"""


class DayPartitions:
    """What one writer does for the days: it makes those that it needs and the next ones, and drops the old ones."""

    def __init__(self, location: str, retention_days: int | None) -> None:
        self._location = location
        self.retention_days = retention_days
        self._warnings = WarningsOnce()
        self.forget()

    def forget(self) -> None:
        """Know nothing of the partitions any more."""
        #: days that need no further look: made, there already, or not ours to make
        self._handled_days: set[int] = set()
        self._dropped_on: int | None = None
        self._retry_at = 0.0
        self._today = 0
        self._today_until = 0.0

    def keep(self, connection: Connection, info: SchemaInfo, traces: Sequence[ProviderTrace]) -> None:
        """Have partitions for the days of ``traces`` and the next ones; drop the old ones. Never fails a write."""
        if monotonic() < self._retry_at:
            return
        try:
            self._keep(connection, info, traces)
        except psycopg.Error as error:
            if connection.closed:
                raise
            self._retry_at = monotonic() + _RETRY_SECONDS
            logger.warning("llmspan: postgres: day partitions could not be kept, will be tried again: %s", error)

    def make_ahead(self, connection: Connection, info: SchemaInfo) -> None:
        """Make the partitions of a month, for writers who may not, and drop the old ones."""
        today = int(server_time(connection) // _DAY_SECONDS)
        if info.may_add_days:
            add_day_partitions(connection, info, range(today, today + MIGRATED_DAYS))
        if self.retention_days is not None and info.may_drop_days:
            drop_day_partitions(connection, info, today - self.retention_days)

    def _keep(self, connection: Connection, info: SchemaInfo, traces: Sequence[ProviderTrace]) -> None:
        today = self._ask_today(connection)
        missing = self._days_of(traces, today) - self._handled_days
        is_due = self.retention_days is not None and self._dropped_on != today
        if missing and info.may_add_days:
            add_day_partitions(connection, info, missing)
        if is_due and info.may_drop_days:
            drop_day_partitions(connection, info, today - (self.retention_days or 0))
        self._warn_of_rights(info, is_due=is_due)
        self._handled_days |= missing
        self._dropped_on = today

    def _days_of(self, traces: Sequence[ProviderTrace], today: int) -> set[int]:
        """The days of ``traces`` that are to have a partition, and the next ones."""
        first = today - min(OLDEST_DAYS, self.retention_days or OLDEST_DAYS)
        days = {record.started_at // _DAY_NANOSECONDS for record in traces if isinstance(record.started_at, int)}
        return {day for day in days if first <= day <= today + DAYS_AHEAD} | set(range(today, today + DAYS_AHEAD + 1))

    def _ask_today(self, connection: Connection) -> int:
        """The server's day; it is asked anew every hour, and after its midnight."""
        if monotonic() >= self._today_until:
            seconds = server_time(connection)
            self._today = int(seconds // _DAY_SECONDS)
            until_midnight = _DAY_SECONDS - seconds % _DAY_SECONDS
            self._today_until = monotonic() + min(_CLOCK_SECONDS, until_midnight)
            self._warn_of_clock(seconds)
        return self._today

    def _warn_of_clock(self, server_seconds: float) -> None:
        difference = clock_difference(server_seconds)
        if difference is not None:
            self._warnings.warn(
                "llmspan: postgres: this machine's clock is %s the server's at %s: records are stored with this"
                " machine's times, days are made and dropped by the server's. Set the clock that is wrong",
                difference, self._location,
            )  # fmt: skip

    def _warn_of_rights(self, info: SchemaInfo, *, is_due: bool) -> None:
        if not info.may_add_days and not self._handled_days:
            logger.warning(
                "llmspan: postgres: the user %r may not make day partitions at %s; records of days that have none go to"
                " provider_traces_default. See docs/postgres.md, Roles", info.user, self._location,
            )  # fmt: skip
        if is_due and not info.may_drop_days and self._dropped_on is None:
            logger.warning(
                "llmspan: postgres: the user %r may not drop day partitions at %s, LLMSPAN_POSTGRES_RETENTION_DAYS has"
                " no effect. See docs/postgres.md, Roles", info.user, self._location,
            )  # fmt: skip


def server_time(connection: Connection) -> float:
    """The seconds since the epoch, by the server's clock."""
    ((seconds,),) = connection.execute("SELECT extract(epoch FROM now())::float8").fetchall()
    return seconds


def clock_difference(server_seconds: float) -> str | None:
    """By how much this machine's clock is "3.0 days ahead of" or "behind" the server's, if that is much."""
    seconds = time_ns() / 1e9 - server_seconds
    if abs(seconds) <= _TOLERATED_SECONDS:
        return None
    amount = f"{abs(seconds) / 3600:.1f} hours" if abs(seconds) < _DAY_SECONDS else f"{abs(seconds) / 86400:.1f} days"
    return f"{amount} {'ahead of' if seconds > 0 else 'behind'}"


def add_day_partitions(connection: Connection, info: SchemaInfo, days: Iterable[int]) -> None:
    """Make the partitions of ``days`` (since the epoch, UTC) that there are not.

    A day of which the default partition has records already stays without a partition.

    Raises:
        psycopg.errors.InvalidParameterValue: a day is far from the server's.
    """
    if missing := sorted(set(days).difference(_partitioned_days(connection, info))):
        _call(connection, info, "provider_traces_add_day", missing)


def drop_day_partitions(connection: Connection, info: SchemaInfo, before: int) -> int:
    """Drop the partitions of the days before ``before``, and the older records of the default one; how many days.

    Raises:
        BackendError: not all days before that are past by the server's clock; nothing is dropped.
    """
    today = int(server_time(connection) // _DAY_SECONDS)
    if before > today:
        raise BackendError(
            f"days before {_date(before)} are not dropped: by the server's clock it is {_date(today)}, and they are not"
            " all past; correct the clock of this machine, or name an earlier day"
        )
    if before <= _BEFORE_ALL:
        return 0
    old = sorted(day for day in _partitioned_days(connection, info) if day < before)
    for day in old:  # one by one: each holds a lock that blocks all other sessions
        _call(connection, info, "provider_traces_drop_day", [day])
    _call(connection, info, "provider_traces_trim_default", [before])
    return len(old)


def count_before(connection: Connection, info: SchemaInfo, day: int) -> int:
    """How many records there are of the days before ``day``."""
    if day <= _BEFORE_ALL:
        return 0
    query = sql.SQL("SELECT count(*) FROM {} WHERE started_at < timestamptz {}")
    table, when = sql.Identifier(info.schema, "provider_traces"), sql.Literal(f"{_date(day)} 00:00:00+00")
    ((number,),) = connection.execute(query.format(table, when)).fetchall()
    return number


def may_delete(connection: Connection, info: SchemaInfo) -> bool:
    """Whether this user may delete records."""
    ((may,),) = connection.execute("SELECT has_table_privilege(%s, 'DELETE')", [info.table]).fetchall()
    return may


def _partitioned_days(connection: Connection, info: SchemaInfo) -> set[int]:
    """The days that have a partition of ours."""
    rows = connection.execute(_PARTITIONS, {"table": info.table}).fetchall()
    matches = (re.fullmatch(r"provider_traces_(\d{4})(\d\d)(\d\d)", name) for (name,) in rows)
    return {(date(int(match[1]), int(match[2]), int(match[3])) - _EPOCH).days for match in matches if match}


def _call(connection: Connection, info: SchemaInfo, function: str, days: Collection[int]) -> None:
    query = sql.SQL("SELECT {}(day) FROM unnest(%s::date[]) AS day").format(sql.Identifier(info.schema, function))
    with transaction(connection, _DDL_TIMEOUT):
        connection.execute(query, [[_date(day) for day in days]])


def _date(day: int) -> date:
    return _EPOCH + timedelta(days=min(day, (date.max - _EPOCH).days))
