"""Records as rows of ClickHouse: typed columns under the record's keys, lists as arrays.

A batch has a token made of its ids. The server keeps the tokens of late, so that the same batch sent again, by the
driver after a lost connection or by us, is no second batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

from ...trace import KEYS, ProviderTrace
from ..rows import Cell, encode

__all__ = ["as_rows", "token"]

_TAGS: Final = KEYS.index("agent_tags")
_REASONS: Final = KEYS.index("finish_reasons")
_in_order: Final = itemgetter(*KEYS)
#: lists of no more and no longer texts are below every cap
_USUAL_ITEMS: Final = 50
_USUAL_LENGTH: Final = 256


def as_rows(traces: Sequence[ProviderTrace]) -> list[list[Any]]:
    """A row for each record that is new in ``traces``, its cells in the order of :data:`llmspan.trace.KEYS`.

    Raises:
        PermanentError: a record cannot be stored; the message names it.
    """
    rows: dict[Cell, list[Any]] = {}
    for record in traces:
        cells: list[Any] = list(_in_order(encode(record)))
        for at, texts in ((_TAGS, record.agent_tags), (_REASONS, record.finish_reasons)):
            # Texts as they mostly are need no detour; what is left of others is known after it.
            usual = len(texts) <= _USUAL_ITEMS and all(
                text is None or (text.__class__ is str and len(text) <= _USUAL_LENGTH and text.isascii())
                for text in texts
            )
            cells[at] = list(texts) if usual else json.loads(cells[at])
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
