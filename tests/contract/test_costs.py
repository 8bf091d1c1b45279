"""Sums of prices that a store makes: equal, to the last digit, to the sum over the calls, and with the same reasons."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmspan.backends.base import Backend, Filters, SupportsUsageSums
from llmspan.backends.bounded_classes import SupportsPriceBounds
from llmspan.backends.price_classes import LEAST_SPAN
from llmspan.bills import Bill, Group, bills
from llmspan.cli.sums import add_estimates
from llmspan.cost import EXACT, Cost, PriceLimits, cost_of, limits_of, price_limits
from llmspan.estimate import ESTIMATED_INPUT, ESTIMATED_OUTPUT
from llmspan.own_prices import OwnPrice, OwnPrices
from llmspan.reader import Reader
from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from records import DAY, NOON, make_trace, several

pytest.importorskip("genai_prices")

from genai_prices import data_snapshot

HOUR = 3_600_000_000_000
NO_OWN = OwnPrices()
MODELS = [
    ("openai", "gpt-5"), ("openai", "gpt-5.4"), ("openai", "gpt-4o-realtime-preview"), ("openai", "o3"),
    ("openai", "gpt-4o-transcribe"), ("anthropic", "claude-sonnet-4-5"), ("anthropic", "claude-opus-4-6"),
    ("anthropic", "claude-3-haiku"), ("gcp.gemini", "gemini-2.5-pro"), ("gcp.vertex_ai", "gemini-2.5-flash"),
    ("deepseek", "deepseek-chat"), ("deepseek", "deepseek-v4-pro"), ("x_ai", "grok-4.3"), ("openai", "unheard-of"),
    ("nobody", "gpt-5"), ("openai", None), ("openai", ""),
]  # fmt: skip


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


_edges = [32_000, 128_000, 199_999, 200_000, 272_000]
_counts = (
    st.none()
    | st.sampled_from([0, 1, 2, LEAST_SPAN - 1, LEAST_SPAN, 10**15, 10**15 + 1, 2**63 - 1, -1])
    | st.sampled_from([edge + by for edge in _edges for by in (-1, 0, 1)])
    | st.integers(0, 3_000)
    | st.integers(0, 2**40)
)
_small = st.none() | st.integers(0, 500)
_details = st.dictionaries(
    st.sampled_from([
        "cache_write_5m_tokens", "cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens",
        "cache_read_audio_tokens", "image_input_tokens", "image_output_tokens", "video_input_tokens",
        "web_search_requests", "cache_write_12h_tokens", "cache_write_24h_tokens", "iterations_input_tokens",
        "iterations_output_tokens", "something_tokens", "a\\b", 'cache_write_5m_tokens"', "\0",
    ]),
    st.integers(0, 20) | st.sampled_from([0, 0, 0, -3, 10**15, 10**16, 2**63, 2**70]),
    max_size=4,
)  # fmt: skip
_words = st.sampled_from(
    [
        None,
        "standard",
        "fast",
        "ON_DEMAND",
        "ON_DEMAND_FLEX",
        "PROVISIONED_THROUGHPUT",
        "global",
        "us",
        "",
        "=",
        "?",
        'a"b',
        "a\\b",
        "\0",
        "ü",
        1,
        True,
        {},
    ]
)
_raws = st.none() | st.fixed_dictionaries(
    {"input_tokens": st.integers(0, 9)},
    optional={
        "trafficType": _words,
        "speed": _words,
        "inference_geo": _words,
        "iterations": st.just([{"speed": "fast"}]),
        "x": _words,
    },
)
_times = st.sampled_from([
    NOON, NOON + 1, 0, -1, -(2**63), 2**63 - 1, instant("2025-06-09T23:59:59") + 999_999_999, instant("2025-06-10"),
    instant("2026-03-12T23:59:59"), instant("2026-03-13"), instant("2026-08-17") - 1, instant("2026-08-17"),
    *(NOON - 12 * HOUR + by for hour in (0.5, 1, 4, 6, 10, 16.5) for by in (int(hour * HOUR), int(hour * HOUR) - 1)),
])  # fmt: skip


def _usages(counts: st.SearchStrategy[int | None]) -> st.SearchStrategy[Usage]:
    return st.builds(
        Usage, input_tokens=counts, output_tokens=counts, cache_read_tokens=counts, cache_write_tokens=counts,
        details=_details, raw=_raws, source=st.sampled_from(["provider", "provider", "provider", "partial", "none"]),
    )  # fmt: skip


def _consistent(usage: Usage) -> Usage:
    """Counts as providers report them: the parts are within the whole."""
    parts = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    return replace(usage, input_tokens=min((usage.input_tokens or 0) + parts + 50, 2**63 - 1))


_any_usage = _usages(_counts) | _usages(_small) | _usages(_small).map(_consistent) | _usages(_counts).map(_consistent)


@st.composite
def _calls(draw: st.DrawFn) -> list[ProviderTrace]:
    """Calls of few models, so that many are in one class."""
    models = draw(st.lists(st.sampled_from(MODELS), min_size=1, max_size=2))
    tiers = st.sampled_from([None, "default", "standard", "flex", "batch", "priority", "", "a'b"])
    calls = st.builds(
        lambda model, response, tier, at, usage, user: make_trace(
            provider=model[0], request_model=model[1], response_model=response, service_tier=tier, started_at=at,
            usage=usage, user_id=user,
        ),
        st.sampled_from(models), st.sampled_from([None, None, "", "gpt-5"]), tiers, _times, _any_usage,
        st.sampled_from([None, "a", "b"]),
    )  # fmt: skip
    return draw(st.lists(calls, max_size=12))


def plain_bills(records: Sequence[ProviderTrace], names: Sequence[str], own: OwnPrices = NO_OWN) -> dict[Group, Bill]:
    found: defaultdict[Group, Bill] = defaultdict(Bill)
    for trace in records:
        model = trace.request_model if trace.response_model is None else trace.response_model
        values = {"model": model, "day": f"{trace.started:%Y-%m-%d}"}
        bill = found[tuple(values[name] if name in values else getattr(trace, name) for name in names)]
        cost = cost_of(trace, own)
        if cost.amount is None:
            bill.unpriced[cost.reason] += 1
        else:
            with localcontext(EXACT):
                bill.amounts[cost.currency] = bill.amounts.get(cost.currency, 0) + cost.amount
            bill.priced += 1
    return found


class _Once(Reader):
    """A reader that reads no records one by one."""

    def iterate(self, *arguments: Any, **more: Any) -> Any:
        if isinstance(self.backend, SupportsUsageSums):
            raise AssertionError("read call by call")
        return super().iterate(*arguments, **more)


def bills_of(
    backend: Backend, names: Sequence[Any], filters: Filters | None = None, own: OwnPrices = NO_OWN
) -> dict[Group, Bill]:
    return bills(_Once(backend), names, filters or Filters(), own)


@several
@given(
    records=_calls(), names=st.lists(st.sampled_from(["model", "day", "user_id", "status"]), max_size=2, unique=True)
)
def test_sums_equal_the_sum_over_the_calls(empty_backend, records, names):
    """For any calls and groups: amounts, numbers of priced calls, and reasons with their numbers."""
    backend = empty_backend()
    backend.write(records)
    assert bills_of(backend, names) == plain_bills(records, names)
    backend.shutdown()


OWN = OwnPrices(
    (
        OwnPrice(
            provider="openai", model="gpt-5*", currency="EUR", valid_from=NOON, input=Decimal(1), output=Decimal(8),
        ),
        OwnPrice(
            provider="anthropic", model="*", above_input_tokens=1_000, input=Decimal(6), output=Decimal(30),
            cache_read=Decimal("0.6"),
        ),
        OwnPrice(
            provider="anthropic", model="*", service_tier="*", input=Decimal(3), output=Decimal(15),
            cache_read=Decimal("0.3"), cache_write=Decimal("3.75"), cache_write_1h=Decimal(6),
            per_thousand_web_searches=Decimal(10), per_request=Decimal("0.001"),
        ),
        OwnPrice(provider="*", model="*", host="llm.example.com", per_request=Decimal("0.002")),
    ),
    "own",
)  # fmt: skip


@settings(several, max_examples=10)
@given(
    records=_calls(),
    hosts=st.lists(st.sampled_from([None, "llm.example.com", "api.openai.com"]), min_size=1, max_size=3),
)
def test_sums_with_own_prices_equal_the_sum_over_the_calls(empty_backend, records, hosts):
    """Own prices by date, context size, tier, lifetime, request and host, in two currencies: sums are of calls."""
    records = [replace(record, server_address=hosts[at % len(hosts)]) for at, record in enumerate(records)]
    backend = empty_backend()
    backend.write(records)
    assert bills_of(backend, ["user_id"], own=OWN) == plain_bills(records, ["user_id"], OWN)
    backend.shutdown()


def test_own_prices_are_summed_up_by_the_store(backend):
    """Own prices are part of the classes: no call is read, and currencies stay apart."""
    used = Usage(input_tokens=2_000_000, output_tokens=1_000_000, source="provider")
    records = [make_trace(usage=used), make_trace(usage=used, started_at=NOON - 1)]
    records += [make_trace(provider="anthropic", request_model="own", usage=used)] * 2
    records += [make_trace(request_model="own", server_address="llm.example.com", usage=Usage())]
    backend.write([replace(record, id=f"id-{at}") for at, record in enumerate(records)])
    (bill,) = bills_of(backend, [], own=OWN).values()
    # 1 EUR and 8 EUR; $1.25 and $10 before; twice $6 and $30, beyond 1,000 tokens; a request
    assert bill == Bill({"EUR": Decimal(10), "USD": Decimal("12.5") + 84 + Decimal("0.002")}, 5)


@pytest.mark.parametrize(
    ("price", "usage"),
    [
        ({"input": 1, "audio_output": 12}, {"input_tokens": 10, "output_tokens": 500, "audio_output_tokens": 500}),
        ({"audio_input": 6, "output": 10}, {"input_tokens": 800, "output_tokens": 5, "audio_input_tokens": 800}),
        (
            {"input": 3, "output": 15, "cache_write_1h": 6},
            {"input_tokens": 800, "output_tokens": 5, "cache_write_tokens": 90, "cache_write_1h_tokens": 90},
        ),
    ],
)
def test_an_own_price_for_the_parts_only(empty_backend, price, usage):
    """Calls of speech models have no text tokens: a price without one for text is a price, in sums as for a call."""
    own = OwnPrices((OwnPrice(provider="openai", model="own", **{name: Decimal(n) for name, n in price.items()}),), "o")
    columns = {name: count for name, count in usage.items() if hasattr(Usage(), name)}
    details = {name: count for name, count in usage.items() if name not in columns}
    record = make_trace(request_model="own", usage=Usage(**columns, details=details, source="provider"))
    backend = empty_backend()
    backend.write([record])
    assert cost_of(record, own).amount is not None
    assert bills(Reader(backend), ["model"], None, own) == plain_bills([record], ["model"], own)


def test_many_calls_are_few_classes(backend):
    """Calls that differ in their counts only are one class, of which nothing but sums is read."""
    if not isinstance(backend, SupportsUsageSums):
        pytest.skip("call by call")
    records = [
        make_trace(
            provider="anthropic", request_model="claude-sonnet-4-5", service_tier="standard", started_at=NOON + at,
            usage=Usage.from_raw({
                "input_tokens": 10 + at, "cache_read_input_tokens": 1 + 3 * at, "cache_creation_input_tokens": 7 + at,
                "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4 + at},
                "output_tokens": 5 + at, "inference_geo": "global", "speed": "standard",
            }),
        )
        for at in range(40)
    ]  # fmt: skip
    backend.write(records)
    limits = price_limits()
    assert limits is not None
    classes = backend.price_classes(["model"], None, limits)
    assert classes is not None
    assert [(one.calls, one.sums is None) for one in classes] == [(40, False)]
    assert bills_of(backend, ["model"]) == plain_bills(records, ["model"])


def test_calls_of_one_price_are_summed_up_at_once(backend, monkeypatch):
    """Of calls between whose bounds no price changes only sums by model are read; some may have written no cache."""
    if not isinstance(backend, SupportsPriceBounds) or backend.price_bounds([], None, by_host=False) is None:
        pytest.skip("the store has no columns for that")
    raw = {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 5, "inference_geo": "global"}
    lifetimes = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
    usages = [raw, {**raw, "cache_creation_input_tokens": 7, "cache_creation": lifetimes}]
    usages += [{**raw, "cache_creation_input_tokens": 0, "output_tokens": 0}] * 2
    records = [
        make_trace(
            provider="anthropic", request_model="claude-sonnet-4-5", started_at=NOON + at, usage=Usage.from_raw(u)
        )
        for at, u in enumerate(usages[1:])
    ]
    backend.write(records)
    monkeypatch.setattr(Reader, "price_classes", None)
    monkeypatch.setattr(Reader, "price_classes_of", None)
    assert bills_of(backend, ["model", "day"]) == plain_bills(records, ["model", "day"])
    monkeypatch.undo()
    # not all of them say how much was written, and one is beyond a limit
    others = [replace(records[0], id="a", usage=Usage.from_raw(raw))]
    others += [replace(records[0], id="b", usage=Usage(input_tokens=300_000, output_tokens=1, source="provider"))]
    others += [make_trace(id="c", usage=Usage(input_tokens=-1, output_tokens=1, source="provider"))]
    backend.write(others)
    assert bills_of(backend, ["model", "day"]) == plain_bills([*records, *others], ["model", "day"])


@pytest.mark.parametrize("tokens", [199_998, 199_999, 200_000, 200_001, 272_000, 272_001])
def test_both_sides_of_a_limit(backend, tokens):
    """A call whose input is beyond a limit has another price for all its tokens, whatever calls are beside it."""
    usages = [
        Usage(input_tokens=count, output_tokens=3, source="provider") for count in (1_000, tokens, tokens, 300_000)
    ]
    records = [make_trace(provider=p, request_model=m, usage=usage) for p, m in MODELS[:12] for usage in usages]
    backend.write(records)
    assert bills_of(backend, ["provider", "model"]) == plain_bills(records, ["provider", "model"])


def _models_with_limits_in_time() -> list[ProviderTrace]:
    """A call of each model whose price changes with time."""
    snapshot = data_snapshot.get_snapshot()
    calls = [
        make_trace(
            id=f"{provider.id} {model.id}",
            provider=provider.id,
            request_model=model.id,
            usage=Usage(input_tokens=2000, output_tokens=1000, source="provider"),
        )
        for provider in snapshot.providers
        for model in provider.models
    ]
    limits = [(call, limits_of(call) or PriceLimits()) for call in calls]
    return [call for call, limit in limits if limit.instants or limit.daytimes]


def _around_limits(call: ProviderTrace) -> list[ProviderTrace]:
    """The call just before each limit in time, at it, and at the same hour of a day before; a user for each limit."""
    limits = limits_of(call) or PriceLimits()
    day = (limits.instants[-1] if limits.instants else 0) // DAY * DAY + 7 * DAY
    times = [*limits.instants, *(day + daytime for daytime in limits.daytimes)]
    return [
        replace(call, id=f"{call.id} {limit} {started}", user_id=f"{limit}", started_at=started)
        for limit in times
        for started in (limit - DAY, limit - 1, limit)
    ]  # fmt: skip


def test_both_sides_of_a_moment(backend):
    """A call before a price changes, by day or by hour, has the old price, for every model whose price does."""
    records = [trace for call in _models_with_limits_in_time() for trace in _around_limits(call)]
    backend.write(records)
    names = ["provider", "model", "user_id"]
    found = bills_of(backend, names)
    assert found == plain_bills(records, names)
    costs = defaultdict[Group, set[Any]](set)
    for trace in records:
        costs[trace.provider, trace.request_model, trace.user_id].add(cost_of(trace))
    changes = [int(user or "") % DAY == 0 for (_, _, user), prices in costs.items() if len(prices) > 1]
    assert Counter(changes) > Counter({True: 10, False: 5})


def test_filters_choose_the_calls(backend):
    """Only what the filters mean is on the bill."""
    records = [make_trace(started_at=NOON + at, user_id="a" if at % 2 else "b") for at in range(6)]
    backend.write(records)
    found = bills_of(backend, [], Filters(user_id="a", since=NOON + 2))
    assert found == plain_bills([records[3], records[5]], [])
    assert bills_of(backend, [], Filters(user_id="c")) == {}


def test_sums_beyond_28_digits(backend):
    """Sums are exact beyond the precision that Python's decimals have by default."""
    huge = [make_trace(usage=Usage(input_tokens=2**63 - 1, output_tokens=2**63 - 1, source="provider"))] * 3
    small = [make_trace(usage=Usage(input_tokens=1, output_tokens=at, source="provider")) for at in range(3)]
    records = [replace(trace, id=f"id-{at}") for at, trace in enumerate([*huge, *small])]
    backend.write(records)
    (found,) = bills_of(backend, []).values()
    assert found == plain_bills(records, [])[()]
    assert found.amounts["USD"] == EXACT.divide(
        EXACT.multiply(3 * 2**63, Decimal("11.25")), 10**6
    )  # $1.25 and $10 a million


