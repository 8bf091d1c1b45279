"""How much a page with payloads holds: as many rows as were asked for, or fewer if their payloads are long.

A payload may have megabytes, so a number of rows alone bounds no memory. Rows are taken one by one, and a page ends
when its payloads have :data:`PAGE_CHARACTERS`; it has one row at least.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from ..trace import KEYS, PAYLOAD_KEYS
from .rows import encode_cursor

__all__ = ["PAGE_CHARACTERS", "Row", "payload_size", "take_page"]

#: the cells of a record with its payloads, in the order of :data:`llmspan.trace.KEYS`
Row = Sequence[Any]

#: a page ends with the row by which its payloads reach this length
PAGE_CHARACTERS: Final = 16 * 2**20

_PAYLOADS: Final = tuple(KEYS.index(key) for key in PAYLOAD_KEYS)
_ID: Final = KEYS.index("id")
_STARTED_AT: Final = KEYS.index("started_at")


def take_page(rows: Iterable[Row], limit: int) -> tuple[list[Row], str | None]:
    """The first ``rows`` of a listing, at most ``limit``, and the cursor of the next page if there are more."""
    page: list[Row] = []
    size = 0
    for row in rows:
        if len(page) == limit or size >= PAGE_CHARACTERS:
            return page, encode_cursor(page[-1][_STARTED_AT], str(page[-1][_ID]))
        page.append(row)
        size += payload_size(row)
    return page, None


def payload_size(row: Row) -> int:
    """The characters of a row's payloads."""
    return sum([len(row[at]) for at in _PAYLOADS if row[at]])
