"""Masks within JSON text: each string is decoded, looked at, and written anew only if it has changed.

The text is scanned token by token and never parsed as a whole. So what is left alone stays to the byte (spacing,
numbers of thirty digits, doubled keys), any depth is read, and the result is valid JSON whatever a mask replaces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from .cards import is_card
from .credentials import credential_strings, is_credential_name, is_schema, is_url_name, url_credentials
from .patterns import MASK, mask_urls

#: a string without an end goes to the end of the text, so that none is begun anew at each of its quotes
_TOKEN: Final = re.compile(r'"(?:[^"\\]++|\\.)*+(?:(?P<end>")|\Z)|[{}\[\]]|[^\s"{}\[\],:]++', re.DOTALL)
_KEY_END: Final = re.compile(r"[ \t\r\n]*+:")
_MEMBERS: Final = re.compile(
    r'"([A-Za-z][A-Za-z0-9_.-]{1,63})"[ \t\r\n]*+:[ \t\r\n]*+(?:("(?:[^"\\]++|\\.)*+")|[{\[])', re.DOTALL
)
_JSON_MASK: Final = json.dumps(MASK)
#: top-level members of requests that hold what is said to the model
_CONVERSATION: Final = frozenset(
    {"messages", "input", "system", "instructions", "prompt", "contents", "choices", "output", "content"}
)
#: the end of a name that has space before its colon, which is escaped where the JSON text is a string of another one
_SPACED_NAME_END: Final = re.compile(r'"(?:[ \t\r\n]|\\++[nrt])++:')
#: the userinfo of a URL without a scheme, and what begins a parameter, as masks look for them
_find_userinfo: Final = re.compile(r"//(?<![\w/.-]//)[^\s/?#@\"'<>\\]++@").search
_find_parameter: Final = re.compile(r"[?&;#][A-Za-z0-9_.~-]++=").search
#: one of these is in a text without escapes that has such an end; to look for one character is fast
_SIGNS_OF_SPACE: Final = ("\n", "\t", "\r", " :")
#: what the quote that opens a name can follow: nothing is said of one that is not escaped
_BEFORE_NAME: Final = frozenset({"", "{", ",", " ", "\t", "\r", "\n"})
#: a quote that is escaped in a JSON text within JSON texts has one less than a power of two
_MOST_BACKSLASHES: Final = 32
#: characters of a name that are looked at
_LONGEST_NAME: Final = 200
#: names that a scan remembers: an object may have one for each of a million keys
_MOST_NAMES: Final = 1000
#: names that are remembered because neither a credential nor a URL stands under them
_MOST_HARMLESS: Final = 4096
_harmless: Final[set[str]] = set()
#: a container of more characters is not read on the caller's thread: its members are looked at one by one
_LARGEST_CONTAINER: Final = 64 * 1024
#: schemas within schemas that are looked into, so that a text is never read more often than this
_DEEPEST_SCHEMA: Final = 8
#: JSON texts within JSON texts
_DEEPEST_TEXT: Final = 3
#: credentials of one request that are searched for where else they may be repeated
_MOST_CREDENTIALS: Final = 100


def has_credential_members(text: str) -> bool:
    """Whether it is worth scanning JSON ``text`` for members that hold credentials.

    True for every text in which :func:`mask_json_text` masks a member. The names are what stands between two quotes and
    before a colon, so the names of JSON texts within ``text`` are among them.
    """
    is_escaped = "\\" in text
    pieces = text.split('":')  # each ends with a name
    pieces.pop()
    if (is_escaped or any(map(text.__contains__, _SIGNS_OF_SPACE))) and text.count(":") != len(pieces):
        pieces += _before_spaced_name_ends(text)
    if is_escaped and '\\"' in text:
        return _may_hold(_names(pieces), text)
    return _may_names_hold([piece.rpartition('"')[2] for piece in pieces], text)


def _may_names_hold(names: list[str], text: str) -> bool:
    if _harmless.issuperset(names):  # the requests of a program have the same members, and so have the responses
        return False
    unknown = {("", name[:_LONGEST_NAME]) for name in names}
    if any(map(_may_hold_credential, unknown)) or any(map(_may_hold_url, unknown)):
        return _may_hold(unknown, text)
    if len(_harmless) + len(unknown) > _MOST_HARMLESS:
        _harmless.clear()
    if len(unknown) <= _MOST_HARMLESS and max(map(len, names)) <= _LONGEST_NAME:
        _harmless.update(names)
    return False


def _may_hold(names: set[tuple[str, str]], text: str) -> bool:
    return any(map(_may_hold_credential, names)) or (any(map(_may_hold_url, names)) and _may_url_hold(text))


def _may_url_hold(text: str) -> bool:
    """Whether a URL in JSON ``text`` may hold a credential: it has a host, or parameters.

    Not asked for any ``//`` and ``?``: base64 of an image has the one, and what is asked about the image the other.
    """
    if "://" in text or _find_userinfo(text) is not None or _find_parameter(text) is not None:
        return True
    return "\\/" in text or "\\u00" in text  # one of their characters may be escaped


@lru_cache(maxsize=4096)  # the names of requests and responses repeat
def _may_hold_credential(before_and_name: tuple[str, str]) -> bool:
    before, name = before_and_name
    name = name.rstrip("\\")  # of the quote behind it
    if "\\" in name or before not in _BEFORE_NAME:
        return True  # the name has escapes, a quote among them, and cannot be compared without decoding it
    return is_credential_name(name)


@lru_cache(maxsize=4096)
def _may_hold_url(before_and_name: tuple[str, str]) -> bool:
    return is_url_name(before_and_name[1].rstrip("\\"))


def _before_spaced_name_ends(text: str) -> list[str]:
    """The texts before the ends of names that have space before their colon; each ends with a name."""
    return [
        text[max(0, text.rfind('"', 0, match.start()) - _MOST_BACKSLASHES) : match.start()]
        for match in _SPACED_NAME_END.finditer(text)
    ]


def _names(pieces: list[str]) -> set[tuple[str, str]]:
    """The names at the ends of texts, each with the character before its first quote's backslashes, if it has any."""
    return {
        (_before_escape(piece, at) if piece[(at := piece.rfind('"')) - 1 : at] == "\\" else "",
         piece[at + 1 : at + 1 + _LONGEST_NAME])
        for piece in pieces
    }  # fmt: skip


