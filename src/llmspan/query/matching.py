"""What filters mean, in Python: the memory backend uses it, and tests compare every store with it.

Texts are compared as stores hold them: cut to their length, and without what no column can hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from ..limits import MAX_JSON_BYTES, MAX_MESSAGE_BYTES, MAX_TEXT_BYTES, encodable, plain_text
from .conditions import Condition, Contains, Equal, Missing, Pattern, Present, Range, Test, exact_number_of, number_of
from .keys import ANNOTATIONS, ATTRIBUTES, TEXT

if TYPE_CHECKING:
    from ..annotation import Annotation
    from ..trace import ProviderTrace
    from .filters import Filters

__all__ = ["equal_number", "lower", "matches", "spellings", "stored_text", "values_of"]

_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ">": lambda value, limit: value > limit,
    ">=": lambda value, limit: value >= limit,
    "<": lambda value, limit: value < limit,
    "<=": lambda value, limit: value <= limit,
}


def matches(filters: Filters, record: ProviderTrace, annotations: Iterable[Annotation] = ()) -> bool:
    """Whether all of ``filters`` hold for ``record`` and those of ``annotations`` that are about it."""
    if filters.since is not None and record.started_at < filters.since:
        return False
    if filters.until is not None and record.started_at >= filters.until:
        return False
    of_record = [annotation for annotation in annotations if annotation.is_about(record)]
    return all(_holds(condition, record, of_record) for condition in filters.all_conditions())


def values_of(record: ProviderTrace, key: str) -> Sequence[Any]:
    """The values of a key: one or none, but for lists."""
    if key.startswith(ATTRIBUTES):
        value = record.attributes.get(key.removeprefix(ATTRIBUTES))
    elif key == "model":
        value = record.request_model if record.response_model is None else record.response_model
    elif key == "tokens":
        counts = [count for count in (record.usage.input_tokens, record.usage.output_tokens) if count is not None]
        value = sum(counts) if counts else None
    elif key == TEXT.name:
        return [text for text in (record.request_json, record.response_json) if text is not None]
    else:
        value = _USAGE[key](record) if key in _USAGE else getattr(record, key)
    if isinstance(value, tuple):
        return [item for item in value if item is not None]  # pyright: ignore[reportUnknownVariableType]
    return [] if value is None else [value]


_USAGE: Final[dict[str, Callable[[ProviderTrace], Any]]] = {
    "input_tokens": lambda record: record.usage.input_tokens,
    "output_tokens": lambda record: record.usage.output_tokens,
    "cache_read_tokens": lambda record: record.usage.cache_read_tokens,
    "cache_write_tokens": lambda record: record.usage.cache_write_tokens,
    "reasoning_tokens": lambda record: record.usage.reasoning_tokens,
    "usage_source": lambda record: record.usage.source,
}


def stored_text(key: str, value: str) -> str:
    """A text as the store holds it under ``key``."""
    if key.startswith(ATTRIBUTES):
        return plain_text(value, MAX_JSON_BYTES)
    return plain_text(value, MAX_MESSAGE_BYTES if key == "error_message" else MAX_TEXT_BYTES)


def spellings(text: str) -> Sequence[str]:
    """How JSON text may write ``text``: as it is, and with escapes for what is not ASCII."""
    content = encodable(text)
    return tuple(dict.fromkeys(json.dumps(content, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True)))


def _holds(condition: Condition, record: ProviderTrace, annotations: Sequence[Annotation]) -> bool:
    if condition.key.startswith(ANNOTATIONS):
        name = plain_text(condition.key.removeprefix(ANNOTATIONS))
        # one without a value has a comment, and is there all the same
        values = [annotation.value for annotation in annotations if plain_text(annotation.name) == name]
        return any(_annotation_passes(values, test) for test in condition.tests) != condition.negated
    values = values_of(record, condition.key)
    return any(_passes(condition.key, values, test) for test in condition.tests) != condition.negated


def _passes(key: str, values: Sequence[Any], test: Test) -> bool:
    match test:
        case Missing():
            return not values
        case Present():
            return bool(values)
        case Contains():
            return any(_contains(value, test.text) for value in values)
        case Equal():
            return any(_equals(key, value, test.value) for value in values)
        case Pattern():
            return any(_fits(stored_text(key, value), test.parts) for value in values if isinstance(value, str))
        case Range():
            numbers = [number for value in values if (number := _number(key, value)) is not None]
            return any(all(_OPERATORS[sign](number, limit) for sign, limit in test.limits()) for number in numbers)


def _annotation_passes(values: Sequence[float | str | None], test: Test) -> bool:
    texts = [plain_text(value) for value in values if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, int | float)]
    match test:
        case Missing():
            return not values
        case Equal():
            return plain_text(str(test.value)) in texts or number_of(str(test.value)) in numbers
        case Pattern():
            return any(_fits(text, test.parts) for text in texts)
        case Range():
            return any(all(_OPERATORS[sign](number, limit) for sign, limit in test.limits()) for number in numbers)
        case Present() | Contains():
            return bool(values)


def _equals(key: str, value: Any, expected: str | int) -> bool:
    if not key.startswith(ATTRIBUTES):
        return stored_text(key, value) == stored_text(key, expected) if isinstance(expected, str) else value == expected
    text = json.dumps(value) if isinstance(value, bool) or _is_integer(value) else value
    if isinstance(text, str) and stored_text(key, text) == stored_text(key, str(expected)):
        return True
    number = equal_number(str(expected))
    return number is not None and number == (exact_number_of(text) if isinstance(text, str) else _number(key, value))


def equal_number(text: str) -> float | None:
    """The number that an attribute may equal instead of this text; a fraction is a float however long it is."""
    return number_of(text) if "." in text else exact_number_of(text)


def _is_integer(value: Any) -> bool:
    """Whether a value is a whole number of 64 bits, which stores compare by its digits."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _number(key: str, value: Any) -> int | float | None:
    """A value as a number to compare; of an attribute as a float, also from a text that is one."""
    if isinstance(value, str):
        return number_of(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if key.startswith(ATTRIBUTES) and _is_integer(value) else value


def _fits(text: str, parts: Sequence[str]) -> bool:
    """Whether ``text`` is the parts with anything between them."""
    first, *middle, last = (plain_text(part) for part in parts)
    if not text.startswith(first) or len(text) < len(first) + len(last) or not text.endswith(last):
        return False
    remaining = text[len(first) : len(text) - len(last)]
    ends = accumulate(middle, lambda start, part: _end_of(remaining, part, start), initial=0)
    return all(end >= 0 for end in ends)


def _end_of(text: str, part: str, start: int) -> int:
    """Where ``part`` ends in ``text`` at or after ``start``; negative if it is not there."""
    at = text.find(part, start) if start >= 0 else -1
    return at + len(part) if at >= 0 else -1


def _contains(content: str, text: str) -> bool:
    lowered = lower(content)
    return any(lower(spelling) in lowered for spelling in spellings(text))


def lower(text: str) -> str:
    """``text`` with A to Z in lower case; other letters stay, as in every store's search."""
    return text.translate(_LOWER)


_LOWER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
