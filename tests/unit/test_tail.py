"""``llmspan tail`` follows any number of calls: each is printed once, the oldest first, a page in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from llmspan.backends.base import Backend, Filters, Page
from llmspan.backends.memory import MemoryBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import tail
from llmspan.reader import Reader
from llmspan.trace import ProviderTrace, new_id
from records import NOON, make_trace
from stores import shutting_down

SECOND = 10**9
#: calls on a page: few, so that several pages are not many calls
PAGE = 100


class Counting(Reader):
    """Notes how much is read at once; ``between`` is called before a page is read."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.limits: list[int] = []
        self.between: Callable[[int], None] = lambda number: None

    def list(self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None) -> Page:
        self.between(len(self.limits))
        self.limits.append(limit)
        return super().list(filters, limit=limit, cursor=cursor)


@pytest.fixture(params=["sqlite", "memory"])
def reader(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    monkeypatch.setattr("time.time_ns", lambda: NOON + 60 * SECOND)
    monkeypatch.setattr(tail, "_PAGE", PAGE)
    backend: Any = SQLiteBackend(tmp_path / "t.db") if request.param == "sqlite" else MemoryBackend()
    with shutting_down(backend):
        backend.open()
        yield Counting(backend)


def traces(number: int, at: int = NOON) -> list[ProviderTrace]:
    """So many calls, a microsecond apart; every second one begins with the one before it."""
    return [make_trace(id=new_id(), started_at=at + place // 2 * 1000) for place in range(number)]


def in_order(found: Sequence[ProviderTrace]) -> list[str]:
    return [trace.id for trace in sorted(found, key=lambda trace: (trace.started_at, trace.id))]


def arriving(reader: Counting, *looks: Sequence[ProviderTrace]) -> Callable[[], None]:
    """What is written before each look; the end of the test is no look any more."""
    coming = iter(looks)
    return lambda: reader.backend.write(next(coming))


@pytest.mark.parametrize("number", [PAGE - 1, PAGE, PAGE + 1, 350])
def test_any_number_between_two_looks(reader: Counting, number: int) -> None:
    """All calls are there, in order, and no page is larger for it."""
    first, second = traces(number), traces(201, NOON + SECOND)
    found = tail.follow(reader, Filters(), set(), arriving(reader, first, [], second))
    shown = [trace.id for trace in islice(found, number + len(second))]
    assert shown == in_order(first) + in_order(second)
    assert max(reader.limits) == PAGE


def test_what_was_there_is_not_new(reader: Counting) -> None:
    """More calls than a page holds before the beginning are known, and stay so."""
    before, after = traces(250), traces(3, NOON + SECOND)
    reader.backend.write(before)
    seen = tail.recent_ids(reader, Filters())
    looks: list[Sequence[ProviderTrace]] = [[] for _ in range(25)]
    found = tail.follow(reader, Filters(), seen, arriving(reader, *looks, after))
    assert [trace.id for trace in islice(found, 3)] == in_order(after)


def test_a_long_call_behind_many_short_ones(reader: Counting) -> None:
    """A call that began minutes ago is found although newer pages are all known; nothing else comes a second time."""
    many, late, last = traces(250), traces(1, NOON - 400 * SECOND), traces(1, NOON + SECOND)
    looks: list[Sequence[ProviderTrace]] = [many, late, *([] for _ in range(20)), last]
    found = tail.follow(reader, Filters(), set(), arriving(reader, *looks))
    shown = [trace.id for trace in islice(found, 252)]
    assert shown == in_order(many) + in_order(late) + in_order(last)


def test_calls_that_come_while_a_page_is_read(reader: Counting) -> None:
    """Calls that push others off a page between its two readings cost none of them, and are printed themselves."""
    many, pushing = traces(150), traces(20, NOON + SECOND)

    def write(number: int) -> None:
        if number == 3:  # both pages were read, and the older one again
            reader.backend.write(pushing)

    reader.between = write
    found = tail.follow(reader, Filters(), set(), arriving(reader, many, [], []))
    shown = [trace.id for trace in islice(found, 170)]
    assert shown[:150] == in_order(many)
    assert set(shown[150:]) == set(in_order(pushing))


def test_only_what_is_meant_is_followed(reader: Counting) -> None:
    """Filters hold for every page."""
    good, bad = traces(120), [make_trace(id=new_id(), started_at=NOON + place, status="error") for place in range(5)]
    found = tail.follow(reader, Filters(status="error"), set(), arriving(reader, good + bad))
    assert [trace.id for trace in islice(found, 5)] == in_order(bad)
