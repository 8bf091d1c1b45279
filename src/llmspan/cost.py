"""What a call cost, in US dollars, by the prices of the ``genai-prices`` package (``pip install "llmspan[cost]"``).

Offline, and only on request. Rather no figure than a wrong one: where the price data cannot tell a call's price
(service tiers, long cache writes, passes that are billed beside the totals), the answer is None and the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, localcontext
from typing import Any, Final

from .trace import ProviderTrace
from .usage import Usage

__all__ = ["EXACT", "PRICED_COUNTS", "PriceLimits", "available", "cost_of", "price_limits"]

#: the arithmetic of prices: digits for the largest counts at the smallest prices, and for their sums
EXACT: Final = Context(prec=80)

#: the counts that a price is made of, by the names that they have in :class:`Usage` and its details
PRICED_COUNTS: Final = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens", "web_search_requests",
)  # fmt: skip

#: what stands for the list price
_STANDARD: Final = frozenset({None, "", "auto", "default", "on_demand", "standard", "standard_only"})
#: Anthropic's regions at the list price
_ANYWHERE: Final = (None, "", "global", "not_available")  # no set: a provider may send anything

#: ``gen_ai.provider.name`` where genai-prices knows the vendor by another name
_VENDORS: Final = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "x_ai": "x-ai",
}

#: ``usage_details`` that have a price of their own
_PRICED_DETAILS: Final = {
    "cache_write_5m_tokens": "cache_write_5m_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "audio_input_tokens": "input_audio_tokens",
    "audio_output_tokens": "output_audio_tokens",
    "web_search_requests": "web_searches",
}
#: ``usage_details`` that genai-prices has no price for
_UNPRICED_DETAILS: Final = {
    "cache_write_12h_tokens": "no price for cache writes of 12 hours",
    "cache_write_24h_tokens": "no price for cache writes of 24 hours",
}


def available() -> bool:
    """Whether genai-prices is installed."""
    from importlib.util import find_spec

    return find_spec("genai_prices") is not None


def cost_of(trace: ProviderTrace) -> tuple[Decimal | None, str]:
    """The price of a call and an empty reason, or None and the reason why it is not known."""
    reason = _unknowable(trace)
    if reason:
        return None, reason
    from genai_prices import calc_price

    model = trace.response_model or trace.request_model or ""
    vendor = _VENDORS.get(trace.provider, trace.provider)
    try:
        with localcontext(EXACT):
            price = calc_price(_usage(trace), model, provider_id=vendor, genai_request_timestamp=trace.started)
    except LookupError:
        return None, "unknown model"
    except ValueError:
        return None, "the usage contradicts itself"
    if trace.usage.details.get("web_search_requests") and getattr(price.model_price, "web_searches", None) is None:
        return None, "no price for web searches"
    return price.total_price, ""


def _unknowable(trace: ProviderTrace) -> str:
    usage = trace.usage
    raw: Mapping[str, Any] = usage.raw or {}
    if usage.source != "provider" or usage.input_tokens is None:
        return "partial usage" if usage.source == "partial" else "no usage"
    if trace.service_tier not in _STANDARD:
        return f"service tier {trace.service_tier}"
    if raw.get("speed") not in (None, "standard"):
        return f"speed {raw['speed']}"
    if raw.get("inference_geo") not in _ANYWHERE:
        return f"inference in {raw['inference_geo']}"
    if _has_hidden_passes(usage):
        return "billed by the pass (compaction, advisor)"
    found = (reason for name, reason in _UNPRICED_DETAILS.items() if usage.details.get(name))
    return next(found, "")


def _has_hidden_passes(usage: Usage) -> bool:
    """Whether the provider bills passes that its totals leave out."""
    sums = ("iterations_input_tokens", usage.input_tokens), ("iterations_output_tokens", usage.output_tokens)
    return any(usage.details.get(name, total) != total for name, total in sums)


def _usage(trace: ProviderTrace) -> Any:
    import genai_prices

    usage = trace.usage
    details = {theirs: usage.details[ours] for ours, theirs in _PRICED_DETAILS.items() if usage.details.get(ours)}
    return genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        **details,
    )


# -- where prices change


@dataclass(frozen=True, slots=True)
class PriceLimits:
    """Where the price of some model changes. Between two neighbours, every price is the same for each token."""

    #: input tokens beyond which another price holds
    tokens: tuple[int, ...] = ()
    #: nanoseconds since the epoch from which another price holds
    instants: tuple[int, ...] = ()
    #: nanoseconds since midnight, UTC, from which another price holds
    daytimes: tuple[int, ...] = ()


def price_limits() -> PriceLimits | None:
    """The limits in the price data of genai-prices, over all models; None if it has conditions of another kind."""
    from genai_prices import data_snapshot

    tokens: set[int] = set()
    instants: set[int] = set()
    daytimes: set[int] = set()
    try:
        for constraint, prices in _price_lists(data_snapshot.get_snapshot()):
            tokens |= {tier.start for price in vars(prices).values() for tier in getattr(price, "tiers", ())}
            if hasattr(constraint, "start_date"):
                instants.add(_nanoseconds(datetime.combine(constraint.start_date, time(), UTC)))
            elif constraint is not None:
                daytimes |= {_daytime(constraint.start_time), _daytime(constraint.end_time)}
    except AttributeError:
        return None
    return PriceLimits(tuple(sorted(tokens)), tuple(sorted(instants)), tuple(sorted(daytimes)))


def _price_lists(snapshot: Any) -> Iterator[tuple[Any, Any]]:
    """Each list of prices, and the condition under which it holds."""
    for provider in snapshot.providers:
        for model in provider.models:
            if isinstance(model.prices, list):
                yield from ((conditional.constraint, conditional.prices) for conditional in model.prices)
            else:
                yield None, model.prices


def _daytime(moment: time) -> int:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    utc = datetime.combine(date(1970, 1, 1), aware).astimezone(UTC)
    return _nanoseconds(datetime.combine(date(1970, 1, 1), utc.time(), UTC))


def _nanoseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
