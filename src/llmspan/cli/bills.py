"""What groups of calls cost, in exact sums: from classes of the same price where the backend can, else call by call.

Within a class, a price is a constant for each call and a rate for each count. Both are found by pricing examples with
:func:`llmspan.cost.cost_of`, which alone knows prices; a class that turns out not to be so is priced call by call.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..cost import EXACT, PRICED_COUNTS, PriceLimits, cost_of, limits_of, price_limits

if TYPE_CHECKING:
    from ..backends.base import Filters, GroupBy, PriceClass
    from ..reader import Reader
    from ..trace import ProviderTrace

__all__ = ["Bill", "Group", "bills", "group_of"]

Group = tuple[str | None, ...]

#: what may be added to each count of an example at once
_STEPS: Final = dict.fromkeys(PRICED_COUNTS, 1) | {"input_tokens": 5, "output_tokens": 2, "cache_write_tokens": 2}


@dataclass(slots=True)
class Bill:
    """The price of a group of calls, and why some have none."""

    amount: Decimal = Decimal(0)
    priced: int = 0
    unpriced: Counter[str] = field(default_factory=Counter[str])

    def add(self, amount: Decimal | None, reason: str, calls: int = 1) -> None:
        """Add calls that cost ``amount`` together, or have no price for a reason."""
        if amount is None:
            self.unpriced[reason] += calls
            return
        with localcontext(EXACT):
            self.amount += amount
        self.priced += calls


class _NotLinearError(Exception):
    """The price of a class is not linear in its counts."""


class _Rates(NamedTuple):
    """The price of a class: a constant for each call and a rate for each count, or the reason why there is none."""

    constant: Decimal | None
    rates: Mapping[str, Decimal]
    reason: str


def bills(reader: Reader, names: Sequence[GroupBy], filters: Filters) -> dict[Group, Bill]:
    """The bill of each group of the calls that are meant."""
    limits = price_limits()
    classes = None if limits is None else reader.price_classes(names, filters, limits)
    if limits is not None and classes is not None:
        try:
            return _by_class(classes, limits)
        except _NotLinearError:
            pass
    found: defaultdict[Group, Bill] = defaultdict(Bill)
    for trace in reader.iterate(filters):
        found[group_of(trace, names)].add(*cost_of(trace))
    return found


def group_of(trace: ProviderTrace, names: Sequence[GroupBy]) -> Group:
    """The group of a call."""
    model = trace.request_model if trace.response_model is None else trace.response_model
    special = {"model": model, "day": f"{trace.started:%Y-%m-%d}"}
    return tuple(special[name] if name in special else getattr(trace, name) for name in names)


def _by_class(classes: Sequence[PriceClass], limits: PriceLimits) -> dict[Group, Bill]:
    found: defaultdict[Group, Bill] = defaultdict(Bill)
    own_limits: dict[tuple[str, str | None], PriceLimits] = {}
    known: dict[tuple[Any, ...], _Rates] = {}
    for one in classes:
        bill = found[tuple(one.group.values())]
        if one.sums is None:
            amount, reason = cost_of(one.example)
            bill.add(None if amount is None else EXACT.multiply(amount, one.calls), reason, one.calls)
            continue
        model = (one.example.provider, one.example.response_model)
        if model not in own_limits:
            own_limits[model] = limits_of(one.example) or limits
        # most classes are on another side of the limits of other models only
        key = (*one.key, *own_limits[model].sides(one.example))
        if key not in known:
            known[key] = _rates(one.example)
        bill.add(_amount(known[key], one), known[key].reason, one.calls)
    return found


def _amount(price: _Rates, one: PriceClass) -> Decimal | None:
    if price.constant is None or one.sums is None:
        return None
    with localcontext(EXACT):
        return price.constant * one.calls + sum(rate * one.sums[name] for name, rate in price.rates.items())


def _rates(example: ProviderTrace) -> _Rates:
    """The price of the example's class.

    Raises:
        _NotLinearError: the price of an example with more of some counts is not what the rates say.
    """
    base, reason = cost_of(example)
    if base is None:
        return _Rates(None, {}, reason)
    counts = {name: count for name in PRICED_COUNTS if (count := _count(example, name))}
    with localcontext(EXACT):
        rates = {name: _known(_with_more(example, {name: 1})) - base for name in counts}
        expected = base + sum(rate * _STEPS[name] for name, rate in rates.items())
        if _known(_with_more(example, {name: _STEPS[name] for name in counts})) != expected:
            raise _NotLinearError
        return _Rates(base - sum(rate * counts[name] for name, rate in rates.items()), rates, "")


def _known(trace: ProviderTrace) -> Decimal:
    amount, _ = cost_of(trace)
    if amount is None:
        raise _NotLinearError
    return amount


def _count(trace: ProviderTrace, name: str) -> int | None:
    return getattr(trace.usage, name) if hasattr(trace.usage, name) else trace.usage.details.get(name)


def _with_more(trace: ProviderTrace, more: Mapping[str, int]) -> ProviderTrace:
    """``trace`` with ``more`` of some counts."""
    raised = {name: (_count(trace, name) or 0) + number for name, number in more.items()}
    columns = {name: count for name, count in raised.items() if hasattr(trace.usage, name)}
    details = {name: count for name, count in raised.items() if name not in columns}
    return replace(trace, usage=replace(trace.usage, **columns, details={**trace.usage.details, **details}))
