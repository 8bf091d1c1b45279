"""``llmspan stats``: calls and tokens in sums, by whatever the backend can group by; with prices if asked.

A sum is over the calls that report the number; where none does it is ``-``, never 0. Prices are looked up call by
call, and how many calls have none is told.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import SettingsError
from ..estimate import ESTIMATED_INPUT, ESTIMATED_OUTPUT
from . import options
from .output import echo

if TYPE_CHECKING:
    from ..backends.base import GroupBy, StatsRow
    from ..trace import ProviderTrace

__all__ = ["Bill", "stats"]

_SUMS: Final = {
    "calls": "calls",
    "failures": "failures",
    "input": "input_tokens",
    "cached": "cache_read_tokens",
    "written": "cache_write_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
}


_ESTIMATES: Final = {ESTIMATED_INPUT: "input_tokens", ESTIMATED_OUTPUT: "output_tokens"}


@dataclass(slots=True)
class Bill:
    """The price of a group of calls, and why some have none."""

    amount: Decimal = Decimal(0)
    priced: int = 0
    unpriced: Counter[str] = field(default_factory=Counter[str])

    def add(self, trace: ProviderTrace) -> None:
        """Add one call."""
        from ..cost import cost_of

        amount, reason = cost_of(trace)
        if amount is None:
            self.unpriced[reason] += 1
        else:
            self.amount += amount
            self.priced += 1


Group = tuple[str | None, ...]


@click.command()
@click.option(
    "--by", default="model", show_default=True, metavar="NAMES", help="Comma list: model, day, provider, status, ..."
)
@click.option("--cost", is_flag=True, help='Add US dollars; needs `pip install "llmspan[cost]"`.')
@click.option("--with-estimates", is_flag=True, help="Add llmspan's estimates where providers reported nothing.")
@options.record_filters
@options.as_json
@options.store
def stats(
    *,
    by: str,
    cost: bool,
    with_estimates: bool,
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    as_json: bool,
    backend: str | None,
    db: str | None,
) -> None:
    """Sum up calls and tokens."""
    from ..backends.base import check_groups

    names: Any = [name.strip() for name in by.split(",") if name.strip()]
    check_groups(names)
    chosen = options.filters(since, until, where)
    if cost:
        _need_prices()
    with options.open_reader(backend, db) as reader:
        rows = reader.stats(names, chosen)
        bills = _bills(reader.iterate(chosen), names) if cost else None
        if with_estimates:
            rows = add_estimates(rows, reader.iterate(chosen), names)
        if not any(row.calls for row in rows):
            echo(options.nothing(reader, chosen=bool(where or since or until)), err=True)
    if as_json:
        for row in rows:
            echo(json.dumps(_plain(row, bills)))
        return
    _print(names, rows, bills)


def _need_prices() -> None:
    from ..cost import available

    if not available():
        raise SettingsError('--cost needs the prices of genai-prices; pip install "llmspan[cost]"')


def _bills(traces: Iterable[ProviderTrace], names: Sequence[GroupBy]) -> dict[Group, Bill]:
    bills: defaultdict[Group, Bill] = defaultdict(Bill)
    for trace in traces:
        bills[_group(trace, names)].add(trace)
    return bills


def add_estimates(
    rows: Sequence[StatsRow], traces: Iterable[ProviderTrace], names: Sequence[GroupBy]
) -> list[StatsRow]:
    """``rows`` with the estimates of their calls in the sums of input and output, and in ``details`` by their names."""
    sums: defaultdict[Group, Counter[str]] = defaultdict(Counter)
    for trace in traces:
        if trace.usage.source == "none":
            sums[_group(trace, names)].update(
                {n: trace.usage.details[n] for n in _ESTIMATES if n in trace.usage.details}
            )
    return [_with_estimates(row, sums[tuple(row.group.values())]) for row in rows]


def _with_estimates(row: StatsRow, sums: Counter[str]) -> StatsRow:
    changes = {column: (getattr(row, column) or 0) + sums[name] for name, column in _ESTIMATES.items() if name in sums}
    return replace(row, **changes, details={**row.details, **sums})


def _group(trace: ProviderTrace, names: Sequence[GroupBy]) -> Group:
    special = {"model": trace.response_model or trace.request_model, "day": f"{trace.started:%Y-%m-%d}"}
    return tuple(special[name] if name in special else getattr(trace, name) for name in names)


def _plain(row: StatsRow, bills: dict[Group, Bill] | None) -> dict[str, Any]:
    values = {**row.group, **{key: value for key, value in asdict(row).items() if key not in ("group", "details")}}
    values |= {name: row.details[name] for name in _ESTIMATES if name in row.details}
    if bills is not None:
        bill = _bill(bills, row)
        values |= {"cost_usd": str(bill.amount) if bill.priced else None, "without_price": bill.unpriced}
    return values


def _bill(bills: dict[Group, Bill], row: StatsRow) -> Bill:
    return bills.get(tuple(row.group.values()), Bill())


def _print(names: Sequence[str], rows: Sequence[StatsRow], bills: dict[Group, Bill] | None) -> None:
    from rich.table import Table

    from .render import TABLE_WIDTH, clean, count, terminal

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name)
    for name in (*_SUMS, *(["cost $"] if bills is not None else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [clean("-" if value is None else value) for value in row.group.values()]
        sums = [count(getattr(row, key)) for key in _SUMS.values()]
        table.add_row(*cells, *sums, *([_money(_bill(bills, row))] if bills is not None else []))
    console = terminal(TABLE_WIDTH)
    console.print(table)
    for note in _notes(rows, bills):
        console.print(clean(note, "dim"))


def _money(bill: Bill) -> str:
    return f"{bill.amount:.6f}" + ("+" if bill.unpriced else "") if bill.priced else "-"


def _notes(rows: Sequence[StatsRow], bills: dict[Group, Bill] | None) -> list[str]:
    without = sum(row.without_usage for row in rows)
    notes = [f"calls without usage, in no sum: {without}"] if without else []
    reasons: Counter[str] = Counter()
    for bill in (bills or {}).values():
        reasons.update(bill.unpriced)
    return [*notes, *(f"calls without a price, {reason}: {number}" for reason, number in sorted(reasons.items()))]
