"""A tree of calls as lines: what was called below what, when, how long it took, its tokens, and how it ended.

In a terminal each line fits: names are cut, and numbers are written shorter. Elsewhere names and numbers are whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from .._clock import SECOND
from ..query.tree import Node, Sums, Tree
from ..trace import datetime_of
from .output import symbol
from .render import clean, count, milliseconds, money, status_of
from .zone import clock_time

if TYPE_CHECKING:
    from rich.console import Console

    from ..bills import Bill

__all__ = ["notes", "print_tree", "shortened"]

_LEAST_WIDTH: Final = 80
_PLAIN_WIDTH: Final = 120
_NUMBER: Final = 8
_STATUS: Final = 12
_LEAST_BAR: Final = 10
#: the share of the room for name and bar that the bar has
_BAR_SHARE: Final = 0.35
#: so many levels are drawn; a deeper node has its depth before its name
_DEEPEST: Final = 5
_UNITS: Final = (("k", 10**3), ("M", 10**6), ("G", 10**9), ("T", 10**12), ("P", 10**15), ("E", 10**18))


def print_tree(console: Console, tree: Tree, title: str, bill: Bill | None = None) -> None:
    """Print the head with the sums, a line for each node, and notes on what is not there; ``bill`` is of all calls."""
    labels = [_label(node, guides) for node, guides in _with_guides(tree)]
    layout = _Layout.of(tree, labels, console)
    for text in _head(tree, title):
        console.print(text, soft_wrap=True)
    if bill is not None:
        console.print(clean(_cost(bill), "dim"), soft_wrap=True)
    console.print(layout.heading(), soft_wrap=True)
    for node, label in zip(tree.nodes, labels, strict=True):
        console.print(layout.line(node, label), soft_wrap=True)
    for note in notes(tree):
        console.print(clean(note, "dim italic"))


def notes(tree: Tree) -> list[str]:
    """What the tree does not show, and why."""
    texts: list[str] = []
    if tree.omitted:
        texts.append(f"The newest {tree.sums.calls:,} calls are here, {tree.omitted:,} older ones are not (--limit).")
    missing = sum(node.missing_parent is not None for node in tree.nodes)
    if missing:
        reason = (
            "LLMSPAN_SPANS says which spans are kept, and a span is there when it has ended"
            if tree.has_spans
            else "this store keeps calls and no spans between them"
        )
        roots = "1 root was" if missing == 1 else f"{missing:,} roots were"
        texts.append(f"^ {roots} made below a span that is not stored; roots are in the order of time: {reason}.")
    if any(node.is_cycle for node in tree.nodes):
        texts.append("@ A root that is its own ancestor, by the ids that its program gave.")
    return texts


def shortened(value: int | None, width: int) -> str:
    """A number in ``width`` characters, in a larger unit if need be; ``-`` if there is none."""
    text = count(value)
    for unit, size in _UNITS:
        if value is None or len(text) <= width:
            break
        text = f"{value / size:,.0f}{unit}"
    return text


@dataclass(frozen=True, slots=True)
class _Layout:
    """How wide the columns are, and which time the bars stand for."""

    name: int
    bar: int
    number: int
    began: int
    elapsed: int

    @classmethod
    def of(cls, tree: Tree, labels: list[Text], console: Console) -> _Layout:
        number, width = _NUMBER, max(console.width, _LEAST_WIDTH)
        if not console.is_terminal:
            number = max([_NUMBER, *(len(text) for node in tree.nodes for text in _numbers(node, 99))])
            width = _PLAIN_WIDTH
        room = width - 3 * (number + 1) - _STATUS - 2
        bar = max(int(room * _BAR_SHARE), _LEAST_BAR)
        name = room - bar
        if not console.is_terminal:
            name = max([name, *(cell_len(label.plain) for label in labels)])
        return cls(name, bar, number, tree.started_at, max(tree.ended_at - tree.started_at, 1))

    def heading(self) -> Text:
        names = " ".join(name.rjust(self.number) for name in ("ms", "in", "out"))
        return Text(f"{'':{self.name}} {'':{self.bar}} {names} status", "bold")

    def line(self, node: Node, label: Text) -> Text:
        """The line of a node."""
        numbers = " ".join(text.rjust(self.number) for text in _numbers(node, self.number))
        line = Text(" ").join([self._name(label), self._bar(node), Text(numbers), _status(node)])
        line.rstrip()
        return line

    def _name(self, label: Text) -> Text:
        width = cell_len(label.plain)
        if width > self.name:
            label = Text(set_cell_size(label.plain, self.name - 1) + symbol("…", ">"), label.style)
        return Text.assemble(label, " " * max(self.name - width, 0))

    def _bar(self, node: Node) -> Text:
        """When the node and what is below it ran, within the time of the whole tree."""
        # A call of a microsecond in a run of an hour still gets a block, and one at the very end stays in the column.
        first = min((node.started_at - self.began) * self.bar // self.elapsed, self.bar - 1)
        last = -(-(node.ended_at - self.began) * self.bar // self.elapsed)
        length = max(last - first, 1)
        block = symbol("━", "=") if node.record is None else symbol("█", "#")
        style = "red" if node.sums.failures else "dim" if node.record is None else "green"
        return Text.assemble(" " * first, (block * length, style), " " * (self.bar - first - length))


def _head(tree: Tree, title: str) -> list[Text]:
    sums = tree.sums
    calls = "1 call" if sums.calls == 1 else f"{sums.calls:,} calls"
    failed = f", {sums.failures:,} failed" if sums.failures else ""
    elapsed = f"{milliseconds(tree.ended_at - tree.started_at)} ms from {clock_time(datetime_of(tree.started_at))}"
    return [
        Text.assemble(clean(title, "bold"), f"  {calls}", (failed, "bold red"), f"  {elapsed}"),
        Text(_tokens(sums), "dim"),
    ]


def _tokens(sums: Sums) -> str:
    without = f"  ({sums.without_usage:,} without usage)" if sums.without_usage else ""
    return (
        f"tokens: input {count(sums.input_tokens)} (cached {count(sums.cache_read_tokens)},"
        f" written {count(sums.cache_write_tokens)})  output {count(sums.output_tokens)}"
        f" (reasoning {count(sums.reasoning_tokens)}){without}"
    )


def _cost(bill: Bill) -> str:
    """What the calls cost, and how many have no price for which reason."""
    amounts = " + ".join(money(amount, currency) for currency, amount in bill.amounts.items()) or "not known"
    reasons = "".join(f"  ({calls:,} without a price: {reason})" for reason, calls in bill.unpriced.most_common(3))
    return f"cost: {amounts}{reasons}"


def _with_guides(tree: Tree) -> Iterator[tuple[Node, str]]:
    """Each node with the lines that lead to it from above."""
    branch, last, through = symbol("├─ ", "|- "), symbol("└─ ", "`- "), symbol("│  ", "|  ")
    is_last: list[bool] = []  # of the nodes from the root's child down to this one
    for node in tree.nodes:
        if node.parent is None:
            is_last = []
            yield node, ""
            continue
        del is_last[node.depth - 1 :]
        above = "".join("   " if done else through for done in is_last[:_DEEPEST])
        is_last.append(tree.nodes[node.parent].children[-1] == node.index)
        yield node, f"+{node.depth} " if node.depth > _DEEPEST else above + (last if is_last[-1] else branch)


def _label(node: Node, guides: str) -> Text:
    mark = "^ " if node.missing_parent is not None else "@ " if node.is_cycle else ""
    return Text.assemble(guides + mark, clean(node.name, "bold" if node.record else ""))


def _numbers(node: Node, width: int) -> tuple[str, str, str]:
    milli = milliseconds(node.duration_ns)
    time = milli if len(milli) <= width else f"{node.duration_ns / SECOND:,.0f} s"
    if len(time) > width:
        time = f"{shortened(node.duration_ns // SECOND, width - 2)} s"
    if not node.sums.calls:
        return time, "", ""
    return time, shortened(node.sums.input_tokens, width), shortened(node.sums.output_tokens, width)


def _status(node: Node) -> Text:
    if node.record is not None and not node.children:
        return status_of(node.record)
    if node.sums.failures:
        return Text(f"{shortened(node.sums.failures, 5)} failed", "bold red")
    if node.record is not None:
        return status_of(node.record)
    return clean(node.status, "red" if node.status == "error" else "dim")
