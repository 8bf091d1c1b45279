"""The reading half of a backend that is asked in SQL: the same questions for each, whatever the database.

A backend that mixes this in says how a query is run, with which :class:`~llmspan.backends.query.SqlDialect`; it writes,
opens and closes by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from ..annotation import Annotation
from ..cost import PriceLimits
from ..query.statistics import Measures, group_key
from ..trace import KEYS, ProviderTrace
from . import query
from .annotation_rows import annotations_by_id, decode_annotation
from .base import NO_RECORDS, Filters, GroupBy, JsonPage, Page, PriceClass, StatsRow
from .bounded_classes import BoundedClass
from .detail_sums import detail_sums, detail_sums_of
from .json_lines import json_line
from .json_sql import JsonDialect
from .measures import measures, measures_row
from .payload_pages import Row, take_page
from .price_bounds import bounded_class, price_bounds
from .price_classes import ClassReading, price_classes
from .rows import as_page, decode

__all__ = ["QueryBuilder", "SQLQueryMixin"]

T = TypeVar("T")

QueryBuilder = Callable[[query.SqlDialect], query.Query]


class SQLQueryMixin:
    """The reading methods of :class:`~llmspan.backends.base.Backend`, over :meth:`_rows`."""

    knows_conditions: ClassVar[bool] = True
    #: keys by which :meth:`price_bounds` is fast; None if the store has no columns for that
    _price_keys: ClassVar[Container[str] | None] = None
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

    def get(self, record_id: str, /) -> ProviderTrace | None:
        """The record with this ``id``."""
        return self._first(lambda dialect: query.by_id(dialect, record_id))

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
        reading = ClassReading(group_by, limits)
        return [reading.price_class(row) for row in rows]

    def price_bounds(
        self, group_by: Sequence[GroupBy], filters: Filters | None, *, by_host: bool
    ) -> Sequence[BoundedClass] | None:
        """The classes of all calls that are meant; None where that is not faster than :meth:`price_classes`."""
        keys = [group_key(name).name for name in group_by]
        keys += [condition.key for condition in (filters or Filters()).all_conditions()]
        price_keys = self._price_keys
        if price_keys is None or not all(key in price_keys for key in keys):
            return None
        rows = self._rows(lambda dialect: price_bounds(dialect, group_by, filters, by_host=by_host))
        return [bounded_class(group_by, row) for row in rows]

    def price_classes_of(
        self, group_by: Sequence[GroupBy], filters: Filters | None, limits: PriceLimits, models: Sequence[str]
    ) -> Sequence[PriceClass]:
        """The classes of the calls of these models, and of those without price columns."""
        json = self._json
        if json is None:
            return []
        rows = self._rows(lambda dialect: price_classes(dialect, json, group_by, filters, limits, models))
        reading = ClassReading(group_by, limits)
        return [reading.price_class(row) for row in rows]

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

    def measures(
        self, group_by: Sequence[GroupBy], filters: Filters | None = None
    ) -> Mapping[tuple[str | None, ...], Measures]:
        """The measures of each group that has records, by the group's values."""
        rows = self._rows(lambda dialect: measures(dialect, group_by, filters))
        return dict(measures_row(group_by, row) for row in rows)

    def stats_with_measures(self, group_by: Sequence[GroupBy], filters: Filters | None = None) -> Sequence[StatsRow]:
        """The rows of :meth:`stats`, each with its measures, in one scan."""
        rows = self._rows(lambda dialect: measures(dialect, group_by, filters, with_stats=True))
        found = [replace(query.stats_row(group_by, row), measures=measures_row(group_by, row)[1]) for row in rows]
        return found if found or group_by else [NO_RECORDS]

    def annotations(self, record_ids: Sequence[str], trace_ids: Sequence[str], limit: int) -> Sequence[Annotation]:
        """At most ``limit`` annotations of these records and these traces, the oldest first."""
        rows = self._rows(lambda dialect: annotations_by_id(dialect, record_ids, trace_ids, limit))
        return [decode_annotation(row) for row in rows]

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
