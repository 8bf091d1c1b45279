"""What groups of calls cost, in exact sums: from classes of the same price where the backend can, else call by call.

Within a class, a price is a constant for each call and a rate for each count. Both are found by pricing examples with
:func:`llmspan.cost.cost_of`, which alone knows prices; a class that turns out not to be so is priced call by call.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .cost import EXACT, PRICED_COUNTS, Cost, PriceLimits, cost_of, limits_of, plain_amount, price_limits
from .own_prices import OwnPrices
from .query.statistics import check_groups, groups_of

if TYPE_CHECKING:
    from .backends.base import Filters, GroupBy, PriceClass
    from .backends.bounded_classes import BoundedClass
    from .query.tree import Tree
    from .reader import Reader
    from .trace import ProviderTrace

__all__ = ["Bill", "Group", "bills", "tree_bills", "tree_json"]

Group = tuple[str | None, ...]

#: what may be added to each count of an example at once
_STEPS: Final = dict.fromkeys(PRICED_COUNTS, 1) | {
    "input_tokens": 7, "output_tokens": 2, "cache_write_tokens": 2,
}  # fmt: skip


#: counts that may be zero in a call of a class, with those that are then zero, too; of the input so are all
_ZEROS: Final[Mapping[str, Sequence[str]]] = {
    "output_tokens": ("output_tokens",),
    "cache_read_tokens": ("cache_read_tokens",),
    "cache_write_tokens": ("cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
    "cache_write_5m_tokens": ("cache_write_5m_tokens",),
    "cache_write_1h_tokens": ("cache_write_1h_tokens",),
    "input_tokens": (
        "input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
    ),
}  # fmt: skip
#: their parts that are the same in all calls of a class
_FIXED_PARTS: Final[Mapping[str, Sequence[str]]] = {
    "output_tokens": ("audio_output_tokens", "image_output_tokens"),
    "cache_read_tokens": ("cache_read_audio_tokens",),
    "cache_write_tokens": (),
    "cache_write_5m_tokens": (),
    "cache_write_1h_tokens": (),
    "input_tokens": ("audio_input_tokens", "image_input_tokens", "video_input_tokens"),
}


#: the counts that are parts of another one
_PARTS: Final[Mapping[str, Sequence[str]]] = {
    "input_tokens": (
        "cache_read_tokens", "cache_write_tokens", "audio_input_tokens", "image_input_tokens", "video_input_tokens",
    ),
    "output_tokens": ("audio_output_tokens", "image_output_tokens"),
    "cache_write_tokens": ("cache_write_5m_tokens", "cache_write_1h_tokens"),
}  # fmt: skip


@dataclass(slots=True)
class Bill:
    """What a group of calls cost, by currency, and why some have no price."""

    amounts: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    #: calls that have a price
    priced: int = 0
    #: calls that have none, by the reason
    unpriced: Counter[str] = field(default_factory=Counter[str])

    def add(self, cost: Cost, calls: int = 1) -> None:
        """Add calls that cost ``cost`` together, or have no price for its reason."""
        if cost.amount is None or cost.currency is None:
            self.unpriced[cost.reason] += calls
            return
        with localcontext(EXACT):
            self.amounts[cost.currency] = self.amounts.get(cost.currency, Decimal(0)) + cost.amount
        self.priced += calls

    def add_bill(self, other: Bill) -> None:
        """Add the calls of another bill."""
        with localcontext(EXACT):
            for currency, amount in other.amounts.items():
                self.amounts[currency] = self.amounts.get(currency, Decimal(0)) + amount
        self.priced += other.priced
        self.unpriced += other.unpriced

    def to_dict(self) -> dict[str, Any]:
        """``cost``: the amounts by currency, as text; ``without_price``: the calls without a price, by the reason."""
        amounts = {currency: plain_amount(amount) for currency, amount in sorted(self.amounts.items())}
        return {"cost": amounts, "without_price": dict(self.unpriced)}


def tree_json(tree: Tree, cost_of: Callable[[ProviderTrace], Cost] | None) -> str:
    """The tree as one JSON object; with ``cost_of``, the sums of the tree and of each node have their cost."""
    if cost_of is None:
        return tree.to_json()
    bills_of_nodes = tree_bills(tree, cost_of)
    total = Bill()
    for root in tree.roots:
        total.add_bill(bills_of_nodes[root.index])
    return tree.to_json([total.to_dict(), *(bill.to_dict() for bill in bills_of_nodes)])


def tree_bills(tree: Tree, cost_of: Callable[[ProviderTrace], Cost]) -> list[Bill]:
    """What the calls at and below each node of a tree cost together, in the order of its nodes; each call once."""
    bills_of_nodes = [Bill() for _ in tree.nodes]
    for node in reversed(tree.nodes):  # a parent stands before its children
        if node.record is not None:
            bills_of_nodes[node.index].add(cost_of(node.record))
        if node.parent is not None:
            bills_of_nodes[node.parent].add_bill(bills_of_nodes[node.index])
    return bills_of_nodes


class _NotLinearError(Exception):
    """The price of a class is not linear in its counts."""


class _Rates(NamedTuple):
    """The price of a class: a constant for each call and a rate for each count; ``cost`` is that of its example."""

    cost: Cost
    constant: Decimal
    rates: Mapping[str, Decimal]


def bills(
    reader: Reader, names: Sequence[GroupBy], filters: Filters | None = None, own: OwnPrices | None = None
) -> dict[Group, Bill]:
    """The bill of each group of the calls that are meant, at ``own`` prices first (by default the reader's)."""
    own = reader.own_prices if own is None else own
    classes = reader.price_bounds(names, filters, by_host=own.name_hosts)  # before the prices are loaded, which is slow
    limits = price_limits(own)
    if limits is not None:
        try:
            if classes is not None:
                return _by_bounds(reader, names, filters, limits, own, classes)
            if (finest := reader.price_classes(names, filters, limits)) is not None:
                return _by_class(finest, limits, own)
        except _NotLinearError:
            pass
    check_groups(names)
    by_group: defaultdict[Group, Bill] = defaultdict(Bill)
    for record in reader.iterate(filters):
        cost = cost_of(record, own)
        for group in groups_of(record, names):
            by_group[group].add(cost)
    return by_group


def _by_bounds(
    reader: Reader, names: Sequence[GroupBy], filters: Filters | None, limits: PriceLimits, own: OwnPrices,
    classes: Sequence[BoundedClass],
) -> dict[Group, Bill]:  # fmt: skip
    """The bills by large classes; those of models with a limit within the bounds of a class by finer ones."""
    known_rates: dict[tuple[Any, ...], _Rates | None] = {}
    model_limits: dict[tuple[str, str], PriceLimits | None] = {}
    priced = [(one, _bounded_rates(one, own, known_rates, model_limits)) for one in classes]
    unsure = sorted({one.model for one, rates in priced if rates is None and one.key})
    by_group: defaultdict[Group, Bill] = defaultdict(Bill)
    for one, rates in priced:
        if rates is not None and one.model not in unsure:
            by_group[tuple(one.group.values())].add(_class_cost(rates, one.calls, one.sums), one.calls)
    if any(rates is None for _, rates in priced):
        finer = reader.price_classes_of(names, filters, limits, unsure)
        for group, bill in _by_class(finer, limits, own).items():
            by_group[group].add_bill(bill)
    return by_group


def _bounded_rates(
    one: BoundedClass,
    own: OwnPrices,
    known_rates: dict[tuple[Any, ...], _Rates | None],
    model_limits: dict[tuple[str, str], PriceLimits | None],
) -> _Rates | None:
    """The price of a class; None if its calls may have several."""
    if one.example is None:
        return None
    model = (one.example.provider, one.model)
    if model not in model_limits:
        model_limits[model] = limits_of(one.example, own)
    limits = model_limits[model]
    if limits is None or limits.daytimes:
        return None
    sides = limits.sides(one.example)
    example, (first, last) = one.example, one.times
    bounds = ((one.least_input, first), ((example.usage.input_tokens or 0) + _STEPS["input_tokens"], last))
    if any(limits.sides(_moved(example, tokens, start)) != sides for tokens, start in bounds):
        return None
    key = (*one.key, *sides)
    if key not in known_rates:
        known_rates[key] = _rates_from_zero(one.example, own)
    return known_rates[key]


def _moved(example: ProviderTrace, input_tokens: int, started_at: int) -> ProviderTrace:
    return replace(example, usage=replace(example.usage, input_tokens=input_tokens), started_at=started_at)


def _rates_from_zero(example: ProviderTrace, own: OwnPrices) -> _Rates | None:
    """The price of a class in which each count may be zero; None if it is another one then."""
    counts = {name: count for name in PRICED_COUNTS if (count := _count(example, name))}
    # a total cannot be zero where the class has a part of it
    zeros = [names for total, names in _ZEROS.items() if not any(counts.get(part) for part in _FIXED_PARTS[total])]
    try:
        price = _rates(example, own)
    except _NotLinearError:
        return None
    for names in [*zeros, [name for together in zeros for name in together]]:
        cost = cost_of(_with_more(example, {name: -counts[name] for name in names if name in counts}), own)
        expected = _class_cost(price, 1, {name: 0 if name in names else count for name, count in counts.items()})
        if (cost.amount, cost.currency, cost.reason) != (expected.amount, expected.currency, expected.reason):
            return None
    return price


def _by_class(classes: Sequence[PriceClass], limits: PriceLimits, own: OwnPrices) -> dict[Group, Bill]:
    by_group: defaultdict[Group, Bill] = defaultdict(Bill)
    model_limits: dict[tuple[str, str | None], PriceLimits] = {}
    known_rates: dict[tuple[Any, ...], _Rates] = {}
    for price_class in classes:
        bill = by_group[tuple(price_class.group.values())]
        if price_class.sums is None:
            cost = cost_of(price_class.example, own)
            amount = None if cost.amount is None else EXACT.multiply(cost.amount, price_class.calls)
            bill.add(replace(cost, amount=amount), price_class.calls)
            continue
        model = (price_class.example.provider, price_class.example.response_model)
        if model not in model_limits:
            model_limits[model] = limits_of(price_class.example, own) or limits
        # most classes are on another side of the limits of other models only
        key = (*price_class.key, *model_limits[model].sides(price_class.example))
        if key not in known_rates:
            known_rates[key] = _rates(price_class.example, own)
        bill.add(_class_cost(known_rates[key], price_class.calls, price_class.sums), price_class.calls)
    return by_group


def _class_cost(price: _Rates, calls: int, sums: Mapping[str, int]) -> Cost:
    if price.cost.amount is None:
        return price.cost
    with localcontext(EXACT):
        amount = price.constant * calls + sum(rate * sums[name] for name, rate in price.rates.items())
    return replace(price.cost, amount=amount)


def _rates(example: ProviderTrace, own: OwnPrices) -> _Rates:
    """The price of the example's class.

    Raises:
        _NotLinearError: the price of an example with more of some counts is not what the rates say.
    """
    cost = cost_of(example, own)
    base = cost.amount
    if base is None:
        if any(cost_of(other, own).reason != cost.reason for other in _without_rest(example)):
            raise _NotLinearError
        return _Rates(cost, Decimal(0), {})
    counts = {name: count for name in PRICED_COUNTS if (count := _count(example, name))}
    with localcontext(EXACT):
        rates = {name: _amount_of(_with_more(example, {name: 1}), cost, own) - base for name in counts}
        expected = base + sum(rate * _STEPS[name] for name, rate in rates.items())
        if _amount_of(_with_more(example, {name: _STEPS[name] for name in counts}), cost, own) != expected:
            raise _NotLinearError
        return _Rates(cost, base - sum(rate * counts[name] for name, rate in rates.items()), rates)


def _without_rest(example: ProviderTrace) -> Iterator[ProviderTrace]:
    """Calls of the class, of the same size, with nothing beyond the parts: an own price may be one for parts only."""
    for total, parts in _PARTS.items():
        rest = (_count(example, total) or 0) - sum(_count(example, part) or 0 for part in parts)
        if rest > 0:
            yield from (_with_more(example, {part: rest}) for part in parts if _count(example, part))


def _amount_of(record: ProviderTrace, like: Cost, own: OwnPrices) -> Decimal:
    """The amount of a call that must have the same price as another."""
    cost = cost_of(record, own)
    if cost.amount is None or cost.currency != like.currency:
        raise _NotLinearError
    return cost.amount


def _count(record: ProviderTrace, name: str) -> int | None:
    return getattr(record.usage, name) if hasattr(record.usage, name) else record.usage.details.get(name)


def _with_more(record: ProviderTrace, added: Mapping[str, int]) -> ProviderTrace:
    """``record`` with ``added`` counts."""
    raised = {name: (_count(record, name) or 0) + number for name, number in added.items()}
    columns = {name: count for name, count in raised.items() if hasattr(record.usage, name)}
    details = {name: count for name, count in raised.items() if name not in columns}
    return replace(record, usage=replace(record.usage, **columns, details={**record.usage.details, **details}))
