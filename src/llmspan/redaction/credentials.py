"""The table of places where credentials stand: names of headers, of JSON members and of URL parameters.

Names are compared without case, dashes and underscores, so that ``api_key``, ``apiKey`` and ``X-Api-Key`` are one. A
member whose value is a JSON Schema (a tool that takes a ``password``) describes a credential and holds none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from .values import map_json

#: how names of credentials end. Sources: the SDKs' and gateways' parameters, AWS, Azure, Google, RFC 6749
_ENDINGS: Final = (
    "apikey", "accesskey", "accesskeyid", "secretkey", "privatekey", "subscriptionkey", "signingkey", "encryptionkey",
    "password", "passwd", "passphrase", "secret", "authorization", "cookie", "cookies", "credential", "credentials",
    "accesstoken", "refreshtoken", "idtoken", "authtoken", "authorizationtoken", "sessiontoken", "securitytoken",
    "bearertoken", "adtoken", "apitoken", "clientassertion",
)  # fmt: skip
#: names that are credentials in settings and headers, and may be anything in a conversation
_WEAK_ENDINGS: Final = ("token", "headers", "auth", "pwd", "jwt")
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
_SCHEMA_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})


@lru_cache(maxsize=4096)
def is_credential_name(name: str, *, is_conversation: bool = False) -> bool:
    """Whether a member, parameter or header of this name holds a credential.

    ``is_conversation``: the member is a part of what was said to a model, where a ``token`` is a word.
    """
    plain = _NAME_NOISE.sub("", name[:200].lower())
    if plain.endswith(_ENDINGS):
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

    def member(name: str, item: Any) -> tuple[bool, Any]:
        is_masked = item is not None and not isinstance(item, bool) and is_credential_name(name) and not is_schema(item)
        return is_masked, mask

    return map_json(value, member=member)


def url_credentials(url: str) -> Iterable[str]:
    """The credentials in a URL: its userinfo, and those of its parameters, as they stand there and decoded."""
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=False, max_num_fields=200)
    except ValueError:
        return
    userinfo = parts.netloc.rpartition("@")[0]
    if userinfo:
        yield userinfo
        for part in userinfo.split(":"):
            yield part
            yield unquote(part)
    for name, value in pairs:
        if is_credential_parameter(name):
            yield value
