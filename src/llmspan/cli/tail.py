"""``llmspan tail``: calls as they are recorded, one line each.

A record is written when its call ends but is sorted by when it began, so a long call comes in behind shorter ones:
each look goes back ten minutes (the SDKs' own limit for a call) and passes over what was printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from . import options
from .output import echo

if TYPE_CHECKING:
    from ..backends.base import Filters
    from ..reader import Reader
    from ..trace import ProviderTrace

__all__ = ["follow", "latest", "recent", "tail"]

_LOOK_BACK: Final = 600 * 1_000_000_000
_MOST: Final = 1_000


@click.command()
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=10, show_default=True, help="Begin with the last N calls."
)
@click.option("--once", is_flag=True, help="Print those and end.")
@click.option(
    "--interval", type=click.FloatRange(0.05, 3600), default=1.0, show_default=True, help="Seconds between looks."
)
@options.record_filters
@options.as_json
@options.store
def tail(
    *,
    lines: int,
    once: bool,
    interval: float,
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    as_json: bool,
    backend: str | None,
    db: str | None,
) -> None:
    """Print calls as they are recorded. Ctrl-C ends it."""
    chosen = options.filters(since, until, where)
    with options.open_reader(backend, db) as reader:
        try:
            before = recent(reader, chosen)
            shown = latest(reader, chosen, lines)
            _print(shown, as_json=as_json)
            if not once:
                seen = {trace.id for trace in (*before, *shown)}
                _print(follow(reader, chosen, seen, lambda: time.sleep(interval)), as_json=as_json)
        except KeyboardInterrupt:
            echo("", err=True)


def latest(reader: Reader, filters: Filters, number: int) -> list[ProviderTrace]:
    """The last ``number`` calls, the oldest first."""
    return list(islice(reader.iterate(filters), number))[::-1] if number else []


def recent(reader: Reader, filters: Filters) -> list[ProviderTrace]:
    """The calls that began not long ago, the oldest first."""
    since = max(time.time_ns() - _LOOK_BACK, filters.since or 0)
    return list(islice(reader.iterate(replace(filters, since=since)), _MOST))[::-1]


def follow(
    reader: Reader, filters: Filters, seen: Collection[str], wait: Callable[[], None]
) -> Iterator[ProviderTrace]:
    """The calls that are recorded from now on, but for the ids in ``seen``; ``wait`` is called between two looks."""
    while True:
        wait()
        found = recent(reader, filters)
        yield from (trace for trace in found if trace.id not in seen)
        seen = {trace.id for trace in found}


def _print(traces: Iterable[ProviderTrace], *, as_json: bool) -> None:
    if as_json:
        for trace in traces:
            echo(trace.to_json_line())
        return
    from .render import line, terminal

    console = terminal()
    for trace in traces:
        console.print(line(trace), soft_wrap=True)
