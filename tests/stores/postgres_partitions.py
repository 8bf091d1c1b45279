"""Where Postgres keeps the records of which day."""

from __future__ import annotations

import time

from psycopg import sql

from llmspan.trace import ProviderTrace
from records import DAY, make_trace, this_day

from .postgres import execute


def days_ago(days: int) -> ProviderTrace:
    """A record of a call that began so many days ago; a negative number is ahead."""
    return make_trace(started_at=this_day() - days * DAY + 5)


def named(nanoseconds: int) -> str:
    """The name of the partition for the day of this time."""
    return f"provider_traces_{time.strftime('%Y%m%d', time.gmtime(nanoseconds // 1_000_000_000))}"


def partition_of(dsn: str, trace: ProviderTrace) -> str:
    """The name of the partition that holds this record."""
    statement = sql.SQL("SELECT tableoid::regclass::text FROM provider_traces WHERE id = {}").format(trace.id)
    ((name,),) = execute(dsn, statement)
    return name


def partitions(dsn: str) -> list[str]:
    """The names of all partitions, sorted."""
    rows = execute(
        dsn, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'provider_traces'::regclass"
    )
    return sorted(name for (name,) in rows)
