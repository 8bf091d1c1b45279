"""Strict JSON in and out: no NaN, no lone surrogates, bytes as base64; text that is already strict stays as sent.

Payloads are kept as JSON *text*, so that a number of thirty digits, a duplicate key or the provider's own spacing
survive storage. Only what strict JSON cannot hold is rewritten. It is read by the standard library or, as the SDKs
bring pydantic, by pydantic's parser, which takes a third of the time; what that refuses is read again.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from types import ModuleType
from typing import Any, NoReturn

from ._guard import guarded

_DEEPEST = 200
#: in bits; Python refuses to write an integer of more than 4300 digits in decimal
_LONGEST_INTEGER = 14_000
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_space = re.compile(r"[ \t\r\n]*")


def dumps(value: object) -> str:
    """``value`` as compact strict JSON text. Unknown objects become their ``str``; never raises for odd values."""
    try:
        text = _encoder.encode(value)
        if text.isascii() or not _SURROGATE.search(text):
            return text
    except (ValueError, TypeError, RecursionError):
        pass
    return json.dumps(_strict(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def canonical(body: bytes | str) -> str:
    """JSON text for a payload of any kind: itself if it is strict JSON, a strict rendering of it otherwise.

    Text that is not JSON becomes a JSON string; bytes that are not text become ``{"base64": ...}``.
    """
    try:
        text = body if isinstance(body, str) else body.decode()
    except UnicodeDecodeError:
        return dumps({"base64": base64.b64encode(body).decode()})  # type: ignore[arg-type]
    if quick_value(body) is not None:  # no lone surrogates either
        return text.strip(" \t\r\n")
    try:
        value = decoder.decode(text)
    except _NotStrictError:  # NaN and the like become null
        return _without_constants(text)
    except (ValueError, RecursionError):
        return dumps(text)
    return dumps(value) if _has_lone_surrogate(text, value) else text.strip(" \t\r\n")


def _without_constants(text: str) -> str:
    try:
        return dumps(json.loads(text, parse_constant=lambda _: None))
    except (ValueError, RecursionError):
        return dumps(text)


def canonical_object(body: bytes) -> str:
    """:func:`canonical` of a body that was parsed as a JSON object: not parsed again unless it may not be strict."""
    if body[:1] != b"{" or b"NaN" in body or b"Infinity" in body:
        return canonical(body)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return canonical(body)
    return canonical(text) if "\\u" in text and _SURROGATE_ESCAPE.search(text) else text.strip(" \t\r\n")


def quick_value(text: bytes | str) -> Any:
    """The value of JSON ``text``, exactly as :mod:`json` reads it; None if it is to be read with that.

    So it is where no SDK has imported pydantic, and for ``null``, all that strict JSON does not allow, integers of
    thousands of digits and very deep values.
    """
    try:
        parse = _pydantic_parser(sys.modules.get("pydantic_core"))
        return None if parse is None else parse(text)
    except (ValueError, TypeError):  # it raises TypeError for a str with lone surrogates
        return None
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        return None  # a panic of the parser, which is no Exception: the caller's thread may be reading


@lru_cache(maxsize=2)
def _pydantic_parser(module: ModuleType | None) -> Callable[[bytes | str], Any] | None:
    """``pydantic_core.from_json`` that keeps none of a payload's texts; None for versions that do not know how."""
    from_json = getattr(module, "from_json", None)
    if from_json is None:
        return None
    parse: Callable[[bytes | str], Any] = partial(from_json, allow_inf_nan=False, cache_strings="keys")
    try:
        return parse if parse(b'{"a": [1.5]}') == {"a": [1.5]} else None
    except (ValueError, TypeError):
        return None


def members(text: str) -> Iterator[tuple[str, Any, str]]:
    """The ``(key, value, source text)`` of each member of a JSON object; raises ``ValueError`` for anything else."""
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("not a JSON object")
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        key, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
        if not isinstance(key, str) or text[at : at + 1] != ":":
            raise ValueError(f"no key at offset {at}")
        start = _skip(text, at + 1)
        value, end = decoder.raw_decode(text, start)
        yield key, value, text[start:end]
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
            if text[at : at + 1] == "}":
                raise ValueError(f"no member after ',' at offset {at}")
        elif text[at : at + 1] != "}":
            raise ValueError(f"neither ',' nor '}}' at offset {at}")
    if _skip(text, at + 1) != len(text):
        raise ValueError(f"text after the object at offset {at + 1}")


class _NotStrictError(ValueError):
    pass


def _refuse(constant: str) -> NoReturn:
    raise _NotStrictError(f"{constant} is not JSON")


#: refuses NaN and the like
decoder = json.JSONDecoder(parse_constant=_refuse)


def _has_lone_surrogate(text: str, value: object) -> bool:
    if not text.isascii() and _SURROGATE.search(text):
        return True
    if "\\u" not in text or not _SURROGATE_ESCAPE.search(text):
        return False
    return bool(_SURROGATE.search(json.dumps(value, ensure_ascii=False)))


def _skip(text: str, at: int) -> int:
    match = _space.match(text, at)
    return match.end() if match else at


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    description = guarded("json.describe", _described, value)
    return f"<{type(value).__name__}>" if description is None else description


# json.dumps makes one of these for each call that differs from its defaults, which costs as much as a small object.
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)


def _described(value: object) -> object:
    """The text of an unknown object; its own code may raise anything."""
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) else str(value)


def _key(value: object) -> str:
    return value if isinstance(value, str) else guarded("json.describe", str, value) or f"<{type(value).__name__}>"


def _strict(value: Any, enclosing: frozenset[int] = frozenset()) -> Any:
    """A copy that strict JSON can hold. ``enclosing``: ids of the containers around it; a circle is cut."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, int) and value.bit_length() > _LONGEST_INTEGER:
        return hex(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if id(value) in enclosing:
        return "[circular]"
    if len(enclosing) > _DEEPEST:
        return "[nested too deep]"
    enclosing_here = enclosing | {id(value)}
    if isinstance(value, Mapping):
        return {_strict(_key(k)): _strict(v, enclosing_here) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item, enclosing_here) for item in value]
    return _strict(_plain(value), enclosing_here)
