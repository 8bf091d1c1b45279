"""The text index of a SQLite file: trigrams of requests and responses, made on request and never by those who write.

It only preselects: what it has not taken in yet is a candidate, and whatever is one is compared with the text itself.
It takes in records in the order in which they were written, and remembers the last one. If that is no longer the row
that it was, nothing in the index is believed, and all rows are candidates until it is made anew.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from typing import Final

from ..conditions import Preselection
from .connection import transaction

__all__ = ["create", "drop", "exists", "index_step", "optimize", "preselect"]

#: bytes of payloads that one step takes in: some 50 milliseconds, while which others cannot write
_STEP_BYTES: Final = 150_000
_STEP_ROWS: Final = 2_000
#: candidates up to which each is looked up by its id; of more, the newest are met on the way through the time
_FEW: Final = 1_000
#: trigrams of one text that are looked up: the first and, of a long text, some behind them
_MOST_TRIGRAMS: Final = 24
_TRIGRAM: Final = 3

_CREATE: Final = (
    # Without the text, its positions and its length: they are in the table of the records.
    """
CREATE VIRTUAL TABLE llmspan_text
USING fts5(request, response, content = '', columnsize = 0, detail = none, tokenize = 'trigram')""",
    "CREATE TABLE llmspan_text_state (one INTEGER PRIMARY KEY CHECK (one = 1), last_rowid INTEGER, last_id TEXT)",
    "INSERT INTO llmspan_text_state (one) VALUES (1)",
    """
CREATE TRIGGER llmspan_text_of_deleted AFTER DELETE ON provider_traces
WHEN old.rowid <= (SELECT last_rowid FROM llmspan_text_state)
BEGIN
    INSERT INTO llmspan_text (llmspan_text, rowid, request, response)
        SELECT 'delete', old.rowid, old.request_json, old.response_json
        WHERE old.request_json IS NOT NULL OR old.response_json IS NOT NULL;
    UPDATE llmspan_text_state SET (last_rowid, last_id) = (
        SELECT rowid, id FROM provider_traces WHERE rowid < old.rowid ORDER BY rowid DESC LIMIT 1
    ) WHERE last_rowid = old.rowid;
END""",
)
_DROP: Final = (
    "DROP TRIGGER IF EXISTS llmspan_text_of_deleted",
    "DROP TABLE IF EXISTS llmspan_text_state",
    "DROP TABLE IF EXISTS llmspan_text",
)
#: the last row that was taken in, if it is still there
_LAST: Final = (
    "SELECT last_rowid FROM llmspan_text_state AS state WHERE EXISTS ("
    "SELECT 1 FROM provider_traces AS record WHERE record.rowid = state.last_rowid AND record.id = state.last_id)"
)
_SIZE: Final = "coalesce(request_bytes, 0) + coalesce(response_bytes, 0)"
_HAS_PAYLOAD: Final = "(request_json IS NOT NULL OR response_json IS NOT NULL)"


def exists(connection: sqlite3.Connection) -> bool:
    """Whether the file has an index."""
    row = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'llmspan_text_state'").fetchone()
    return row is not None


def create(connection: sqlite3.Connection) -> None:
    """Make an empty index where there is none; raises :class:`sqlite3.OperationalError` without FTS5's trigrams."""
    with transaction(connection):
        if not exists(connection):
            for statement in _CREATE:
                connection.execute(statement)


def drop(connection: sqlite3.Connection) -> None:
    """Remove the index."""
    with transaction(connection):
        for statement in _DROP:
            connection.execute(statement)


def optimize(connection: sqlite3.Connection) -> None:
    """Merge the parts of the index, so that nothing stays in it of what was deleted."""
    if exists(connection):
        connection.execute("INSERT INTO llmspan_text (llmspan_text) VALUES ('optimize')")


def index_step(connection: sqlite3.Connection) -> int:
    """Take in some records that are not in the index yet; how many rows were passed, 0 when it is complete."""
    # A look first, which locks nobody out: mostly there is nothing to do.
    if not connection.execute("SELECT 1 FROM provider_traces WHERE rowid > ? LIMIT 1", [_last(connection)]).fetchone():
        return 0
    with transaction(connection):
        last = _last(connection)
        if last is _NOTHING and connection.execute("SELECT last_rowid FROM llmspan_text_state").fetchone() != (None,):
            connection.execute("INSERT INTO llmspan_text (llmspan_text) VALUES ('delete-all')")
        rows = _next_rows(connection, last)
        if rows:
            newest_rowid, newest_id = rows[-1]
            connection.execute(
                "INSERT INTO llmspan_text (rowid, request, response) SELECT rowid, request_json, response_json"  # noqa: S608
                f" FROM provider_traces WHERE rowid > ? AND rowid <= ? AND {_HAS_PAYLOAD}",
                [last, newest_rowid],
            )
            connection.execute("UPDATE llmspan_text_state SET last_rowid = ?, last_id = ?", [newest_rowid, newest_id])
    return len(rows)


#: before the first row
_NOTHING: Final = -(2**63)


def _last(connection: sqlite3.Connection) -> int:
    row = connection.execute(_LAST).fetchone()
    return _NOTHING if row is None else row[0]


def _next_rows(connection: sqlite3.Connection, last: int) -> list[tuple[int, str]]:
    rows = connection.execute(
        f"SELECT rowid, id, {_SIZE} FROM provider_traces WHERE rowid > ? ORDER BY rowid LIMIT {_STEP_ROWS}",  # noqa: S608
        [last],
    ).fetchall()
    total = 0
    for number, row in enumerate(rows, 1):
        total += row[2]
        if total >= _STEP_BYTES:
            return [row[:2] for row in rows[:number]]
    return [row[:2] for row in rows]


def preselect(connection: sqlite3.Connection, asked: Preselection) -> str | None:
    """The condition of all records that may contain one of the spellings; None if the index cannot say."""
    queries = [trigram_query(spelling) for spelling in asked.spellings]
    if not exists(connection) or not all(queries):
        return None
    match = " OR ".join(f"({query})" for query in queries)
    try:
        (count,) = connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM llmspan_text WHERE llmspan_text MATCH ? LIMIT ?)", [match, _FEW + 1]
        ).fetchone()
    except sqlite3.OperationalError:  # this SQLite has no FTS5, or an older one
        return None
    # The plus keeps SQLite from looking up each candidate, and sorting all of them, for the first page.
    column = "id" if count <= _FEW else "+id"
    return (
        f"{column} IN ("  # noqa: S608 - all ours
        "SELECT id FROM provider_traces WHERE rowid IN"
        f" (SELECT rowid FROM llmspan_text WHERE llmspan_text MATCH {asked.mark(match)})"
        f" UNION ALL SELECT id FROM provider_traces WHERE rowid > coalesce(({_LAST}), {_NOTHING + 1} - 1)"
        f" AND {_HAS_PAYLOAD})"
    )


def trigram_query(text: str) -> str:
    """A query of FTS5 that whatever contains ``text`` fulfils; empty if there is none.

    Only trigrams are used that each version of SQLite reads alike: ASCII, and letters without upper and lower case.
    """
    pieces = [text[at : at + _TRIGRAM].lower() for at in range(len(text) - _TRIGRAM + 1)]
    usable = list(dict.fromkeys(piece for piece in pieces if all(map(_is_stable, piece))))
    chosen = usable[:: max(1, -(-len(usable) // _MOST_TRIGRAMS))]
    return " AND ".join('"' + piece.replace('"', '""') + '"' for piece in chosen)


def _is_stable(character: str) -> bool:
    return " " <= character <= "~" or (character > "\x7f" and unicodedata.category(character) == "Lo")
