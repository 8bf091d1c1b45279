"""``llmspan stats``: calls and tokens in sums, by whatever the backend can group by; with prices if asked.

A sum is over the calls that report the number; where none does it is ``-``, never 0. How many calls have no price is
told, and why.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import SettingsError
from ..estimate import ESTIMATED_INPUT, ESTIMATED_OUTPUT
from . import options
from .bills import Bill, Group, bills, group_of
from .output import echo

if TYPE_CHECKING:
    from decimal import Decimal

    from ..backends.base import Filters, GroupBy, StatsRow
    from ..reader import Reader
    from ..trace import ProviderTrace

__all__ = ["stats"]

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
        priced = bills(reader, names, chosen) if cost else None
        if with_estimates:
            rows = add_estimates(rows, reader, names, chosen)
        if not any(row.calls for row in rows):
            echo(options.nothing(reader, chosen=bool(where or since or until)), err=True)
    if as_json:
        for row in rows:
            echo(json.dumps(_plain(row, priced)))
        return
    _print(names, rows, priced)


def _need_prices() -> None:
    from ..cost import available

    if not available():
        raise SettingsError('--cost needs the prices of genai-prices; pip install "llmspan[cost]"')


def add_estimates(
    rows: Sequence[StatsRow], reader: Reader, names: Sequence[GroupBy], filters: Filters
) -> list[StatsRow]:
    """``rows`` with the estimates of their calls in the sums of input and output, and in ``details`` by their names."""
    sums = reader.detail_sums(names, filters, list(_ESTIMATES))
    if sums is None:
        sums = _read_estimates(reader.iterate(filters), names)
    return [_with_estimates(row, sums.get(tuple(row.group.values()), {})) for row in rows]


def _read_estimates(traces: Iterable[ProviderTrace], names: Sequence[GroupBy]) -> Mapping[Group, Mapping[str, int]]:
    sums: defaultdict[Group, Counter[str]] = defaultdict(Counter)
    for trace in traces:
        if trace.usage.source == "none":
            details = trace.usage.details
            sums[group_of(trace, names)].update({name: details[name] for name in _ESTIMATES if name in details})
    return sums


def _with_estimates(row: StatsRow, sums: Mapping[str, int]) -> StatsRow:
    changes = {column: (getattr(row, column) or 0) + sums[name] for name, column in _ESTIMATES.items() if name in sums}
    return replace(row, **changes, details={**row.details, **sums})


def _plain(row: StatsRow, priced: dict[Group, Bill] | None) -> dict[str, Any]:
    values = {**row.group, **{key: value for key, value in asdict(row).items() if key not in ("group", "details")}}
    values |= {name: row.details[name] for name in _ESTIMATES if name in row.details}
    if priced is not None:
        bill = _bill(priced, row)
        values |= {"cost_usd": _plain_amount(bill.amount) if bill.priced else None, "without_price": bill.unpriced}
    return values


def _plain_amount(amount: Decimal) -> str:
    """All digits, without an exponent and without zeros at the end: the same for the same sum, however it was made."""
    from ..cost import EXACT

    return f"{amount.normalize(EXACT):f}"


def _bill(priced: dict[Group, Bill], row: StatsRow) -> Bill:
    return priced.get(tuple(row.group.values()), Bill())


def _print(names: Sequence[str], rows: Sequence[StatsRow], priced: dict[Group, Bill] | None) -> None:
    from rich.table import Table

    from .render import TABLE_WIDTH, clean, count, terminal

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name)
    for name in (*_SUMS, *(["cost $"] if priced is not None else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [clean("-" if value is None else value) for value in row.group.values()]
        sums = [count(getattr(row, key)) for key in _SUMS.values()]
        table.add_row(*cells, *sums, *([_money(_bill(priced, row))] if priced is not None else []))
    console = terminal(TABLE_WIDTH)
    console.print(table)
    for note in _notes(rows, priced):
        console.print(clean(note, "dim"))


def _money(bill: Bill) -> str:
    return f"{bill.amount:.6f}" + ("+" if bill.unpriced else "") if bill.priced else "-"


def _notes(rows: Sequence[StatsRow], priced: dict[Group, Bill] | None) -> list[str]:
    without = sum(row.without_usage for row in rows)
    notes = [f"calls without usage, in no sum: {without}"] if without else []
    reasons: Counter[str] = Counter()
    for bill in (priced or {}).values():
        reasons.update(bill.unpriced)
    return [*notes, *(f"calls without a price, {reason}: {number}" for reason, number in sorted(reasons.items()))]
