"""``llmspan tail``: calls as they are recorded, one line each (:mod:`.listing`).

A record is written when its call ends but is sorted by when it began, so a long call comes in behind shorter ones:
looks go back ten minutes (the SDKs' own limit for a call) and pass over what was printed. Stores list the newest first,
and any number of calls may have come between two looks. So a look reads page by page to the oldest new call, keeps the
cursors of the pages, and prints from the last page to the first: it holds one page, and the ids of ten minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from itertools import count, islice
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from .._clock import SECOND
from . import options
from .output import echo

if TYPE_CHECKING:
    from ..backends.base import Filters
    from ..own_prices import OwnPrices
    from ..query.snippets import Snippet
    from ..reader import Reader
    from ..trace import ProviderTrace

__all__ = ["follow", "latest", "recent_ids", "tail"]

_LOOK_BACK: Final = 600 * SECOND
_PAGE: Final = 1_000
#: every so many looks go back as far as that, the others to the first page that is known
_WHOLE_EVERY: Final = 10


class _NewPage(NamedTuple):
    """Where a page with new calls begins, and its last call."""

    cursor: str | None
    oldest_id: str


@click.command()
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=10, show_default=True, help="Start with the last N calls."
)
@click.option("--once", is_flag=True, help="Print those and end.")
@click.option(
    "--interval", type=click.FloatRange(0.05, 3600), default=1.0, show_default=True, help="Seconds between queries."
)
@options.cost
@options.record_filters
@options.all_option
@options.as_json
@options.store
def tail(
    *,
    lines: int,
    once: bool,
    interval: float,
    cost: bool,
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
        if cost:
            options.require_prices(reader)
        print_calls = _printer(reader, chosen, as_json=as_json, cost=cost)
        try:
            before = recent_ids(reader, chosen)
            shown = latest(reader, chosen, lines)
            print_calls(shown)
            if lines and not shown:
                waiting = "" if once else "; waiting for calls (Ctrl-C ends it)"
                echo(options.nothing(reader, chosen=bool(where or since or until)) + waiting, err=True)
            if not once:
                printed_ids = before | {record.id for record in shown}
                print_calls(follow(reader, chosen, printed_ids, lambda: time.sleep(interval)))
        except KeyboardInterrupt:
            echo("", err=True)


def latest(reader: Reader, filters: Filters, number: int) -> list[ProviderTrace]:
    """The last ``number`` calls, the oldest first."""
    return list(islice(reader.iterate(filters), number))[::-1] if number else []


def recent_ids(reader: Reader, filters: Filters) -> set[str]:
    """The ids of all calls that began not long ago."""
    return {record.id for record in reader.iterate(_recent(filters), page_size=_PAGE)}


def follow(
    reader: Reader, filters: Filters, printed_ids: Collection[str], wait: Callable[[], None]
) -> Iterator[ProviderTrace]:
    """The calls that are recorded from now on, but for ``printed_ids``; ``wait`` is called between two looks.

    Within a look the oldest comes first. Most looks stop at the first whole page that is known; every tenth one goes
    back ten minutes, for long calls, and forgets the ids that are older than that.
    """
    known_ids = set(printed_ids)
    for number in count(1):
        wait()
        is_whole = number % _WHOLE_EVERY == 0
        recent = _recent(filters)
        pages, listed_ids = _new_pages(reader, recent, known_ids, is_whole=is_whole)
        if is_whole:
            known_ids &= listed_ids
        for page in reversed(pages):
            for record in reversed(_read_again(reader, recent, page)):
                if record.id not in known_ids:
                    known_ids.add(record.id)
                    yield record


def _new_pages(
    reader: Reader, filters: Filters, known_ids: set[str], *, is_whole: bool
) -> tuple[list[_NewPage], set[str]]:
    """The pages with calls that are not in ``known_ids``, the newest first, and the known ids that were passed."""
    pages: list[_NewPage] = []
    listed_ids: set[str] = set()
    cursor = None
    while True:
        page = reader.list(filters, limit=_PAGE, cursor=cursor)
        ids = [record.id for record in page.traces]
        is_new = not known_ids.issuperset(ids)
        if is_new:
            pages.append(_NewPage(cursor, ids[-1]))
        listed_ids.update(known_ids.intersection(ids))
        cursor = page.next_cursor
        if cursor is None or not (is_new or is_whole):
            return pages, listed_ids


def _read_again(reader: Reader, filters: Filters, new: _NewPage) -> list[ProviderTrace]:
    """The calls of a page. What has been written since may have pushed some of them on to the next page."""
    page = reader.list(filters, limit=_PAGE, cursor=new.cursor)
    traces = list(page.traces)
    if page.next_cursor is not None and all(record.id != new.oldest_id for record in traces):
        traces += reader.list(filters, limit=_PAGE, cursor=page.next_cursor).traces
    return traces


def _recent(filters: Filters) -> Filters:
    return replace(filters, since=max(time.time_ns() - _LOOK_BACK, filters.since or 0))


def _printer(
    reader: Reader, filters: Filters, *, as_json: bool, cost: bool
) -> Callable[[Iterable[ProviderTrace]], None]:
    """What prints calls, the head of the lines once."""
    own = reader.own_prices if cost else None
    if as_json:
        return lambda traces: _print_json(traces, own)
    from .listing import Listing
    from .render import terminal

    def find_snippet(record: ProviderTrace) -> Snippet | None:
        return reader.snippets([record], filters).get(record.id)

    return Listing(terminal(), own, find_snippet).print_all


def _print_json(traces: Iterable[ProviderTrace], own: OwnPrices | None) -> None:
    from ..priced_lines import priced_line

    for record in traces:
        echo(record.to_json_line() if own is None else priced_line(record, own))
