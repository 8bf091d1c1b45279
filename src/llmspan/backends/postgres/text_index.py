"""The text index of Postgres: trigrams of requests and responses (pg_trgm), made on request while others write.

Two indexes on the partitioned table, which the partitions of later days get by themselves. Those of the partitions that
are there are made ``CONCURRENTLY``, one after the other, and then attached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import psycopg
from psycopg import errors

from ...errors import RefusedError
from .connection import Connection
from .schema import SchemaInfo, _quoted

__all__ = ["drop", "exists", "make"]

_INDEXES: Final = {
    f"provider_traces_{part}_text": f'lower({part}_json::text COLLATE "C")' for part in ("request", "response")
}
_VALID: Final = (
    "SELECT count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
    " JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = %s AND relname = ANY(%s) AND indisvalid"
)
#: the partitions without a valid index of this parent, and the one that an attempt that failed has left
_MISSING: Final = """
SELECT child.relname::text, EXISTS (
        SELECT FROM pg_class WHERE relnamespace = child.relnamespace AND relname = child.relname || %(suffix)s
    )
FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
WHERE inhparent = (%(table)s)::regclass AND NOT EXISTS (
    SELECT FROM pg_inherits AS attached JOIN pg_index ON indexrelid = attached.inhrelid
    WHERE attached.inhparent = (%(parent)s)::regclass AND indrelid = child.oid
)
ORDER BY child.relname
"""


def exists(connection: Connection, info: SchemaInfo) -> bool:
    """Whether both indexes are there, on all partitions."""
    row = connection.execute(_VALID, [info.schema, [*_INDEXES]]).fetchone()
    return row is not None and row[0] == len(_INDEXES)


def make(connection: Connection, info: SchemaInfo, progress: Callable[[int], object] | None) -> None:
    """Make both indexes, and what an earlier attempt has left undone.

    Raises:
        RefusedError: this user may not, or the server has no pg_trgm.
    """
    try:
        if connection.execute("SELECT FROM pg_extension WHERE extname = 'pg_trgm'").fetchone() is None:
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        operators = _operator_class(connection)
        for name, expression in _INDEXES.items():
            using = f"USING gin (({expression}) {operators})"
            parent = f"{_quoted(info.schema)}.{name}"
            connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON ONLY {info.table} {using}")  # pyright: ignore[reportCallIssue, reportArgumentType] - ours
            _make_of_partitions(connection, info, name, using, parent, progress)
    except (errors.InsufficientPrivilege, errors.UndefinedFile, errors.FeatureNotSupported) as error:
        raise RefusedError(
            f"LLMSPAN_POSTGRES_DSN: the user {info.user!r} cannot make the text index ({error.diag.message_primary});"
            " run `llmspan index --text --backend postgres` as the owner of the tables, on a server that has the"
            " extension pg_trgm"
        ) from error


def drop(connection: Connection, info: SchemaInfo) -> None:
    """Remove both indexes; raises :class:`RefusedError` if this user may not."""
    try:
        for name in _INDEXES:
            connection.execute(f"DROP INDEX IF EXISTS {_quoted(info.schema)}.{name}")  # pyright: ignore[reportCallIssue, reportArgumentType] - ours
    except errors.InsufficientPrivilege as error:
        raise RefusedError(f"LLMSPAN_POSTGRES_DSN: {error.diag.message_primary}; drop it as its owner") from error


def _operator_class(connection: Connection) -> str:
    """The name with its schema: an extension may be in one that is not on the search path."""
    row = connection.execute(
        "SELECT nspname::text FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace"
        " WHERE extname = 'pg_trgm'"
    ).fetchone()
    return f"{_quoted(row[0] if row else 'public')}.gin_trgm_ops"


def _make_of_partitions(
    connection: Connection, info: SchemaInfo, name: str, using: str, parent: str,
    progress: Callable[[int], object] | None,
) -> None:  # fmt: skip
    suffix = name.removeprefix("provider_traces")
    values = {"suffix": suffix, "table": info.table, "parent": parent}
    for partition, is_left_over in connection.execute(_MISSING, values).fetchall():
        child = f"{_quoted(info.schema)}.{_quoted(partition + suffix)}"
        if is_left_over:
            connection.execute(f"DROP INDEX IF EXISTS {child}")  # pyright: ignore[reportCallIssue, reportArgumentType] - ours
        table = f"{_quoted(info.schema)}.{_quoted(partition)}"
        try:
            connection.execute(f"CREATE INDEX CONCURRENTLY {_quoted(partition + suffix)} ON {table} {using}")  # pyright: ignore[reportCallIssue, reportArgumentType] - ours
            connection.execute(f"ALTER INDEX {parent} ATTACH PARTITION {child}")  # pyright: ignore[reportCallIssue, reportArgumentType] - ours
        except psycopg.errors.UndefinedTable:  # a day that was dropped meanwhile
            continue
        if progress is not None:
            progress(1)
