"""``llmspan diff``: what differs between two calls, or between two runs step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from . import options
from .output import echo

if TYPE_CHECKING:
    from ..query.comparison import CallComparison, Change, Line, Number, RunComparison

__all__ = ["diff"]

_LONGEST_VALUE = 200


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--lines", type=click.IntRange(1), default=200, show_default=True, help="So many lines of a conversation."
)
@click.option("--steps", type=click.IntRange(1), default=100, show_default=True, help="So many steps of two runs.")
@options.as_json
@options.store
def diff(
    *, first: str, second: str, lines: int, steps: int, as_json: bool, backend: str | None, db: str | None
) -> None:
    """Compare two calls, or two runs step by step.

    A and B are ids of calls, or traces, runs or conversations: parameters, messages, tools, answer, tokens, cost, time.
    """
    from .. import _json
    from ..query.comparison import CallComparison

    with options.open_reader(backend, db) as reader:
        comparison = reader.compare(first, second, most_lines=lines, most_steps=steps)
    if as_json:
        echo(_json.dumps(comparison.to_dict()))
        return
    is_call = isinstance(comparison, CallComparison)
    for line in _call_lines(comparison) if is_call else _run_lines(comparison):
        echo(line)


def _run_lines(run: RunComparison) -> Iterator[str]:
    yield f"- {run.first}"
    yield f"+ {run.second}"
    yield from _number_lines(run.numbers)
    for position, step in enumerate(run.steps, 1):
        state = "" if step.first_id and step.second_id else "  only in A" if step.first_id else "  only in B"
        yield ""
        yield f"step {position}: {step.name}{state}"
        yield from _call_lines(step)
    if run.omitted_steps:
        yield f"... {run.omitted_steps:,} more steps (--steps)"


def _call_lines(call: CallComparison) -> Iterator[str]:
    yield from ([f"- {call.first_id}"] if call.first_id else [])
    yield from ([f"+ {call.second_id}"] if call.second_id else [])
    yield from _change_lines("", call.facts)
    yield from _change_lines("parameter ", call.parameters)
    yield from _change_lines("tool ", call.tools)
    yield from _conversation_lines("messages", call.messages)
    yield from _conversation_lines("answer", call.answer)
    if call.omitted_lines:
        yield f"... {call.omitted_lines:,} more lines (--lines)"
    if call.note:
        yield f"({call.note})"
    elif call.is_same:
        yield "(the same request and answer)"
    yield from _number_lines(call.numbers)


def _change_lines(kind: str, changes: Sequence[Change]) -> Iterator[str]:
    for change in changes:
        yield f"{kind}{change.name}: {_short(change.first)} -> {_short(change.second)}"


def _conversation_lines(title: str, lines: Sequence[Line]) -> Iterator[str]:
    if lines:
        yield f"{title}:"
    for line in lines:
        yield f"  {line.text}" if line.sign == "@" else f"    {line.sign} {line.text}"


def _number_lines(numbers: Sequence[Number]) -> Iterator[str]:
    for number in numbers:
        if number.first is None and number.second is None:
            continue
        difference = number.difference
        sign = "" if difference is None else f"  ({'+' if difference > 0 else ''}{_plain(number, difference)})"
        sides = f"{_plain(number, number.first)} -> {_plain(number, number.second)}"
        yield f"{number.name.removesuffix('_ns')}: {sides}{sign if difference else ''}"


def _plain(number: Number, value: int | Decimal | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, Decimal):
        return f"{value:,.6f} {number.unit}"
    return f"{value / 1e6:,.1f} ms" if number.name.endswith("_ns") else f"{value:,}"


def _short(value: str | None) -> str:
    if value is None:
        return "-"
    return value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}... ({len(value):,} characters)"
