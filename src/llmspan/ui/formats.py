"""Numbers, times and bars as the pages show them. Pure.

What was not reported is a dash and an outline, never a zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from .._clock import SECOND
from ..usage import Usage

__all__ = [
    "Segment",
    "TokenBar",
    "count",
    "duration",
    "indent_json",
    "iso_time",
    "money",
    "percent",
    "rate",
    "short_count",
    "token_bar",
    "total_tokens",
]

_UNKNOWN: Final = "–"  # noqa: RUF001 - the dash that stands for a number that is not there
_MS: Final = 1_000_000
#: levels of JSON that are indented
_DEEPEST: Final = 40
#: a string, a structural character, or a number or name of JSON
_JSON_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_UNITS: Final = ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k"))


def count(value: int | None) -> str:
    """A whole number with its thousands separated."""
    return _UNKNOWN if value is None else f"{value:,}"


def short_count(value: int | None) -> str:
    """A whole number in few characters: ``12.3k``."""
    if value is None:
        return _UNKNOWN
    for size, unit in _UNITS:
        if abs(value) >= size:
            number = value / size
            return f"{number:.1f}{unit}" if abs(number) < 100 else f"{number:.0f}{unit}"
    return str(value)


def duration(nanoseconds: int | None) -> str:
    """A duration in the unit that suits it: ``0.4 ms``, ``812 ms``, ``3.21 s``, ``2 min 05 s``."""
    if nanoseconds is None:
        return _UNKNOWN
    if nanoseconds < 10 * _MS:
        return f"{nanoseconds / _MS:.1f} ms"
    if nanoseconds < SECOND:
        return f"{nanoseconds / _MS:.0f} ms"
    if nanoseconds < 60 * SECOND:
        return f"{nanoseconds / SECOND:.2f} s"
    minutes, seconds = divmod(round(nanoseconds / SECOND), 60)
    return f"{minutes} min {seconds:02d} s"


def money(amount: Decimal | None, currency: str | None) -> str:
    """An amount with the digits that a single call needs."""
    if amount is None:
        return _UNKNOWN
    digits = 2 if abs(amount) >= 100 else 4 if abs(amount) >= 1 else 6
    sign, number = "-" if amount < 0 else "", f"{abs(amount):,.{digits}f}"
    return f"{sign}${number}" if currency == "USD" else f"{sign}{number} {currency}"


def percent(ratio: float | None) -> str:
    """A ratio as a percentage."""
    return _UNKNOWN if ratio is None else f"{100 * ratio:.1f} %"


def rate(value: float | None) -> str:
    """So many a second."""
    return _UNKNOWN if value is None else f"{value:,.1f}"


def iso_time(started_at: int) -> str:
    """Nanoseconds since the epoch as a time in UTC with milliseconds, which a page's script turns into local time."""
    seconds, rest = divmod(started_at, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // _MS:03d}Z"


def total_tokens(usage: Usage) -> int | None:
    """Input and output together; None if neither was reported."""
    if usage.input_tokens is None and usage.output_tokens is None:
        return None
    return (usage.input_tokens or 0) + (usage.output_tokens or 0)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar: what it stands for, how many tokens, and where it is, in thousandths of the bar's room."""

    kind: str
    tokens: int
    x: int
    width: int


@dataclass(frozen=True, slots=True)
class TokenBar:
    """The tokens of a call as one bar. ``is_reported`` is whether the provider said anything."""

    segments: tuple[Segment, ...]
    label: str
    is_reported: bool


def token_bar(usage: Usage, largest: int) -> TokenBar:
    """The bar of ``usage``, where ``largest`` tokens take all of the room."""
    label = (
        f"input {count(usage.input_tokens)}, of it cached {count(usage.cache_read_tokens)} and written to the cache"
        f" {count(usage.cache_write_tokens)}; output {count(usage.output_tokens)}, of it reasoning"
        f" {count(usage.reasoning_tokens)}"
    )
    segments = tuple(_segments(_parts(usage), max(largest, 1)))
    return TokenBar(segments, label, total_tokens(usage) is not None)


def _parts(usage: Usage) -> Iterable[tuple[str, int]]:
    """The tokens by kind, each token once; vendors report parts that exceed their total."""
    cached = min(max(usage.cache_read_tokens or 0, 0), usage.input_tokens or 0)
    written = min(max(usage.cache_write_tokens or 0, 0), (usage.input_tokens or 0) - cached)
    reasoning = min(max(usage.reasoning_tokens or 0, 0), usage.output_tokens or 0)
    yield "fresh", (usage.input_tokens or 0) - cached - written
    yield "cached", cached
    yield "written", written
    yield "output", (usage.output_tokens or 0) - reasoning
    yield "reasoning", reasoning


def _segments(parts: Iterable[tuple[str, int]], largest: int) -> Iterable[Segment]:
    position = 0
    for kind, tokens in parts:
        # rounding never hides a part: a call of one cached token in a million shows it
        width = round(1000 * tokens / largest)
        if tokens > 0:
            yield Segment(kind, tokens, position, max(width, 1))
        position += width


def indent_json(text: str) -> str:
    """JSON text with a line for each value. Only white space changes: no number, escape or repeated key is read.

    >>> print(indent_json('{"a":[1.50,{}]}'))
    {
      "a": [
        1.50,
        {}
      ]
    }
    """
    pieces: list[str] = []
    depth, before = 0, ""
    for piece in _JSON_TOKEN.findall(text):
        if piece in "]}":
            depth = max(depth - 1, 0)
        if (piece in "]}" and before not in "[{") or (before and before in "[{," and piece not in "]}"):
            pieces.append("\n" + "  " * min(depth, _DEEPEST))
        pieces.append(": " if piece == ":" else piece)
        depth += piece in "[{"
        before = piece
    return "".join(pieces)
