"""The tables in Postgres: found, made, brought to the newest version.

All of ours is in one schema: the first on the search path that has a table ``llmspan_schema``, else the current one.
What changes tables runs in a transaction under one advisory lock, whoever else may be doing the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from psycopg import errors, sql

from ...errors import NoTablesError, RefusedError, SchemaError
from ...trace import KEYS
from ..migrations import missing_migrations, newest_version
from .connection import Connection, transaction

__all__ = ["SchemaInfo", "find", "migrate", "outdated", "require_usable"]

#: the advisory lock of all who change our tables in this database; the functions in the migrations do, too
_LOCK: Final = 7812739796155067950
_DDL_TIMEOUT: Final = 10.0
#: a migration that waits longer for a lock on a table is left for a later try
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '2s'"
_OLDEST_SERVER: Final = 140000
#: whose ``sql`` folder has the migrations
_PACKAGE: Final = "llmspan.backends.postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaInfo:
    """Where our tables are, or would be made, and what this user may do there."""

    #: the schema's name
    schema: str
    #: the version of the tables; 0 if there are none
    version: int
    #: another application's object under our table's name
    foreign: bool
    columns: frozenset[str]
    may_insert: bool
    may_select: bool
    may_add_days: bool
    may_drop_days: bool
    may_insert_spans: bool
    may_select_spans: bool
    user: str

    @property
    def table(self) -> str:
        """The table, as SQL."""
        return f"{_quoted(self.schema)}.provider_traces"

    @property
    def spans(self) -> str:
        """The table of the spans, as SQL."""
        return f"{_quoted(self.schema)}.llmspan_spans"

    @property
    def annotations(self) -> str:
        """The table of the annotations, as SQL."""
        return f"{_quoted(self.schema)}.llmspan_annotations"


def find(connection: Connection) -> SchemaInfo:
    """Look for our tables.

    Raises:
        RefusedError: the server is too old, the database has no UTF-8, or no schema of the search path exists.
    """
    _check_server(connection)
    with transaction(connection, _DDL_TIMEOUT, "READ ONLY"):
        return _inspect_catalog(connection)


def outdated(info: SchemaInfo) -> bool:
    """Whether there are migrations to apply."""
    return info.version < newest_version(_PACKAGE)


def require_usable(info: SchemaInfo) -> SchemaInfo:
    """``info``, if this version can use the schema.

    Raises:
        SchemaError: the tables are not there, not ours, older or newer.
        RefusedError: this user may not read them.
    """
    newest = newest_version(_PACKAGE)
    where = f"schema {info.schema!r} of LLMSPAN_POSTGRES_DSN"
    if info.foreign:
        raise SchemaError(
            f"{where} has a table provider_traces that is not llmspan's; name another schema with"
            " ?options=-csearch_path%3DNAME, or another database"
        )
    if info.version > newest:
        raise SchemaError(
            f"{where} has version {info.version} of the tables, this llmspan supports {newest}; upgrade llmspan, or"
            " name another schema with ?options=-csearch_path%3DNAME"
        )
    if info.version < newest:
        has = f"has version {info.version} of the tables" if info.version else "has no tables of llmspan"
        kind = SchemaError if info.version else NoTablesError
        raise kind(f"{where} {has}, and this llmspan needs {newest}; run `llmspan migrate --backend postgres`")
    missing = [key for key in KEYS if key not in info.columns]
    if missing:
        raise SchemaError(f"{where}: provider_traces has no column {missing[0]}, though it says version {newest}")
    if not info.may_select:
        raise RefusedError(
            f"{where}: the user {info.user!r} may not read provider_traces; GRANT SELECT ON {info.table}"
            f" TO {_quoted(info.user)}"
        )
    return info


def migrate(connection: Connection) -> list[str]:
    """Apply the migrations that are missing, all or none; their names.

    Raises:
        RefusedError: this user may not.
        SchemaError: the tables are not ours, or newer.
    """
    info = find(connection)
    if not outdated(info):
        require_usable(info)
        return []
    try:
        with transaction(connection, 0):
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            # behind a lock on the table that waits for a report or a dump, all readers and writers wait as well
            connection.execute(_LOCK_TIMEOUT)
            return _apply(connection, _inspect_catalog(connection))
    except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as error:
        raise RefusedError(
            f"LLMSPAN_POSTGRES_DSN: the tables have to be made or updated in schema {info.schema!r}, and the user"
            f" {info.user!r} may not ({error.diag.message_primary}); run `llmspan migrate --backend postgres` as their"
            f" owner, or GRANT CREATE ON SCHEMA {_quoted(info.schema)} TO {_quoted(info.user)}"
        ) from error


def _check_server(connection: Connection) -> None:
    version = connection.info.server_version
    if version < _OLDEST_SERVER:
        raise RefusedError(
            f"LLMSPAN_POSTGRES_DSN: the server is Postgres {version // 10000}.{version % 10000}; 14 or later is needed"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise RefusedError(
            f"LLMSPAN_POSTGRES_DSN: the database's encoding is {encoding}; make one with ENCODING 'UTF8'"
        )


# One statement, and of catalogs, so that it sees one state: regclass and its like look things up in caches, which may
# not know yet what another session has just made.
_LOOK: Final = """
WITH place AS (
    SELECT pg_namespace.oid AS namespace, nspname, EXISTS (
            SELECT FROM pg_class WHERE relnamespace = pg_namespace.oid AND relname = 'llmspan_schema'
        ) AS ours
    FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (name, at) JOIN pg_namespace ON nspname = name
    ORDER BY ours DESC, at LIMIT 1
)
SELECT nspname::text, ours, current_user::text,
    (SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = found.oid AND attnum > 0 AND NOT attisdropped),
    coalesce(has_table_privilege(found.oid, 'INSERT'), false),
    coalesce(has_table_privilege(found.oid, 'SELECT'), false),
    EXISTS (
        SELECT FROM pg_proc WHERE pronamespace = namespace AND proname = 'provider_traces_add_day'
            AND has_function_privilege(pg_proc.oid, 'EXECUTE')
    ),
    EXISTS (
        SELECT FROM pg_proc WHERE pronamespace = namespace AND proname = 'provider_traces_drop_day'
            AND has_function_privilege(pg_proc.oid, 'EXECUTE')
    ),
    coalesce(has_table_privilege(spans.oid, 'INSERT'), false),
    coalesce(has_table_privilege(spans.oid, 'SELECT'), false)
