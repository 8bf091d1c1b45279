"""What can be required of a record's key: a condition is a key and tests of which one must hold, or none of them.

Pure data. ``matching`` says in Python what a condition means; backends say the same in SQL, and tests compare the two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ..errors import QueryError
from .keys import TEXT, Key, key_of

__all__ = [
    "Condition",
    "Contains",
    "Equal",
    "Missing",
    "Pattern",
    "Present",
    "Range",
    "Test",
    "exact_number_of",
    "number_of",
]

#: 64 bits, as in every store
_LEAST: Final = -(2**63)
_GREATEST: Final = 2**63 - 1
#: stars of one pattern
_MOST_STARS: Final = 16
#: a text that is compared as a number
_NUMERAL: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?", re.ASCII)
#: what a float tells from its neighbours: 15 digits, from the first that is not 0
_SHORT: Final = re.compile(r"[-0.]*([0-9]\.?){0,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Equal:
    """The value is this one. Attributes are compared as numbers of up to 15 digits, others as text."""

    value: str | int


@dataclass(frozen=True, slots=True)
class Pattern:
    """The text consists of these parts, in their order, and anything between them; ``("claude", "")`` begins so."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The number is within these limits; times and durations are nanoseconds."""

    above: int | float | None = None
    at_least: int | float | None = None
    below: int | float | None = None
    at_most: int | float | None = None

    def limits(self) -> tuple[tuple[str, int | float], ...]:
        """The limits that are given, each behind its operator."""
        pairs = ((">", self.above), (">=", self.at_least), ("<", self.below), ("<=", self.at_most))
        return tuple((sign, limit) for sign, limit in pairs if limit is not None)


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no value: it is not known, or was not reported."""


@dataclass(frozen=True, slots=True)
class Present:
    """There is a value."""


@dataclass(frozen=True, slots=True)
class Contains:
    """Request or response contain this text; upper and lower case of A to Z are the same."""

    text: str


Test = Equal | Pattern | Range | Missing | Present | Contains

_ALLOWED: Final[dict[str, tuple[type, ...]]] = {
    "text": (Equal, Pattern, Missing, Present),
    "texts": (Equal, Pattern, Missing, Present),
    "integer": (Equal, Range, Missing, Present),
    "duration": (Equal, Range, Missing, Present),
    "time": (Equal, Range, Missing, Present),
    "boolean": (Equal, Missing, Present),
    "attribute": (Equal, Pattern, Range, Missing, Present),
    "annotation": (Equal, Pattern, Range, Missing, Present),
    "content": (Contains,),
}
#: kinds of keys whose values may be numbers as well as texts
_OF_ANY_TYPE: Final = ("attribute", "annotation")


@dataclass(frozen=True, slots=True)
class Condition:
    """One of ``tests`` must hold for a value of ``key``; none may if ``negated``, which a record without value passes.

    Args:
        key: a key of the record, ``model``, ``tokens``, ``attributes.NAME``, ``annotation.NAME``, or ``text``.
        tests: one that fits the key.

    Raises:
        QueryError: there is no such key, or a test does not fit it.
    """

    key: str
    tests: tuple[Test, ...]
    negated: bool = False

    def __post_init__(self) -> None:
        key = TEXT if self.key == TEXT.name else key_of(self.key)
        if key.name != self.key:
            raise QueryError(f"{self.key} means {key.name}, and a Condition takes the whole name")
        for test in self.tests:
            _check(key, test)


def _check(key: Key, test: Test) -> None:
    if not isinstance(test, _ALLOWED[key.kind]):
        raise QueryError(f"{key.name} is of the kind {key.kind!r}, for which there is no {type(test).__name__}")
    if isinstance(test, Equal) and key.choices and test.value not in key.choices:
        raise QueryError(f"{key.name}={test.value}: no record has that; choose from {', '.join(key.choices)}")
    if (
        isinstance(test, Equal)
        and key.kind not in _OF_ANY_TYPE
        and isinstance(test.value, str) != key.kind.startswith("text")
    ):
        raise QueryError(f"{key.name} cannot be compared with {test.value!r}")
    if isinstance(test, Pattern) and not 2 <= len(test.parts) <= _MOST_STARS + 1:
        raise QueryError(f"{key.name}: a pattern has 1 to {_MOST_STARS} stars, not {len(test.parts) - 1}")
    numbers = [limit for _, limit in test.limits()] if isinstance(test, Range) else []
    numbers += [test.value] if isinstance(test, Equal) and isinstance(test.value, int) else []
    for number in numbers:
        if key.kind not in _OF_ANY_TYPE and not (isinstance(number, int) and _LEAST <= number <= _GREATEST):
            raise QueryError(f"{key.name} is a whole number of 64 bits, never {number}")


def number_of(text: str) -> float | None:
    """The number that a text is, if it is written as one: digits, and a fraction after a point."""
    return float(text) if _NUMERAL.fullmatch(text) else None


def exact_number_of(text: str) -> float | None:
    """The same of a number that no other is equal to as a float; an identifier of 18 digits is not one."""
    return number_of(text) if _SHORT.fullmatch(text) else None
