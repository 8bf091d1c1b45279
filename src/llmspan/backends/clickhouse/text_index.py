"""The text index of ClickHouse: bloom filters of the trigrams of each granule's requests and responses.

They are made on request. A skip index must not choose rows of a query with FINAL: of two rows of one record it could
leave out the one that counts. So the ids are chosen by a query without FINAL, and the rows of those are then compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...query.matching import lower
from ..conditions import Preselection
from .client import Client, quoted

__all__ = ["drop", "exists", "make", "preselect"]

_PARTS: Final = ("request", "response")
_TABLE: Final = "provider_traces"
_LENGTH: Final = 3
#: 64 KiB for a granule of a MiB: one in some thousands of granules is read in vain
_TYPE: Final = f"ngrambf_v1({_LENGTH}, 65536, 2, 0)"
_FOUND: Final = (
    "SELECT name FROM system.data_skipping_indices WHERE database = {database:String} AND table = 'provider_traces'"
    " AND startsWith(name, 'idx_text_')"
)


def _text(part: str) -> str:
    return f"lower(ifNull({part}_json, ''))"


def exists(client: Client) -> bool:
    """Whether both indexes are there."""
    return len(client.rows(_FOUND, {"database": client.dsn.database})) == len(_PARTS)


def make(client: Client) -> None:
    """Make both indexes; the server builds those of parts that are there in the background."""
    for part in _PARTS:
        _alter(client, f"ADD INDEX IF NOT EXISTS idx_text_{part} {_text(part)} TYPE {_TYPE} GRANULARITY 1")
        _alter(client, f"MATERIALIZE INDEX idx_text_{part}")


def drop(client: Client) -> None:
    """Remove both indexes."""
    for part in _PARTS:
        _alter(client, f"DROP INDEX IF EXISTS idx_text_{part}")


def _alter(client: Client, change: str) -> None:
    client.command(f"ALTER TABLE {quoted(client.dsn.database)}.{_TABLE} {change}")


def preselect(client: Client, asked: Preselection) -> str | None:
    """The condition of all records that may contain one of the spellings; None for texts that trigrams cannot tell."""
    if any(len(spelling) < _LENGTH for spelling in asked.spellings):
        return None
    marks = [asked.mark(f"%{_escaped(lower(spelling))}%") for spelling in asked.spellings]
    table = f"{quoted(client.dsn.database)}.{_TABLE}"
    # One query for each index: none could leave anything out where the other's column may match.
    queries = [
        f"SELECT id FROM {table} WHERE {' AND '.join([_either(part, marks), *asked.bounds])}"  # noqa: S608 - all ours
        for part in _PARTS
    ]
    return f"id IN ({' UNION ALL '.join(queries)})"


def _either(part: str, marks: Sequence[str]) -> str:
    return f"({' OR '.join(f'{_text(part)} LIKE {mark}' for mark in marks)})"


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\%_" else letter for letter in text)
