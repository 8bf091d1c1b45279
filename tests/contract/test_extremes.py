"""Times and numbers at the ends of what there can be: right results in every store alike."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest

from llmspan.backends.base import Backend, Filters
from llmspan.cli.options import filters, parse_time
from llmspan.trace import nanoseconds_of
from llmspan.usage import Usage
from records import make_trace

FIRST, LAST = -(2**63), 2**63 - 1
SECOND = 1_000_000_000
TIMES = [-SECOND - 1, -1, 0, 1, SECOND]

TEXTS = {
    "1969-12-31T23:59:58.999999": -SECOND - 1000,
    "1969-12-31T23:59:59.5": -SECOND // 2,
    "1969-12-31T23:59:59.999999": -1000,
    "1970-01-01": 0,
    "1970-01-01T00:00:00.5": SECOND // 2,
    "1970-01-01T00:00:00.25+01:00": -3600 * SECOND + SECOND // 4,
    "1901-01-01T00:00:00.000001": -2_177_452_799_999_999_000,
    "2026-01-31T12:00:00.123457": 1_769_860_800_123_457_000,
    "9999-12-31": 253_402_214_400 * SECOND,
    "9999-12-31T23:59:59.999999-14:00": (253_402_300_800 + 14 * 3600) * SECOND - 1000,
    "0001-01-01T00:00+14:00": (-62_135_596_800 - 14 * 3600) * SECOND,
}


@pytest.mark.parametrize("text", TEXTS)
def test_moments(text: str) -> None:
    """A time on the command line is exact to its microsecond, before 1970 and far away too."""
    assert parse_time(text) == TEXTS[text]


@pytest.mark.parametrize("microseconds", [-1, -999_999, -1_000_001, 1, 10**15 + 1, 253_402_300_799_999_999])
def test_moments_of_python(microseconds: int) -> None:
    """So is a datetime of Python's, whatever its time zone."""
    aware = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    assert nanoseconds_of(aware) == microseconds * 1000
    if aware.year < 9999:
        assert nanoseconds_of(aware.astimezone(timezone(timedelta(hours=5, minutes=30)))) == microseconds * 1000


@pytest.fixture(scope="module")
def times(make_lasting_backend: Callable[[], Backend]) -> Backend:
    """A record for each of the times; only read."""
    backend = make_lasting_backend()
    backend.write([make_trace(started_at=at) for at in TIMES])
    return backend


def found(backend: Backend, chosen: Filters) -> list[int]:
    times = [trace.started_at for trace in backend.list(chosen).traces]
    assert backend.stats([], chosen)[0].calls == len(times)
    assert sum(row.calls for row in backend.stats(["day"], chosen)) == len(times)
    return times[::-1]


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (None, "9999-12-31", TIMES),
        (None, "2262-04-12", TIMES),
        (None, "9999-12-31T23:59:59.999999-14:00", TIMES),
        ("9999-12-31", None, []),
        ("2300-01-01", "9999-12-31", []),
        ("0001-01-01", None, TIMES),
        ("0001-01-01T00:00+14:00", "9999-12-31", TIMES),
        (None, "0001-01-01", []),
        ("999999w", None, TIMES),
        (None, "999999w", []),
        ("1969-12-31T23:59:59", "1970-01-01", [-1]),
        ("1969-12-31T23:59:58.999999", "1970-01-01T00:00:01", TIMES[:4]),
        ("1970-01-01", None, TIMES[2:]),
        (None, "1969-12-31T23:59:59", TIMES[:1]),
    ],
)
def test_ranges(times: Backend, since: str | None, until: str | None, expected: list[int]) -> None:
    """A range that begins before all times, or ends after them, or lies outside, keeps what is in it."""
    assert found(times, filters(since, until)) == expected


@pytest.mark.parametrize("since", [None, FIRST - 1, FIRST, FIRST + 1, LAST, LAST + 1, 10**30])
@pytest.mark.parametrize("until", [None, FIRST - 1, FIRST, LAST, LAST + 1, 10**30])
def test_ranges_at_the_ends_of_64_bits(times: Backend, since: int | None, until: int | None) -> None:
    """Bounds beyond what a column holds mean what they say."""
    inside = [at for at in TIMES if (since is None or at >= since) and (until is None or at < until)]
    assert found(times, Filters(since=since, until=until)) == inside


@pytest.mark.parametrize(
    "counts",
    [
        [LAST, LAST, LAST],
        [LAST, 1],
        [LAST, 0, None],
        [2**62] * 9,
        [2**32, 2**32 - 1, 2**31],
        [1, 2, None],
        [None, None],
    ],
)
def test_sums_beyond_64_bits(backend: Backend, counts: list[int | None]) -> None:
    """A sum of tokens is exact however large it is, over all records and per group."""
    backend.write([
        make_trace(usage=Usage(input_tokens=count, output_tokens=count, reasoning_tokens=count, source="provider"))
        for count in counts
    ])  # fmt: skip
    reported = [count for count in counts if count is not None]
    expected = sum(reported) if reported else None
    for row in (*backend.stats([]), *backend.stats(["provider"]), *backend.stats(["day", "model"])):
        assert (row.input_tokens, row.output_tokens, row.reasoning_tokens) == (expected,) * 3
        assert row.cache_read_tokens is None
