"""The credentials of a call: what must not be anywhere but in its request, wherever a provider repeats it.

They are in headers, in the URL, in members of the body, and in what the client connects with (a proxy, a handshake).
What a provider says of a call that failed may repeat any of them, so there more headers count, and shorter values.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

from .._json import dumps
from ..redaction import ExactMask, credential_texts, is_credential_name, url_credentials
from .call import Call

__all__ = ["call_credentials", "client_credentials", "header_credentials", "suspected_headers"]

#: headers that may hold credentials, beside those whose names say so
_SUSPECTED_HEADER: Final = re.compile(".*(?:auth|cookie|key|passw|secret|session|token).*", re.IGNORECASE)
_SEPARATORS: Final = re.compile(r"[\s;=,]+")
#: shorter ones are placeholders ("not-needed"), and may well be words of the conversation
_MIN_LENGTH: Final = 16
_MIN_LENGTH_OF_FAILURE: Final = 8
_NO_CREDENTIALS: Final = ExactMask()

#: names and values as they are sent
Headers = Iterable[tuple[bytes, bytes]]


def call_credentials(call: Call, *, has_failed: bool) -> ExactMask:
    """A mask for what ``call`` was made with."""
    request, cached = call.request, call.credentials
    if cached is not None and cached[0] is request and cached[1] == has_failed:
        return cached[2]
    credentials = set(call.endpoint.credentials)
    headers = getattr(request, "headers", None)
    if headers is not None:
        credentials.update(_credentials_of(tuple(_secret_headers(headers.raw, include_suspected=has_failed))))
    url = getattr(request, "url", None)
    if isinstance(url, str) or (url is not None and (url.userinfo or url.query)):
        credentials.update(url_credentials(str(url)))
    if has_failed:
        credentials.update(_request_credentials(call))
    min_length = _MIN_LENGTH_OF_FAILURE if has_failed else _MIN_LENGTH
    long_enough = [text for text in credentials if len(text) >= min_length]
    mask = ExactMask.of(long_enough) if long_enough else _NO_CREDENTIALS
    call.credentials = (request, has_failed, mask)
    return mask


def header_credentials(headers: Headers, *, include_suspected: bool) -> Iterator[str]:
    """The credentials in headers: each value less its scheme, its words, and what ``Basic`` encodes (RFC 7617)."""
    for raw in _secret_headers(headers, include_suspected=include_suspected):
        yield from _header_credentials(raw)


def suspected_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Those of the headers that may hold credentials, whether or not the call fails."""
    items = list(headers)
    indices: Iterable[int] = _suspected_indices(tuple([name for name, _ in items]))
    if max([value for _, value in items], default=b"") >= b"{":  # rarely: what begins with a letter or digit is less
        indices = [index for index, (_, value) in enumerate(items) if index in indices or value.startswith(b"{")]
    return [items[index] for index in indices]


def _secret_headers(headers: Headers, *, include_suspected: bool) -> list[bytes]:
    """The values of headers that hold credentials; those that begin with a brace are a gateway's configuration."""
    is_secret = _may_be_secret if include_suspected else _is_secret
    return [value for name, value in headers if is_secret(name) or value.startswith(b"{")]


@lru_cache(maxsize=64)  # the requests of a client have the same
def _suspected_indices(names: tuple[bytes, ...]) -> tuple[int, ...]:
    return tuple([index for index, name in enumerate(names) if _may_be_secret(name)])


@lru_cache(maxsize=64)  # the calls of a client have the same
def _credentials_of(values: tuple[bytes, ...]) -> frozenset[str]:
    return frozenset(text for raw in values for text in _header_credentials(raw))


def _header_credentials(raw: bytes) -> Iterator[str]:
    value = _text(raw)
    if raw[:1] == b"{":
        yield from credential_texts(value)
        return
    scheme, _, word = value.partition(" ")
    yield word or value
    if _SEPARATORS.search(word or value) is not None:
        yield from _SEPARATORS.split(value)
    if scheme.lower() == "basic":
        yield from _basic_credentials(word)


def client_credentials(http_client: Any) -> tuple[str, ...]:
    """The credentials of the proxies that an HTTP client of httpx or httpx2 goes through."""
    mounts = getattr(http_client, "_mounts", None)
    transports = [getattr(http_client, "_transport", None), *(mounts.values() if isinstance(mounts, dict) else ())]
    credentials: set[str] = set()
    for transport in transports:
        pool = getattr(transport, "_pool", None)
        proxy_headers = getattr(pool, "_proxy_headers", None) or ()
        credentials.update(header_credentials(proxy_headers, include_suspected=True))
        credentials.update(_text(part) for part in getattr(pool, "_proxy_auth", None) or ())  # of a SOCKS proxy
    return tuple(credentials)


def _request_credentials(call: Call) -> Iterator[str]:
    """Those in the body, which a gateway may repeat in its error, and in a URL that no request could be made for."""
    if call.upload is not None:
        yield from credential_texts(dumps(call.upload.fields))
    elif call.request_bytes is not None:
        yield from credential_texts(call.request_bytes.decode("utf-8", "replace"))
    if "://" in call.path:
        yield from url_credentials(call.path)


def _basic_credentials(word: str) -> Iterator[str]:
    with suppress(ValueError):
        pair = b64decode(word + "==").decode("utf-8", "replace")
        yield pair
        yield from pair.split(":", 1)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


@lru_cache(maxsize=512)
def _is_secret(name: bytes) -> bool:
    return is_credential_name(name.decode("latin-1"))


@lru_cache(maxsize=512)
def _may_be_secret(name: bytes) -> bool:
    return _is_secret(name) or _SUSPECTED_HEADER.fullmatch(name.decode("latin-1")) is not None
