"""The reading half of a backend that is asked in SQL: the same questions for each, whatever the database.

A backend that mixes this in says how a query is run, with which :class:`~llmspan.backends.query.SqlDialect`; it writes,
opens and closes by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from ..cost import PriceLimits
from ..trace import KEYS, ProviderTrace
from . import query
from .base import NO_RECORDS, Filters, GroupBy, JsonPage, Page, PriceClass, StatsRow
from .detail_sums import detail_sums, detail_sums_of
from .json_lines import json_line
from .json_sql import JsonDialect
from .payload_pages import Row, take_page
from .price_classes import price_class, price_classes
from .rows import as_page, decode

__all__ = ["QueryBuilder", "SQLQueryMixin"]

T = TypeVar("T")

QueryBuilder = Callable[[query.SqlDialect], query.Query]


class SQLQueryMixin:
    """The reading methods of :class:`~llmspan.backends.base.Backend`, over :meth:`_rows`."""

    #: how the database reads JSON, if sums of what is in JSON are made in it
    _json: ClassVar[JsonDialect | None] = None

    def _rows(self, ask: QueryBuilder) -> Sequence[Mapping[str, Any]]:
        """The rows that the database gives for ``ask`` in its dialect, by column name."""
        raise NotImplementedError

    def _consume(self, ask: QueryBuilder, consume_rows: Callable[[Iterable[Row]], T]) -> T:
        """What ``consume_rows`` makes of the rows of ``ask``, whose columns are those of a record in their order.

        It may leave the last ones unread: a driver that gives them one by one has not fetched them then.
        """
        return consume_rows(list(row.values()) for row in self._rows(ask))

    def get(self, trace_id: str, /) -> ProviderTrace | None:
        """The record with this ``id``."""
        return self._first(lambda dialect: query.by_id(dialect, trace_id))

    def get_by_step_id(self, step_id: str) -> ProviderTrace | None:
        """The newest record of a step."""
        return self._first(lambda dialect: query.by_step(dialect, step_id, newest=True))

    def list_by_step_id(self, step_id: str) -> Sequence[ProviderTrace]:
        """All records of a step, oldest first, with payloads."""
        return self._traces(lambda dialect: query.by_step(dialect, step_id, newest=False))

    def list(
        self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None, payload: bool = False
    ) -> Page:
        """A page of records, newest first; with their payloads only if ``payload``."""
        if payload:
            rows, next_cursor = self._payload_page(filters, limit, cursor)
            return Page([decode(dict(zip(KEYS, row, strict=True))) for row in rows], next_cursor)
        return as_page(self._traces(lambda dialect: query.listing(dialect, filters, limit, cursor)), limit)

    def list_json(self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None) -> JsonPage:
        """The page that ``list`` gives with payloads, as JSON."""
        rows, next_cursor = self._payload_page(filters, limit, cursor)
        return JsonPage([json_line(row) for row in rows], next_cursor)

    def ids_with_prefix(self, prefix: str, limit: int) -> Sequence[str]:
        """At most ``limit`` ids that begin with ``prefix``, in their order."""
        return [str(row["id"]) for row in self._rows(lambda dialect: query.ids_with_prefix(dialect, prefix, limit))]

    def price_classes(
        self, group_by: Sequence[GroupBy], filters: Filters | None, limits: PriceLimits
    ) -> Sequence[PriceClass] | None:
        """The classes of all calls that are meant; None without :attr:`_json`."""
        json = self._json
        if json is None:
            return None
        rows = self._rows(lambda dialect: price_classes(dialect, json, group_by, filters, limits))
        return [price_class(group_by, limits, row) for row in rows]

    def detail_sums(
        self, group_by: Sequence[GroupBy], filters: Filters | None, names: Sequence[str]
    ) -> Mapping[tuple[str | None, ...], Mapping[str, int]] | None:
        """Sums of ``usage_details`` over the calls without usage, by group; None without :attr:`_json`."""
        json = self._json
        if json is None:
            return None
        rows = self._rows(lambda dialect: detail_sums(dialect, json, group_by, filters, names))
        return detail_sums_of(group_by, names, rows)

    def count(self, filters: Filters | None = None) -> int:
        """How many records are meant."""
        return sum(int(row["records"]) for row in self._rows(lambda dialect: query.count(dialect, filters)))

    def stats(self, group_by: Sequence[GroupBy], filters: Filters | None = None) -> Sequence[StatsRow]:
        """Sums per group, in the order of the group's values."""
        rows = self._rows(lambda dialect: query.stats(dialect, group_by, filters))
        return [query.stats_row(group_by, row) for row in rows] if rows or group_by else [NO_RECORDS]

    def _payload_page(
        self, filters: Filters | None, limit: int, cursor: str | None
    ) -> tuple[Sequence[Row], str | None]:
        """The rows of a page, and the cursor of the next one."""
        return self._consume(
            lambda dialect: query.listing(dialect, filters, limit, cursor, keys=KEYS),
            lambda rows: take_page(rows, limit),
        )

    def _traces(self, ask: QueryBuilder) -> Sequence[ProviderTrace]:
        return [decode(row) for row in self._rows(ask)]

    def _first(self, ask: QueryBuilder) -> ProviderTrace | None:
        return next(iter(self._traces(ask)), None)
