"""What a call cost, in US dollars, by the prices of the ``genai-prices`` package (``pip install "llmspan[cost]"``).

Offline, and only on request. Rather no figure than a wrong one: where the price data cannot tell a call's price
(service tiers, long cache writes, passes that are billed beside the totals), the answer is None and the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from .trace import ProviderTrace
from .usage import Usage

__all__ = ["available", "cost_of"]

#: what stands for the list price
_STANDARD: Final = frozenset({None, "", "auto", "default", "on_demand", "standard", "standard_only"})
#: Anthropic's regions at the list price
_ANYWHERE: Final = frozenset({None, "", "global", "not_available"})

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