FROM place LEFT JOIN pg_class AS found ON found.relnamespace = namespace AND found.relname = 'provider_traces'
    LEFT JOIN pg_class AS spans ON spans.relnamespace = namespace AND spans.relname = 'llmspan_spans'
"""


# A pooler may give us a session in which another client has set another search path.
_SEARCH_PATH_OF_THE_START: Final = (
    "SELECT set_config('search_path', reset_val, true) FROM pg_settings WHERE name = 'search_path'"
)


def _inspect_catalog(connection: Connection) -> SchemaInfo:
    if "search_path" not in connection.settings:
        connection.execute(_SEARCH_PATH_OF_THE_START)
    row = connection.execute(_LOOK).fetchone()
    if row is None:
        raise RefusedError(
            "LLMSPAN_POSTGRES_DSN: no schema of the search path exists in the database; CREATE SCHEMA, or name another"
            " with ?options=-csearch_path%3DNAME"
        )
    schema, is_ours, user, columns, *rights = row
    may_insert, may_select, may_add_days, may_drop_days, may_insert_spans, may_select_spans = rights
    version = 0
    if is_ours and columns is not None:
        table = sql.Identifier(schema, "llmspan_schema")
        query = sql.SQL("SELECT coalesce(max(version), 0) FROM {}").format(table)
        (version,) = connection.execute(query).fetchone() or (0,)
    return SchemaInfo(
        schema=schema,
        version=version,
        foreign=columns is not None and not is_ours,
        columns=frozenset(columns or ()),
        may_insert=may_insert,
        may_select=may_select,
        may_add_days=may_add_days,
        may_drop_days=may_drop_days,
        may_insert_spans=may_insert_spans and may_select_spans,  # ON CONFLICT reads what is there
        may_select_spans=may_select_spans,
        user=user,
    )


def _apply(connection: Connection, info: SchemaInfo) -> list[str]:
    if info.foreign or info.version > newest_version(_PACKAGE):
        require_usable(info)  # says what is wrong
    schema = sql.Identifier(info.schema)
    connection.execute(sql.SQL("SET LOCAL search_path = {}, pg_temp").format(schema))
    if not info.version:  # perhaps the table was dropped, and its versions were left
        connection.execute("DROP TABLE IF EXISTS llmspan_schema")
    missing = missing_migrations(_PACKAGE, info.version)
    for version, name, text in missing:
        connection.execute(text)  # pyright: ignore[reportCallIssue, reportArgumentType] - ours
        connection.execute("INSERT INTO llmspan_schema (version, name) VALUES (%s, %s)", [version, name])
    return [migration.name for migration in missing]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
