"""The query language by itself: what it means, and what it says of a query that is wrong."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
from datetime import UTC, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interaction import ROOT
from llmspan import Filters, NoneOf, OneOf, QueryError
from llmspan.backends.memory import MemoryBackend
from llmspan.deletion import delete_in
from llmspan.query.conditions import Condition, Contains, Equal, Missing, Pattern, Present, Range
from llmspan.query.keys import KEY_OF_NAME, key_of
from llmspan.reader import Reader
from llmspan.trace import KEYS, KINDS, PAYLOAD_KEYS
from records import DAY, NOON, full_trace, make_trace

HOUR = 3_600_000_000_000


def conditions(text: str) -> tuple[Condition, ...]:
    return Filters.parse(text, now=NOON, zone=UTC).conditions


def test_what_plain_backends_know() -> None:
    """Exact values of the keys that every backend knows become their fields, so that any backend can be asked."""
    parsed = Filters.parse('status:error,incomplete -user:bot run="a b" since:1h until:2026-02-01', now=NOON, zone=UTC)
    expected = Filters(
        status=OneOf(("error", "incomplete")), user_id=NoneOf(("bot",)), run_id="a b", since=NOON - HOUR,
        until=NOON + 12 * HOUR,
    )  # fmt: skip
    assert parsed == expected
    assert parsed.is_plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model:claude*", Condition("model", (Pattern(("claude", "")),))),
        (r"model:\*", None),
        ("tokens>1000", Condition("tokens", (Range(above=1000),))),
        ("tokens:1k..1.5M", Condition("tokens", (Range(at_least=1000, at_most=1_500_000),))),
        ("duration>1.5s", Condition("duration_ns", (Range(above=1_500_000_000),))),
        ("duration_ns:7", Condition("duration_ns", (Equal(7),))),
        ("cached:none", Condition("cache_read_tokens", (Missing(),))),
        ("-cached:any", Condition("cache_read_tokens", (Present(),), negated=True)),
        ("-user!=a*", Condition("user_id", (Pattern(("a", "")),))),
        ("tenant=acme", Condition("attributes.tenant", (Equal("acme"),))),
        ("http.route=/a", Condition("attributes.http.route", (Equal("/a"),))),
        ('attributes."a \\"b\\"":1', Condition('attributes.a "b"', (Equal("1"),))),
        ("attributes.status:x", Condition("attributes.status", (Equal("x"),))),
        ("rating:0..1.5", Condition("attributes.rating", (Range(at_least=0.0, at_most=1.5),))),
        ('rating:"0..1"', Condition("attributes.rating", (Equal("0..1"),))),
        ("score:0..1.5", Condition("annotation.score", (Range(at_least=0.0, at_most=1.5),))),
        ("annotation.helpful:yes", Condition("annotation.helpful", (Equal("yes"),))),
        ('annotation."a b"<1', Condition("annotation.a b", (Range(below=1.0),))),
        ("stream:yes", Condition("stream", (Equal(True),))),
        ('"a b"', Condition("text", (Contains("a b"),))),
        (r"path:C:\dir", Condition("attributes.path", (Equal(r"C:\dir"),))),
        (r"path:a\ b\\c\"", Condition("attributes.path", (Equal(r"a b\c" + '"'),))),
        ("name:O'Neil", Condition("attributes.name", (Equal("O'Neil"),))),
    ],
)
def test_terms(text: str, expected: Condition | None) -> None:
    """Each kind of term, as the condition that it is."""
    assert conditions(text) == (() if expected is None else (expected,))


def test_several_terms_of_one_key() -> None:
    """Values of one key are a choice wherever they stand; comparisons and tags must all hold."""
    assert Filters.parse("user:a user:b,c").user_id == OneOf(("a", "b", "c"))
    assert Filters.parse("user:a", "user:b") == Filters.parse("user:a user:b")
    assert Filters.parse("-user:a user!=b").user_id == NoneOf(("a", "b"))
    assert conditions("user:a user:b*") == (Condition("user_id", (Equal("a"), Pattern(("b", "")))),)
    assert len(conditions("tokens>1 tokens<5")) == 2
    both = Filters.parse("tag:a tag:b")
    assert both.matches(make_trace(agent_tags=("a", "b")))
    assert not both.matches(make_trace(agent_tags=("a",)))


def test_times() -> None:
    """A date is its day in the zone that was asked for; times of the record bound the listing."""
    zone = timezone(timedelta(hours=2))
    assert Filters.parse("started:2026-01-31", zone=zone).since == NOON - 14 * HOUR
    assert Filters.parse("started:2026-01-31", zone=zone).until == NOON + 10 * HOUR
    assert Filters.parse("started>2026-01-31", zone=UTC).since == NOON + 12 * HOUR
    assert Filters.parse("since:2h since:1h until:2026-03-01 until:2026-02-01", now=NOON, zone=UTC) == Filters(
        since=NOON - HOUR, until=NOON + DAY // 2
    )
    assert Filters.parse("since:2026-01-31T13:00+01:00", zone=zone).since == NOON


@pytest.mark.parametrize(
    ("text", "token", "position", "message"),
    [
        ("user:a status:eror", "status:eror", 8, "choose from ok, error, cancelled, closed_early, incomplete"),
        ("statsu:ok", "statsu:ok", 1, "did you mean status? An attribute of this name is attributes.statsu; the keys"),
        ("Status:ok", "Status:ok", 1, "did you mean status?"),
        ("respons_modle:x", "respons_modle:x", 1, "did you mean response_model?"),
        ("sinec:1h", "sinec:1h", 1, "did you mean since?"),
        ("tokens>many", "tokens>many", 1, "'many' is not a whole number of 64 bits, such as 1000, 10k or 1.5M"),
        ("tokens>1.5", "tokens>1.5", 1, "'1.5' is not a whole number"),
        ("tokens>99999999999999999999", "tokens>99999999999999999999", 1, "is not a whole number of 64 bits"),
        ("tokens>1,2", "tokens>1,2", 1, "> takes one value, not 2"),
        ("duration>2x", "duration>2x", 1, "'2x' is not a duration such as 350ms, 2s, 1.5m or 1h"),
        ("duration>0.5ns", "duration>0.5ns", 1, "is not a duration"),
        ("score>high", "score>high", 1, "'high' is not a number such as 3 or 0.25"),
        ("user>a", "user>a", 1, "user_id is no number"),
        ("stream:maybe", "stream:maybe", 1, "'maybe' is neither true nor false"),
        ("since:yesterday", "since:yesterday", 1, "expected 30s, 15m, 24h, 7d, 2w or a time such as"),
        ("-since:1h", "-since:1h", 1, "cannot be negated"),
        ("since:1h,2h", "since:1h,2h", 1, "since takes one time"),
        ("timeout", "timeout", 1, 'a text to search for stands in quotes: "timeout"'),
        ("a:b :c", ":c", 5, "expected a key such as status"),
        ('x:1 user:"a b', '"a b', 10, "the quotes are not closed"),
        ('""', '""', 1, "there is nothing to search for"),
        ("-", "-", 1, "expected a key"),
        ("usage_raw:x", "usage_raw:x", 1, "usage_raw is no single value; the keys are id, trace_id,"),
        ("attributes:x", "attributes:x", 1, "with a name, as in attributes.tenant:acme"),
        ("user:" + "*a" * 20, None, 1, "1 to 16 stars"),
    ],
)
def test_what_is_wrong(text: str, token: str | None, position: int, message: str) -> None:
    """A query that is wrong is an error that names the part, its position, and what would be right."""
    with pytest.raises(QueryError) as caught:
        Filters.parse(text)
    assert message in str(caught.value)
    assert caught.value.position == position
    assert token is None or caught.value.token == token
    assert f"(character {position})" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_limits() -> None:
    """A query is bounded, in characters and in terms."""
    with pytest.raises(QueryError, match="at most 10000 characters"):
        Filters.parse("user:" + "a" * 10_000)
    with pytest.raises(QueryError, match="at most 100 terms, not 101"):
        Filters.parse("user:a " * 101)


@given(st.text(max_size=30) | st.text('user:tokens"*,\\-.=<>! 19ab', max_size=30))
def test_any_text(text: str) -> None:
    """Any text is a query or a QueryError, never another exception."""
    with contextlib.suppress(QueryError):
        Filters.parse(text).matches(make_trace())


@given(st.text(min_size=1, max_size=20), st.text(max_size=20))
def test_quotes(name: str, value: str) -> None:
    """Any name of an attribute and any value can be written, in quotes with two escapes."""
    quoted = ['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in (name, value)]
    (condition,) = conditions(f"attributes.{quoted[0]}:{quoted[1]}")
    assert condition == Condition(f"attributes.{name}", (Equal(value),))


def test_every_scalar_key() -> None:
    """Each key of the record that is a single value, and each list, can be asked for; a full record has them all."""
    record = full_trace()
    for key in KEYS:
        if KINDS[key] in ("map", "json") or key in PAYLOAD_KEYS:
            continue
        assert key_of(key).name == key
        if key_of(key).is_optional:
            assert Filters.parse(f"{key}:any").matches(record), key
            assert not Filters.parse(f"{key}:none").matches(record), key


def test_names_are_no_misspelt_keys() -> None:
    """No name of a key is taken for another one, and common names of attributes are attributes."""
    for name, key in KEY_OF_NAME.items():
        assert key_of(name) is key
    for name in ("tenant", "team", "env", "feature", "customer", "version", "store", "region", "stage"):
        assert key_of(name).kind == "attribute"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Condition("user", (Equal("a"),)), "user means user_id"),
        (lambda: Condition("status", (Equal("eror"),)), "choose from ok"),
        (lambda: Condition("tokens", (Equal("1"),)), "cannot be compared with '1'"),
        (lambda: Condition("user_id", (Equal(1),)), "cannot be compared with 1"),
        (lambda: Condition("user_id", (Range(above=1),)), "of the kind 'text', for which there is no Range"),
        (lambda: Condition("tokens", (Range(above=2**63),)), "whole number of 64 bits"),
        (lambda: Condition("tokens", (Range(above=0.5),)), "whole number of 64 bits"),
        (lambda: Condition("usr_id", ()), "did you mean user_id"),
        (lambda: Condition("tenant", ()), "tenant means attributes.tenant"),
    ],
)
def test_typed_conditions_are_checked(make, message: str) -> None:
    """A condition that no record could be asked for is an error where it is made."""
    with pytest.raises(QueryError, match=message):
        make()


def test_backends_that_know_less() -> None:
    """``choices()``, which older backends use, never leaves a condition out without a word."""
    assert Filters(user_id="a").choices() == {"user_id": OneOf(("a",))}
    for filters in (Filters(model="m"), Filters(tag="t"), Filters.parse("tokens>1")):
        with pytest.raises(QueryError, match="conditions that this backend does not know"):
            filters.choices()


class Older(MemoryBackend):
    """A backend that was written for the filters of earlier versions, and would leave out what it does not know."""

    knows_conditions = False


@pytest.mark.parametrize("ask", ["list", "count", "stats", "list_json", "iterate"])
def test_readers_of_backends_that_know_less(ask: str) -> None:
    """A backend that does not know conditions is never asked for them: the error names it and what it lacks."""
    backend = Older()
    backend.write([make_trace(user_id="a"), make_trace(user_id="b")])
    reader = Reader(backend)
    assert reader.count(Filters(user_id="a")) == 1
    filters = Filters.parse("user:a tokens>1 tag:x")
    with pytest.raises(QueryError, match=r"'memory' .* knows only exact values .* about user_id, agent_tags, tokens"):
        list(reader.stats([], filters) if ask == "stats" else getattr(reader, ask)(filters))
    with pytest.raises(QueryError, match="knows only exact values"):
        delete_in(backend, filters)
    assert reader.count() == 2


def test_the_table_of_keys_is_current() -> None:
    """The page is generated from the table of keys."""
    done = subprocess.run(
        [sys.executable, "docs/query_keys.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
