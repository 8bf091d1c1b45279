"""Snippets: the words around the place where a record contains the text that was searched for. Pure.

A snippet is for people: escapes of JSON are read where the match is inside one JSON string, white space is one blank,
and what is cut is cut at a blank. Whether a record matches is :mod:`.matching`'s to say, never a snippet's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from .conditions import Contains
from .keys import TEXT
from .matching import lower, spellings

if TYPE_CHECKING:
    from ..trace import ProviderTrace
    from .filters import Filters

__all__ = ["Snippet", "searched_texts", "snippet_of", "snippets_by_id"]

#: characters on each side of a match
_CONTEXT: Final = 60
#: a match of more characters is cut
_LONGEST: Final = 200
#: a quote that ends a JSON string: before it is an even number of backslashes
_QUOTE: Final = re.compile(r'(?<!\\)(?:\\\\)*(")')
_TRAILING_BACKSLASHES: Final = re.compile(r"\\*\Z")
_ELLIPSIS: Final = "..."


@dataclass(frozen=True, slots=True)
class Snippet:
    """Where a record contains a text: the match as the payload writes it, and the words before and after it."""

    part: Literal["request", "response"]
    before: str
    match: str
    after: str

    def __str__(self) -> str:
        return f"{self.before}{self.match}{self.after}"

    def to_dict(self) -> dict[str, str]:
        """The snippet with plain values."""
        return {"part": self.part, "before": self.before, "match": self.match, "after": self.after}


def searched_texts(filters: Filters | None) -> Sequence[str]:
    """The texts that a record must contain one of, for ``filters`` that search for some."""
    conditions = () if filters is None else filters.conditions
    return [
        test.text
        for condition in conditions
        if condition.key == TEXT.name and not condition.negated
        for test in condition.tests
        if isinstance(test, Contains)
    ]


def snippet_of(record: ProviderTrace, texts: Sequence[str]) -> Snippet | None:
    """The first place where ``record`` contains the first of ``texts`` that it contains; None without a payload."""
    for text in texts:
        marks = [lower(spelling) for spelling in spellings(text)]
        for part, content in (("request", record.request_json), ("response", record.response_json)):
            lowered = lower(content or "")
            places = [(at, at + len(mark)) for mark in marks if (at := lowered.find(mark)) >= 0]
            if content is not None and places:
                return _snippet("request" if part == "request" else "response", content, *min(places))
    return None


def snippets_by_id(records: Iterable[ProviderTrace], texts: Sequence[str]) -> Mapping[str, Snippet]:
    """The snippets of those ``records`` that contain one of ``texts``, by id."""
    pairs = ((record.id, snippet_of(record, texts)) for record in records)
    return {record_id: snippet for record_id, snippet in pairs if snippet is not None}


def _snippet(part: Literal["request", "response"], content: str, begin: int, end: int) -> Snippet:
    before, match, after = content[:begin][-_CONTEXT * 2 :], content[begin:end], content[end : end + _CONTEXT * 2]
    is_begin_cut, is_end_cut = len(before) < begin, end + len(after) < len(content)
    is_inside = len(_QUOTE.findall(content, 0, begin)) % 2 == 1
    pieces = _inside_string(before, match, after, is_begin_cut=is_begin_cut, is_end_cut=is_end_cut)
    if is_inside and pieces is not None:
        before, match, after, is_begin_cut, is_end_cut = pieces
    before, match, after = (re.sub(r"\s+", " ", piece) for piece in (before, match, after))
    if len(before) > _CONTEXT:
        before, is_begin_cut = _from_blank(before[-_CONTEXT:]), True
    if len(after) > _CONTEXT:
        after, is_end_cut = _to_blank(after[:_CONTEXT]), True
    if len(match) > _LONGEST:
        match, after, is_end_cut = match[:_LONGEST], "", True
    return Snippet(part, _ELLIPSIS * is_begin_cut + before, match, after + _ELLIPSIS * is_end_cut)


def _inside_string(
    before: str, match: str, after: str, *, is_begin_cut: bool, is_end_cut: bool
) -> tuple[str, str, str, bool, bool] | None:
    """The pieces of one JSON string as the text that it is, and whether they are cut; None if they cannot be read."""
    opening = [quote.end() for quote in _QUOTE.finditer(before)]
    if opening:
        before, is_begin_cut = before[opening[-1] :], False
    elif is_begin_cut:
        before = _from_blank(before)
    closing = _QUOTE.search(after)
    if closing:
        after, is_end_cut = after[: closing.start(1)], False
    elif is_end_cut:
        after = _to_blank(after)
    trailing = _TRAILING_BACKSLASHES.search(before)
    if trailing is not None and len(trailing[0]) % 2:  # the match begins within an escape
        return None
    try:
        texts: list[str] = [json.loads(f'"{piece}"') for piece in (before, match, after)]
    except ValueError:
        return None
    return texts[0], texts[1], texts[2], is_begin_cut, is_end_cut


def _from_blank(text: str) -> str:
    """``text`` from its first blank on, where a word or an escape may have been cut."""
    return text[text.find(" ") + 1 :] if " " in text[: _CONTEXT // 2] else text


def _to_blank(text: str) -> str:
    return text[: text.rfind(" ")] if " " in text[-(_CONTEXT // 2) :] else text
