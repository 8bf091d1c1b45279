"""Masks within JSON text: each string is decoded, looked at, and written anew only if it has changed.

The text is scanned token by token and never parsed as a whole. So what is left alone stays to the byte (spacing,
numbers of thirty digits, doubled keys), any depth is read, and the result is valid JSON whatever a mask replaces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from .cards import is_card
from .credentials import is_credential_name, is_schema, is_url_name
from .patterns import MASK, mask_urls

_TOKEN: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\]]|[^\s"{}\[\],:]++', re.DOTALL)
_KEY_END: Final = re.compile(r"[ \t\r\n]*+:")
_NAMES: Final = re.compile(r'"((?:[^"\\]++|\\.)*+)"(?=[ \t\r\n]*+:)', re.DOTALL)
_TEXT_MEMBERS: Final = re.compile(
    r'"([A-Za-z][A-Za-z0-9_.-]{1,63})"[ \t\r\n]*+:[ \t\r\n]*+("(?:[^"\\]++|\\.)*+")', re.DOTALL
)
_JSON_MASK: Final = json.dumps(MASK)
#: top-level members of requests that hold what is said to the model
_CONVERSATION: Final = frozenset(
    {"messages", "input", "system", "instructions", "prompt", "contents", "choices", "output", "content"}
)
#: ends of the names that :func:`is_credential_name` and :func:`is_url_name` know; searched for before anything is read
_HINTS: Final = (
    'key"', 'keyid"', 'key_id"', 'token"', 'secret"', 'password"', 'passwd"', 'passphrase"', 'pwd"', 'jwt"', 'auth"',
    'authorization"', 'cookie"', 'cookies"', 'credential"', 'credentials"', 'headers"', 'assertion"', "://", "\\u00",
)  # fmt: skip


def has_credential_members(text: str) -> bool:
    """Whether it is worth scanning JSON ``text`` for members that hold credentials."""
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):
        return False
    if "\\u00" in lowered or ("://" in text and ("?" in text or "@" in text)):
        return True
    return any(is_credential_name(match[1]) for match in _NAMES.finditer(text))


def credential_texts(text: str) -> set[str]:
    """The strings that credential members of JSON ``text`` hold, found without reading the rest.

    For the caller's thread, which must not wait until a request of many MB is scanned token by token.
    """
    return {_decoded(match[2]) for match in _TEXT_MEMBERS.finditer(text) if is_credential_name(match[1])}


def mask_json_text(
    text: str,
    mask: Callable[[str], str] | None = None,
    *,
    members: bool = False,
    cards: bool = False,
    found: set[str] | None = None,
) -> str:
    """JSON ``text`` with its strings masked by ``mask``, and, with ``members``, the values of credential members.

    ``cards`` also masks JSON numbers that are card numbers; ``found`` collects the credentials that were masked.
    Returns ``text`` itself where nothing was masked.
    """
    return _Scan(text, mask, members=members, cards=cards, found=found).run()


@dataclass(slots=True)
class _Scan:
    text: str
    mask: Callable[[str], str] | None
    members: bool
    cards: bool
    found: set[str] | None
    _parts: list[str] = field(default_factory=list[str])
    #: up to where the text is in ``_parts``
    _copied: int = 0
    _depth: int = 0
    #: the member whose value comes next
    _name: str | None = None
    _in_conversation: bool = False

    def run(self) -> str:
        position = 0
        while (match := _TOKEN.search(self.text, position)) is not None:
            position = self._take(match)
        if not self._parts:
            return self.text
        return "".join([*self._parts, self.text[self._copied :]])

    def _take(self, match: re.Match[str]) -> int:
        """Handle one token; the position to go on from."""
        token, start, end = match[0], match.start(), match.end()
        first = token[0]
        if first in "]}":
            self._depth -= 1
            return end
        if first == '"' and (colon := _KEY_END.match(self.text, end)):
            self._on_name(token, start, end)
            return colon.end()
        name, self._name = self._name, None
        if first in "{[":
            if name is not None and self._is_credential(name):
                close = _end_of_container(self.text, start)
                if not _is_schema_text(self.text[start:close]):
                    self._replace(start, close, _JSON_MASK)
                    return close
            self._depth += 1
            return end
        if first == '"':
            self._on_string(name, token, start, end)
        elif self._is_masked_number(name, token):
            self._replace(start, end, _JSON_MASK)
        return end

    def _on_name(self, token: str, start: int, end: int) -> None:
        name = _decoded(token)
        if self._depth == 1:
            self._in_conversation = name in _CONVERSATION
        self._name = name
        if self.mask is not None:
            self._replace_string(name, self.mask(name), start, end)

    def _on_string(self, name: str | None, token: str, start: int, end: int) -> None:
        value = _decoded(token)
        if name is not None and self.members:
            if self._is_credential(name):
                if self.found is not None:
                    self.found.add(value)
                self._replace(start, end, _JSON_MASK)
                return
            if is_url_name(name):
                masked = mask_urls(value)
                self._replace_string(value, masked if self.mask is None else self.mask(masked), start, end)
                return
        if self.mask is not None:
            self._replace_string(value, self.mask(value), start, end)

    def _is_masked_number(self, name: str | None, token: str) -> bool:
        if token[0] not in "-0123456789":
            return False
        return (name is not None and self._is_credential(name)) or (self.cards and is_card(token.removesuffix(".0")))

    def _is_credential(self, name: str) -> bool:
        return self.members and is_credential_name(name, is_conversation=self._in_conversation)

    def _replace_string(self, value: str, masked: str, start: int, end: int) -> None:
        if masked != value:
            self._replace(start, end, json.dumps(masked, ensure_ascii=False))

    def _replace(self, start: int, end: int, replacement: str) -> None:
        self._parts += self.text[self._copied : start], replacement
        self._copied = end


def _decoded(token: str) -> str:
    if "\\" not in token:
        return token[1:-1]
    value: Any = json.loads(token, strict=False)
    return value


def _end_of_container(text: str, start: int) -> int:
    depth, position = 0, start
    while (match := _TOKEN.search(text, position)) is not None:
        position = match.end()
        depth += (match[0] in "{[") - (match[0] in "}]")
        if depth == 0:
            break
    return position


def _is_schema_text(text: str) -> bool:
    try:
        return is_schema(json.loads(text))
    except (ValueError, RecursionError):
        return False
