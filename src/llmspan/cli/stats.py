"""``llmspan stats``: calls and tokens in sums, by whatever the backend can group by; with prices if asked.

A sum is over the calls that report the number; where none does it is ``-``, never 0. How many calls have no price is
told, and why. A terminal that is too narrow for all sums shows fewer, and no number is ever cut.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from ..bills import Bill, Group
from ..query.statistics import PERCENTS, PERIODS, Measures
from . import options
from .output import echo
from .sums import ESTIMATES, Extras, Sums, offset_of_periods, sums_of

if TYPE_CHECKING:
    from rich.text import Text

    from ..backends.base import StatsRow

__all__ = ["stats"]

#: the cells of the columns with numbers, by their heads
Columns = Callable[[Sequence["StatsRow"]], dict[str, list[str]]]

_SUMS: Final = {
    "calls": "calls",
    "failures": "failures",
    "input": "input_tokens",
    "cached": "cache_read_tokens",
    "written": "cache_write_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
}
_NESTED: Final = ("group", "details", "measures")
#: what a terminal without room for all of them does without, first the first
_OPTIONAL: Final = ("reasoning", "written", "cached", "retries", "ttfc99", "ttfc95", "cache %", "tok/s")
#: characters of a group's value that stay on one line, if it has so many
_READABLE: Final = 20
#: and so many where there would be no room for the numbers else
_FOLDED: Final = 8


@click.command()
@click.option(
    "--by",
    default="model",
    show_default=True,
    metavar="NAMES",
    help="Comma list: keys of the record, model, tag, attributes, and one of hour, day, week, month.",
)
@options.cost
@click.option("--with-estimates", is_flag=True, help="Add llmspan's estimates where providers reported nothing.")
@click.option("--percentiles", is_flag=True, help="Latencies and rates instead of tokens: p50, p95, p99, ...")
@click.option("--fill", is_flag=True, help="With a row for each hour, day, week or month that has no calls.")
@options.record_filters
@options.all_option
@options.as_json
@options.store
def stats(
    *,
    by: str,
    cost: bool,
    with_estimates: bool,
    percentiles: bool,
    fill: bool,
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    as_json: bool,
    backend: str | None,
    db: str | None,
) -> None:
    """Sum up calls and tokens."""
    from ..query.statistics import check_groups

    names: Any = list(dict.fromkeys(name.strip() for name in by.split(",") if name.strip()))
    check_groups(names)
    chosen = options.filters(since, until, where)
    with options.open_reader(backend, db) as reader:
        if cost:
            options.require_prices(reader)
        extras = Extras(cost=cost, estimates=with_estimates, measures=percentiles)
        sums = sums_of(reader, names, chosen, extras, fill=fill)
        if not any(row.calls for row in sums.rows):
            echo(options.nothing(reader, chosen=bool(where or since or until)), err=True)
    if as_json:
        for row in sums.rows:
            echo(json.dumps(_plain(row, sums.bills)))
        return
    _print(names, sums, _latencies if percentiles else _tokens)


def _plain(row: StatsRow, priced: Mapping[Group, Bill] | None) -> dict[str, Any]:
    sums = {key: value for key, value in asdict(row).items() if key not in _NESTED}
    values: dict[str, Any] = {**row.group, **sums, **row.group}  # the group first, also where it is by a key with a sum
    values |= {} if row.measures is None else {"failure_rate": row.failure_rate, **asdict(row.measures)}
    values |= {name: row.details[name] for name in ESTIMATES if name in row.details}
    if priced is not None:
        from ..cost import plain_amount

        bill = _bill(priced, row)
        amounts = {currency: plain_amount(amount) for currency, amount in sorted(bill.amounts.items())}
        values |= {"cost_usd": amounts.get("USD"), "cost": amounts, "without_price": bill.unpriced}
    return values


def _bill(priced: Mapping[Group, Bill], row: StatsRow) -> Bill:
    return priced.get(tuple(row.group.values()), Bill())


def _print(names: Sequence[str], sums: Sums, columns: Columns) -> None:
    from .render import clean, terminal

    console = terminal()
    groups = _groups(names, sums)
    left_out = _left_out(groups, sums, columns, console.width) if console.is_terminal else ()
    numbers = _numbers(sums, columns, left_out)
    if console.is_terminal:
        _print_table(groups, numbers)
    else:
        for line in _lines(groups, numbers):
            echo(line)
    notes = [f"not shown, as the terminal is too narrow: {', '.join(left_out)}"] if left_out else []
    for note in [*notes, *_notes(sums)]:
        console.print(clean(note, "dim"))


def _print_table(groups: Mapping[str, Sequence[Text]], numbers: Mapping[str, Sequence[str]]) -> None:
    from rich.table import Table

    from .render import terminal

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in groups:
        table.add_column(head, overflow="fold")
    for head in numbers:
        table.add_column(head, justify="right", no_wrap=True)
    for row in zip(*groups.values(), *numbers.values(), strict=True):
        table.add_row(*row)
    terminal(_least_width(groups, numbers, _FOLDED)).print(table)


def _lines(groups: Mapping[str, Sequence[Text]], numbers: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The same table of any width: nothing has to fit, and a table of Rich takes a millisecond a line."""
    from rich.cells import cell_len

    columns: list[list[str]] = []
    for head, texts in groups.items():
        cells = [head, *(text.plain for text in texts)]
        widths = [cell_len(cell) for cell in cells]
        columns.append([cell + " " * (max(widths) - width) for cell, width in zip(cells, widths, strict=True)])
    for head, texts in numbers.items():
        width = max(map(len, [head, *texts]))
        columns.append([cell.rjust(width) for cell in (head, *texts)])
    return ("  ".join(cells) for cells in zip(*columns, strict=True))


