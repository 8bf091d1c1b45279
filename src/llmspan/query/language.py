"""The query language: ``status:error,incomplete tokens>1000 tenant=acme -user:bot "free text"`` as filters.

A query is terms with spaces between them: a key, an operator and values, or a text in quotes. Reading goes from left to
right without looking back, and whatever is wrong is named with its position. docs/querying.md describes the language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Any, Final

from ..errors import QueryError, SettingsError
from . import values
from .conditions import Condition, Contains, Equal, Missing, Pattern, Present, Range, Test, number_of
from .filters import Filters, NoneOf, OneOf
from .keys import TEXT, Key, key_of

__all__ = ["OPERATORS", "parse"]

#: the longest first
OPERATORS: Final = ("!=", ">=", "<=", ":", "=", ">", "<")
_NAME: Final = re.compile(r"[A-Za-z_][\w.\-]*")
_QUOTED_NAME: Final = re.compile(r'(attributes\.|annotation\.)"((?:[^"\\]|\\.)+)"', re.DOTALL)
_SPACE: Final = " \t\r\n"
#: characters that a backslash makes ordinary; before remaining it is a backslash
_ESCAPED: Final = '\\",*' + _SPACE
_LONGEST: Final = 10_000
#: kinds of keys whose values may be numbers as well as texts
_FREE: Final = ("attribute", "annotation")
#: kinds of keys of which a record has several values: two terms are no choice
_SEVERAL: Final = ("texts", "annotation")
_MOST_TERMS: Final = 100
_PLAIN: Final = frozenset(
    name for name in Filters.__dataclass_fields__ if name not in ("since", "until", "conditions", "tag")
)
_FIELD_OF: Final = {"agent_tags": "tag", **{name: name for name in _PLAIN}}


@dataclass(frozen=True, slots=True)
class _Value:
    """A value as it is written_values: texts between stars, and whether it is in quotes or has escapes."""

    parts: tuple[str, ...]
    is_literal: bool

    @property
    def text(self) -> str:
        return "*".join(self.parts)


@dataclass(frozen=True, slots=True)
class _Term:
    """What one term requires: a condition, or times. ``is_choice``: values, of which other terms may add more."""

    condition: Condition | None = None
    is_choice: bool = False
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class _Clock:
    """What times mean."""

    now: int | None
    zone: tzinfo | None

    def period(self, text: str) -> tuple[int, int]:
        return values.period(text, now=self.now, zone=self.zone)


def parse(texts: Iterable[str], *, now: int | None = None, zone: tzinfo | None = None) -> Filters:
    """The filters that ``texts`` are together; see :meth:`llmspan.query.filters.Filters.parse`."""
    clock = _Clock(now, zone)
    terms = [term for text in texts for term in _Scanner(text, clock).terms()]
    if len(terms) > _MOST_TERMS:
        raise QueryError(f"a query has at most {_MOST_TERMS} terms, not {len(terms)}")
    return _filters(terms)


# -- from text to terms


class _Scanner:
    """Reads one text."""

    def __init__(self, text: str, clock: _Clock) -> None:
        if len(text) > _LONGEST:
            raise QueryError(f"a query has at most {_LONGEST} characters, not {len(text)}")
        self._text = text
        self._clock = clock
        self._at = 0

    def terms(self) -> list[_Term]:
        terms: list[_Term] = []
        while self._skip_space():
            start = self._at
            try:
                terms.append(self._term())
            except SettingsError as error:
                if isinstance(error, QueryError) and error.position is not None:
                    raise
                token = self._text[start : self._token_end(start)]
                raise QueryError(f"{error}", token, start + 1) from None
        return terms

    def _skip_space(self) -> bool:
        """Whether there is anything behind the space."""
        while self._at < len(self._text) and self._text[self._at] in _SPACE:
            self._at += 1
        return self._at < len(self._text)

    def _token_end(self, start: int) -> int:
        """Where a term that could not be read ends, as far as it shall be shown."""
        space = re.compile(r"\s").search(self._text, max(self._at, start + 1))
        return min(space.start() if space else len(self._text), start + 80)

    def _term(self) -> _Term:
        negated = self._text[self._at] == "-"
        self._at += negated
        if self._text[self._at : self._at + 1] == '"':
            text = self._value().text
            if not text:
                raise QueryError("there is nothing to search for between the quotes")
            return _Term(Condition(TEXT.name, (Contains(text),), negated=negated))
        name = self._name()
        operator = next((sign for sign in OPERATORS if self._text.startswith(sign, self._at)), None)
        if operator is None:
            raise QueryError(
                f"expected {name}:VALUE, {name}=VALUE, {name}!=VALUE or, of numbers, > >= < <="
                f'; a text to search for stands in quotes: "{name}"'
            )
        self._at += len(operator)
        return _make_term(name, operator, self._values(), self._clock, negated=negated)

    def _name(self) -> str:
        if quoted := _QUOTED_NAME.match(self._text, self._at):
            self._at = quoted.end()
            return quoted[1] + re.sub(r"\\(.)", r"\1", quoted[2], flags=re.DOTALL)
        name = _NAME.match(self._text, self._at)
        if name is None:
            raise QueryError('expected a key such as status, model or tenant, or a text in quotes such as "time out"')
        self._at = name.end()
        return name[0]

    def _values(self) -> list[_Value]:
        items = [self._value()]
        while self._text[self._at : self._at + 1] == ",":
            self._at += 1
            items.append(self._value())
        return items

    def _value(self) -> _Value:
        """What stands here, up to a comma or space that is not in quotes."""
        parts = [""]
        start, is_quoted, is_literal = self._at, False, False
        while self._at < len(self._text):
            letter, following = self._text[self._at], self._text[self._at + 1 : self._at + 2]
            self._at += 1
            if letter == "\\" and following and following in _ESCAPED:
                parts[-1] += following
                self._at += 1
                is_literal = True
            elif letter == '"':
                is_quoted, is_literal = not is_quoted, True
            elif not is_quoted and (letter == "," or letter in _SPACE):
                self._at -= 1
                break
            elif not is_quoted and letter == "*":
                parts.append("")
            else:
                parts[-1] += letter
        if is_quoted:
            raise QueryError("the quotes are not closed", self._text[start : start + 80], start + 1)
        return _Value(tuple(parts), is_literal)


# -- from names and values to conditions


def _make_term(name: str, operator: str, written_values: Sequence[_Value], clock: _Clock, *, negated: bool) -> _Term:
    if name in ("since", "until"):
        return _bound(name, operator, written_values, clock, negated=negated)
    key = key_of(name)
    if operator in (">", ">=", "<", "<="):
        return _comparison(key, operator, written_values, clock, negated=negated)
    tests = tuple(_test(key, value, clock) for value in written_values)
    is_negated = negated != (operator == "!=")
    if key.kind == "time" and len(tests) == 1 and not is_negated and isinstance(tests[0], Range):
        return _Term(since=tests[0].at_least, until=tests[0].below)  # pyright: ignore[reportArgumentType]
    return _Term(Condition(key.name, tests, negated=is_negated), is_choice=key.kind not in _SEVERAL or is_negated)


def _bound(name: str, operator: str, written_values: Sequence[_Value], clock: _Clock, *, negated: bool) -> _Term:
    if negated or operator not in (":", "=") or len(written_values) != 1:
        raise QueryError(f"{name} takes one time, as in {name}:24h or {name}:2026-01-31, and cannot be negated")
    begin, _ = clock.period(written_values[0].text)
    return _Term(since=begin) if name == "since" else _Term(until=begin)


def _comparison(key: Key, operator: str, written_values: Sequence[_Value], clock: _Clock, *, negated: bool) -> _Term:
    if key.kind not in ("integer", "duration", "time", *_FREE):
        raise QueryError(f"{key.name} is no number, so that {operator} cannot be asked of it; use : or !=")
    if len(written_values) != 1:
        raise QueryError(f"{operator} takes one value, not {len(written_values)}")
    low, high = _numbers(key, written_values[0].text, clock)
    limits: dict[str, Any] = {
        ">": {"at_least": high} if key.kind == "time" else {"above": high},
        ">=": {"at_least": low},
        "<": {"below": low},
        "<=": {"below": high} if key.kind == "time" else {"at_most": high},
    }[operator]
    if key.kind == "time" and not negated:
        return _Term(since=limits.get("at_least"), until=limits.get("below"))
    return _Term(Condition(key.name, (Range(**limits),), negated=negated))


def _test(key: Key, value: _Value, clock: _Clock) -> Test:
    """The test that a value is, behind ``:``."""
    text = value.text
    if key.is_optional and not value.is_literal and text in ("none", "any"):
        return Missing() if text == "none" else Present()
    if key.kind in ("text", "texts", *_FREE):
        limits = _attribute_limits(text) if key.kind in _FREE and not value.is_literal else None
        if limits is not None:
            return limits
        return Pattern(value.parts) if len(value.parts) > 1 else Equal(text)
    if key.kind == "boolean":
        return Equal(values.boolean(text))
    low, dots, high = text.partition("..")
    if not dots and key.kind != "time":
        return Equal(_numbers(key, text, clock)[0])  # pyright: ignore[reportArgumentType]
    begin, _ = _numbers(key, low, clock)
    _, end = _numbers(key, high if dots else low, clock)
    return Range(at_least=begin, below=end) if key.kind == "time" else Range(at_least=begin, at_most=end)


def _numbers(key: Key, text: str, clock: _Clock) -> tuple[int | float, int | float]:
    """The least and the greatest number that a text stands for; of a time, the first behind it."""
    if key.kind == "time":
        return clock.period(text)
    if key.kind in _FREE:
        number = number_of(text)
        if number is None:
            raise QueryError(f"{text!r} is not a number such as 3 or 0.25; other values are compared by : and !=")
    else:
        number = values.integer(text) if key.kind == "integer" else values.duration(text, plain=True)
    return number, number


def _attribute_limits(text: str) -> Range | None:
    low, dots, high = text.partition("..")
    begin, end = number_of(low), number_of(high)
    return Range(at_least=begin, at_most=end) if dots and begin is not None and end is not None else None


# -- from terms to filters


def _filters(terms: Sequence[_Term]) -> Filters:
    """All terms must hold; but the values of one key, in several terms, are one choice."""
    since = _only(max, (term.since for term in terms))
    until = _only(min, (term.until for term in terms))
    choices: dict[tuple[str, bool], Condition] = {}
    conditions: list[Condition] = []
    for term in terms:
        condition = term.condition
        if condition is None:
            continue
        if term.is_choice:
            earlier = choices.get((condition.key, condition.negated), replace(condition, tests=()))
            tests = tuple(dict.fromkeys((*earlier.tests, *condition.tests)))
            choices[condition.key, condition.negated] = replace(condition, tests=tests)
        else:
            conditions.append(condition)
    return _with_fields(list(choices.values()), conditions, since, until)


def _only(choose: Callable[[Iterable[int]], int], times: Iterable[int | None]) -> int | None:
    given_times = [at for at in times if at is not None]
    return choose(given_times) if given_times else None


def _with_fields(
    choices: Sequence[Condition], conditions: Sequence[Condition], since: int | None, until: int | None
) -> Filters:
    """Exact values become the fields of their keys, which every backend knows; one field holds one choice."""
    chosen: dict[str, Any] = {}
    remaining: list[Condition] = []
    for condition in (*choices, *conditions):
        name = _FIELD_OF.get(condition.key)
        texts = tuple(test.value for test in condition.tests if isinstance(test, Equal) and isinstance(test.value, str))
        if name is None or name in chosen or len(texts) < len(condition.tests):
            remaining.append(condition)
        elif condition.negated:
            chosen[name] = NoneOf(texts)
        else:
            chosen[name] = texts[0] if len(texts) == 1 else OneOf(texts)
    return Filters(**chosen, since=since, until=until, conditions=tuple(remaining))
