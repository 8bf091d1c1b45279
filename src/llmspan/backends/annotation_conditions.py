"""Conditions on annotations as SQL: the record's id is one of those that were annotated so, or whose trace was.

It is asked once for all records, never NULL, and finds records by their key. The comment of an annotation is no value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..limits import plain_text
from ..query.conditions import Condition, Equal, Missing, Pattern, Range, Test, number_of
from ..query.keys import ANNOTATIONS
from .rows import Cell

__all__ = ["AnnotationTables", "any_term", "is_one_of"]


@dataclass(frozen=True, slots=True)
class AnnotationTables:
    """Where annotations and records are, as they stand behind FROM, and how one database compares texts."""

    annotations: str
    records: str
    like: Callable[[str, str], str]
    pattern: Callable[[Sequence[str]], str]
    #: ``IN``, or what a database of several machines needs
    member: str = "IN"

    def condition(self, condition: Condition, mark: Callable[[Cell], str]) -> str:
        """The condition; ``mark`` writes a parameter."""
        name = mark(plain_text(condition.key.removeprefix(ANNOTATIONS)))
        equal = [str(test.value) for test in condition.tests if isinstance(test, Equal)]
        tests = [self._test(test, mark) for test in condition.tests if not isinstance(test, Equal | Missing)]
        tests += [_equals(equal, mark)] if equal else []
        terms = [self._chosen(name, any_term(tests))] if tests else []
        if any(isinstance(test, Missing) for test in condition.tests):
            terms.append(f"NOT {self._chosen(name, '1 = 1')}")
        return f"{'NOT ' if condition.negated else ''}({any_term(terms)})"

    def _chosen(self, name: str, values: str) -> str:
        """Whether the record, or its trace, has an annotation of this name with such a value."""
        where = f"FROM {self.annotations} WHERE name = {name} AND ({values})"
        of_traces = f"SELECT coalesce(trace_id, '') {where} AND trace_id IS NOT NULL"
        records = f"SELECT id FROM {self.records} WHERE trace_id {self.member} ({of_traces})"  # noqa: S608 - all ours
        own = f"SELECT coalesce(record_id, '') {where} AND record_id IS NOT NULL"
        return f"id {self.member} ({own} UNION ALL {records})"

    def _test(self, test: Test, mark: Callable[[Cell], str]) -> str:
        match test:
            case Pattern():
                return self.like("text_value", mark(self.pattern([plain_text(part) for part in test.parts])))
            case Range():
                limits = [f"number_value {sign} {mark(float(limit))}" for sign, limit in test.limits()]
                return " AND ".join(["number_value IS NOT NULL", *limits])
            case _:
                return "1 = 1"


def _equals(texts: Sequence[str], mark: Callable[[Cell], str]) -> str:
    numbers = dict.fromkeys(number for text in texts if (number := number_of(text)) is not None)
    terms = [is_one_of("text_value", [mark(text) for text in dict.fromkeys(map(plain_text, texts))])]
    terms += [is_one_of("number_value", [mark(number) for number in numbers])] if numbers else []
    return " OR ".join(terms)


def is_one_of(expression: str, marks: Sequence[str]) -> str:
    """Whether a value is one of several."""
    return f"{expression} IN ({', '.join(marks)})" if len(marks) > 1 else f"{expression} = {marks[0]}"


def any_term(terms: Sequence[str]) -> str:
    """Whether one of the terms holds, in pairs of pairs: SQLite limits the depth of an expression, not its length."""
    if len(terms) < 2:
        return terms[0] if terms else "1 = 0"
    middle = len(terms) // 2
    return f"({any_term(terms[:middle])}) OR ({any_term(terms[middle:])})"
