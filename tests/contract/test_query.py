"""The query language on every store: each operator, and any query over any records, as plain Python finds them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import query_examples
from llmspan.backends.base import Backend, Filters
from llmspan.errors import QueryError
from llmspan.query.conditions import Condition, Equal, Pattern, Range
from llmspan.query.filters import NoneOf, OneOf
from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from records import DAY, NOON, make_trace, several

HOUR = 3_600_000_000_000


def found(backend: Backend, filters: Filters) -> str:
    """The ids of what is listed; whatever else is asked means the same records."""
    ids = [trace.id for trace in backend.list(filters).traces][::-1]
    assert backend.stats([], filters)[0].calls == len(ids)
    assert backend.count(filters) == len(ids)  # pyright: ignore[reportAttributeAccessIssue]
    return "".join(ids)


@pytest.fixture(scope="module")
def five(make_lasting_backend: Callable[[], Backend]) -> Backend:
    """Five records, the last of which has as little as a record can have; only read."""
    backend = make_lasting_backend()
    backend.write(FIVE)
    return backend


FIVE: list[ProviderTrace] = [
    make_trace(
        id="0", started_at=NOON, user_id="ann", agent_tags=("beta", "nightly"), duration_ns=2_000_000_000,
        attributes={"tenant": "acme", "score": 0.5, "live": True, "a b": "x"}, response_model="claude-opus-4",
        usage=Usage(input_tokens=900, output_tokens=200), time_to_first_chunk_ns=350_000_000, http_status=200,
        request_json='{"text": "What is the Weather?"}', stream=True,
    ),
    make_trace(
        id="1", started_at=NOON + HOUR, user_id="bot", agent_tags=("beta",), duration_ns=350_000_000,
        attributes={"tenant": "globex", "score": 2, "live": False}, request_model="claude-sonnet-5", status="error",
        usage=Usage(input_tokens=1000), error_type="RateLimitError", http_status=429, finish_reasons=("stop", None),
        request_json='{"text": "gr\\u00fc\\u00dfe \\"x\\""}', response_json=None,
    ),
    make_trace(
        id="2", started_at=NOON + DAY, user_id="a,b", agent_tags=(), duration_ns=60_000_000_000,
        attributes={"tenant": "100%_*", "score": "3", "live": None}, response_model="gpt-5", status="incomplete",
        usage=Usage(output_tokens=0), finish_reasons=("length",), response_json='{"text": "grüße"}', request_json=None,
    ),
    make_trace(
        id="3", started_at=NOON + 2 * DAY, user_id="", duration_ns=0, attributes={"tenant": "", "score": "1e3"},
        usage=Usage(input_tokens=1), request_json=None, response_json=None, content="metadata",
    ),
    make_trace(
        id="4", started_at=NOON + 3 * DAY, request_model=None, usage=Usage(), duration_ns=1,
        request_json=None, response_json=None, content="metadata",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", "01234"),
        ("status:error", "1"),
        ("status:error,incomplete", "12"),
        ("status=error status=incomplete", "12"),
        ("-status:ok", "12"),
        ("status!=ok,error", "2"),
        ("user:ann", "0"),
        ('user:"a,b"', "2"),
        (r"user:a\,b", "2"),
        ("user:a,b", ""),
        ("user:a*", "02"),
        ("user:*o*", "1"),
        ("user:*nn,bot", "01"),
        ("-user:a*", "134"),
        ("user:", "3"),
        ("user:none", "4"),
        ("user:any", "0123"),
        ("-user:none", "0123"),
        ("user!=any", "4"),
        ('user:"none"', ""),
        ("user:bot,none", "14"),
        ("user!=bot,none", "023"),
        ("model:claude*", "01"),
        ("model:gpt-5", "23"),
        ("response_model:none", "134"),
        ("model:none", "4"),
        ("tokens>1000", "0"),
        ("tokens>=1000", "01"),
        ("tokens<2", "23"),
        ("tokens<=1k", "123"),
        ("tokens:0..1", "23"),
        ("tokens:0..1,1k", "123"),
        ("tokens>0 tokens<1100", "13"),
        ("tokens:none", "4"),
        ("-tokens>1", "234"),
        ("output:0", "2"),
        ("output:none", "134"),
        ("duration>=2s", "02"),
        ("duration<350ms", "34"),
        ("duration:0.1s..2s", "01"),
        ("duration_ns:1", "4"),
        ("ttfc<=350ms", "0"),
        ("ttfc:none", "1234"),
        ("stream:true", "0"),
        ("-stream:true", "1234"),
        ("http_status:429", "1"),
        ("http_status!=200", "1234"),
        ("tag:beta", "01"),
        ("tag:beta tag:nightly", "0"),
        ("tag:night*", "0"),
        ("-tag:nightly", "1234"),
        ("tag:none", "234"),
        ("tag:any", "01"),
        ("tag:any -tag:nightly", "1"),
        ("finish_reason:stop,length", "12"),
        ("finish_reason:none", "034"),
        ("tenant=acme", "0"),
        ("attributes.tenant:acme,globex", "01"),
        ("tenant:*e*", "01"),
        (r"tenant:100%_\*", "2"),
        ('tenant:"100%_*"', "2"),
        ("tenant:1%", ""),
        ("tenant:1_*", ""),
        ("tenant:", "3"),
        ("tenant:none", "4"),
        ("tenant:any", "0123"),
        ("tenant!=acme", "1234"),
        ("attributes.score>0.5", "12"),
        ("attributes.score>=0.5", "012"),
        ("attributes.score:0..2", "01"),
        ("attributes.score:3", "2"),
        ("attributes.score:2.0", "1"),
        ("attributes.score:1e3", "3"),
        ("-attributes.score>1", "034"),
        ("live:true", "0"),
        ("live:false", "1"),
        ("live:none", "234"),
        ('attributes."a b":x', "0"),
        ("since:2026-02-01", "234"),
        ("until:2026-02-01", "01"),
        ("started:2026-01-31", "01"),
        ("started>2026-01-31", "234"),
        ("started<=2026-02-01", "012"),
        ("started:2026-01-31..2026-02-01", "012"),
        ("-started:2026-01-31", "234"),
        ("started:2026-01-31,2026-02-02", "013"),
        ("since:2026-01-31T13:00 until:2026-02-02", "12"),
        ("since:2026-01-31T14:00+01:00", "1234"),
        ('"weather"', "0"),
        ('"grüße"', "12"),
        ('"\\"x\\""', "1"),
        ('-"weather"', "1234"),
        ('"%"', ""),
        ("id:1,3 user:bot", "1"),
    ],
)
def test_each_operator(five: Backend, query: str, ids: str) -> None:
    """Each operator finds the records that it should, on every store, and so does plain Python."""
    filters = Filters.parse(query, zone=UTC)
    assert "".join(trace.id for trace in FIVE if filters.matches(trace)) == ids
    assert found(five, filters) == ids


def test_typed_conditions(five: Backend) -> None:
    """Conditions of the typed form, and fields that later versions have brought, mean the same everywhere."""
    assert found(five, Filters(model="gpt-5", user_id="a,b")) == "2"
    assert found(five, Filters(tag="beta", status="error")) == "1"
    assert found(five, Filters(conditions=(Condition("tokens", (Range(above=0), Equal(0))),))) == "0123"
    assert found(five, Filters(conditions=(Condition("attributes.tenant", (Pattern(("", "")),)),))) == "0123"
    assert found(five, Filters(conditions=(Condition("user_id", ()),))) == ""
    assert found(five, Filters(conditions=(Condition("user_id", (), negated=True),))) == "01234"


LONG = [
    "123456789012345678", "123456789012345679", 123456789012345678, 123456789012345679, 1234567890123456789,
    "9007199254740993", "9007199254740992", 9007199254740993, 0.30000000000000004, "12345678901234567890",
    -(2**63), "100000000000.0000", 1e17, 123456789012345, "123456789012345.0",
]  # fmt: skip
IDENTIFIED: list[ProviderTrace] = [
    make_trace(id="abcdefghijklmno"[at], started_at=NOON + at, attributes={"chat": value})
    for at, value in enumerate(LONG)
]


@pytest.fixture(scope="module")
def identified(make_lasting_backend: Callable[[], Backend]) -> Backend:
    """A record for each of them; only read."""
    backend = make_lasting_backend()
    backend.write(IDENTIFIED)
    return backend


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("chat:123456789012345678", "ac"),
        ("chat:123456789012345679", "bd"),
        ('chat:"123456789012345678"', "ac"),
        ("chat!=123456789012345678", "bdefghijklmno"),
        ("chat:123456789012345678,123456789012345679", "abcd"),
        ("chat:1234567890123456789", "e"),
        ("chat:9007199254740992", "g"),
        ("chat:9007199254740993", "fh"),
        ("chat:9007199254740993.0", ""),
        ("chat>=9007199254740993 chat<=9007199254740993", "fgh"),
        ("chat:0.30000000000000004", "i"),
        ("chat:0.3", ""),
        ("chat:12345678901234567890", "j"),
        ("chat>999999999999999999", "e"),
        ("chat:-9223372036854775808", "k"),
        ("chat:100000000000", ""),
        ("chat:100000000000.0000", "l"),
        ("chat:100000000000000000", ""),
        ("chat:123456789012345", "n"),
        ("chat:0123456789012345", ""),
    ],
)
def test_long_identifiers_are_compared_by_all_their_digits(identified: Backend, query: str, ids: str) -> None:
    """What is longer than a float is exact equals its own digits, as text or integer, and no neighbour."""
    filters = Filters.parse(query)
    assert "".join(trace.id for trace in IDENTIFIED if filters.matches(trace)) == ids
    assert found(identified, filters) == ids


def test_texts_of_many_digits_are_no_numbers(backend: Backend) -> None:
    """A text counts as a number up to 18 digits before the point and 18 behind it, on every store."""
    texts = ["9" * 18, "9" * 19, "-" + "9" * 18, "-" + "9" * 19, f"1.{'3' * 18}", f"1.{'3' * 19}", "1.", "-", "3" * 36]
    records = [make_trace(id=str(at), started_at=NOON + at, attributes={"n": text}) for at, text in enumerate(texts)]
    backend.write(records)
    filters = Filters(conditions=(Condition("attributes.n", (Range(),)),))
    for chosen in (filters, Filters.parse("n<=0"), Filters.parse("n>0")):
        assert found(backend, chosen) == "".join(record.id for record in records if chosen.matches(record))
    assert found(backend, filters) == "024"


def test_many_values_of_one_key(five: Backend) -> None:
    """A thousand values of a key are asked for at once, on every store; more are an error before any is asked."""
    others = tuple(f"other-{number}" for number in range(998))

    def listed(filters: Filters) -> str:
        return "".join(sorted(record.id for record in five.list(filters).traces))

    assert found(five, Filters(user_id=OneOf(("ann", *others, "bot")))) == "01"
    assert listed(Filters(user_id=NoneOf(("ann", *others, "bot")))) == "234"
    for key, values, ids in (
        ("attributes.score", ("3", *map(str, range(1000, 1998)), "0.5"), "02"),
        ("agent_tags", (*others, "nightly", "beta"), "01"),
        ("http_status", (*range(1000, 1998), 200, 429), "01"),
        ("model", (*others, "gpt-5", "x"), "23"),
    ):
        assert listed(Filters(conditions=(Condition(key, tuple(map(Equal, values))),))) == ids
    patterns = tuple(Pattern((f"b{number}", "")) for number in range(998))
    tests = (*patterns, Pattern(("an", "")), Equal("bot"))
    assert listed(Filters(conditions=(Condition("user_id", tests),))) == "01"
    for make in (
        lambda: Filters(user_id=OneOf(("ann", "bob", "c", *others))),
        lambda: Filters(conditions=(Condition("tokens", tuple(map(Equal, range(1001)))),)),
        lambda: Filters.parse("n:" + ",".join(map(str, range(1001)))),
    ):
        with pytest.raises(QueryError, match="at most 1000 values, not 1001"):
            make()


def test_deletion(backend: Backend) -> None:
    """A deletion by any filter deletes what the filter lists, and nothing else."""
    backend.write(FIVE)
    assert backend.delete(Filters.parse("tenant:*e* -user:ann")) == 1  # pyright: ignore[reportAttributeAccessIssue]
    assert found(backend, Filters()) == "0234"


@several
@given(
    records=st.lists(query_examples.records, max_size=8, unique_by=lambda trace: trace.id), query=query_examples.queries
)
@example(records=FIVE, query="-tokens>1000 -tenant:a* n:none")
def test_any_query(empty_backend: Callable[[], Backend], records: list[ProviderTrace], query: str) -> None:
    """For any records and any query every store finds what plain Python finds."""
    filters = Filters.parse(query, now=NOON, zone=UTC)
    backend = empty_backend()
    backend.write(records)
    expected = query_examples.ids([trace for trace in records if filters.matches(trace)])
    assert query_examples.ids(list(backend.list(filters, limit=50).traces)) == expected, query
