"""Masks known credentials: those that a call was made with, wherever a provider repeats them.

A text is looked at as it is and decoded, and for base64 of the credential, which begins at any of three offsets. Bytes
that are no text are kept as base64 (``_json.canonical``): they are masked as bytes.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import Final

from .patterns import ERROR_FINDERS, Finder, Span, mask_matches

__all__ = ["ExactMask", "mask_bytes"]

#: the JSON text of bytes that are no text
_BYTES: Final = re.compile(r'\{"base64":"([A-Za-z0-9+/]*+=*+)"\}')


@dataclass(frozen=True)
class ExactMask:
    """A mask for some credentials; false if there are none."""

    credentials: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, credentials: Iterable[str]) -> ExactMask:
        """The mask for ``credentials``, of which empty ones are left out."""
        return _of(cls, frozenset(filter(None, credentials)))

    @cached_property
    def forms(self) -> tuple[str, ...]:
        """The credentials and their encodings, as they are searched for: the shortest first."""
        contents = [text.encode("utf-8", "surrogatepass") for text in self.credentials]
        encoded = {form for content in contents for form in _base64_forms(content)}
        return tuple(sorted(encoded.union(self.credentials), key=len))

    @cached_property
    def _find(self) -> Finder:
        return partial(_find_forms, self.forms)

    def __bool__(self) -> bool:
        return bool(self.credentials)

    def __call__(self, text: str) -> str:
        """``text`` without the credentials, however they are encoded."""
        return mask_matches((self._find,), text) if self.credentials else text

    def on_errors(self, text: str) -> str:
        """``text`` without the credentials, and without what errors give away of others."""
        return mask_matches((self._find, *ERROR_FINDERS), text)

    def is_in(self, text: str) -> bool:
        """Whether one of the credentials is in ``text`` as it is."""
        return any(map(text.__contains__, self.credentials))

    def may_match(self, text: str) -> bool:
        """Whether JSON ``text`` can hold one of them, plain or encoded: a quick look, so that most are not read."""
        if "\\" in text and ("\\u00" in text or "\\/" in text):  # to look for one character is fast
            return True
        if any(map(text.__contains__, self.forms)):
            return True
        return bool(self._escaped) and ("%" in text or any(map(text.__contains__, self._escaped)))

    @cached_property
    def _escaped(self) -> tuple[str, ...]:
        """The credentials as JSON writes them, of those that JSON and URLs may write otherwise."""
        special = [text for text in self.credentials if not (text.isalnum() and text.isascii())]
        return tuple({json.dumps(text, ensure_ascii=is_ascii)[1:-1] for text in special for is_ascii in (True, False)})

    def of_bytes(self) -> ExactMask:
        """The mask for bytes that are read as Latin-1."""
        return ExactMask.of(text.encode("utf-8", "surrogatepass").decode("latin-1") for text in self.credentials)


@lru_cache(maxsize=64)  # the calls of a client have the same
def _of(kind: type[ExactMask], credentials: frozenset[str]) -> ExactMask:
    return kind(tuple(credentials))


def mask_bytes(text: str, mask: Callable[[str], str]) -> str:
    """JSON ``text`` that is bytes in base64, masked as Latin-1 text; any other text is returned as it is."""
    match = _BYTES.fullmatch(text)
    if match is None:
        return text
    content = base64.b64decode(match[1]).decode("latin-1")
    masked = mask(content)
    if masked == content:
        return text
    return json.dumps({"base64": base64.b64encode(masked.encode("latin-1", "replace")).decode()}, separators=(",", ":"))


def _base64_forms(credential: bytes) -> Iterator[str]:
    """How base64 of a text that holds ``credential`` may contain it, less the digits that its neighbours share."""
    for offset, shared in enumerate((0, 2, 3)):
        digits = base64.b64encode(b"\0" * offset + credential).decode().rstrip("=")
        own_digits = digits[shared : (offset + len(credential)) * 4 // 3]
        yield own_digits
        yield own_digits.translate(_URL_SAFE)


_URL_SAFE: Final = str.maketrans("+/", "-_")


def _find_forms(forms: tuple[str, ...], text: str) -> Iterator[Span]:
    for form in forms:
        if len(form) > len(text):
            return  # so are all that follow
        start = text.find(form)
        while start >= 0:
            yield start, start + len(form)
            start = text.find(form, start + len(form))
