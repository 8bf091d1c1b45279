"""What may follow in the filter line: keys by their beginning, and values of keys that have few.

Values come from the table of choices, or from the store: groups of the calls of the last days, at most so many.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..._clock import DAY
from ...backends.base import GROUPS, Filters, GroupBy
from ...errors import LlmspanError
from ...query.keys import KEY_OF_NAME
from ...reader import Reader
from ..rendering import store_of

__all__ = ["complete"]

_MOST: Final = 12
#: values of calls that are older are not offered; it also bounds what is read
_DAYS: Final = 7
_WORD: Final = re.compile(r"(-?)([\w.]*)(?:(:|=|!=)(.*))?", re.DOTALL)
#: keys that stand in the list before the others
_FREQUENT: Final = (
    "status",
    "model",
    "provider",
    "user",
    "run",
    "tokens",
    "duration",
    "since",
    "tag",
    "error",
    "cached",
)
_OPERATORS: Final = {"integer": ">", "duration": ">", "time": ">"}


async def complete(request: Request) -> Response:
    """The words that the word at the cursor may become, the likeliest first."""
    match = _WORD.fullmatch(request.query_params.get("word", ""))
    if match is None:
        return JSONResponse([])
    sign, name, operator, value = match.groups()
    if operator is None:
        return JSONResponse([f"{sign}{text}" for text in _keys(name)][:_MOST])
    done, comma, last = value.rpartition(",")
    values = await _values(request, name)
    words = [f"{sign}{name}{operator}{done}{comma}{_quoted(text)}" for text in values if _begins(text, last)]
    return JSONResponse(words[:_MOST])


def _keys(beginning: str) -> Iterable[str]:
    names = dict.fromkeys((*_FREQUENT, *KEY_OF_NAME, "until"))
    for name in names:
        if name.startswith(beginning):
            key = KEY_OF_NAME.get(name)
            yield name + (_OPERATORS.get(key.kind, ":") if key is not None else ":")


async def _values(request: Request, name: str) -> Sequence[str]:
    key = KEY_OF_NAME.get(name)
    if key is None:
        return ()
    if key.choices:
        return key.choices
    groups: list[GroupBy] = [group for group in GROUPS if group == key.name]
    if not groups:
        return ("none", "any") if key.is_optional else ()
    try:
        return await store_of(request).run(lambda reader: _stored_values(reader, groups[0]))
    except LlmspanError:
        return ()  # the page itself says what is the matter with the store


def _stored_values(reader: Reader, group: GroupBy) -> list[str]:
    rows = reader.stats((group,), Filters(since=time.time_ns() - _DAYS * DAY))
    values = [(row.calls, value) for row in rows if (value := row.group[group]) is not None]
    return [value for _, value in sorted(values, key=lambda pair: -pair[0])]


def _begins(text: str, beginning: str) -> bool:
    return text.lower().startswith(beginning.strip('"').lower())


def _quoted(text: str) -> str:
    """A value as the language takes it; one with other characters than letters, digits and the like in quotes."""
    if re.fullmatch(r"[\w.@/:+-]+", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