def test_prices_that_are_not_linear_are_looked_up_call_by_call(backend, monkeypatch):
    """Where a price is no constant and rates, or the limits are not known, each call is priced by itself."""
    records = [make_trace(usage=Usage(input_tokens=at, output_tokens=5, source="provider")) for at in range(1, 9)]
    backend.write(records)

    def squared(trace: ProviderTrace, own: OwnPrices) -> Cost:
        return Cost(Decimal(trace.usage.input_tokens or 0) ** 2, "USD")

    with monkeypatch.context() as patched:
        patched.setattr("llmspan.bills.cost_of", squared)
        (found,) = bills(Reader(backend), [], Filters()).values()
        assert (found.amounts["USD"], found.priced) == (sum(at**2 for at in range(1, 9)), 8)
    monkeypatch.setattr("llmspan.bills.price_limits", lambda own: None)
    assert bills(Reader(backend), [], Filters()) == plain_bills(records, [])


def test_limits_that_are_close(backend):
    """Calls between two limits that leave no room for examples are not summed up, and all are there."""
    if not isinstance(backend, SupportsUsageSums):
        pytest.skip("call by call")
    backend.write([make_trace(usage=Usage(input_tokens=at, source="provider")) for at in range(200)])
    classes = backend.price_classes([], None, PriceLimits(tokens=(50, 51, 150)))
    assert classes is not None
    assert sum(one.calls for one in classes) == 200
    summed = sorted(one.sums["input_tokens"] for one in classes if one.sums is not None)
    assert summed == sorted([0, sum(range(52, 151)), sum(range(151, 200))])
    assert Counter(one.calls for one in classes if one.sums is None) == {1: 51}


