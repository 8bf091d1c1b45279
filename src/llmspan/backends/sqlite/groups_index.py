"""The index that sums by model and day are read from, which is no part of the schema: without it they take longer.

To make it the whole file is read, and others cannot write meanwhile. So it is made at once where that takes no time,
and else by ``llmspan migrate``; a program that opens a large file of an earlier version does not wait for it.
"""

from __future__ import annotations

import sqlite3
from typing import Final

__all__ = ["make_index", "make_index_of_small_file"]

#: bytes of a file for which the index takes a small part of a second
_SMALL: Final = 32 * 1024 * 1024
_NAME: Final = "provider_traces_groups"
# All that sums by model and day are made of, in their order: rows are not read for them, and not sorted. The first two
# columns are written as in the queries, and the columns that they are made of are there, too, so that it covers them.
_STATEMENT: Final = """
CREATE INDEX IF NOT EXISTS provider_traces_groups ON provider_traces (
    ifnull(response_model, request_model),
    started_at / 86400000000000 - (started_at % 86400000000000 < 0),
    response_model,
    request_model,
    provider,
    service_tier,
    usage_source,
    price_facts,
    operation,
    status,
    started_at,
    duration_ns,
    time_to_first_chunk_ns,
    attempts,
    input_tokens,
    output_tokens,
    cache_read_tokens,
    cache_write_tokens,
    reasoning_tokens,
    cache_write_5m_tokens,
    cache_write_1h_tokens
)
"""


def make_index(connection: sqlite3.Connection) -> list[str]:
    """Make the index if it is not there; its name if it was made."""
    if _is_there(connection):
        return []
    connection.execute(_STATEMENT)
    return [_NAME]


def make_index_of_small_file(connection: sqlite3.Connection) -> None:
    """Make the index if it is not there and the file is small; nothing fails for want of it."""
    (size,) = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()
    if size > _SMALL:
        return
    try:
        make_index(connection)
    except sqlite3.OperationalError:  # no room, or another process writes
        return


def _is_there(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [_NAME]).fetchone() is not None
