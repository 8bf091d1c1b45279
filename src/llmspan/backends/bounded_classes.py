"""Calls of a group whose price may be one, and the bounds between which they are; and the backends that tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from ..cost import PriceLimits
from ..trace import ProviderTrace
from .base import Filters, GroupBy, PriceClass

__all__ = ["BoundedClass", "SupportsPriceBounds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedClass:
    """Calls of a group and a model, and of one class for all that a price depends on but the limits.

    Each count is reported by all of them or by none, and may be zero in some.
    """

    group: Mapping[str, str | None]
    calls: int
    #: the name by which it has its price
    model: str
    #: a call that might be one of them; None if they are not known to be one class
    example: ProviderTrace | None
    #: the sums of :data:`llmspan.cost.PRICED_COUNTS`
    sums: Mapping[str, int] = field(default_factory=dict[str, int])
    #: the first and the last start
    times: tuple[int, int] = (0, 0)
    #: the least input tokens; the example has at least the most
    least_input: int = 0
    #: classes with the same key differ in group, calls, sums and bounds only
    key: tuple[Any, ...] = ()


@runtime_checkable
class SupportsPriceBounds(Protocol):
    """A backend that sums up calls by what it has stored for that, without looking into JSON; no backend has to."""

    def price_bounds(
        self, group_by: Sequence[GroupBy], filters: Filters | None, *, by_host: bool
    ) -> Sequence[BoundedClass] | None:
        """The classes of all calls that are meant, in any order; None if that is not faster for these groups.

        ``by_host``: whether prices depend on the host.
        """
        ...

    def price_classes_of(
        self, group_by: Sequence[GroupBy], filters: Filters | None, limits: PriceLimits, models: Sequence[str]
    ) -> Sequence[PriceClass]:
        """The finer classes of the calls of these models, and of all calls for which nothing is stored."""
        ...
