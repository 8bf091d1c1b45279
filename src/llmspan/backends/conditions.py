"""Filters as SQL: a :class:`ConditionDialect` says what differs between databases, :class:`Renderer` writes the rest.

All of them must find what :meth:`llmspan.query.filters.Filters.matches` finds. Values and names of attributes are
always parameters. A comparison with no value is false, so that its negation passes the records that have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..limits import plain_text
from ..query.conditions import Condition, Contains, Equal, Missing, Pattern, Present, Range, Test
from ..query.keys import ANNOTATIONS, ATTRIBUTES, KEY_OF_NAME, TEXT
from ..query.matching import equal_number, spellings, stored_text
from ..query.statistics import PERIODS, group_key
from .annotation_conditions import AnnotationTables, any_term, is_one_of
from .rows import Cell

__all__ = [
    "ConditionDialect",
    "Preselection",
    "Renderer",
    "unnested_table",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionDialect:
    """How one database writes conditions. What is called a mark is a parameter, as it is written."""

    #: input and output together, NULL where neither is reported
    tokens: str
    #: whether a text fits a pattern, given both
    like: Callable[[str, str], str]
    #: the pattern of the texts between its stars
    pattern: Callable[[Sequence[str]], str]
    #: whether a condition, made of an item, holds for one of a column's texts
    any_item: Callable[[str, Callable[[str], str]], str]
    #: whether a column has any text
    has_items: Callable[[str], str]
    #: the value of the attribute with this name as text, NULL if it is neither text nor a truth value
    attribute_text: Callable[[str], str]
    #: the same as a number, NULL if it is neither a number nor a text that is one
    attribute_number: Callable[[str], str]
    #: the value of the attribute as text to be equal to: a text, a truth value, or the digits of an integer of 64 bits
    attribute_equal: Callable[[str], str]
    #: the number of the attribute, NULL if it is a text or an integer of more than 15 digits
    attribute_exact_number: Callable[[str], str]
    #: the value of the attribute as the name of a group: a text, a truth value or a number
    attribute_group: Callable[[str], str]
    #: a record's hour, day, week and month, UTC: as groups name them, or hours and days (that of a Monday) since 1970
    periods: Mapping[str, str]
    #: a table, given its name and a column, with a row for each different text of the column, under ``<column>_item``
    unnested: Callable[[str, str], str]
    #: whether there is such an attribute, and it is not null
    has_attribute: Callable[[str], str]
    #: whether a column of JSON text contains a text, given its mark, without regard to the case of A to Z
    contains: Callable[[str, str], str]
    #: the parameter of that text
    content_value: Callable[[str], str] = str
    #: a condition that holds for all records with one of some texts in their content, by an index; None without one
    preselect: Callable[[Preselection], str | None] = lambda _: None
    #: expressions of keys that are not the column of their name
    columns: Mapping[str, str]
    #: the same where groups are made, if that is another expression, as of an index
    group_columns: Mapping[str, str] = field(default_factory=dict[str, str])
    #: how a value is looked up in another table
    member: str = "IN"


@dataclass(frozen=True, slots=True)
class Preselection:
    """What an index is asked: the spellings of a text, how a value is written, and the bounds of the partitions."""

    spellings: Sequence[str]
    mark: Callable[[Cell], str]
    bounds: Sequence[str]


#: the model that answered, or the one that was asked for
MODEL: Final = "coalesce(response_model, request_model)"


@dataclass(frozen=True, slots=True)
class Renderer:
    """Writes conditions, and puts their parameters into ``values``."""

    dialect: ConditionDialect
    parameter: Callable[[str, Cell], str]
    values: dict[str, Cell]
    #: conditions on partitions that hold for all records that are meant
    bounds: Sequence[str] = ()
    #: where the records are, and the annotations
    records: str = "provider_traces"
    annotations: str = "annotations"

    def condition(self, condition: Condition) -> str:
        """The condition in SQL, in brackets where it needs them."""
        if condition.key.startswith(ANNOTATIONS):
            return self._annotation_tables().condition(condition, self._mark)
        equal = [test for test in condition.tests if isinstance(test, Equal)]
        terms = [self._test(condition.key, test) for test in condition.tests if not isinstance(test, Equal)]
        tests = any_term([*([self._equals(condition.key, equal)] if equal else []), *terms])
        return f"NOT coalesce(({tests}), false)" if condition.negated else f"({tests})"

    def _annotation_tables(self) -> AnnotationTables:
        like, pattern, member = self.dialect.like, self.dialect.pattern, self.dialect.member
        return AnnotationTables(self.annotations, self.records, like, pattern, member)

    def _test(self, key: str, test: Test) -> str:
        if key == TEXT.name:
            return self._content(test)
        if key.startswith(ATTRIBUTES):
            return self._attribute(key, test)
        kind = KEY_OF_NAME[key].kind
        if kind == "texts":
            return self._items(key, test)
        return self._scalar(key, self.expression(key), test)

    def expression(self, key: str) -> str:
        """The value of a scalar key."""
        computed = {"model": MODEL, "tokens": self.dialect.tokens}
        return self.dialect.columns.get(key) or computed.get(key, key)

    def group(self, name: str) -> str:
        """The value by which a group is made; lists are those of :func:`unnested_table`."""
        if name in PERIODS:
            return self.dialect.periods[name]
        key = group_key(name)
        if key.kind == "attribute":
            return self.dialect.attribute_group(self._mark(plain_text(key.name.removeprefix(ATTRIBUTES))))
        if key.kind == "texts":
            return f"{key.name}_item"
        if key.kind == "boolean":
            return f"CASE WHEN {key.name} THEN 'true' ELSE 'false' END"
        return self.dialect.group_columns.get(key.name) or self.expression(key.name)

    def _scalar(self, key: str, expression: str, test: Test) -> str:
        match test:
            case Missing():
                return f"{expression} IS NULL"
            case Present():
                return f"{expression} IS NOT NULL"
            case Range():
                limits = [f"{expression} {sign} {self._mark(limit)}" for sign, limit in test.limits()]
                return f"({' AND '.join(limits) or f'{expression} IS NOT NULL'})"
            case Pattern():
                return self._like(expression, test)
            case Equal() | Contains():
                raise AssertionError(f"{key} has no content, and its values are compared together")

    def _equals(self, key: str, tests: Sequence[Equal]) -> str:
        """Whether the key has one of several values."""
        if key.startswith(ATTRIBUTES):
            return self._attribute_equals(key, [str(test.value) for test in tests])
        values = [stored_text(key, test.value) if isinstance(test.value, str) else test.value for test in tests]
        marks = [str(one).lower() if isinstance(one, bool) else self._mark(one) for one in dict.fromkeys(values)]
        if KEY_OF_NAME[key].kind == "texts":
            return self.dialect.any_item(key, lambda item: is_one_of(item, marks))
        return is_one_of(self.expression(key), marks)

    def _attribute_equals(self, key: str, texts: Sequence[str]) -> str:
        name = self._mark(plain_text(key.removeprefix(ATTRIBUTES)))
        marks = [self._mark(text) for text in dict.fromkeys(stored_text(key, text) for text in texts)]
        equal = is_one_of(self.dialect.attribute_equal(name), marks)
        numbers = dict.fromkeys(number for text in texts if (number := equal_number(text)) is not None)
        marks = [self._mark(number) for number in numbers]
        return f"({equal} OR {is_one_of(self.dialect.attribute_exact_number(name), marks)})" if marks else equal

    def _like(self, expression: str, test: Pattern) -> str:
        return self.dialect.like(
            expression, self._mark(self.dialect.pattern([plain_text(part) for part in test.parts]))
        )

    def _items(self, key: str, test: Test) -> str:
        match test:
            case Missing():
                return f"NOT {self.dialect.has_items(key)}"
            case Present():
                return self.dialect.has_items(key)
            case _:
                return self.dialect.any_item(key, lambda item: self._scalar(key, item, test))

    def _attribute(self, key: str, test: Test) -> str:
        name = self._mark(plain_text(key.removeprefix(ATTRIBUTES)))
        dialect = self.dialect
        match test:
            case Missing():
                return f"NOT {dialect.has_attribute(name)}"
            case Present():
                return dialect.has_attribute(name)
            case Range():
                number = dialect.attribute_number(name)
                limits = [f"{number} {sign} {self._mark(float(limit))}" for sign, limit in test.limits()]
                return f"({' AND '.join(limits) or f'{number} IS NOT NULL'})"
            case Pattern():
                return self._like(dialect.attribute_text(name), test)
            case Equal() | Contains():
                raise AssertionError(f"{key} has no content, and its values are compared together")

    def _content(self, test: Test) -> str:
        text = test.text if isinstance(test, Contains) else ""
        preselected = self.dialect.preselect(Preselection(spellings(text), self._mark, self.bounds))
        marks = [self._mark(self.dialect.content_value(spelling)) for spelling in spellings(text)]
        columns = ("request_json", "response_json")
        exact = f"({' OR '.join(self.dialect.contains(column, mark) for column in columns for mark in marks)})"
        return exact if preselected is None else f"({preselected} AND {exact})"

    def _mark(self, value: Cell) -> str:
        name = f"value_{len(self.values)}"
        self.values[name] = value
        return self.parameter(name, value)


def unnested_table(dialect: ConditionDialect, table: str, group_by: Sequence[str]) -> str:
    """``table`` with a row for each text of the lists that are grouped by."""
    columns = dict.fromkeys(key.name for key in map(group_key, group_by) if key.kind == "texts")
    for column in columns:
        table = dialect.unnested(table, column)
    return f"{table} AS unnested" if columns else table
