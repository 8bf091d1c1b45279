"""Which calls a page is about: the filter line ``q``, and the ``group`` that a row of sums stands for.

Both are in the query language. They are read apart, and both must hold: in one text, two terms of a key would be a
choice, so that the group ``model:a`` of the filter ``model:a,b`` would list the calls of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from starlette.requests import Request

from ..backends.base import Filters, OneOf
from ..query.keys import TEXT
from .rendering import query_string

__all__ = ["bounded_query", "everything_query", "filters_of", "narrower", "with_group"]

#: how far back free text is looked for, unless the filter says
TEXT_SINCE: Final = "since:7d"
#: longer than any store has been there
EVERYTHING: Final = "since:5200w"
#: filters that leave few calls, whose payloads are read soon
_NARROW: Final = ("id", "trace_id", "run_id", "step_id", "conversation_id")


def filters_of(request: Request, query: str | None = None) -> Filters:
    """The filters that the address asks for; ``query`` stands for its filter line.

    Raises:
        QueryError: a part of it cannot be read.
    """
    filters = Filters.parse(request.query_params.get("q", "") if query is None else query)
    return with_group(filters, request.query_params.get("group", ""))


def bounded_query(request: Request) -> str:
    """The filter line, with a time if it would search the payloads of all calls for free text.

    Raises:
        QueryError: it cannot be read.
    """
    query = request.query_params.get("q", "").strip()
    filters = with_group(Filters.parse(query), request.query_params.get("group", ""))
    searches = any(condition.key == TEXT.name for condition in filters.all_conditions())
    is_narrow = filters.since is not None or any(isinstance(getattr(filters, name), str | OneOf) for name in _NARROW)
    return f"{query} {TEXT_SINCE}" if searches and not is_narrow else query


def everything_query(request: Request, query: str) -> str | None:
    """The filter line that searches all calls, if ``query`` has a time that :func:`bounded_query` gave it."""
    asked_query = request.query_params.get("q", "").strip()
    return None if query == asked_query else f"{asked_query} {EVERYTHING}"


def narrower(request: Request) -> Sequence[tuple[str, str]]:
    """Names and addresses of the same page for less time, if the filter has no time yet."""
    query = bounded_query(request)
    if Filters.parse(query.removesuffix(f" {TEXT_SINCE}")).since is not None:
        return []
    query = query.removesuffix(TEXT_SINCE).strip()
    parameters = {name: value for name, value in request.query_params.items() if name not in ("q", "cursor")}
    spans = (("the last hour", "1h"), ("the last day", "24h"), ("the last week", "7d"))
    path = request.url.path
    return [(name, path + query_string(**parameters, q=f"{query} since:{span}".strip())) for name, span in spans]


def with_group(filters: Filters, group: str) -> Filters:
    """``filters``, narrowed to what the text ``group`` means."""
    if not group:
        return filters
    return replace(filters, conditions=(*filters.conditions, *Filters.parse(group).all_conditions()))
