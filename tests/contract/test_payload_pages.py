"""Pages with payloads, as an export reads them: each record once, in bounded memory, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan.backends import payload_pages
from llmspan.backends.base import Backend, Filters, Page, SupportsRemove
from llmspan.reader import AsyncReader, Reader
from records import DAY, NOON, full_trace, make_trace, newest_first, several, traces


def payload_pages_of(backend: Backend, limit: int, filters: Filters | None = None) -> Iterator[Page]:
    page = backend.list(filters, limit=limit, payload=True)
    yield page
    while page.next_cursor is not None:
        page = backend.list(filters, limit=limit, cursor=page.next_cursor, payload=True)
        yield page


@several
@given(records=st.lists(traces(), max_size=6, unique_by=lambda trace: trace.id), limit=st.integers(1, 4))
def test_pages_of_any_records(empty_backend, records, limit):
    """The pages together are all records with their payloads, newest first; their JSON is that of the records."""
    backend = empty_backend()
    backend.write(records)
    pages = list(payload_pages_of(backend, limit))
    assert [trace for page in pages for trace in page.traces] == newest_first(records)
    reader = Reader(backend)
    assert list(reader.iterate(page_size=limit, payload=True)) == newest_first(records)
    assert list(reader.iterate_json(page_size=limit)) == [trace.to_json_line() for trace in newest_first(records)]
    assert reader.count() == len(records)
    backend.shutdown()


def test_filters_hold_on_every_page(backend):
    """A cursor goes on within the same filters."""
    wanted = [full_trace(started_at=NOON + at) for at in range(5)]
    backend.write([*wanted, make_trace(step_id="step-1", started_at=NOON), full_trace(started_at=NOON - 1)])
    filters = Filters(step_id="step-1", run_id="run-1", since=NOON)
    found = [trace for page in payload_pages_of(backend, 2, filters) for trace in page.traces]
    assert found == wanted[::-1]
    assert Reader(backend).count(filters) == 5
    assert [trace.id for trace in Reader(backend).iterate(Filters(run_id="none"), payload=True)] == []


@pytest.mark.parametrize("lengths", [[50] * 6, [500, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 500], [100, 0, 1, 99, 100, 101]])
def test_long_payloads_make_short_pages(backend, lengths, monkeypatch):
    """A page ends with the record by which its payloads have the limit, so memory is bounded by one record more."""
    monkeypatch.setattr(payload_pages, "PAGE_CHARACTERS", 100)
    records = [
        make_trace(started_at=NOON - at, request_json='"%s"' % ("x" * length), response_json=None)
        for at, length in enumerate(lengths)
    ]
    backend.write(records)
    pages = [list(page.traces) for page in payload_pages_of(backend, 5)]
    assert [trace for page in pages for trace in page] == records
    for page in pages:
        assert page
        assert sum(len(trace.request_json or "") for trace in page[:-1]) < 100
    assert len(pages) > 1


def test_times_far_apart(backend):
    """Pages go over days and ages, and over equal times."""
    times = [-(2**63), -DAY, -1, 0, 0, 0, NOON, NOON + 400 * DAY, 4_102_444_800 * 10**9, 2**63 - 1, 2**63 - 1]
    records = [make_trace(started_at=at) for at in times]
    backend.write(records)
    for limit in (1, 2, 3):
        found = [trace for page in payload_pages_of(backend, limit) for trace in page.traces]
        assert found == newest_first(records)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_records_arrive_and_disappear(backend, limit):
    """Between any two pages records come and go: none is given twice, and none that is there all the time is missed."""
    if not isinstance(backend, SupportsRemove):
        pytest.skip("records cannot be removed here")
    staying = [make_trace(started_at=NOON + at, id=f"id-{at}-stays") for at in range(8)]
    leaving = [make_trace(started_at=NOON + at, id=f"id-{at}-leaves") for at in range(8)]
    backend.write([*staying, *leaving])
    seen: list[str] = []
    for number, page in enumerate(payload_pages_of(backend, limit)):
        seen += [trace.id for trace in page.traces]
        # the last one that was seen, and one that has not been seen yet
        backend.remove([seen[-1]] if seen and seen[-1].endswith("leaves") else [])
        backend.remove([f"id-{number % 8}-leaves"])
        backend.write([make_trace(started_at=NOON + at, id=f"id-{at}-arrives-{number}") for at in (0, 4, 9)])
        if number > 40:
            break
    assert len(seen) == len(set(seen))
    assert {trace.id for trace in staying} <= set(seen)


def test_the_async_reader_gives_the_same(backend):
    """``AsyncReader`` gives records and lines with payloads, too."""
    records = [full_trace(started_at=NOON + at) for at in range(3)]
    backend.write(records)

    async def read() -> tuple[list[Any], list[str]]:
        reader = AsyncReader(backend)
        return (
            [trace async for trace in reader.iterate(page_size=2, payload=True)],
            [line async for line in reader.iterate_json(page_size=2)],
        )

    found, lines = asyncio.run(read())
    assert found == records[::-1]
    assert lines == [trace.to_json_line() for trace in records[::-1]]


def test_a_backend_without_pages_of_json(backend):
    """Only ``list`` is needed to read JSON: a backend that makes no JSON by itself gives the same lines."""
    records = [full_trace(started_at=NOON + at) for at in range(3)]
    backend.write(records)

    class Plain:
        name, readable, location = "plain", True, "here"

        def open(self) -> None:
            pass

        def list(self, *arguments: Any, **more: Any) -> Page:
            return backend.list(*arguments, **more)

    lines = list(Reader(Plain()).iterate_json(page_size=2))  # type: ignore[arg-type]
    assert lines == [trace.to_json_line() for trace in records[::-1]]
