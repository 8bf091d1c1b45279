"""The reading half of a backend that is asked in SQL: the same questions for each, whatever the database.

A backend that mixes this in says how a query is run and with which :class:`~llmspan.backends.query.Dialect`; it writes,
opens and closes by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..trace import ProviderTrace
from . import query
from .base import NO_RECORDS, Filters, GroupBy, Page, StatsRow
from .rows import as_page, decode

__all__ = ["Ask", "SQLReads"]

Ask = Callable[[query.Dialect], query.Query]


class SQLReads:
    """The reading methods of :class:`~llmspan.backends.base.Backend`, over :meth:`_rows`."""

    def _rows(self, ask: Ask) -> Sequence[Mapping[str, Any]]:
        """The rows that the database gives for ``ask`` in its dialect, by column name."""
        raise NotImplementedError

    def get(self, trace_id: str, /) -> ProviderTrace | None:
        """The record with this ``id``."""
        return self._first(lambda dialect: query.by_id(dialect, trace_id))

    def get_by_step_id(self, step_id: str) -> ProviderTrace | None:
        """The newest record of a step."""
        return self._first(lambda dialect: query.by_step(dialect, step_id, newest=True))

    def list_by_step_id(self, step_id: str) -> Sequence[ProviderTrace]:
        """All records of a step, oldest first, with payloads."""
        return self._traces(lambda dialect: query.by_step(dialect, step_id, newest=False))

    def list(self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None) -> Page:
        """A page of records, newest first, without payloads."""
        return as_page(self._traces(lambda dialect: query.listing(dialect, filters, limit, cursor)), limit)

    def ids_with_prefix(self, prefix: str, limit: int) -> Sequence[str]:
        """At most ``limit`` ids that begin with ``prefix``, in their order."""
        return [str(row["id"]) for row in self._rows(lambda dialect: query.ids_with_prefix(dialect, prefix, limit))]

    def stats(self, group_by: Sequence[GroupBy], filters: Filters | None = None) -> Sequence[StatsRow]:
        """Sums per group, in the order of the group's values."""
        rows = self._rows(lambda dialect: query.stats(dialect, group_by, filters))
        return [query.stats_row(group_by, row) for row in rows] if rows or group_by else [NO_RECORDS]

    def _traces(self, ask: Ask) -> Sequence[ProviderTrace]:
        return [decode(row) for row in self._rows(ask)]

    def _first(self, ask: Ask) -> ProviderTrace | None:
        return next(iter(self._traces(ask)), None)
