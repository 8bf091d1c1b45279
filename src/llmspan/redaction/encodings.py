r"""Decoded views of a text: what it says once JSON escapes, percent-encoding, HTML entities and colours are read.

Tool-call arguments are JSON text inside a JSON string, URLs are percent-encoded, terminals colour their output. A
pattern that looks at the raw text alone misses a key behind ``\n`` or ``%20``. Each view maps a position back to the
original text, so that a match can be replaced there.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from typing import Final, NamedTuple

#: JSON inside JSON inside JSON, percent-encoded twice: deeper nesting has not been observed
_LEVELS: Final = 4
_CONTROLS: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

#: how the escape character is written, in itself and encoded
_ESCAPE_SIGNS: Final = ("\x1b", "\\u001b", "\\u001B", "\\x1b", "%1b", "%1B")
_INVISIBLE: Final = r"\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
#: every unit begins with one of a few characters, which lets the search skip all others quickly
_ENCODED: Final = re.compile(
    rf"[\\%&\x1b{_INVISIBLE}]"
    r"(?:(?<=\\)(?:u(?P<unicode>[0-9a-fA-F]{4})|x(?P<byte>[0-9a-fA-F]{2})|(?P<control>[\"\\/'bfnrt]))"
    r"|(?<=%)(?P<percent>[0-7][0-9a-fA-F]|[89a-fA-F][0-9a-fA-F](?:%[89a-fA-F][0-9a-fA-F])*+)"
    r"|(?<=&)(?P<entity>(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,8});)"
    # colours and other control sequences of a terminal (ECMA-48), and characters without width
    r"|(?<=\x1b)(?P<control_sequence>\[[0-?]*+[ -/]*+[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\))"
    rf"|(?<=[{_INVISIBLE}])[{_INVISIBLE}]*+)"
)
_WITHOUT_WIDTH: Final = re.compile(f"[{_INVISIBLE}]")
#: what most units are
_COMMON: Final = {rf"\{key}": value for key, value in {**_CONTROLS, '"': '"', "\\": "\\", "/": "/"}.items()} | {
    f"%{code:02{form}}": chr(code) for code in range(128) for form in "xX"
}


class _Breaks(NamedTuple):
    """For each decoded unit: where it starts and ends in the view, and in the text that it was decoded from."""

    starts: list[int]
    ends: list[int]
    raw_starts: list[int]
    raw_ends: list[int]


class View:
    """A text, and how its positions map to the original."""

    def __init__(self, text: str, source: View | None = None, filler: str = "") -> None:
        self.text = text
        self._source = source
        self._filler = filler

    def decoded(self, filler: str) -> View | None:
        """The next view, whose invisible parts became ``filler``; None where there is nothing to decode."""
        if not _may_be_encoded(self.text):
            return None
        text = _ENCODED.sub(lambda match: _decode(match, filler), self.text)
        return None if text == self.text else View(text, self, filler)

    def in_original(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original text that ``text[start:end]`` stands for."""
        view = self
        while view._source is not None:
            start, end = view._in_source(start, end)
            view = view._source
        return start, end

    @cached_property
    def _breaks(self) -> _Breaks:
        breaks, shift = _Breaks([], [], [], []), 0
        assert self._source is not None
        for match in _ENCODED.finditer(self._source.text):
            length = len(_decode(match, self._filler))
            start = match.start() + shift
            for values, value in zip(breaks, (start, start + length, match.start(), match.end()), strict=True):
                values.append(value)
            shift += length - (match.end() - match.start())
        return breaks

    def _in_source(self, start: int, end: int) -> tuple[int, int]:
        breaks = self._breaks
        first, last = (bisect_right(breaks.starts, position) - 1 for position in (start, end - 1))
        if first >= 0:
            inside = start < breaks.ends[first]
            start = breaks.raw_starts[first] if inside else breaks.raw_ends[first] + start - breaks.ends[first]
        if last >= 0:
            inside = end - 1 < breaks.ends[last]
            end = breaks.raw_ends[last] if inside else breaks.raw_ends[last] + end - breaks.ends[last]
        return start, end


def views(text: str) -> Iterator[View]:
    """``text`` itself, then its decoded views."""
    original = View(text)
    yield original
    # "red" between two letters joins them in one view and parts them in the other: a key may be coloured in its middle,
    # or begin right behind a coloured word
    for filler in ("", " ") if _has_invisible(text) else ("",):
        view: View | None = original
        for _ in range(_LEVELS):
            view = view.decoded(filler)
            if view is None:
                break
            yield view


def _may_be_encoded(text: str) -> bool:
    return any(sign in text for sign in "\\%&\x1b") or bool(not text.isascii() and _WITHOUT_WIDTH.search(text))


def _has_invisible(text: str) -> bool:
    return any(sign in text for sign in _ESCAPE_SIGNS) or bool(not text.isascii() and _WITHOUT_WIDTH.search(text))


def _decode(match: re.Match[str], filler: str) -> str:
    raw = match[0]
    common = _COMMON.get(raw)
    if common is not None:
        return common
    kind = match.lastgroup
    if kind == "percent":
        return bytes.fromhex(raw.replace("%", "")).decode("utf-8", "replace")
    if kind in ("unicode", "byte"):
        return chr(int(match[kind], 16))
    if kind == "control":
        return raw[1]
    return html.unescape(raw) if kind == "entity" else filler
