"""Columns beside the record's own, from which a store that has them sums up prices without reading any JSON.

They say what a price depends on and no other column does; :func:`with_price_columns` writes them. They are NULL for a
call whose counts contradict each other or whose JSON is unusual, and in rows of earlier versions: those are read as
before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from ..trace import ProviderTrace
from ..usage import Usage
from .price_classes import DETAILS, FLAGS, INPUT_PARTS, LARGEST, OUTPUT_PARTS, PASSES, WORDS
from .rows import Cell

__all__ = ["PRICE_COLUMNS", "SUMMED", "with_price_columns"]

#: counts of ``usage_details`` that have a column each; the others stand in ``price_facts``
SUMMED: Final = ("cache_write_5m_tokens", "cache_write_1h_tokens")
PRICE_COLUMNS: Final = ("price_facts", *SUMMED)
_UNKNOWN: Final[Mapping[str, Cell]] = dict.fromkeys(PRICE_COLUMNS)
_NO_LIFETIMES: Final[Mapping[str, Cell]] = dict.fromkeys(SUMMED)
_COUNTED: Final = frozenset((*DETAILS, *FLAGS))
_LIFETIMES: Final = frozenset(SUMMED)
_PASSES: Final = frozenset(PASSES)
#: JSON of more characters may have been cut, and a long word is none that a price depends on
_LONGEST_JSON: Final = 8_000
_LONGEST_WORD: Final = 40


def with_price_columns(record: ProviderTrace, row: dict[str, Any]) -> dict[str, Any]:
    """``row``, the cells of ``record``, with those of :data:`PRICE_COLUMNS`."""
    row.update(_price_columns(record.usage, row))
    return row


# Every write pays for this: it is one pass over what most calls do not have.
def _price_columns(usage: Usage, row: Mapping[str, Any]) -> Mapping[str, Cell]:
    if len(row["usage_details"]) + len(row["usage_raw"] or "") > _LONGEST_JSON:
        return _UNKNOWN
    details: Mapping[str, Any] = usage.details
    counts = {name: value for name, value in details.items() if value != 0 and name in _COUNTED}
    facts = _words(usage.raw) if usage.raw else {}
    if facts is None or not _is_consistent(row, counts):
        return _UNKNOWN
    lifetimes = _NO_LIFETIMES
    if counts:
        lifetimes = {name: counts.pop(name, None) for name in SUMMED}
        facts |= counts
    if not _PASSES.isdisjoint(details):
        facts |= {name: -1 for name in _PASSES.intersection(details) if details[name] != row[PASSES[name]]}
    return {"price_facts": _text(tuple(facts.items())) if facts else "", **lifetimes}


@lru_cache(1000)
def _text(facts: tuple[tuple[str, Any], ...]) -> str:
    return json.dumps(dict(facts), sort_keys=True, separators=(",", ":"))


def _is_consistent(row: Mapping[str, Any], counts: Mapping[str, Any]) -> bool:
    """Whether no count is large or below zero, and no parts are more than their whole; as :mod:`.price_classes`."""
    tokens, output = row["input_tokens"] or 0, row["output_tokens"] or 0
    read, written = row["cache_read_tokens"] or 0, row["cache_write_tokens"] or 0
    if not (read >= 0 and written >= 0 and read + written <= tokens <= LARGEST and 0 <= output <= LARGEST):
        return False
    if not counts:
        return True
    for value in counts.values():
        if value.__class__ is not int or not 0 < value <= LARGEST:
            return False
    if _LIFETIMES.issuperset(counts):
        return sum(counts.values()) <= written

    def sum_of(names: Iterable[str]) -> int:
        return sum(counts.get(name, 0) for name in names)

    heard = sum_of(["cache_read_audio_tokens"])
    return (
        read + written + sum_of(INPUT_PARTS) <= tokens
        and sum_of(SUMMED) <= written
        and sum_of(OUTPUT_PARTS) <= output
        and heard <= min(read, sum_of(["audio_input_tokens"]))
    )


def _words(raw: Mapping[str, Any]) -> dict[str, Any] | None:
    """The words of the usage object that a price may depend on; None if one is no word."""
    words: dict[str, Any] = {}
    for name in WORDS:
        word = raw.get(name)
        if word is not None:
            if not (isinstance(word, str) and len(word) <= _LONGEST_WORD and word.isascii() and word.isprintable()):
                return None
            words[name] = word
    return words
