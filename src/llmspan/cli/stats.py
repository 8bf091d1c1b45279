"""``llmspan stats``: calls and tokens in sums, by whatever the backend can group by; with prices if asked.

A sum is over the calls that report the number; where none does it is ``-``, never 0. How many calls have no price is
told, and why. A terminal that is too narrow for all sums shows fewer, and no number is ever cut.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import SettingsError
from . import options
from .bills import Bill, Group
from .output import echo
from .sums import ESTIMATES, Sums, offset_of_days, sums_of

if TYPE_CHECKING:
    from decimal import Decimal

    from rich.text import Text

    from ..backends.base import StatsRow

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
#: what a terminal without room for all of them does without, first the first
_OPTIONAL: Final = ("reasoning", "written", "cached")
#: characters of a group's value that stay on one line, if it has so many
_READABLE: Final = 20
#: and so many where there would be no room for the numbers else
_FOLDED: Final = 8
#: wide enough for any table, where it is printed to no terminal
_UNBOUNDED: Final = 100_000


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

    names: Any = list(dict.fromkeys(name.strip() for name in by.split(",") if name.strip()))
    check_groups(names)
    chosen = options.filters(since, until, where)
    if cost:
        _need_prices()
    with options.open_reader(backend, db) as reader:
        sums = sums_of(reader, names, chosen, cost=cost, estimates=with_estimates)
        if not any(row.calls for row in sums.rows):
            echo(options.nothing(reader, chosen=bool(where or since or until)), err=True)
    if as_json:
        for row in sums.rows:
            echo(json.dumps(_plain(row, sums.bills)))
        return
    _print(names, sums)


def _need_prices() -> None:
    from ..cost import available

    if not available():
        raise SettingsError('--cost needs the prices of genai-prices; pip install "llmspan[cost]"')


def _plain(row: StatsRow, priced: Mapping[Group, Bill] | None) -> dict[str, Any]:
    values = {**row.group, **{key: value for key, value in asdict(row).items() if key not in ("group", "details")}}
    values |= {name: row.details[name] for name in ESTIMATES if name in row.details}
    if priced is not None:
        bill = _bill(priced, row)
        values |= {"cost_usd": _plain_amount(bill.amount) if bill.priced else None, "without_price": bill.unpriced}
    return values


def _plain_amount(amount: Decimal) -> str:
    """All digits, without an exponent and without zeros at the end: the same for the same sum, however it was made."""
    from ..cost import EXACT

    return f"{amount.normalize(EXACT):f}"


def _bill(priced: Mapping[Group, Bill], row: StatsRow) -> Bill:
    return priced.get(tuple(row.group.values()), Bill())


def _print(names: Sequence[str], sums: Sums) -> None:
    from rich.table import Table

    from .render import clean, terminal

    console = terminal()
    groups = _groups(names, sums)
    left_out = _left_out(groups, sums, console.width) if console.is_terminal else ()
    numbers = _numbers(sums, left_out)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in groups:
        table.add_column(head, overflow="fold")
    for head in numbers:
        table.add_column(head, justify="right", no_wrap=True)
    for row in zip(*groups.values(), *numbers.values(), strict=True):
        table.add_row(*row)
    terminal(_least_width(groups, numbers, _FOLDED) if console.is_terminal else _UNBOUNDED).print(table)
    notes = [f"not shown, as the terminal is too narrow: {', '.join(left_out)}"] if left_out else []
    for note in [*notes, *_notes(sums)]:
        console.print(clean(note, "dim"))


def _left_out(groups: Mapping[str, Sequence[Text]], sums: Sums, width: int) -> Sequence[str]:
    """The sums that there is no room for."""
    for number in range(len(_OPTIONAL)):
        if _least_width(groups, _numbers(sums, _OPTIONAL[:number]), _READABLE) <= width:
            return _OPTIONAL[:number]
    return _OPTIONAL


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
        f"day {offset_of_days(sums.rows)}" if name == "day" else name: [
            clean("-" if row.group[name] is None else row.group[name]) for row in sums.rows
        ]
        for name in names
    }


def _numbers(sums: Sums, left_out: Sequence[str]) -> dict[str, list[str]]:
    """The cells of the columns with numbers, by their heads."""
    from .render import count

    shown = {name: key for name, key in _SUMS.items() if name not in left_out}
    columns = {name: [count(getattr(row, key)) for row in sums.rows] for name, key in shown.items()}
    if sums.bills is not None:
        columns["cost $"] = [_money(_bill(sums.bills, row)) for row in sums.rows]
    return columns


def _money(bill: Bill) -> str:
    return f"{bill.amount:,.6f}" + ("+" if bill.unpriced else "") if bill.priced else "-"


def _notes(sums: Sums) -> list[str]:
    without = sum(row.without_usage for row in sums.rows)
    notes = [f"calls without usage, in no sum: {without}"] if without else []
    reasons: Counter[str] = Counter()
    for bill in (sums.bills or {}).values():
        reasons.update(bill.unpriced)
    return [*notes, *(f"calls without a price, {reason}: {number}" for reason, number in sorted(reasons.items()))]
