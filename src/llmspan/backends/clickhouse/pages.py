"""Pages with payloads from ClickHouse, which reads whole columns of all rows that may be meant.

The keys of a page are looked up first, without any payload, and the payloads' lengths next, within the time that the
page spans. Only then are the rows read that fit: by an index on time, no query touches payloads of other pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from ...trace import KEYS
from .. import payload_pages
from ..base import Filters
from ..payload_pages import Row
from ..query import Query, SqlDialect, listing
from ..rows import encode_cursor

__all__ = ["payload_page"]

_KEY: Final = ("started_at", "id")
#: in bytes, which are as many as the characters or more
_SIZE: Final = {"payload_size": "ifNull(length(request_json), 0) + ifNull(length(response_json), 0)"}


def payload_page(
    run: Callable[[Query], Sequence[Row]], dialect: SqlDialect, filters: Filters | None, limit: int, cursor: str | None
) -> tuple[Sequence[Row], str | None]:
    """The rows of a page and the cursor of the next one; ``run`` gives the rows of a query."""
    keys = run(listing(dialect, filters, limit, cursor, keys=_KEY))
    if not keys:
        return [], None
    page_filters = _from(filters, keys[-1][0])
    sized = run(listing(replace(dialect, columns=_SIZE), page_filters, limit, cursor, keys=(*_KEY, "payload_size")))
    count = _fitting([row[2] for row in sized], limit)
    if not count:  # all of them have been deleted meanwhile
        return [], encode_cursor(*keys[-1])
    last = sized[count - 1]
    rows = run(listing(dialect, _from(filters, last[0]), count, cursor, keys=KEYS))
    if len(rows) > count:  # records of the same time have arrived, or follow
        return rows[:count], encode_cursor(*_key(rows[count - 1]))
    return rows, encode_cursor(last[0], last[1]) if len(sized) > count or len(keys) > limit else None


def _from(filters: Filters | None, first: int) -> Filters:
    """``filters`` on what began at ``first`` or later."""
    filters_or_all = filters or Filters()
    return replace(filters_or_all, since=first if filters_or_all.since is None else max(filters_or_all.since, first))


def _fitting(sizes: Sequence[int], limit: int) -> int:
    """How many of the first rows fill a page."""
    total = 0
    for count, size in enumerate(sizes[:limit], 1):
        total += size
        if total >= payload_pages.PAGE_CHARACTERS:
            return count
    return min(len(sizes), limit)


def _key(row: Row) -> tuple[Any, str]:
    return row[KEYS.index("started_at")], row[KEYS.index("id")]
