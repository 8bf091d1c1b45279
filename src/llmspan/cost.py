"""What a call cost: by own prices (:mod:`.own_prices`), else by those of ``genai-prices`` (the extra ``cost``).

Offline, and only on request. Rather no figure than a wrong one: where no price says what a call cost (a service tier or
a speed without a price, a cache lifetime, passes that are billed beside the totals), the answer is None and the reason.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, localcontext
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from .own_prices import EXACT, STANDARD_TIERS, OwnPrices
from .settings import Settings
from .trace import ProviderTrace, nanoseconds_of
from .usage import Usage

__all__ = [
    "EXACT",
    "PRICED_COUNTS",
    "Cost",
    "PriceLimits",
    "available",
    "cost_of",
    "limits_of",
    "own_prices",
    "plain_amount",
    "price_limits",
    "price_version",
]

#: the counts that a price is made of, by the names that they have in :class:`Usage` and its details
PRICED_COUNTS: Final = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens", "cache_read_audio_tokens",
    "image_input_tokens", "image_output_tokens", "video_input_tokens", "web_search_requests",
)  # fmt: skip

_DAY_NS: Final = 86_400_000_000_000

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

#: vendors whose models may be named by a path (``models/gemini-2.5-flash``), and what stands before the name there
_PATHS: Final = {"google": "models/"}
#: Vertex AI's traffic types that have a service tier's price; none has the list price
_TRAFFIC_TIERS: Final = {
    "ON_DEMAND": None,
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "TRAFFIC_TYPE_UNSPECIFIED": None,
}

#: ``usage_details`` that have a price of their own
_PRICED_DETAILS: Final = {
    "cache_write_5m_tokens": "cache_write_5m_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "audio_input_tokens": "input_audio_tokens",
    "audio_output_tokens": "output_audio_tokens",
    "cache_read_audio_tokens": "cache_audio_read_tokens",
    "image_input_tokens": "input_image_tokens",
    "image_output_tokens": "output_image_tokens",
    "video_input_tokens": "input_video_tokens",
    "web_search_requests": "web_searches",
}
#: ``usage_details`` that genai-prices has no price for
_UNPRICED_DETAILS: Final = {
    "cache_write_12h_tokens": "no price for cache writes of 12 hours",
    "cache_write_24h_tokens": "no price for cache writes of 24 hours",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call cost, or why that is not known.

    ``amount`` is exact, in ``currency`` (ISO 4217; genai-prices has US dollars only); both are None if the price is not
    known, and then ``reason`` says why. ``price`` names the price (vendor and model, or its number in the file of own
    prices), ``version`` the version of the price data.
    """

    amount: Decimal | None = None
    currency: str | None = None
    reason: str = ""
    price: str = ""
    version: str = ""

    def to_dict(self) -> dict[str, str | None]:
        """The fields as JSON has them: the amount as text with all its digits, without an exponent."""
        return {
            "amount": None if self.amount is None else plain_amount(self.amount),
            "currency": self.currency,
            "reason": self.reason or None,
            "price": self.price or None,
            "version": self.version or None,
        }


def plain_amount(amount: Decimal) -> str:
    """All digits, without an exponent and without zeros at the end: the same for the same sum, however it was made."""
    return f"{amount.normalize(EXACT):f}"


def available(own: OwnPrices | None = None) -> bool:
    """Whether there are prices: genai-prices is installed, or a file has own prices (by default ``LLMSPAN_PRICES``)."""
    return _has_price_data() or bool((own_prices() if own is None else own).prices)


@cache
def _has_price_data() -> bool:
    from importlib.util import find_spec

    return find_spec("genai_prices") is not None


def own_prices(path: Path | None = None) -> OwnPrices:
    """The own prices of a file, or of the one that ``LLMSPAN_PRICES`` names; none if it is not set.

    The file is read again when it has changed.

    Raises:
        SettingsError: the file cannot be read or is wrong.
    """
    path = Settings.from_env().prices if path is None else path
    if path is None:
        return OwnPrices()
    try:
        status = path.stat()
    except OSError:
        return OwnPrices.read(path)  # which says why
    return _read_prices(path, status.st_mtime_ns, status.st_size)


@lru_cache(8)
def _read_prices(path: Path, changed_at: int, size: int) -> OwnPrices:
    del changed_at, size
    return OwnPrices.read(path)


