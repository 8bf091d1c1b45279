"""Own prices: what the file that ``LLMSPAN_PRICES`` names says calls cost, as negotiated or for models of one's own.

The file is read strictly, so that a misspelt key is an error and no price of zero. Where a price that covers a call
lacks what the call needs, the answer is the reason and not a guess.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal, localcontext
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from .errors import SettingsError
from .trace import ProviderTrace, nanoseconds_of

__all__ = ["EXACT", "STANDARD_TIERS", "OwnPrice", "OwnPrices"]

#: the arithmetic of prices: digits for the largest counts at the smallest prices, and for their sums
EXACT: Final = Context(prec=80)

#: what stands for the list price
STANDARD_TIERS: Final = frozenset({None, "", "auto", "default", "on_demand", "standard", "standard_only"})

_MILLION: Final = 1_000_000
_THOUSAND: Final = 1_000
#: what a price may name and cost, beside ``per_request``, with the count of a call that it is for
_RATES: Final = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "audio_input": "audio_input_tokens",
    "audio_output": "audio_output_tokens",
    "per_thousand_web_searches": "web_search_requests",
}
_EXAMPLE: Final = "a list of tables [[price]], each with at least provider, model and a price such as input = 1.25"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPrice:
    """One price: which calls it is for, and what they cost. Token prices are per million.

    Patterns may have ``*`` and ``?``; upper and lower case are alike. ``cache_write_1h`` is for cache writes that live
    an hour, ``cache_write`` for all others.
    """

    provider: str
    model: str
    host: str | None = None
    #: None: only the tiers at the list price
    service_tier: str | None = None
    #: nanoseconds since the epoch, inclusive
    valid_from: int | None = None
    #: nanoseconds since the epoch, exclusive
    valid_until: int | None = None
    #: only calls with more input tokens than that
    above_input_tokens: int | None = None
    currency: str = "USD"
    input: Decimal | None = None
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None
    per_thousand_web_searches: Decimal | None = None
    per_request: Decimal | None = None

    @property
    def is_by_token(self) -> bool:
        """Whether the price depends on counts of tokens."""
        return any(getattr(self, name) is not None for name in _RATES)

    def covers(self, record: ProviderTrace, model: str) -> bool:
        """Whether the price is for the call; ``model`` is the one that is billed."""
        tier = record.service_tier or ""
        return (
            _matches(self.provider, record.provider)
            and _matches(self.model, model)
            and (self.host is None or _matches(self.host, record.server_address or ""))
            and (tier in STANDARD_TIERS if self.service_tier is None else _matches(self.service_tier, tier))
            and (self.valid_from is None or record.started_at >= self.valid_from)
            and (self.valid_until is None or record.started_at < self.valid_until)
            and (self.above_input_tokens is None or (record.usage.input_tokens or 0) > self.above_input_tokens)
        )

    def amount(self, record: ProviderTrace) -> tuple[Decimal | None, str]:
        """What the call costs and an empty reason, or None and the reason why that is not known."""
        counts = _billed_counts(record)
        if min(counts.values()) < 0:
            return None, "the usage contradicts itself"
        missing = next((name for name, count in counts.items() if count and getattr(self, name) is None), None)
        if self.is_by_token and missing is not None:
            return None, f"no own price for {missing}"
        with localcontext(EXACT):
            amount = self.per_request or Decimal(0)
            for name, count in counts.items():
                if (rate := getattr(self, name)) is not None:
                    amount += rate * count / (_THOUSAND if name == "per_thousand_web_searches" else _MILLION)
        return amount, ""


@dataclass(frozen=True, slots=True)
class OwnPrices:
    """The prices of a file, in its order: of those that cover a call, the first counts."""

    prices: tuple[OwnPrice, ...] = ()
    #: the name of the file and the beginning of its hash
    version: str = ""

    @classmethod
    def read(cls, path: Path) -> OwnPrices:
        """The prices of a TOML file, or of a JSON file if its name ends so.

        Raises:
            SettingsError: the file cannot be read or is wrong; the message names file, price, key and what is right.
        """
        try:
            content = path.read_bytes()
            document = _parse(path, content.decode("utf-8"))
        except OSError as error:
            raise SettingsError(f"LLMSPAN_PRICES={path}: it cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise SettingsError(
                f"LLMSPAN_PRICES={path}: it is no {_format(path)}: {error}; expected {_EXAMPLE}"
            ) from None
        rows = document.get("price") if isinstance(document, dict) and set(document) == {"price"} else None
        if not isinstance(rows, list) or not rows:
            raise SettingsError(f"LLMSPAN_PRICES={path}: expected {_EXAMPLE}")
        prices = [_price(row, f"LLMSPAN_PRICES={path}: price {at}") for at, row in enumerate(rows, 1)]
        return cls(tuple(prices), f"{path.name} (sha256 {hashlib.sha256(content).hexdigest()[:12]})")

    @property
    def token_limits(self) -> frozenset[int]:
        """The numbers of input tokens beyond which another price may hold."""
        return frozenset(price.above_input_tokens for price in self.prices if price.above_input_tokens is not None)

    @property
    def instants(self) -> frozenset[int]:
        """The nanoseconds since the epoch from which another price may hold."""
        times = (at for price in self.prices for at in (price.valid_from, price.valid_until))
        return frozenset(at for at in times if at is not None)

    @property
    def name_hosts(self) -> bool:
        """Whether some price is for certain hosts only."""
        return any(price.host is not None for price in self.prices)

    def find(self, record: ProviderTrace, model: str) -> tuple[int, OwnPrice] | None:
        """The price of a call and its number in the file; None if there is none."""
        return next(((at, price) for at, price in enumerate(self.prices, 1) if price.covers(record, model)), None)


def _billed_counts(record: ProviderTrace) -> dict[str, int]:
    """The counts of a call by the name of their price, no token in two of them."""
    usage, details = record.usage, record.usage.details
    counts = {name: details.get(count) or 0 for name, count in _RATES.items()}
    long_writes = counts["cache_write_1h"]
    counts |= {"cache_read": usage.cache_read_tokens or 0, "cache_write": (usage.cache_write_tokens or 0) - long_writes}
    fresh = counts["cache_read"] + counts["cache_write"] + long_writes + counts["audio_input"]
    counts["input"] = (usage.input_tokens or 0) - fresh
    counts["output"] = (usage.output_tokens or 0) - counts["audio_output"]
    return counts


def _matches(pattern: str, text: str) -> bool:
    return fnmatchcase(text.lower(), pattern.lower())


# -- reading the file


def _format(path: Path) -> str:
    return "JSON" if path.suffix.lower() == ".json" else "TOML"


def _parse(path: Path, text: str) -> Any:
    if _format(path) == "JSON":
        return json.loads(text, parse_float=Decimal, parse_constant=Decimal)
    return tomllib.loads(text, parse_float=Decimal)


def _price(row: Any, where: str) -> OwnPrice:
    """The price of one table.

    Raises:
        SettingsError: a key is unknown or missing, or its value is not what it must be.
    """
    names = [f.name for f in fields(OwnPrice)]
    if not isinstance(row, dict):
        raise SettingsError(f"{where} is {row!r:.80}; expected a table with keys of {', '.join(names)}")
    for key in row:
        if key not in names:
            raise SettingsError(f"{where}: no key is called {key!r}; there are {', '.join(names)}")
    for key in ("provider", "model"):
        if key not in row:
            raise SettingsError(f"{where}: {key} is missing; it is a text such as {_TEXTS[key]}")
    values = {key: _value(key, value, where) for key, value in row.items()}
    price = OwnPrice(**values)
    if not price.is_by_token and price.per_request is None:
        raise SettingsError(f"{where}: it costs nothing; give {', '.join(_RATES)} or per_request, if need be 0")
    if None not in (price.valid_from, price.valid_until) and (price.valid_from or 0) >= (price.valid_until or 0):
        raise SettingsError(f"{where}: valid_until must be after valid_from")
    return price


_TEXTS: Final = {
    "provider": '"openai", as the records have it',
    "model": '"gpt-5*"',
    "host": '"*.example.com"',
    "service_tier": '"batch"',
    "currency": '"USD", three letters',
}
_TIMES: Final = ("valid_from", "valid_until")


def _value(key: str, value: Any, where: str) -> Any:
    if key in _TEXTS:
        if not isinstance(value, str) or not value.strip() or (key == "currency" and not _is_currency(value)):
            raise SettingsError(f"{where}: {key} is {value!r:.80}; expected a text such as {_TEXTS[key]}")
        return value.strip()
    if key in _TIMES:
        return _time(key, value, where)
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    if key == "above_input_tokens":
        if not is_number or not isinstance(value, int) or value < 0:
            raise SettingsError(f"{where}: {key} is {_text_of(value)}; expected a whole number such as 200000")
        return value
    number = Decimal(value) if is_number else Decimal("NaN")
    if not number.is_finite() or number < 0:
        raise SettingsError(f"{where}: {key} is {_text_of(value)}; expected a number such as 1.25, not below 0")
    return number


def _text_of(value: Any) -> str:
    return f"{value}" if isinstance(value, Decimal) else f"{value!r:.80}"


def _is_currency(text: str) -> bool:
    return len(text.strip()) == 3 and text.strip().isascii() and text.strip().isupper()  # ISO 4217


def _time(key: str, value: Any, where: str) -> int:
    """Nanoseconds since the epoch of a date, which begins at midnight UTC, or of a time; JSON has them as text."""
    expected = f"{where}: {key} is {value!s:.80}; expected a date such as 2026-01-31, or a time with its zone"
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise SettingsError(expected) from None
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    if not isinstance(moment, datetime):
        raise SettingsError(expected)
    if moment.tzinfo is None and moment.time() != time():
        raise SettingsError(expected)
    return nanoseconds_of(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
