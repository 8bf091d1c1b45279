"""Runs of events that differ in their text only, found without parsing them.

Nearly all events of a stream repeat the one before, but for the text that the model produced. Such an event changes
nothing that a span states, so the summary of a stream parses one event of each run and compares the bytes of the rest.
"""

from __future__ import annotations

import functools
import re
from typing import Final

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


def end_of_run(lines: bytes, start: int, end: int) -> int:
    """Where the run of events ends that repeat the one between ``start`` and ``end`` in all but their texts."""
    if _FACTS.search(lines, start, end):
        return end
    kinds = "".join("N" if match[1] is None else "T" for match in _VARYING.finditer(lines, start, end))
    if len(kinds) > _MOST_VARYING:
        return end
    run = _run_pattern(kinds).match(lines, start)
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
