"""One cap for every text of a record, but for its two payloads, which have a cap of their own.

A gateway answers with an error of 30 MB, a program puts a document into ``attributes``, an id is 20 kB long: every
listing would read it, and Postgres cannot index it. A text is cut to a length that each store can hold and find, and
the same text is always cut to the same, so that a filter still matches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from . import _json
from .redaction import map_json

__all__ = [
    "MAX_JSON_BYTES",
    "MAX_MESSAGE_BYTES",
    "MAX_TEXT_BYTES",
    "cut_at_space",
    "cut_json",
    "cut_text",
    "encodable",
    "id_key",
    "plain_text",
    "truncated",
]

#: UTF-8 bytes of an identifier, a name or another short text (a Postgres index holds 2,704)
MAX_TEXT_BYTES: Final = 1024
#: of an error's message
MAX_MESSAGE_BYTES: Final = 4096
#: of the JSON text of ``error_json``, ``attributes``, ``usage_raw``, ``llm_config`` and the like, each
MAX_JSON_BYTES: Final = 64 * 1024

#: strings are cut to these lengths, in turn, until a JSON text fits
_STEPS: Final = (65_536, 16_384, 4_096, 1_024, 256, 64)
#: no credential without a form of its own is longer
_LONGEST_WORD: Final = 256
_MARK: Final = "llmspan.truncated"
_MOST_BYTES_PER_CHARACTER: Final = 4
#: characters of an id that is remembered as it is; shorter than the key of a longer one, so that no two are the same
_LONGEST_KEY: Final = 64
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NUL: Final = "\0"


def cut_text(value: str, limit: int = MAX_TEXT_BYTES) -> str:
    """``value``, or its beginning with a hash of the whole, in at most ``limit`` bytes of UTF-8."""
    if len(value) * _MOST_BYTES_PER_CHARACTER <= limit:
        return value
    content = value.encode("utf-8", "replace")
    if len(content) <= limit:
        return value
    ending = f"...[{len(content)} bytes, sha256 {sha256(content).hexdigest()[:16]}]"
    return content[: limit - len(ending)].decode("utf-8", "ignore") + ending


def plain_text(value: str, limit: int = MAX_TEXT_BYTES) -> str:
    """``value`` in ``limit`` bytes, with what some store cannot hold (NUL, lone surrogates) replaced by U+FFFD."""
    return cut_text(encodable(value.replace(_NUL, "\ufffd") if _NUL in value else value), limit)


def encodable(value: str) -> str:
    """``value`` with U+FFFD for each lone surrogate, of which UTF-8 has none."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", value)
    return value


def cut_at_space(text: str, limit: int) -> str:
    """The first ``limit`` characters of ``text``, less a word that would be cut: no mask finds half a credential.

    A word of hundreds of characters is cut all the same.
    """
    if len(text) <= limit or text[limit].isspace():
        return text[:limit]
    start = limit
    while start > max(0, limit - _LONGEST_WORD) and not text[start - 1].isspace():
        start -= 1
    return text[:start] if start == 0 or text[start - 1].isspace() else text[:limit]


def id_key(value: str) -> str:
    """What to remember an id by: itself, or a hash if it is long. Whoever chooses the id chooses its length."""
    if len(value) <= _LONGEST_KEY:
        return value
    return f"sha256:{sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()}"


def cut_json(value: Any, limit: int = MAX_JSON_BYTES) -> Any:
    """A JSON value, or as much of it as fits ``limit`` bytes of JSON text, with a member that says so."""
    if value is None or isinstance(value, bool | int | float) or not value:
        return value
    text = _json.dumps(value)
    if len(text) * _MOST_BYTES_PER_CHARACTER <= limit:
        return value
    size = len(text.encode())
    return value if size <= limit else _shortened_value(text, size, limit)


def truncated(text: str, size: int, limit: int) -> str:
    """JSON ``text`` of ``size`` bytes with its longest strings cut so that it fits ``limit``; still valid JSON."""
    try:
        shorter = _shortened(json.loads(text), size, limit)
    except (ValueError, RecursionError):
        shorter = None
    return shorter or _json.dumps({_MARK: True, "bytes": size})


def _shortened_value(text: str, size: int, limit: int) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # deeper than the parser goes
        return {_MARK: True, "bytes": size}
    shorter = _shortened(value, size, limit)
    if shorter is not None:
        return json.loads(shorter)
    if isinstance(value, list):
        return list(_leading(dict(enumerate(value)), limit).values())
    if isinstance(value, dict):
        return {**_leading(value, limit), _MARK: True}
    return {_MARK: True, "bytes": size}


def _leading(members: Mapping[Any, Any], limit: int) -> dict[Any, Any]:
    """The first members that fit ``limit`` bytes together."""
    kept_members: dict[Any, Any] = {}
    room = limit - len(_MARK) - 64
    for key, item in members.items():
        text = _json.dumps({str(key): item})
        if len(text) > room:  # one long member does not cost those before and behind it
            continue
        room -= len(text.encode())
        if room < 0:
            break
        kept_members[key] = item
    return kept_members


def _shortened(value: Any, size: int, limit: int) -> str | None:
    """JSON text of ``value``, which takes ``size`` bytes, with its strings cut as little as makes it fit."""
    lengths: list[int] = []

    def measured(item: Any, *_: Any) -> Any:
        if isinstance(item, str) and len(item) > _STEPS[-1]:
            lengths.append(len(item))
        return item

    map_json(value, leaf=measured)
    for length in _STEPS:
        # at most what cutting takes away, so that documents of many small values are not copied for every step
        saved = sum(_MOST_BYTES_PER_CHARACTER * (had - length) for had in lengths if had > length)
        if length <= limit and size - saved <= limit:
            shorter = _json.dumps(_cut(value, length))
            if len(shorter.encode()) <= limit:
                return shorter
    return None


def _cut(value: Any, length: int) -> Any:
    def shortened(item: Any, *_: Any) -> Any:
        if isinstance(item, str) and len(item) > length:
            return f"{item[:length]}... [{len(item)} characters, cut by llmspan]"
        return item

    return map_json(value, leaf=shortened)