_estimated = st.dictionaries(
    st.sampled_from([ESTIMATED_INPUT, ESTIMATED_OUTPUT, "a\\b", "x"]),
    st.sampled_from([0, 0, 7, 10**14, 10**16, 2**70, -1]),
    max_size=3,
)


@several
@given(
    records=st.lists(
        st.builds(
            lambda details, source, user: make_trace(usage=Usage(details=details, source=source), user_id=user),
            _estimated, st.sampled_from(["none", "none", "provider"]), st.sampled_from([None, "a"]),
        ),
        max_size=6,
    )
)  # fmt: skip
def test_sums_of_estimates(empty_backend, records):
    """Estimates are in sums as if each call had been read, of the calls without usage only."""
    backend = empty_backend()
    backend.write(records)
    rows = add_estimates(backend.stats(["user_id"]), Reader(backend), ["user_id"], Filters())
    for row in rows:
        group = [trace for trace in records if trace.user_id == row.group["user_id"] and trace.usage.source == "none"]
        for name, total in ((ESTIMATED_INPUT, row.input_tokens), (ESTIMATED_OUTPUT, row.output_tokens)):
            counts = [trace.usage.details[name] for trace in group if name in trace.usage.details]
            assert (row.details.get(name), total) == ((sum(counts),) * 2 if counts else (None, None))
    backend.shutdown()


def test_estimates_are_summed_up_by_the_store(backend):
    """No call is read for them."""
    backend.write([make_trace(usage=Usage(details={ESTIMATED_INPUT: at, ESTIMATED_OUTPUT: 1})) for at in range(5)])
    (row,) = add_estimates(backend.stats([]), _Once(backend), [], Filters())
    assert (row.input_tokens, row.output_tokens, row.details) == (10, 5, {ESTIMATED_INPUT: 10, ESTIMATED_OUTPUT: 5})
