"""Calls as aligned lines, for ``tail`` and ``demo``: a head, and a line for each call as it comes.

In a terminal the columns are those that fit; a text that is too long is cut, a number is written shorter and never cut,
and the day is a line of its own. Elsewhere (a pipe, a file) a line has all columns, with everything in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from ..cost import cost_of
from .output import symbol
from .render import (
    SHORT_ID,
    clean,
    counts_of,
    failure_of,
    milliseconds,
    model_of,
    money,
    snippet_text,
    status_of,
)
from .zone import fixed_zone, offset

if TYPE_CHECKING:
    from rich.console import Console

    from ..own_prices import OwnPrices
    from ..query.snippets import Snippet
    from ..trace import ProviderTrace

    FindSnippet = Callable[[ProviderTrace], Snippet | None]

__all__ = ["Listing"]

#: terminals that have fewer columns show lines that wrap
_LEAST_WIDTH: Final = 80
_LEAST_MODEL: Final = 18
_MOST_MODEL: Final = 40
#: wide enough for all columns
_UNBOUNDED: Final = 1_000
#: from so many columns on, ids are long enough to distinguish calls of one millisecond
_WIDE: Final = 100
#: characters of an amount of money
_MONEY: Final = 12
#: so many characters of an id (a UUIDv7) are its millisecond
_MILLISECOND_ID: Final = 13


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    width: int
    value: Callable[[ProviderTrace], Text]
    is_number: bool = False
    #: columns with a rank are left out where there is no room, those with the highest first
    rank: int = 0


def _number(at: int) -> Callable[[ProviderTrace], Text]:
    return lambda record: clean(counts_of(record.usage)[at])


_COLUMNS: Final = (
    _Column("status", 12, status_of),
    _Column("provider", 16, lambda record: clean(record.provider), rank=4),
    _Column("operation", 16, lambda record: clean(record.operation), rank=6),
    _Column("model", _LEAST_MODEL, model_of),
    _Column("in", 9, _number(0), is_number=True),
    _Column("cached", 9, _number(1), is_number=True, rank=1),
    _Column("written", 7, _number(2), is_number=True, rank=3),
    _Column("out", 7, _number(3), is_number=True),
    _Column("reasoning", 9, _number(4), is_number=True, rank=2),
    _Column("ms", 7, lambda record: clean(milliseconds(record.duration_ns)), is_number=True),
    _Column("ttft", 7, lambda record: clean(milliseconds(record.time_to_first_chunk_ns)), is_number=True, rank=5),
    _Column("id", SHORT_ID, lambda record: clean(record.id[:SHORT_ID], "dim")),
)


class Listing:
    """Prints calls to a console, one after the other."""

    def __init__(self, console: Console, own: OwnPrices | None = None, find_snippet: FindSnippet | None = None) -> None:
        """``own``: own prices, which may be none; without it, no cost is shown.

        ``find_snippet``: gives the words around the text that was searched for, if one was.
        """
        columns = _COLUMNS if own is None else (*_COLUMNS[:-1], _cost_column(own), _COLUMNS[-1])
        self._console = console
        self._find_snippet = find_snippet
        self._is_terminal = console.is_terminal
        self._zone = fixed_zone()
        self._width = max(console.width, _LEAST_WIDTH)
        self._columns = _fitting(columns, self._width if self._is_terminal else _UNBOUNDED)
        self._day = ""

    def print_all(self, traces: Iterable[ProviderTrace]) -> None:
        """Print calls, each as it comes; the head before the first, and in a terminal the day before its first."""
        for record in traces:
            for line in self._lines(record):
                self._console.print(line, soft_wrap=True)

    def _lines(self, record: ProviderTrace) -> Iterator[Text]:
        started = record.started.astimezone(self._zone)
        day, is_first = f"{started:%Y-%m-%d}", not self._day
        if self._is_terminal and day != self._day:
            yield Text(f"{day} {offset(started)}", "bold")
        if is_first:
            yield self._head(started)
        self._day = day
        yield self._line(record, started)
        failure = failure_of(record)
        if failure is not None and self._is_terminal:
            yield Text.assemble(" " * 9, _cut(failure, self._width - 9))
        snippet = self._find_snippet(record) if self._find_snippet is not None else None
        if snippet is not None:
            text = snippet_text(snippet)
            yield Text.assemble(" " * 9, _cut(text, self._width - 9) if self._is_terminal else text)

    def _head(self, started: datetime) -> Text:
        time = "time" if self._is_terminal else f"time {offset(started)}"
        names = [_placed(Text(column.name), column) for column in self._columns]
        error = [] if self._is_terminal else [Text("error")]
        head = Text(" ").join([Text(time.ljust(8 if self._is_terminal else 19)), *names, *error])
        head.rstrip()
        head.stylize("bold")
        return head

    def _line(self, record: ProviderTrace, started: datetime) -> Text:
        time = f"{started:%H:%M:%S}" if self._is_terminal else f"{started:%Y-%m-%d %H:%M:%S}"
        values = [column.value(record) for column in self._columns]
        if self._is_terminal:
            values = [_fitted(value, column) for value, column in zip(values, self._columns, strict=True)]
        cells = [_placed(value, column) for value, column in zip(values, self._columns, strict=True)]
        failure = None if self._is_terminal else failure_of(record)
        line = Text(" ").join([Text(time, "dim"), *cells, *([] if failure is None else [failure])])
        line.rstrip()
        return line


def _cost_column(own: OwnPrices) -> _Column:
    def cost(record: ProviderTrace) -> Text:
        amount = cost_of(record, own)
        return clean("-" if amount.amount is None else money(amount.amount, amount.currency or ""))

    return _Column("cost", _MONEY, cost, is_number=True)


def _fitting(all_columns: Sequence[_Column], width: int) -> tuple[_Column, ...]:
    """The columns of a terminal with so many characters in a line; the model has what is left."""
    columns = [column if column.name != "id" or width >= _WIDE else _short_id(column) for column in all_columns]
    while (room := width - 8 - sum(column.width + 1 for column in columns)) < 0 and any(one.rank for one in columns):
        columns.remove(max(columns, key=lambda column: column.rank))
    wider = min(_LEAST_MODEL + max(room, 0), _MOST_MODEL)
    return tuple(replace(column, width=wider) if column.name == "model" else column for column in columns)


def _short_id(column: _Column) -> _Column:
    return replace(column, width=_MILLISECOND_ID, value=_id_of_millisecond)


def _id_of_millisecond(record: ProviderTrace) -> Text:
    return clean(record.id[:_MILLISECOND_ID], "dim")


def _fitted(value: Text, column: _Column) -> Text:
    if not column.is_number or column.name == "cost":
        return _cut(value, column.width)
    return value if cell_len(value.plain) <= column.width else Text(_shortened(value.plain, column), value.style)


def _shortened(number: str, column: _Column) -> str:
    """A number that is too long for its column, in a larger unit: ``1,234,567,890`` as ``1,235M``."""
    sign, digits = ("~", number[1:]) if number.startswith("~") else ("", number)
    value = float(digits.replace(",", ""))
    for at, unit in enumerate((" s",) if column.name in ("ms", "ttft") else ("k", "M", "G", "T", "P"), 1):
        text = f"{sign}{value / 1000**at:,.0f}{unit}"
        if len(text) <= column.width:
            return text
    return f"{sign}{value:.0e}"


def _cut(text: Text, width: int) -> Text:
    if cell_len(text.plain) <= width:
        return text
    mark = symbol("…", ">")
    return Text(set_cell_size(text.plain, width - 1).rstrip() + mark, text.style)


def _placed(text: Text, column: _Column) -> Text:
    """``text`` filled up to the width of its column."""
    blanks = Text(" " * (column.width - cell_len(text.plain)))
    return Text.assemble(blanks, text) if column.is_number else Text.assemble(text, blanks)
