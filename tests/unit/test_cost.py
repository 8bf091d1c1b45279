"""Prices: the list price where it holds, and a reason instead of a guess where it does not."""

from __future__ import annotations

from datetime import date, time, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from llmspan.cost import Cost, PriceLimits, cost_of, price_limits
from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from records import make_trace

pytest.importorskip("genai_prices")

import genai_prices
from genai_prices import types

GPT = {"prompt_tokens": 1_000, "completion_tokens": 500, "prompt_tokens_details": {"cached_tokens": 600}}
CLAUDE = {
    "input_tokens": 400,
    "cache_read_input_tokens": 600,
    "cache_creation_input_tokens": 1_000,
    "cache_creation": {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 600},
    "output_tokens": 500,
}


def gpt(raw: dict[str, Any] = GPT, **fields: Any) -> ProviderTrace:
    return make_trace(request_model="gpt-5", usage=Usage.from_raw(raw), **fields)


def claude(**raw: Any) -> ProviderTrace:
    usage = Usage.from_raw({**CLAUDE, **raw})
    return make_trace(provider="anthropic", request_model="claude-sonnet-4-20250514", usage=usage)


@pytest.mark.peer_fault("N3")
def test_cached_input_has_its_own_price() -> None:
    """400 fresh at $1.25, 600 cached at $0.125, 500 out at $10 per million."""
    cost = cost_of(gpt())
    assert cost == Cost(Decimal("0.005575"), "USD", "", "openai gpt-5", f"genai-prices {genai_prices.__version__}")
    assert cost_of(gpt(service_tier="default")) == cost


def test_cache_writes_are_priced_by_their_lifetime() -> None:
    """5 minutes at 1.25 times, an hour at twice the input price."""
    assert cost_of(claude()).amount == Decimal("0.01398")


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (gpt(response_model="unheard-of"), "unknown model"),
        (gpt(provider="unheard.of"), "unknown model"),
        (gpt({}), "no usage"),
        (gpt(service_tier="flex"), "service tier flex"),
        (gpt({**GPT, "prompt_tokens_details": {"cached_tokens": 2_000}}), "the usage contradicts itself"),
        (make_trace(usage=Usage.from_raw(GPT, final=False)), "partial usage"),
        (claude(speed="fast"), "speed fast"),
        (claude(inference_geo="us"), "inference in us"),
        (claude(iterations=[{"input_tokens": 9, "output_tokens": 9}] * 2), "billed by the pass (compaction, advisor)"),
        (
            gpt(
                {
                    **GPT,
                    "prompt_tokens_details": {
                        "cache_write_tokens": 9,
                        "cache_write_tokens_details": {"ttl_30m_tokens": 0, "ttl_12h_tokens": 9},
                    },
                }
            ),
            "no price for cache writes of 12 hours",
        ),
    ],
)
def test_what_is_not_known_has_a_reason(trace: ProviderTrace, reason: str) -> None:
    """No figure is made up: the price is None and the reason says why."""
    cost = cost_of(trace)
    assert (cost.amount, cost.currency, cost.reason) == (None, None, reason)


def test_one_pass_is_what_the_totals_say() -> None:
    """`iterations` that add up to the totals hide nothing."""
    assert cost_of(claude(iterations=[{**CLAUDE}])).amount == Decimal("0.01398")


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("azure.ai.openai", "gpt-4o"),
        ("aws.bedrock", "anthropic.claude-sonnet-4-20250514-v1:0"),
        ("gcp.vertex_ai", "gemini-2.5-pro"),
        ("x_ai", "grok-4"),
        ("mistral_ai", "mistral-large-latest"),
        ("deepseek", "deepseek-chat"),
        ("groq", "llama-3.3-70b-versatile"),
    ],
)
def test_vendors_are_known_by_their_semantic_names(provider: str, model: str) -> None:
    """What ``gen_ai.provider.name`` calls a vendor is found in the price data."""
    usage = Usage(input_tokens=1_000, output_tokens=10, source="provider")
    cost = cost_of(make_trace(provider=provider, request_model=model, usage=usage))
    assert cost.reason == ""
    assert cost.amount is not None
    assert cost.amount > 0


@pytest.mark.parametrize(
    ("word", "shown"), [({}, "{}"), (["us"], "['us']"), (1, "1"), (True, "True"), ("\x1b", "\x1b")]
)
def test_a_region_of_any_kind(word: Any, shown: str) -> None:
    """Whatever a provider sends in a name's place is a reason, and no failure."""
    cost = cost_of(claude(inference_geo=word))
    assert (cost.amount, cost.reason) == (None, f"inference in {shown}")


class _Snapshot:
    """Price data of one model."""

    def __init__(self, prices: Any) -> None:
        self.providers = [SimpleNamespace(models=[SimpleNamespace(prices=prices, price_variants=None)])]


def limits_of(monkeypatch: pytest.MonkeyPatch, prices: Any) -> PriceLimits | None:
    monkeypatch.setattr("genai_prices.data_snapshot.get_snapshot", lambda: _Snapshot(prices))
    return price_limits()


def test_limits_are_those_of_all_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiers, the days from which prices hold, and the hours, in UTC; what has none adds none."""
    tiered = types.TieredPrices(Decimal(1), [types.Tier(5, Decimal(2)), types.Tier(300, Decimal(3))])
    plain, other = types.ModelPrice(input_mtok=Decimal(1)), types.ModelPrice(output_mtok=tiered)
    assert limits_of(monkeypatch, plain) == PriceLimits()
    assert limits_of(monkeypatch, other) == PriceLimits(tokens=(5, 300))
    hours = types.TimeOfDateConstraint(time(23, 30, tzinfo=timezone(timedelta(hours=-2))), time(2))
    prices = [
        types.ConditionalPrice(prices=plain),
        types.ConditionalPrice(types.StartDateConstraint(date(1970, 1, 2)), prices=other),
        types.ConditionalPrice(hours, prices=plain),
    ]
    hour = 3_600_000_000_000
    assert limits_of(monkeypatch, prices) == PriceLimits((5, 300), (24 * hour,), (hour * 3 // 2, 2 * hour))


def test_conditions_of_another_kind_have_no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a price may change is not known if its condition is none that we know: then nothing is summed up."""
    weekends = SimpleNamespace(weekdays=[5, 6])
    prices = [types.ConditionalPrice(weekends, prices=types.ModelPrice())]  # type: ignore[arg-type]
    assert limits_of(monkeypatch, prices) is None
