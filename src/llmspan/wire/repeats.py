"""Runs of events that differ in their text only, found without parsing them.

Nearly all events of a stream repeat the one before, but for the text that the model produced. Such an event changes
nothing that a span states, so the summary of a stream parses one event of each run and compares the bytes of the rest.
Where all that such events do is to append their texts, the whole reading parses them as one event.
"""

from __future__ import annotations

import functools
import re
import sys
from itertools import chain
from typing import Final, NamedTuple

#: JSON members that differ from event to event and that no fact is read from: what the model produced
_TEXT_KEYS: Final = (
    "arguments|audio|b64_json|code|completion|content|data|delta|input|obfuscation|partial_json|reasoning"
    "|reasoning_content|refusal|signature|stringValue|summary|text|thinking|transcript"
)
#: counters, and counts so far: a parser that reads those also reads the last event of a run
_NUMBER_KEYS: Final = (
    "candidatesTokenCount|partial_image_index|promptTokenCount|sequence_number|thoughtsTokenCount|tokenCount"
    "|totalTokenCount"
)
_TEXT_MEMBER: Final = rf'"(?:{_TEXT_KEYS})"\s*:\s*"'
_NUMBER_MEMBER: Final = rf'"(?:{_NUMBER_KEYS})"\s*:\s*(?=\d)'
#: the value behind such a member; possessive, as it can end in one way only
_TEXT: Final = r'[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+'
_NUMBER: Final = r"\d++"
_VARYING: Final = re.compile(f"(?:({_TEXT_MEMBER}){_TEXT}|{_NUMBER_MEMBER}{_NUMBER})".encode())
#: members that facts are read from as a whole: an event with a value for one is parsed
_FACTS: Final = re.compile(rb'"(?:error|usage|response)"\s*:(?!\s*null)')
#: any bytes of one event, up to its blank line
_REST: Final = r"(?:[^\n]|\n(?!\n))"
#: with more varying members an event is taken for one of a kind
_MOST_VARYING: Final = 12
#: bytes of events that are joined at once: less than a tenth of a millisecond
_MOST_JOINED: Final = 8 * 1024
#: a text that is of no interest, and may stand in each event beside the one that is
_PADDING: Final = b'"obfuscation"'


class JoinedRun(NamedTuple):
    """Some events of a run as one."""

    event: bytes
    number: int
    #: offset behind the last of them
    end: int


def joined_run(lines: bytes, start: int, end: int) -> JoinedRun | None:
    r"""The events behind the one between ``start`` and ``end`` that repeat it but for one text, as one with all texts.

    None if there are none, and where a character or an escape (``\ud83d``) may begin in one text and end in the next:
    to join those is to read something else.
    """
    members = list(_VARYING.finditer(lines, start, end))
    names = [match[1] for match in members]
    if None in names or len(names) - sum(name.startswith(_PADDING) for name in names) != 1:
        return None
    limit = start + _MOST_JOINED
    escape = lines.find(b"\\u", end, limit)
    stop = end_of_run(lines, start, end, limit if escape == -1 else escape)
    if stop == end:
        return None
    behind = [start, *(match.end() for match in members)]
    before = [*(match.end(1) for match in members), end]
    common = [lines[begin:until] for begin, until in zip(behind, before, strict=True)]
    return _joined(lines, end, stop, common)


def _joined(lines: bytes, start: int, stop: int, common: list[bytes]) -> JoinedRun | None:
    """The events between ``start`` and ``stop`` as one; ``common`` is what stands around the texts of each."""
    head, *separators, tail = common
    events = lines[start + len(head) : stop - len(tail)].split(tail + head)
    columns = _columns(events, separators)
    is_ascii = lines[start:stop].isascii()
    if not is_ascii and any(b"\x80" <= text[:1] < b"\xc0" for texts in columns for text in texts):
        return None
    texts = [*(b"".join(texts) for texts in columns), b""]
    return JoinedRun(b"".join(chain.from_iterable(zip(common, texts, strict=True))), len(events), stop)


def _columns(events: list[bytes], separators: list[bytes]) -> list[list[bytes]]:
    """The texts of ``events`` that stand before, between and behind ``separators``: a list for each of these places."""
    columns: list[list[bytes]] = []
    for separator in separators:
        parted = [event.partition(separator) for event in events]
        columns.append([text for text, _, _ in parted])
        events = [rest for _, _, rest in parted]
    return [*columns, events]


def end_of_run(lines: bytes, start: int, end: int, limit: int = sys.maxsize) -> int:
    """Where the run of events ends that repeat the one between ``start`` and ``end`` in all but their texts.

    It does not go beyond ``limit``.
    """
    if _FACTS.search(lines, start, end):
        return end
    kinds = "".join(["N" if match[1] is None else "T" for match in _VARYING.finditer(lines, start, end)])
    if len(kinds) > _MOST_VARYING:
        return end
    run = _run_pattern(kinds).match(lines, start, limit)
    return end if run is None else run.end()


@functools.lru_cache(maxsize=64)
def _run_pattern(kinds: str) -> re.Pattern[bytes]:
    """An event with varying members of these kinds, and behind it any number of events with the same other bytes."""
    first, repeated = "", ""
    for number, kind in enumerate(kinds, 1):
        member, value = (_TEXT_MEMBER, _TEXT) if kind == "T" else (_NUMBER_MEMBER, _NUMBER)
        first += rf"({_REST}*?{member}){value}"
        repeated += rf"\{number}{value}"
    return re.compile(rf"{first}({_REST}*+\n\n)(?:{repeated}\{len(kinds) + 1})*+".encode())
