"""Groups, latencies, rates and series on every store, as plain Python computes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import query_examples
from llmspan.backends.base import Backend, Filters, SupportsUsageSums
from llmspan.query.statistics import PERIODS, Measures, groups_of, measures_of
from llmspan.reader import Reader
from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from records import DAY, NOON, make_trace, several

USAGE = Usage(input_tokens=100, output_tokens=10, source="provider")
HOUR = 3_600_000_000_000
NAMES = [
    "model", "user", "stream", "http_status", "tokens", "input", "tag", "finish_reasons", "n", "attributes.a b",
    "status", *PERIODS,
]  # fmt: skip

_groups = st.lists(st.sampled_from(NAMES), max_size=3, unique=True).filter(
    lambda names: sum(name in PERIODS for name in names) < 2
)


def expected(
    records: Sequence[ProviderTrace], names: Sequence[str]
) -> dict[tuple[str | None, ...], list[ProviderTrace]]:
    groups: dict[tuple[str | None, ...], list[ProviderTrace]] = {}
    for record in records:
        for group in groups_of(record, names):
            groups.setdefault(group, []).append(record)
    return groups


@several
@given(records=st.lists(query_examples.records, max_size=8, unique_by=lambda trace: trace.id), names=_groups)
def test_any_groups(empty_backend: Callable[[], Backend], records: list[ProviderTrace], names: list[str]) -> None:
    """For any records and groups the sums, the latencies and the rates are those of plain Python."""
    backend = empty_backend()
    backend.write(records)
    groups = expected(records, names)
    rows = Reader(backend).stats(names, measures=True)
    assert [set(row.group) for row in rows] == [set(names)] * len(rows)
    by_group = {tuple(row.group.values()): row for row in rows if row.calls}
    assert {group: row.calls for group, row in by_group.items()} == {group: len(of) for group, of in groups.items()}
    assert {group: row.measures for group, row in by_group.items()} == {
        group: measures_of(of) for group, of in groups.items()
    }
    # the same rows, in the same order, as without latencies
    assert [replace(row, measures=None) for row in rows] == list(Reader(backend).stats(names))
    assert isinstance(backend, SupportsUsageSums) or backend.name == "memory"
    backend.shutdown()


@pytest.fixture
def hundred(backend: Backend) -> Backend:
    """A hundred calls of one model that take 1 to 100 ms, and one of another model that says little."""
    calls = [
        make_trace(
            started_at=NOON + at * HOUR, duration_ns=(at + 1) * 1_000_000, attributes={"tenant": f"t{at % 3}"},
            time_to_first_chunk_ns=(at + 1) * 1_000 if at < 10 else None, attempts=1 + at % 2,
            usage=replace(USAGE, cache_read_tokens=25 if at < 50 else None),
            agent_tags=("a", "b") if at % 2 else ("a", "a"),
        )
        for at in range(100)
    ]  # fmt: skip
    backend.write([*calls, make_trace(request_model="other", started_at=NOON + 9 * DAY, duration_ns=0, usage=Usage())])
    return backend


def test_measures(hundred: Backend) -> None:
    """Percentiles are values that there are; rates are over the calls that report what they take."""
    one, other = Reader(hundred).stats(["model"], measures=True)
    assert one.measures == Measures(
        duration_ns_p50=50_000_000, duration_ns_p95=95_000_000, duration_ns_p99=99_000_000,
        time_to_first_chunk_ns_p50=5_000, time_to_first_chunk_ns_p95=10_000, time_to_first_chunk_ns_p99=10_000,
        output_tokens_per_second=1000 / 5.05, cache_hit_ratio=0.25, retries=50,
    )  # fmt: skip
    assert other.measures == Measures(duration_ns_p50=0, duration_ns_p95=0, duration_ns_p99=0)
    (none,) = Reader(hundred).stats([], Filters.parse("user:nobody"), measures=True)
    assert (none.measures, none.failure_rate) == (None, None)
    assert Reader(hundred).stats([])[0].measures is None


def test_groups(hundred: Backend) -> None:
    """A call is in the group of each of its tags, once; attributes and periods are groups like others."""
    reader = Reader(hundred)
    assert {row.group["tag"]: row.calls for row in reader.stats(["tag"])} == {None: 1, "a": 100, "b": 50}
    assert [row.calls for row in reader.stats(["tenant"])] == [1, 34, 33, 33]
    assert [row.group["week"] for row in reader.stats(["week"])] == ["2026-01-26", "2026-02-02", "2026-02-09"]
    assert [row.group["month"] for row in reader.stats(["month"])] == ["2026-01", "2026-02"]
    assert reader.stats(["hour"])[0].group["hour"] == "2026-01-31T12:00"
    assert [row.calls for row in reader.stats(["tag"], Filters.parse("since:2026-02-09"))] == [1]


def test_names_of_fractions(backend: Backend) -> None:
    """A group of a fraction has all of its digits, as the attribute was written."""
    scores = [-0.5, 0.1, 0.30000000000000004, 123456789.12345679]
    backend.write([make_trace(attributes={"a.b": score}) for score in scores])
    rows = Reader(backend).stats(["attributes.a.b"])
    assert {row.group["attributes.a.b"] for row in rows} == {json.dumps(score) for score in scores}


def test_series_without_gaps(hundred: Backend) -> None:
    """A series can have every period from the first to the last, or of the time that was asked for."""
    reader = Reader(hundred)
    rows = reader.stats(["model", "day"], fill=True)
    assert len(rows) == 2 * 10
    assert [row.calls for row in rows if row.group["model"] == "other"] == [0] * 9 + [1]
    assert rows[6].input_tokens is None
    days = reader.stats(["day"], Filters(since=NOON - 3 * DAY, until=NOON + 2 * DAY), fill=True)
    assert [row.calls for row in days] == [0, 0, 0, 12, 24, 12]


def test_prices_of_new_groups(hundred: Backend) -> None:
    """Costs are summed up by tags and attributes as well, as calls priced one by one are."""
    pytest.importorskip("genai_prices")
    reader = Reader(hundred)
    from llmspan.bills import bills
    from llmspan.cost import cost_of

    expected: dict[str | None, Decimal] = {}
    for trace in hundred.list(limit=200).traces:
        for tag in set(trace.agent_tags):
            expected[tag] = expected.get(tag, Decimal(0)) + (cost_of(trace).amount or 0)
    by_tag = bills(reader, ["tag"])
    assert set(by_tag) == {(None,), ("a",), ("b",)}
    assert by_tag[None,].unpriced.total() == 1
    assert {tag: by_tag[tag,].amounts["USD"] for tag in ("a", "b")} == expected