def _left_out(groups: Mapping[str, Sequence[Text]], sums: Sums, columns: Columns, width: int) -> Sequence[str]:
    """The sums that there is no room for."""
    optional = [name for name in _OPTIONAL if name in columns(sums.rows)]
    for number in range(len(optional)):
        if _least_width(groups, _numbers(sums, columns, optional[:number]), _READABLE) <= width:
            return optional[:number]
    return optional


def _least_width(groups: Mapping[str, Sequence[Text]], numbers: Mapping[str, Sequence[str]], folded: int) -> int:
    """The width of a table whose groups are folded at so many characters."""
    from rich.cells import cell_len

    longest = [max([cell_len(head), *(text.cell_len for text in texts)]) for head, texts in groups.items()]
    widths = [len(max([head, *texts], key=len)) for head, texts in numbers.items()]
    return sum(min(width, folded) for width in longest) + sum(widths) + 2 * (len(longest) + len(widths) - 1)


def _groups(names: Sequence[str], sums: Sums) -> dict[str, list[Text]]:
    """The cells of the columns with groups, by their heads."""
    from .render import clean

    return {
        f"{name} {offset_of_periods(sums.rows, name)}" if name in PERIODS else name: [
            clean("-" if row.group[name] is None else row.group[name]) for row in sums.rows
        ]
        for name in names
    }


def _numbers(sums: Sums, columns: Columns, left_out: Sequence[str]) -> dict[str, list[str]]:
    """The cells of the columns with numbers, by their heads."""
    numbers = {name: cells for name, cells in columns(sums.rows).items() if name not in left_out}
    for currency in _currencies(sums):
        numbers[f"cost {currency}"] = [_money(_bill(sums.bills or {}, row), currency) for row in sums.rows]
    return numbers


def _tokens(rows: Sequence[StatsRow]) -> dict[str, list[str]]:
    from .render import count

    return {name: [count(getattr(row, key)) for row in rows] for name, key in _SUMS.items()}


def _latencies(rows: Sequence[StatsRow]) -> dict[str, list[str]]:
    """Milliseconds, rates in hundredths, and tokens a second."""
    from .render import count, milliseconds

    measures = [Measures() if row.measures is None else row.measures for row in rows]
    columns = {"calls": [count(row.calls) for row in rows], "fail %": [_hundredths(row.failure_rate) for row in rows]}
    for head, key in (("p{} ms", "duration_ns"), ("ttfc{}", "time_to_first_chunk_ns")):
        for percent in PERCENTS:
            columns[head.format(percent)] = [
                milliseconds(getattr(measure, f"{key}_p{percent}")) for measure in measures
            ]
    speeds = [measure.output_tokens_per_second for measure in measures]
    return columns | {
        "tok/s": ["-" if speed is None else f"{speed:,.1f}" for speed in speeds],
        "cache %": [_hundredths(measure.cache_hit_ratio) for measure in measures],
        "retries": [count(measure.retries) for measure in measures],
    }


def _hundredths(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1%}".removesuffix("%")


def _currencies(sums: Sums) -> list[str]:
    """The currencies of all bills, US dollars first; those alone if nothing has a price."""
    if sums.bills is None:
        return []
    currencies = {currency for bill in sums.bills.values() for currency in bill.amounts} or {"USD"}
    return sorted(currencies, key=lambda currency: (currency != "USD", currency))


def _money(bill: Bill, currency: str) -> str:
    if currency not in bill.amounts:
        return "-"
    return f"{bill.amounts[currency]:,.6f}" + ("+" if bill.unpriced else "")


def _notes(sums: Sums) -> list[str]:
    without = sum(row.without_usage for row in sums.rows)
    notes = [f"calls without usage, in no sum: {without}"] if without else []
    reasons: Counter[str] = Counter()
    for bill in (sums.bills or {}).values():
        reasons.update(bill.unpriced)
    notes += [f"calls without a price, {reason}: {number}" for reason, number in sorted(reasons.items())]
    return [*notes, *([f"prices of {sums.prices}"] if sums.prices else [])]
