"""The table of places where credentials stand: names of headers, of JSON members and of URL parameters.

Names are compared without case, dashes and underscores, so that ``api_key``, ``apiKey`` and ``X-Api-Key`` are one, and
with an ``s`` behind them. A member whose value is a JSON Schema (a tool that takes a ``password``) describes a
credential and holds none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit

from .values import map_json

#: how names of credentials end. Sources: the SDKs' and gateways' parameters, AWS, Azure, Google, RFC 6749
_ENDINGS: Final = (
    "apikey", "accesskey", "accesskeyid", "secretkey", "privatekey", "subscriptionkey", "signingkey", "encryptionkey",
    "password", "passwd", "passphrase", "secret", "authorization", "cookie", "cookies", "credential", "credentials",
    "accesstoken", "refreshtoken", "idtoken", "authtoken", "authorizationtoken", "sessiontoken", "securitytoken",
    "bearertoken", "adtoken", "apitoken", "clientassertion", "connectionstring", "accountkey", "authkey",
)  # fmt: skip
#: names that are credentials in settings and headers, and may be anything in a conversation
_WEAK_ENDINGS: Final = ("token", "headers", "auth", "pwd", "jwt", "bearer")
#: tokens of a language model or of a list
_NO_CREDENTIALS: Final = re.compile(
    "(?:max|min|num|next|page|nextpage|continuation|sync|stop|eos|bos|pad|unk|mask|sep|cls|start|end|first|last|special"
    "|per|cost|price|prompt|completion|input|output|cached|reasoning|thinking|image|audio|text)token|requiresauth"
)
_NAME_NOISE: Final = re.compile(r"[^a-z0-9]+")
#: further names of URL parameters: Google's keys, signatures of Azure, AWS and Google
_PARAMETERS: Final = frozenset(
    {"key", "sig", "signature", "xamzsignature", "xamzcredential", "xgoogsignature", "xgoogcredential"}
)
#: members whose values are URLs
_URL_ENDINGS: Final = ("url", "uri", "endpoint", "apibase", "proxy", "dsn", "server")
#: headers that a map of headers has beside its credentials
_PLAIN_HEADERS: Final = frozenset(
    {"accept", "acceptencoding", "acceptlanguage", "cachecontrol", "connection", "contenttype", "host", "origin",
     "referer", "useragent"}
)  # fmt: skip
_WORD: Final = re.compile(r"[a-z_ -]{1,32}")
#: parameters of one URL that are looked at
_MOST_PARAMETERS: Final = 200
#: without its cache, which would keep a program's URLs, and what is in them, for as long as it runs
_urlsplit: Final[Callable[[str], SplitResult]] = getattr(urlsplit, "__wrapped__", urlsplit)
#: JSON texts within JSON texts
_DEEPEST_TEXT: Final = 3
_SCHEMA_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})


@lru_cache(maxsize=4096)
def is_credential_name(name: str, *, is_conversation: bool = False) -> bool:
    """Whether a member, parameter or header of this name holds a credential.

    ``is_conversation``: the member is a part of what was said to a model, where a ``token`` is a word.
    """
    plain = _NAME_NOISE.sub("", name[:200].lower())
    if plain.endswith(_ENDINGS) or plain.removesuffix("s").endswith(_ENDINGS):
        return True
    return not is_conversation and plain.endswith(_WEAK_ENDINGS) and not _NO_CREDENTIALS.fullmatch(plain)


@lru_cache(maxsize=4096)
def is_credential_parameter(name: str) -> bool:
    """Whether a URL's query parameter of this name holds a credential."""
    return _NAME_NOISE.sub("", name[:200].lower()) in _PARAMETERS or is_credential_name(name)


@lru_cache(maxsize=4096)
def is_url_name(name: str) -> bool:
    """Whether a member of this name holds a URL."""
    return _NAME_NOISE.sub("", name[:200].lower()).endswith(_URL_ENDINGS)


def is_schema(value: Any) -> bool:
    """Whether ``value`` is a JSON Schema, which describes a member and is not its value."""
    if not isinstance(value, Mapping):
        return False
    kinds = value.get("type")
    is_typed = all(kind in _SCHEMA_TYPES for kind in kinds if isinstance(kind, str)) if isinstance(kinds, list) else (
        isinstance(kinds, str) and kinds in _SCHEMA_TYPES
    )  # fmt: skip
    return (is_typed and bool(kinds)) or not {"$ref", "anyOf", "oneOf", "allOf", "enum"}.isdisjoint(value)


def mask_credential_members(value: Any, mask: str) -> Any:
    """A copy of a JSON value in which members that are credentials by their name have become ``mask``."""
    return map_json(value, member=lambda name, item: (is_masked_member(name, item), mask))


def is_masked_member(name: str, item: Any) -> bool:
    """Whether a member of a JSON object holds a credential."""
    return item is not None and not isinstance(item, bool) and is_credential_name(name) and not is_schema(item)


def url_credentials(url: str) -> Iterator[str]:
    """The credentials in a URL: its userinfo, and those of its parameters, as they stand there and decoded.

    What stands in the place of a port and is none is one, too: a password behind which the host was forgotten.
    """
    if url.startswith("data:"):  # content, which may be an image of many megabytes (RFC 2397)
        return
    try:
        parts = _urlsplit(url)
    except ValueError:
        return
    userinfo, _, host = parts.netloc.rpartition("@")
    if userinfo:
        yield userinfo
        for part in userinfo.split(":"):
            yield part
            yield unquote(part)
    port = host.rpartition("]")[2].partition(":")[2]
    if port and not port.isdecimal():
        yield port
        yield unquote(port)
    for pair in parts.query.split("&", _MOST_PARAMETERS)[:_MOST_PARAMETERS]:
        name, _, value = pair.partition("=")
        if value and is_credential_parameter(unquote_plus(name)):
            yield value
            yield unquote_plus(value)


def credential_strings(value: Any) -> Iterator[str]:
    """The strings that are secret in the value of a credential member, which may be a map, a list or a JSON text.

    Words (``"type": "service_account"``) and headers that hold no credential are left out.
    """
    pending: list[tuple[str | None, Any, int]] = [(None, value, 0)]
    while pending:
        name, item, depth = pending.pop()
        if isinstance(item, Mapping):
            pending.extend((str(key), child, depth) for key, child in item.items())
        elif isinstance(item, list | tuple):
            pending.extend((name, child, depth) for child in item)
        elif isinstance(item, str) and (name is None or not _is_plain(name, item)):
            yield item
            if item[:1] in ("{", "[") and depth < _DEEPEST_TEXT:
                pending.append((name, _parsed(item), depth + 1))


def _is_plain(name: str, text: str) -> bool:
    """Whether a member within a credential's value is itself none."""
    is_word = _WORD.fullmatch(text) is not None and not is_credential_name(name)
    return is_word or _NAME_NOISE.sub("", name[:200].lower()) in _PLAIN_HEADERS


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
