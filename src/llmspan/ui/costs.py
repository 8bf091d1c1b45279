"""What calls cost, as the pages show it; a dash where the price is not known, or no prices are installed."""

from __future__ import annotations

from collections.abc import Iterable

from ..bills import Bill
from ..cost import Cost, available, cost_of
from ..trace import ProviderTrace
from .formats import money

__all__ = ["bill_text", "call_cost", "cost_text", "total_text"]


def call_cost(record: ProviderTrace) -> Cost | None:
    """The cost of a call; None if there are no prices at all."""
    return cost_of(record) if available() else None


def cost_text(record: ProviderTrace) -> str:
    """The cost of a call for a page."""
    cost = call_cost(record)
    return money(cost.amount, cost.currency) if cost is not None else money(None, None)


def total_text(records: Iterable[ProviderTrace]) -> str:
    """The cost of calls together, and how many of them have no known price."""
    bill = Bill()
    for record in records if available() else ():
        bill.add(cost_of(record))
    return bill_text(bill)


def bill_text(bill: Bill | None) -> str:
    """What a group cost, by currency, and how many of its calls have no known price."""
    if bill is None or not bill.amounts:
        return money(None, None)
    total = " + ".join(money(amount, currency) for currency, amount in bill.amounts.items())
    unpriced = bill.unpriced.total()
    return f"{total} and {unpriced:,} {'call' if unpriced == 1 else 'calls'} without a price" if unpriced else total