def _before_escape(text: str, at: int) -> str:
    """The character before the backslashes that end at ``at``: a quote within a name has one of the name there."""
    return text[max(0, at - _MOST_BACKSLASHES) : at].rstrip("\\")[-1:] or "\\"


def credential_texts(text: str) -> set[str]:
    """The strings that credential members and URLs of JSON ``text`` hold, found without reading the rest.

    Those of the first hundred or so. For the caller's thread, which must not wait until a request of many MB is scanned
    token by token.
    """
    credentials: set[str] = set()
    position = too_large_until = 0
    while (match := _MEMBERS.search(text, position)) is not None:
        position = match.end()
        name, string = match[1], match[2]
        if is_credential_name(name):
            if string is not None:
                _collect(credentials, credential_strings(_decoded(string)))
            elif match.end() > too_large_until:  # what was too large once is not tried again for each container in it
                start = match.end() - 1
                close = _end_of_container(text, start, start + _LARGEST_CONTAINER)
                value = _value_of(text[start:close])
                if value is None:
                    too_large_until = close
                elif not is_schema(value):
                    _collect(credentials, credential_strings(value))
                    position = close
        elif string is not None and is_url_name(name):
            _collect(credentials, url_credentials(_decoded(string)))
    return credentials


def _collect(credentials: set[str] | None, texts: Iterable[str]) -> None:
    """Add ``texts`` as long as there are few: each is searched for in all of a payload."""
    if credentials is not None and len(credentials) < _MOST_CREDENTIALS:
        credentials.update(islice(texts, _MOST_CREDENTIALS))


def mask_json_text(
    text: str,
    mask: Callable[[str], str] | None = None,
    *,
    members: bool = False,
    cards: bool = False,
    masked_credentials: set[str] | None = None,
) -> str:
    """JSON ``text`` with its strings masked by ``mask``, and, with ``members``, the values of credential members.

    ``cards`` also masks JSON numbers that are card numbers; ``masked_credentials`` collects those that were masked.
    Returns ``text`` itself where nothing was masked.
    """
    return _Scan(text, mask, members=members, cards=cards, masked_credentials=masked_credentials).run()


def _mask_inner_members(text: str, masked_credentials: set[str] | None, *, is_conversation: bool, level: int) -> str:
    """JSON ``text`` that is a string of a JSON text, masked as a part of that; itself if it is no JSON."""
    if level > _DEEPEST_TEXT or text[:1] not in ("{", "[") or not has_credential_members(text):
        return text
    if _value_of(text) is None:
        return text
    scan = _Scan(text, None, members=True, cards=False, masked_credentials=masked_credentials,
                 is_inner=is_conversation, level=level)  # fmt: skip
    return scan.run()


