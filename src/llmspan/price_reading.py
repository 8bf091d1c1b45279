"""Sums that prices are made of: what :class:`llmspan.Reader` asks its backend for, to say what groups of calls cost.

Each is None where the backend does not sum up that; the records are then read one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from .backends.base import Backend, Filters, GroupBy, PriceClass, SupportsUsageSums, check_filters
from .backends.bounded_classes import BoundedClass, SupportsPriceBounds
from .cost import PriceLimits

__all__ = ["PriceReading"]

T = TypeVar("T")


class PriceReading:
    """The methods of :class:`llmspan.Reader` that :func:`llmspan.bills.bills` is made of."""

    backend: Backend

    def _asked(self, ask: Callable[[], T], without_tables: T) -> T:
        raise NotImplementedError

    def price_classes(
        self, group_by: Sequence[GroupBy], filters: Filters | None, limits: PriceLimits
    ) -> Sequence[PriceClass] | None:
        """Calls summed up by what their price depends on; None if the backend does not do that."""
        backend = self.backend
        check_filters(backend, filters)
        if not isinstance(backend, SupportsUsageSums):
            return None
        return self._asked(lambda: backend.price_classes(group_by, filters, limits), [])

    def price_bounds(
        self, group_by: Sequence[GroupBy], filters: Filters | None, *, by_host: bool
    ) -> Sequence[BoundedClass] | None:
        """Calls in large classes, with their bounds; None if the backend does not do that for these groups."""
        backend = self.backend
        check_filters(backend, filters)
        if not isinstance(backend, SupportsPriceBounds):
            return None
        return self._asked(lambda: backend.price_bounds(group_by, filters, by_host=by_host), [])

    def price_classes_of(
        self, group_by: Sequence[GroupBy], filters: Filters | None, limits: PriceLimits, models: Sequence[str]
    ) -> Sequence[PriceClass]:
        """The classes of some of the calls, of a backend that has told :meth:`price_bounds`."""
        backend = self.backend
        if not isinstance(backend, SupportsPriceBounds):
            return []
        return self._asked(lambda: backend.price_classes_of(group_by, filters, limits, models), [])

    def detail_sums(
        self, group_by: Sequence[GroupBy], filters: Filters | None, names: Sequence[str]
    ) -> Mapping[tuple[str | None, ...], Mapping[str, int]] | None:
        """Sums of ``usage_details`` over the calls without usage, by group; None if the backend does not do that."""
        backend = self.backend
        check_filters(backend, filters)
        if not isinstance(backend, SupportsUsageSums):
            return None
        return self._asked(lambda: backend.detail_sums(group_by, filters, names), {})
