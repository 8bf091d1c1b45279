"""A row with its payloads as the line of JSON Lines that its record has, without making the record.

The text is that of :meth:`~llmspan.trace.ProviderTrace.to_json_line`. Cells that hold JSON are checked and passed
through, payloads are passed through as in a record. A row that :func:`~llmspan.backends.rows.encode` would not have
made takes the way over the record, which says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from json.encoder import encode_basestring
from operator import itemgetter
from types import NoneType
from typing import Any, Final, NamedTuple

from .. import _json
from ..errors import RecordError
from ..printable import json_printable
from ..trace import _CHOICES as _VALUES_OF
from ..trace import KEYS, KINDS, PAYLOAD_KEYS, _check, _format_time
from .rows import decode

__all__ = ["json_line"]

#: the classes that a cell may have, by the kind of its key; some stores have lists and booleans of their own
_CLASSES: Final[dict[str, tuple[type, ...]]] = {
    "text": (str,), "integer": (int,), "boolean": (bool, int), "list": (str, list, tuple), "map": (str,),
    "json": (str,),
}  # fmt: skip
#: keys that have no null in a record: an empty cell stands for the record's default
_NEVER_NULL: Final = frozenset({
    "id", "provider", "operation", "api", "status", "started_at", "duration_ns", "schema_version", "agent_tags",
    "attributes", "stream", "finish_reasons", "usage_details", "usage_source", "content",
})  # fmt: skip
_CHOICES: Final = tuple((KEYS.index(key), frozenset(values)) for key, values in _VALUES_OF.items())
_STREAM: Final = KEYS.index("stream")
_STARTED_AT: Final = KEYS.index("started_at")
#: JSON of at most so many characters often comes again, and is checked once
_SHORT: Final = 128


class _UnusualRowError(Exception):
    """The row is not as ``encode`` makes them."""


class _Plan(NamedTuple):
    """What is to be done with rows whose cells have the same classes."""

    #: the line, with the keys that have no value
    template: str
    #: the cells that the template takes
    values: Callable[[Sequence[Any]], tuple[Any, ...]]
    texts: Sequence[int]
    json: Sequence[tuple[int, str]]
    payloads: Sequence[int]


def json_line(row: Sequence[Any]) -> str:
    """The line of a row, whose cells are in the order of :data:`llmspan.trace.KEYS`.

    Raises:
        RecordError: the row is no record.
    """
    try:
        return json_printable(_line(row))
    except _UnusualRowError:
        return decode(dict(zip(KEYS, row, strict=True))).to_json_line()


def _line(row: Sequence[Any]) -> str:
    plan = _plan(tuple(map(type, row)))
    cells = list(row)
    for at in plan.texts:
        cells[at] = encode_basestring(row[at])
    for at, key in plan.json:
        cells[at] = _checked_json(key, row[at])
    for at in plan.payloads:
        if not row[at]:
            raise _UnusualRowError
    for at, values in _CHOICES:
        if row[at] not in values:
            raise _UnusualRowError
    cells[_STREAM] = _boolean(row[_STREAM])
    cells[_STARTED_AT] = f'"{_format_time(row[_STARTED_AT])}"'
    return plan.template % plan.values(cells)


@lru_cache(1024)
def _plan(classes: tuple[type, ...]) -> _Plan:
    """The plan for rows with cells of these classes."""
    usual = len(classes) == len(KEYS) and all(map(_is_usual, KEYS, classes))
    if not usual:
        raise _UnusualRowError
    present = [at for at, kind in enumerate(classes) if kind is not NoneType]
    members = [f'"{key}":{"%s" if at in present else "null"}' for at, key in enumerate(KEYS)]
    return _Plan(
        template="{" + ",".join(members) + "}",
        values=itemgetter(*present),
        texts=[at for at in present if KINDS[KEYS[at]] == "text" and KEYS[at] not in PAYLOAD_KEYS],
        json=[(at, KEYS[at]) for at in present if KINDS[KEYS[at]] in ("list", "map", "json")],
        payloads=[at for at in present if KEYS[at] in PAYLOAD_KEYS],
    )


def _is_usual(key: str, kind: type) -> bool:
    return key not in _NEVER_NULL if kind is NoneType else kind in _CLASSES[KINDS[key]]


def _boolean(cell: Any) -> str:
    if cell not in (0, 1):
        raise _UnusualRowError
    return "true" if cell else "false"


def _checked_json(key: str, cell: Any) -> str:
    """The JSON text of a cell, which some stores keep as a list."""
    text = cell if cell.__class__ is str else _json.dumps(cell)
    if not (_is_valid_again(key, text) if len(text) <= _SHORT else _is_valid(key, text)):
        raise _UnusualRowError
    return text


def _is_valid(key: str, text: str) -> bool:
    """Whether ``text`` is strict JSON, and its value one that ``key`` can have."""
    try:
        value = _json.decoder.decode(text)
        if value is not None:
            _check(key, value)
        elif KINDS[key] != "json":
            return False
    except (ValueError, RecursionError, RecordError):
        return False
    return not _json._SURROGATE_ESCAPE.search(text)


_is_valid_again: Final = lru_cache(1024)(_is_valid)
