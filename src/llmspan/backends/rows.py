"""A record as a flat row of text and 64-bit integers, and the cursor of a listing.

What a row cannot hold is decided here, once, so that stores which keep rows read back the same values: in text, NUL
(Postgres has none) and lone surrogates (UTF-8 has none) become U+FFFD; JSON values are strict JSON text, in which NUL
stays; a number beyond 64 bits is refused.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from operator import is_not, itemgetter
from typing import Any, Final

from .. import _json
from .._pace import yield_gil
from ..errors import PermanentError, RecordError, SettingsError
from ..limits import (
    MAX_JSON_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_TEXT_BYTES,
    cut_json,
    cut_text,
    encodable,
    plain_text,
)
from ..trace import KEYS, KINDS, PAYLOAD_KEYS, ProviderTrace
from .base import Page

__all__ = [
    "LISTED_KEYS",
    "Cell",
    "as_page",
    "check_limit",
    "decode",
    "decode_cursor",
    "encode",
    "encode_cursor",
    "plain_text",
]

Cell = str | int | float | None

#: every key but the payloads
LISTED_KEYS: Final = tuple(key for key in KEYS if key not in PAYLOAD_KEYS)

_TEXTS: Final = tuple(key for key in LISTED_KEYS if KINDS[key] == "text")
_INTEGERS: Final = tuple(key for key in KEYS if KINDS[key] == "integer")
_JSON: Final = tuple(key for key in LISTED_KEYS if KINDS[key] in ("list", "map", "json"))
_OTHERS: Final = tuple(key for key in KEYS if key not in (*_TEXTS, *_INTEGERS, *_JSON, *PAYLOAD_KEYS))
#: the JSON text of what has no members
_EMPTY: Final[Mapping[type, str]] = {list: "[]", dict: "{}"}
#: characters of a list's only item whose JSON text is remembered, as the few finish reasons that there are
_LONGEST_ONLY_ITEM: Final = 32
_LEAST: Final = -(2**63)
_GREATEST: Final = 2**63 - 1
_NUL: Final = "\0"
_STR: Final = frozenset((str,))
_INT: Final = frozenset((int,))
_texts: Final = itemgetter(*_TEXTS)
_integers: Final = itemgetter(*_INTEGERS)
_is_set: Final = partial(is_not, None)


def encode(record: ProviderTrace) -> dict[str, Cell]:
    """The row of a record, one cell a key, in any order.

    Raises:
        PermanentError: a number is not a whole number of 64 bits; the message names the record and the key.
    """
    yield_gil()
    row = record.flat_values()
    # Most values are their cells already, which is asked of all texts, and of all integers, at once.
    if not _are_plain_texts(list(filter(_is_set, _texts(row)))):
        row |= {key: _cell(record.id, key, row[key]) for key in _TEXTS if not _is_plain_text(row[key])}
    if not _are_integers(list(filter(_is_set, _integers(row)))):
        row |= {key: _cell(record.id, key, row[key]) for key in _INTEGERS}
    for key in PAYLOAD_KEYS:
        value = row[key]
        if value is not None and not (value.__class__ is str and value.isascii()):
            row[key] = _cell(record.id, key, value)
    for key in _JSON:
        value = row[key]
        if not value and value.__class__ in _EMPTY:
            row[key] = _EMPTY[value.__class__]
        elif value is not None:
            row[key] = _json_cell(record.id, key, value)
    for key in _OTHERS:
        if (value := row[key]) is not None:
            row[key] = int(value) if value.__class__ is bool else _cell(record.id, key, value)
    return row


def _are_plain_texts(values: list[Any]) -> bool:
    """Whether all ``values`` are their cells as they are; a quick look, which finds that of short ones only."""
    return _STR.issuperset(map(type, values)) and _is_plain_text("".join(values))


def _is_plain_text(value: Any) -> bool:
    return value is None or (
        value.__class__ is str and len(value) <= MAX_TEXT_BYTES and value.isascii() and _NUL not in value
    )


def _are_integers(values: list[Any]) -> bool:
    """Whether all ``values`` are whole numbers of 64 bits."""
    return _INT.issuperset(map(type, values)) and (not values or (min(values) >= _LEAST and max(values) <= _GREATEST))


def decode(row: Mapping[str, Cell]) -> ProviderTrace:
    """The record of a row; keys that are not there take their defaults.

    Raises:
        RecordError: a cell is not what :func:`encode` would have put there.
    """
    return ProviderTrace.from_dict({key: _value(key, cell) for key, cell in row.items()})


def encode_cursor(started_at: int, record_id: str) -> str:
    """Opaque text for the place after a record in a listing that is ordered by ``(started_at, id)``."""
    return base64.urlsafe_b64encode(json.dumps([started_at, record_id]).encode()).decode()


def decode_cursor(cursor: str) -> tuple[int, str]:
    """The inverse of :func:`encode_cursor`.

    Raises:
        SettingsError: this is not a cursor of ours.
    """
    try:
        started_at, record_id = json.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
        if _fits(started_at) and isinstance(record_id, str):
            return started_at, record_id
    except (ValueError, TypeError, RecursionError):
        pass
    raise SettingsError(f"cursor {cursor!r:.80} is not one that list() gave; leave it out to begin at the newest")


def as_page(records: Sequence[ProviderTrace], limit: int) -> Page:
    """The page of the ``limit + 1`` records that were asked for: one more than it shows, if there is another page."""
    page = records[:limit]
    return Page(page, encode_cursor(page[-1].started_at, page[-1].id) if len(records) > limit else None)


def check_limit(limit: int) -> None:
    """Raise :class:`SettingsError` unless a page of ``limit`` records can be given."""
    if limit < 1:
        raise SettingsError(f"limit {limit} is too small; a page has at least 1 record")


def _json_cell(record_id: str, key: str, value: Any) -> Cell:
    """As :func:`_cell`; to make a JSON encoder takes longer than to write most of these values."""
    if value.__class__ is list and len(value) == 1:
        (item,) = value
        if item.__class__ is str and len(item) <= _LONGEST_ONLY_ITEM:
            return _list_of_one(item)
    return _cell(record_id, key, value)


@lru_cache(256)
def _list_of_one(item: str) -> str:
    return _json.dumps([item])


def _cell(record_id: str, key: str, value: Any) -> Cell:
    kind = KINDS[key]
    if value is None:
        return None
    if key in PAYLOAD_KEYS:
        return encodable(str(value))
    if kind == "text":
        return plain_text(str(value), MAX_MESSAGE_BYTES if key == "error_message" else MAX_TEXT_BYTES)
    if kind not in ("integer", "boolean"):
        if kind == "list":
            value = [item if item is None else cut_text(str(item)) for item in value]
        text = _json.dumps(value)
        return text if len(text) * 4 <= MAX_JSON_BYTES else _json.dumps(_cut(key, value))
    if not _fits(value):
        raise PermanentError(f"record {record_id}: {key} is {value!r:.80}, not a whole number of 64 bits")
    return int(value)


def _cut(key: str, value: Any) -> Any:
    """As much of a long JSON value as a record may hold, and still of the kind that ``key`` has."""
    shortened = cut_json(value)
    return {name: item for name, item in shortened.items() if item is not True} if key == "usage_details" else shortened


def _fits(value: object) -> bool:
    return isinstance(value, int) and _LEAST <= value <= _GREATEST


def _value(key: str, cell: Cell) -> Any:
    kind = KINDS[key]
    if kind == "boolean" and cell in (0, 1):
        return bool(cell)
    if kind in ("text", "integer", "boolean") or not isinstance(cell, str):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{key} is {cell!r:.80}, which is not JSON: {error}") from error
