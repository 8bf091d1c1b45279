"""Secrets that can be found again: each begins and ends with a mark, and a number between them says whose it is.

A search looks for the two marks alone, so that one pass over a sink finds all secrets, and pieces of them. It looks for
them as they are and in the encodings in which texts travel: percent-encoded, JSON and HTML escapes, base64, hex.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

HEAD: Final = "Zq8XkHead"
TAIL: Final = "Wv7JdTail"
#: what stands beside a secret and is none: where it is found, the search has looked at the right place
CANARY: Final = "canary-in-place"
_NUMBER: Final = re.compile(rb"(?<=Head)(\d{4})|(\d{4})(?=.{0,30}Wv7)", re.DOTALL)
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{8,}")


class Leak(NamedTuple):
    """A mark that was found: the number of its place, if that can be read, and what stands around it."""

    number: int | None
    context: str


def opaque(number: int) -> str:
    """A secret that no pattern knows."""
    return f"{HEAD}{number:04d}{TAIL}"


def vendor(number: int) -> str:
    """A secret in the form of a vendor's key."""
    return f"sk-proj-{HEAD}{number:04d}{TAIL}"


def odd(number: int) -> str:
    """A secret with characters that JSON, URLs and HTML escape."""
    return f'{HEAD}{number:04d}"<@/&%é\\:{TAIL}'


def canary(number: int) -> str:
    """The text that goes with the secret of a place."""
    return f"{CANARY}-{number:04d}."


def encodings(text: str) -> Iterator[bytes]:
    """``text`` in every encoding in which it is searched for."""
    raw = text.encode()
    yield raw
    yield "".join(f"%{byte:02X}" for byte in raw).encode()
    yield "".join(f"%{byte:02x}" for byte in raw).encode()
    yield "".join(f"\\u{ord(character):04x}" for character in text).encode()
    yield "".join(f"\\\\u{ord(character):04x}" for character in text).encode()
    yield "".join(f"&#{ord(character)};" for character in text).encode()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield raw[::-1]
    for shift in range(3):  # base64 of a text that holds it, less what depends on its neighbours
        coded = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        yield coded[(0, 2, 3)[shift] : len(coded) - (1 if (shift + len(raw)) % 3 else 0)]


def _number_in(window: bytes) -> int | None:
    """The number of the secret that ``window`` shows, if it is plain, percent-encoded or in base64."""
    texts = [window, unquote_to_bytes(window)]
    for run in _BASE64.findall(window):
        digits = run.translate(bytes.maketrans(b"+/", b"-_"))
        texts += (base64.urlsafe_b64decode(digits[at : at + (len(run) - at) // 4 * 4]) for at in range(4))
    matches = (_NUMBER.search(text) for text in texts)
    return next((int(match[1] or match[2]) for match in matches if match), None)


_MARKS: Final = tuple(dict.fromkeys(mark for text in (HEAD, TAIL) for mark in encodings(text)))


def leaks(data: bytes) -> list[Leak]:
    """All marks in ``data``."""
    leaks_in_order: dict[Leak, None] = {}
    for mark in _MARKS:
        position = data.find(mark)
        while position >= 0:
            window = data[max(0, position - 60) : position + len(mark) + 60]
            leaks_in_order[Leak(_number_in(window), window.decode("utf-8", "replace"))] = None
            position = data.find(mark, position + len(mark))
    return list(leaks_in_order)
