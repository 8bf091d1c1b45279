"""Finds payment card numbers: 13 to 19 digits of an issuer's form that pass Luhn's check (ISO/IEC 7812).

A number stands beside others (an expiry date, a CVV, a quantity), so every run of groups of digits is tried group by
group: a card number begins and ends where groups do, and one character separates its groups throughout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

#: digits, and single characters that people put between the groups
_RUN: Final = re.compile(r"\d+(?:[ .\-_\t\u00a0\u2007\u2009\u2010\u2011\u2013\u202f]\d+)*")
_GROUP: Final = re.compile(r"\d+")
_WIDE_GROUP: Final = re.compile(r"\d{3}")
#: how the numbers of an issuer begin, and how long they are
_ISSUERS: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # visa
    r"|5[1-5]\d{14}|2[2-7]\d{14}"  # mastercard, mir
    r"|3[47]\d{13}"  # american express
    r"|3[0689]\d{12,17}"  # diners club
    r"|(?:35|8[12])\d{14,17}"  # jcb, rupay
    r"|(?:5[06-8]|6\d)\d{11,17}"  # maestro, discover, unionpay
)
_SHORTEST: Final = 13
_LONGEST: Final = 19
#: digits of one of several groups
_NARROWEST: Final = 3
_WIDEST: Final = 8
#: ASCII digits -> ASCII of the digit sum of their double
_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")
_NO_DIGITS: Final = re.compile(r"\D+")


class _Group(NamedTuple):
    start: int
    end: int
    #: how many digits of the run stand before it
    offset: int


def card_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where card numbers are in ``text``."""
    for run in _RUN.finditer(text):
        if run.end() - run.start() >= _SHORTEST and _WIDE_GROUP.search(text, *run.span()):
            yield from _in_run(text, *run.span())


def is_card(digits: str) -> bool:
    """Whether ``digits`` have the form of an issuer's numbers and the right check digit."""
    if not digits.isascii():  # digits of another script
        digits = "".join(str(int(digit)) for digit in digits if digit.isdecimal())
    if not _ISSUERS.fullmatch(digits):
        return False
    values = digits.encode()
    return (sum(values[-1::-2]) + sum(values[-2::-2].translate(_DOUBLED)) - 48 * len(values)) % 10 == 0


def _in_run(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    groups: list[_Group] = []
    offset = 0
    for match in _GROUP.finditer(text, start, end):
        groups.append(_Group(match.start(), match.end(), offset))
        offset += match.end() - match.start()
    digits = _NO_DIGITS.sub("", text[start:end])
    index = 0
    while index < len(groups):
        end_index = _card_from(text, digits, groups, index) if text[groups[index].start] not in "0179" else 0
        if end_index:
            yield groups[index].start, groups[end_index - 1].end
        index = end_index or index + 1


def _card_from(text: str, digits: str, groups: list[_Group], first: int) -> int:
    """The index behind the last group of the longest card number that begins with group ``first``; 0 if none does."""
    start, end, offset = groups[first]
    if end - start >= _SHORTEST:
        return first + 1 if is_card(text[start:end]) and not _is_fraction(text, start) else 0
    if end - start < _NARROWEST:
        return 0
    end_index, separator = 0, text[end : end + 1]
    for index in range(first + 1, len(groups)):
        group_start, group_end, group_offset = groups[index]
        size = group_end - group_start
        length = group_offset + size - offset
        if length > _LONGEST or not _NARROWEST <= size <= _WIDEST or text[group_start - 1] != separator:
            break
        if length >= _SHORTEST and is_card(digits[offset : offset + length]):
            end_index = index + 1
    return end_index


def _is_fraction(text: str, start: int) -> bool:
    """Whether the digits are those behind the point of a decimal number."""
    return text[max(0, start - 1) : start] == "." and text[max(0, start - 2) : start - 1].isdigit()
