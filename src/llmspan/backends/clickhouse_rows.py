"""Records as rows of ClickHouse: typed columns under the record's keys, lists as arrays.

A batch has a token made of its ids. The server keeps the tokens of late, so that the same batch sent again, by the
driver after a lost connection or by us, is no second batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from ..trace import KEYS, KINDS, ProviderTrace
from .rows import Cell, encode

__all__ = ["as_rows", "token"]

_LISTS: Final = tuple(at for at, key in enumerate(KEYS) if KINDS[key] == "list")
_EMPTY: Final = "[]"


def as_rows(traces: Sequence[ProviderTrace]) -> list[list[Any]]:
    """A row for each record that is new in ``traces``, its cells in the order of :data:`llmspan.trace.KEYS`.

    Raises:
        PermanentError: a record cannot be stored; the message names it.
    """
    rows: dict[Cell, list[Any]] = {}
    for trace in traces:
        cells: list[Any] = list(encode(trace).values())
        for at in _LISTS:
            cells[at] = [] if cells[at] == _EMPTY else json.loads(cells[at])
        rows.setdefault(cells[0], cells)
    return list(rows.values())


def token(rows: Sequence[Sequence[Any]]) -> str:
    """The name of the batch."""
    digest = hashlib.sha256()
    for row in rows:
        name = str(row[0]).encode()
        digest.update(b"%d:" % len(name))
        digest.update(name)
    return digest.hexdigest()
