"""What every backend that can be read must answer: pages, filters, prefixes and sums."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan.backends.base import GROUPS, Backend, Filters, StatsRow
from llmspan.errors import SettingsError
from llmspan.trace import ProviderTrace, RecordStatus
from llmspan.usage import Usage
from records import DAY, NOON, full_trace, make_trace, newest_first, several, traces, without_payloads


def pages(backend: Backend, limit: int, filters: Filters | None = None) -> list[list[ProviderTrace]]:
    page = backend.list(filters, limit=limit)
    found = [list(page.traces)]
    while page.next_cursor is not None:
        page = backend.list(filters, limit=limit, cursor=page.next_cursor)
        found.append(list(page.traces))
    return found


def joined(found: Sequence[Sequence[ProviderTrace]]) -> list[ProviderTrace]:
    return list(chain.from_iterable(found))


def test_list_has_no_payloads(backend):
    """A listing leaves payloads out and all that is known about them in."""
    trace = full_trace()
    assert trace.request_json is not None
    backend.write([trace])
    assert backend.list().traces == [without_payloads(trace)]
    assert backend.list().traces[0].content == "truncated"
    assert backend.list().traces[0].request_bytes == 17


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_have_no_gaps_and_no_repeats(backend, limit):
    """Following the cursor visits each record once, newest first, also where times are equal."""
    records = [make_trace(id=f"id-{at % 4}{at}", started_at=NOON + at // 3) for at in range(7)]
    backend.write(records)
    found = pages(backend, limit)
    assert joined(found) == [without_payloads(trace) for trace in newest_first(records)]
    assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
    assert found[-1]


def test_pages_are_steady_while_records_arrive(backend):
    """Records that arrive between two pages, being newer, neither repeat nor hide any."""
    old = [make_trace(started_at=NOON + at) for at in range(4)]
    backend.write(old)
    first = backend.list(limit=2)
    backend.write([make_trace(started_at=NOON + 9)])
    second = backend.list(limit=2, cursor=first.next_cursor)
    assert [trace.id for trace in [*first.traces, *second.traces]] == [trace.id for trace in newest_first(old)]


@several
@given(records=st.lists(traces(), max_size=6, unique_by=lambda trace: trace.id), limit=st.integers(1, 4))
def test_pages_of_any_records(empty_backend, records, limit):
    """For any records and page size the pages together are the listing."""
    backend = empty_backend()
    backend.write(records)
    assert joined(pages(backend, limit)) == [without_payloads(trace) for trace in newest_first(records)]
    backend.shutdown()


FIELDS = [field.name for field in dataclasses.fields(Filters) if field.name not in ("since", "until", "conditions")]
#: what a record has under other names than the filter's
FACTS = {
    "model": lambda value: {"response_model": value, "request_model": None},
    "tag": lambda value: {"agent_tags": () if value is None else ("some", value)},
}


@pytest.mark.parametrize("name", FIELDS)
def test_each_filter(backend, name):
    """Each filter keeps exactly the records with that value, and no record that has none."""
    values: tuple[str, str] = ("ok", "error") if name == "status" else ("one", "two")
    facts = FACTS.get(name, lambda value: {name: value})
    here, there = make_trace(**facts(values[0])), make_trace(**facts(values[1]))
    backend.write([here, there])
    if name not in ("id", "provider", "operation", "status"):
        backend.write([make_trace(**facts(None))])
    assert [trace.id for trace in backend.list(Filters(**{name: values[0]})).traces] == [here.id]
    assert [row.calls for row in backend.stats([], Filters(**{name: values[0]}))] == [1]


def test_time_range(backend):
    """``since`` is inclusive and ``until`` exclusive, to the nanosecond."""
    records = [make_trace(started_at=NOON + at) for at in range(4)]
    backend.write(records)
    found = backend.list(Filters(since=NOON + 1, until=NOON + 3)).traces
    assert [trace.id for trace in found] == [records[2].id, records[1].id]


def test_filters_with_pages(backend):
    """A cursor goes on within the same filters, all of which hold."""
    kept = [make_trace(step_id="s", run_id="r", started_at=NOON + at) for at in range(5)]
    backend.write([*kept, make_trace(step_id="s", started_at=NOON), make_trace(run_id="r", started_at=NOON)])
    found = pages(backend, 2, Filters(step_id="s", run_id="r", since=NOON + 1))
    assert [trace.id for trace in joined(found)] == [trace.id for trace in reversed(kept[1:])]


@pytest.mark.parametrize("cursor", ["", "x", "é", "bm90IEpTT04=", "WzFd", "WyJhIiwiYiJd", "W1tbW1tb", "MQ==", "\ud800"])
def test_malformed_cursor(backend, cursor):
    """A cursor that no listing gave is an error that shows it and says what to do."""
    with pytest.raises(SettingsError, match="is not one that") as caught:
        backend.list(cursor=cursor)
    assert repr(cursor) in str(caught.value)


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_too_small(backend, limit):
    """A page of no records is an error, not a listing without end."""
    with pytest.raises(SettingsError, match=f"limit {limit} "):
        backend.list(limit=limit)


def test_ids_with_prefix(backend):
    """Ids are found by how they begin, as text and not as a pattern, in their order."""
    backend.write([make_trace(id=name) for name in ("ab%2", "ab%1", "abc", "a", "ab_", "b")])
    assert backend.ids_with_prefix("ab%", 9) == ["ab%1", "ab%2"]
    assert backend.ids_with_prefix("ab", 2) == ["ab%1", "ab%2"]
    assert backend.ids_with_prefix("ab_", 9) == ["ab_"]
    assert backend.ids_with_prefix("x", 9) == []


# -- sums


def value_of(trace: ProviderTrace, name: str) -> str | None:
    if name == "model":
        return trace.request_model if trace.response_model is None else trace.response_model
    if name == "day":
        return str(datetime.fromtimestamp(trace.started_at // 1_000_000_000, UTC).date())
    return getattr(trace, name)


def plain_stats(records: Sequence[ProviderTrace], group_by: Sequence[str]) -> list[StatsRow]:
    groups = defaultdict(list)
    for trace in records:
        groups[tuple(value_of(trace, name) for name in group_by)].append(trace)
    if not group_by and not records:
        groups[()] = []
    order = sorted(groups, key=lambda values: [(value is not None, value or "") for value in values])
    return [plain_row(dict(zip(group_by, values, strict=True)), groups[values]) for values in order]


def plain_row(group: dict[str, str | None], records: Sequence[ProviderTrace]) -> StatsRow:
    def total(name: str) -> int | None:
        reported = [count for trace in records if (count := getattr(trace.usage, name)) is not None]
        return sum(reported) if reported else None

    return StatsRow(
        group=group,
        calls=len(records),
        failures=len([trace for trace in records if trace.status in ("error", "incomplete")]),
        without_usage=len([trace for trace in records if trace.usage.source == "none"]),
        input_tokens=total("input_tokens"),
        output_tokens=total("output_tokens"),
        cache_read_tokens=total("cache_read_tokens"),
        cache_write_tokens=total("cache_write_tokens"),
        reasoning_tokens=total("reasoning_tokens"),
    )


@several
@given(
    records=st.lists(traces(), max_size=8, unique_by=lambda trace: trace.id),
    group_by=st.lists(st.sampled_from(GROUPS), max_size=3, unique=True),
)
def test_stats_are_plain_sums(empty_backend, records, group_by):
    """For any records and groups the sums are those that a loop over the records gives, in the groups' order."""
    backend = empty_backend()
    backend.write(records)
    assert backend.stats(group_by) == plain_stats(records, group_by)
    backend.shutdown()


