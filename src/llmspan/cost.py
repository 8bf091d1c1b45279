"""What a call cost, in US dollars, by the prices of the ``genai-prices`` package (``pip install "llmspan[cost]"``).

Offline, and only on request. Rather no figure than a wrong one: where the price data cannot tell a call's price
(service tiers, long cache writes, passes that are billed beside the totals), the answer is None and the reason.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, localcontext
from typing import Any, Final

from .trace import ProviderTrace
from .usage import Usage

__all__ = ["EXACT", "PRICED_COUNTS", "PriceLimits", "available", "cost_of", "limits_of", "price_limits"]

#: the arithmetic of prices: digits for the largest counts at the smallest prices, and for their sums
EXACT: Final = Context(prec=80)

#: the counts that a price is made of, by the names that they have in :class:`Usage` and its details
PRICED_COUNTS: Final = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens", "web_search_requests",
)  # fmt: skip

_DAY_NS: Final = 86_400_000_000_000

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

    try:
        with localcontext(EXACT):
            price = calc_price(
                _usage(trace), _model(trace), provider_id=_vendor(trace), genai_request_timestamp=trace.started
            )
    except LookupError:
        return None, "unknown model"
    except ValueError:
        return None, "the usage contradicts itself"
    if trace.usage.details.get("web_search_requests") and getattr(price.model_price, "web_searches", None) is None:
        return None, "no price for web searches"
    return price.total_price, ""


def _model(trace: ProviderTrace) -> str:
    return trace.response_model or trace.request_model or ""


def _vendor(trace: ProviderTrace) -> str:
    return _VENDORS.get(trace.provider, trace.provider)


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

    def sides(self, trace: ProviderTrace) -> tuple[int, int, int]:
        """How many limits of each kind a call is beyond."""
        return (
            bisect_left(self.tokens, trace.usage.input_tokens or 0),
            bisect_right(self.instants, trace.started_at),
            bisect_right(self.daytimes, trace.started_at % _DAY_NS),
        )


def price_limits() -> PriceLimits | None:
    """The limits in the price data of genai-prices, over all models; None if it has conditions of another kind."""
    from genai_prices import data_snapshot

    try:
        return _limits(model for provider in data_snapshot.get_snapshot().providers for model in provider.models)
    except AttributeError:
        return None


def limits_of(trace: ProviderTrace) -> PriceLimits | None:
    """Those of the limits that are of the call's model; None if that is not known."""
    from genai_prices import data_snapshot

    try:
        _, model = data_snapshot.get_snapshot().find_provider_model(_model(trace), None, _vendor(trace), None)
        return _limits([model])
    except LookupError:
        return PriceLimits()  # it has no price
    except (AttributeError, TypeError):
        return None


def _limits(models: Iterable[Any]) -> PriceLimits:
    tokens: set[int] = set()
    instants: set[int] = set()
    daytimes: set[int] = set()
    for constraint, prices in _price_lists(models):
        tokens |= {tier.start for price in vars(prices).values() for tier in getattr(price, "tiers", ())}
        if hasattr(constraint, "start_date"):
            instants.add(_nanoseconds(datetime.combine(constraint.start_date, time(), UTC)))
        elif constraint is not None:
            daytimes |= {_daytime(constraint.start_time), _daytime(constraint.end_time)}
    return PriceLimits(tuple(sorted(tokens)), tuple(sorted(instants)), tuple(sorted(daytimes)))


def _price_lists(models: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Each list of prices, and the condition under which it holds."""
    for model in models:
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
