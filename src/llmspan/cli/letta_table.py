"""Letta's table in its Postgres: whatever columns it has, page by page, and nothing written.

Pages are in the order of ids, each a query of its own, so that no long transaction holds up the other database.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, LiteralString

from ..backends.driver_errors import masked_errors
from ..backends.driver_logs import quiet
from ..errors import BackendError, SettingsError
from .letta import COLUMNS

__all__ = ["LettaTable"]

_TABLE: Final = "provider_traces"
_JSON: Final = frozenset(
    {"request_json", "response_json", "agent_tags", "compaction_settings", "llm_config", "billing_context"}
)
#: a table of that name with this column is one of ours
_OURS: Final = "duration_ns"
_NEEDED: Final = ("id", "request_json", "response_json", "created_at")


class LettaTable:
    """Rows that were made at ``since`` or later, ``batch`` at a time."""

    def __init__(self, dsn: str, schema: str, *, since: datetime | None, batch: int) -> None:
        try:
            import psycopg
            from psycopg import conninfo, rows, sql

            from ..backends.postgres.connection import parse_dsn
        except ImportError:
            raise SettingsError('reading Postgres needs psycopg; pip install "llmspan[postgres]"') from None
        self._driver = psycopg
        self._sql = sql
        self._as_dict = rows.dict_row
        self._batch = batch
        self._condition = sql.SQL("created_at >= {}").format(sql.Literal(since)) if since else sql.SQL("true")
        self._table = sql.Identifier(schema, _TABLE)
        parameters = {"connect_timeout": "30", **parse_dsn(dsn, "--dsn")}
        self._credentials = {parameters.get("password"), os.environ.get("PGPASSWORD")}
        with masked_errors(self._credentials, ""), quiet():
            try:
                self._connection = psycopg.connect(conninfo.make_conninfo(**parameters), autocommit=True)
            except psycopg.Error as error:
                raise BackendError(f"--dsn: {_one_line(error)}") from None
        try:
            self._query("SET default_transaction_read_only = on", ())
            self._columns = self._existing(schema)
        except BaseException:
            self.close()
            raise

    def count(self) -> int:
        """How many rows there are to read."""
        text = self._sql.SQL("SELECT count(*) AS rows FROM {} WHERE {}").format(self._table, self._condition)
        return self._query(text, ())[0]["rows"]

    def pages(self) -> Iterator[Sequence[dict[str, Any]]]:
        """All rows; JSON columns are text."""
        sql, last = self._sql, ""
        columns = [
            sql.SQL("{}::text" if name in _JSON else "{}").format(sql.Identifier(name)) for name in self._columns
        ]
        text = sql.SQL("SELECT {} FROM {} WHERE id > %s AND {} ORDER BY id LIMIT %s").format(
            sql.SQL(", ").join(columns), self._table, self._condition
        )
        while page := self._query(text, (last, self._batch)):
            yield page
            last = page[-1]["id"]

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _existing(self, schema: str) -> list[str]:
        text = "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
        columns = {row["column_name"] for row in self._query(text, (schema, _TABLE))}
        if _OURS in columns:
            raise SettingsError(f"{schema}.{_TABLE} is a table of llmspan, not Letta's; --dsn and --schema say which")
        if missing := [name for name in _NEEDED if name not in columns]:
            raise SettingsError(
                f"{schema}.{_TABLE} is not there, or not Letta's: it has no column {missing[0]}; see --schema"
            )
        return [name for name in COLUMNS if name in columns]

    def _query(self, text: LiteralString | Any, values: Sequence[Any]) -> list[dict[str, Any]]:
        with masked_errors(self._credentials, ""), quiet():
            try:
                with self._connection.cursor(row_factory=self._as_dict) as cursor:
                    cursor.execute(text, values)
                    return cursor.fetchall() if cursor.description else []
            except self._driver.Error as error:
                raise BackendError(f"--dsn: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