@pytest.fixture(scope="module")
def various(make_lasting_backend):
    """A store with records that differ in every group, and those; only read."""
    backend, records = make_lasting_backend(), [
        full_trace(), full_trace(started_at=NOON + DAY, org_id=None, status="ok"), full_trace(user_id="", source=None),
        make_trace(), make_trace(request_model=None, operation="fetch_response", provider="anthropic", call_type="x"),
    ]  # fmt: skip
    backend.write(records)
    return backend, records


@pytest.mark.parametrize("group", GROUPS)
def test_stats_by_each_group(various, group):
    """Each group splits the records by its value, None first."""
    backend, records = various
    found = backend.stats([group])
    assert found == plain_stats(records, [group])
    assert len(found) > 1


def test_days_begin_at_midnight(backend):
    """A day is one of UTC, from its first nanosecond to its last, before 1970 too."""
    backend.write([make_trace(started_at=at) for at in (-DAY - 1, -DAY, -1, 0, DAY - 1, DAY)])
    found = [(row.group["day"], row.calls) for row in backend.stats(["day"])]
    assert found == [("1969-12-30", 1), ("1969-12-31", 2), ("1970-01-01", 2), ("1970-01-02", 1)]


def test_stats_of_nothing(backend):
    """Over no records there is one row of zeros without groups, and no row with them; token sums are not known."""
    assert backend.stats([]) == [plain_row({}, [])]
    assert backend.stats([])[0].calls == 0
    assert backend.stats([])[0].input_tokens is None
    assert backend.stats(["model"]) == []


def test_stats_tell_unreported_from_zero(backend):
    """A sum is None if no record reports the number, and zero if one reports zero."""
    backend.write([make_trace(usage=Usage(input_tokens=0, source="provider")), make_trace(usage=Usage())])
    (row,) = backend.stats([])
    assert (row.input_tokens, row.output_tokens, row.without_usage) == (0, None, 1)


@pytest.mark.parametrize("status", get_args(RecordStatus))
def test_stats_failures(backend, status):
    """What went wrong is a failure; what the caller chose to end is not."""
    backend.write([make_trace(status=status)])
    assert backend.stats([])[0].failures == (status in ("error", "incomplete"))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["statsu"], "cannot group by 'statsu': statsu is not a key; did you mean status?"),
        (["usage_raw"], "cannot group by 'usage_raw': usage_raw is no single value; the keys are id, trace_id,"),
        (["hour", "day"], "cannot group by hour and day at once; choose one"),
    ],
)
def test_stats_unknown_group(backend, groups, message):
    """A group that there is not is an error that lists those that there are."""
    with pytest.raises(SettingsError, match=re.escape(message)):
        backend.stats(groups)