def cost_of(record: ProviderTrace, own: OwnPrices | None = None) -> Cost:
    """The cost of a call, at the prices of the time when it began.

    Args:
        record: the call; its payload is not needed.
        own: own prices, which win over those of genai-prices; by default those of ``LLMSPAN_PRICES``.

    Raises:
        SettingsError: the file of own prices cannot be read or is wrong.
    """
    own = own_prices() if own is None else own
    model = _model(record)
    match = own.find(record, model)
    if match is None:
        return _listed_cost(record)
    number, price = match
    amount, reason = price.amount(record)
    if price.is_by_token:
        reason = _unknowable(record) or _speed_reason(record) or reason
    name = f"price {number}: {price.provider} {price.model}"
    if reason:
        return Cost(reason=reason, price=name, version=own.version)
    return Cost(amount, price.currency, "", name, own.version)


def _listed_cost(record: ProviderTrace) -> Cost:
    """The cost by the price data of genai-prices."""
    if not _has_price_data():
        return Cost(reason='no own price, and genai-prices is not installed: pip install "llmspan[cost]"')
    version = _data_version()
    reason = _unknowable(record)
    if reason:
        return Cost(reason=reason, version=version)
    context = _price_context(record)
    try:
        with localcontext(EXACT):
            provider, entry = _find_model(record)
            reason = _variant_reason(provider, entry, record, context)
            if reason:
                return Cost(reason=reason, price=f"{provider.id} {entry.id}", version=version)
            price = entry.calc_price(
                _usage(record), provider, genai_request_timestamp=record.started, price_context=context or None
            )
    except LookupError:
        return Cost(reason="unknown model", version=version)
    except ValueError:
        return Cost(reason="the usage contradicts itself", version=version)
    name = " ".join([provider.id, entry.id, *(f"{key}={value}" for key, value in context.items())])
    if (
        record.usage.details.get("web_search_requests")
        and getattr(price.model_price, "web_searches_kcount", None) is None
    ):
        return Cost(reason="no price for web searches", price=name, version=version)
    return Cost(price.total_price, "USD", "", name, version)


def price_version(own: OwnPrices) -> str:
    """The versions of all prices that there are: own ones first."""
    return ", ".join(filter(None, [own.version, _data_version() if _has_price_data() else ""]))


def _data_version() -> str:
    from genai_prices import __version__, data_snapshot

    snapshot = data_snapshot.get_snapshot()
    return f"genai-prices {__version__}" + (
        f", updated {snapshot.timestamp:%Y-%m-%d}" if snapshot.from_auto_update else ""
    )


def _find_model(record: ProviderTrace) -> tuple[Any, Any]:
    """The vendor and the model in the price data; raises LookupError."""
    from genai_prices import data_snapshot

    return data_snapshot.get_snapshot().find_provider_model(_model(record), None, _vendor(record), None)


def _model(record: ProviderTrace) -> str:
    """The model that answered, else the one that was asked for, by its name in the price data."""
    model = record.response_model or record.request_model or ""
    path = _PATHS.get(_vendor(record))
    return model if path is None else model.rpartition(path)[2]


def _tier(record: ProviderTrace) -> str | None:
    """The service tier, which some vendors report as the type of traffic."""
    traffic = (record.usage.raw or {}).get("trafficType")
    if record.service_tier is not None or not isinstance(traffic, str):
        return record.service_tier
    return _TRAFFIC_TIERS.get(traffic, traffic.lower())


def _vendor(record: ProviderTrace) -> str:
    return _VENDORS.get(record.provider, record.provider)


def _price_context(record: ProviderTrace) -> dict[str, str]:
    """What makes the price another one than the list price, in genai-prices' words."""
    context: dict[str, str] = {}
    tier, speed = _tier(record), (record.usage.raw or {}).get("speed")
    if tier is not None and tier not in STANDARD_TIERS:
        context["processing" if tier == "batch" else "service_tier"] = tier
    if speed not in (None, "standard"):
        context["speed"] = str(speed)
    return context