@dataclass(slots=True)
class _Scan:
    text: str
    mask: Callable[[str], str] | None
    members: bool
    cards: bool
    masked_credentials: set[str] | None
    #: whether all of the text is what was said to a model
    is_inner: bool = False
    #: how many JSON texts this one is in
    level: int = 0
    _parts: list[str] = field(default_factory=list[str])
    #: up to where the text is in ``_parts``
    _copied: int = 0
    _depth: int = 0
    #: the member whose value comes next
    _name: str | None = None
    _in_conversation: bool = False
    #: the ends of the schemas under credentials' names that the scan is in
    _schemas: list[int] = field(default_factory=list[int])
    #: the names of members as they are written, which repeat: each decoded, and with its mask
    _known_names: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])

    def run(self) -> str:
        position = 0
        while (match := _TOKEN.search(self.text, position)) is not None:
            position = self._take(match)
        if not self._parts:
            return self.text
        return "".join([*self._parts, self.text[self._copied :]])

    def _take(self, match: re.Match[str]) -> int:
        """Handle one token; the position to go on from."""
        token, (start, end) = match[0], match.span()
        first = token[0]
        if first == '"':
            if match["end"] is None:
                return end
            if colon := _KEY_END.match(self.text, end):
                self._on_name(token, start, end)
                return colon.end()
            name, self._name = self._name, None
            self._on_string(name, token, start, end)
            return end
        if first in "]}":
            self._depth -= 1
            return end
        name, self._name = self._name, None
        if first in "{[":
            close = self._mask_container(start) if name is not None and self._is_credential(name) else None
            self._depth += close is None
            return close or end
        if self._is_masked_number(name, token):
            self._replace(start, end, _JSON_MASK)
        return end

    def _mask_container(self, start: int) -> int | None:
        """Mask the value of a credential member that begins at ``start``; its end, or None if it is a schema."""
        while self._schemas and self._schemas[-1] <= start:
            self._schemas.pop()
        close = _end_of_container(self.text, start)
        value = _value_of(self.text[start:close])
        if is_schema(value) and len(self._schemas) < _DEEPEST_SCHEMA:
            self._schemas.append(close)
            return None
        _collect(self.masked_credentials, credential_strings(value))
        self._replace(start, close, _JSON_MASK)
        return close

    def _on_name(self, token: str, start: int, end: int) -> None:
        names = self._known_names.get(token)
        if names is None:
            name = _decoded(token)
            names = name, name if self.mask is None else self.mask(name)
            if len(self._known_names) < _MOST_NAMES:
                self._known_names[token] = names
        self._name, masked = names
        if self._depth == 1:
            self._in_conversation = self._name in _CONVERSATION
        self._replace_string(self._name, masked, start, end)

    def _on_string(self, name: str | None, token: str, start: int, end: int) -> None:
        value = _decoded(token)
        if name is not None and self._is_credential(name):
            _collect(self.masked_credentials, credential_strings(value))
            self._replace(start, end, _JSON_MASK)
            return
        masked = self._masked_member(name, value) if self.members else value
        self._replace_string(value, masked if self.mask is None else self.mask(masked), start, end)

    def _masked_member(self, name: str | None, value: str) -> str:
        """The string of a member whose name is no credential's: a URL, or JSON text, may hold some."""
        if name is not None and is_url_name(name):
            _collect(self.masked_credentials, url_credentials(value))
            return mask_urls(value)
        is_conversation = self._in_conversation or self.is_inner
        if is_conversation and name != "arguments":  # of a tool's call; other texts are the conversation itself
            return value
        return _mask_inner_members(
            value, self.masked_credentials, is_conversation=is_conversation, level=self.level + 1
        )

    def _is_masked_number(self, name: str | None, token: str) -> bool:
        if token[0] not in "-0123456789":
            return False
        return (name is not None and self._is_credential(name)) or (self.cards and is_card(token.removesuffix(".0")))

    def _is_credential(self, name: str) -> bool:
        is_conversation = self._in_conversation or self.is_inner
        return self.members and is_credential_name(name, is_conversation=is_conversation)

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


def _end_of_container(text: str, start: int, limit: int | None = None) -> int:
    """The position behind the container that begins at ``start``; ``limit``, or the end, if it ends nowhere before."""
    limit = len(text) if limit is None else min(limit, len(text))
    depth, position = 0, start
    while (match := _TOKEN.search(text, position, limit)) is not None:
        position = match.end()
        depth += (match[0] in "{[") - (match[0] in "}]")
        if depth == 0:
            return position
    return limit


def _value_of(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