def _variant_reason(provider: Any, entry: Any, record: ProviderTrace, context: Mapping[str, str]) -> str:
    """Why there is no price in this context; empty if the data has one for all of it at the time of the call."""
    if not context:
        return ""
    # genai-prices leaves a context out that no variant has, and so gives the list price for a tier that it does not
    # know; it also leaves it out for a model that this vendor has borrowed from another one's list.
    variants = (entry.price_variants or ()) if any(entry is model for model in provider.models) else ()
    for variant in variants:
        if variant.when == context and (variant.constraint is None or variant.constraint.active(record.started)):
            return ""
    tier = _tier(record)
    return f"service tier {tier}" if tier not in STANDARD_TIERS else _speed_reason(record)


def _speed_reason(record: ProviderTrace) -> str:
    speed = (record.usage.raw or {}).get("speed")
    return "" if speed in (None, "standard") else f"speed {speed}"


def _unknowable(record: ProviderTrace) -> str:
    """Why no price can tell what the call cost; empty if one can."""
    usage = record.usage
    raw: Mapping[str, Any] = usage.raw or {}
    if usage.source != "provider" or usage.input_tokens is None:
        return "partial usage" if usage.source == "partial" else "no usage"
    if raw.get("inference_geo") not in _ANYWHERE:
        return f"inference in {raw['inference_geo']}"
    if _has_hidden_passes(usage):
        return "billed by the pass (compaction, advisor)"
    reasons = (reason for name, reason in _UNPRICED_DETAILS.items() if usage.details.get(name))
    return next(reasons, "")


def _has_hidden_passes(usage: Usage) -> bool:
    """Whether the provider bills passes that its totals leave out."""
    sums = ("iterations_input_tokens", usage.input_tokens), ("iterations_output_tokens", usage.output_tokens)
    return any(usage.details.get(name, total) != total for name, total in sums)


def _usage(record: ProviderTrace) -> Any:
    import genai_prices

    usage = record.usage
    details = {argument: usage.details[name] for name, argument in _PRICED_DETAILS.items() if usage.details.get(name)}
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
    #: whether a price depends on the host that was called
    by_host: bool = False

    def sides(self, record: ProviderTrace) -> tuple[int, int, int]:
        """How many limits of each kind a call is beyond."""
        return (
            bisect_left(self.tokens, record.usage.input_tokens or 0),
            bisect_right(self.instants, record.started_at),
            bisect_right(self.daytimes, record.started_at % _DAY_NS),
        )

    def with_own(self, own: OwnPrices) -> PriceLimits:
        """These limits and those of own prices."""
        tokens = tuple(sorted({*self.tokens, *own.token_limits}))
        instants = tuple(sorted({*self.instants, *own.instants}))
        return PriceLimits(tokens, instants, self.daytimes, self.by_host or own.name_hosts)


def price_limits(own: OwnPrices | None = None) -> PriceLimits | None:
    """The limits in all prices; None if genai-prices has conditions of a kind that is not known here."""
    own = own_prices() if own is None else own
    if not _has_price_data():
        return PriceLimits().with_own(own)
    from genai_prices import data_snapshot

    try:
        providers = data_snapshot.get_snapshot().providers
        return _limits(model for provider in providers for model in provider.models).with_own(own)
    except AttributeError:
        return None


def limits_of(record: ProviderTrace, own: OwnPrices | None = None) -> PriceLimits | None:
    """Those of the limits that are of the call's model, and those of own prices; None if that is not known."""
    own = own_prices() if own is None else own
    if not _has_price_data():
        return PriceLimits().with_own(own)
    try:
        return _limits([_find_model(record)[1]]).with_own(own)
    except LookupError:
        return PriceLimits().with_own(own)  # genai-prices has no price for it
    except (AttributeError, TypeError):
        return None


def _limits(models: Iterable[Any]) -> PriceLimits:
    tokens: set[int] = set()
    instants: set[int] = set()
    daytimes: set[int] = set()
    for constraint, prices in _price_lists(models):
        tokens |= {tier.start for price in vars(prices).values() for tier in getattr(price, "tiers", ())}
        if hasattr(constraint, "start_date"):
            instants.add(nanoseconds_of(datetime.combine(constraint.start_date, time(), UTC)))
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
        yield from ((variant.constraint, variant.prices) for variant in model.price_variants or ())


def _daytime(moment: time) -> int:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    utc = datetime.combine(date(1970, 1, 1), aware).astimezone(UTC)
    return nanoseconds_of(datetime.combine(date(1970, 1, 1), utc.time(), UTC))
