"""A request as an SDK hands it to its HTTP library, where that may be any: what of an httpx request is used of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class SentRequest:
    """One attempt's request. Its body is encoded as the SDK does, and not before it is needed."""

    __slots__ = ("_body", "_data", "_headers", "url")

    def __init__(self, url: str, headers: Mapping[str, str], data: Any) -> None:
        self.url = url
        self._headers = headers
        self._data = data
        self._body: bytes | None = data if isinstance(data, bytes) else None

    @property
    def headers(self) -> RawHeaders:
        """The headers, also those that the SDK has added since."""
        return RawHeaders(self._headers)

    @property
    def _content(self) -> bytes | None:
        """The body in bytes; None if there is none."""
        if self._body is None and self._data:
            self._body = json.dumps(self._data).encode()
        return self._body


class KeptRequest:
    """What of an httpx request is used once it was sent: its bytes, and a URL and headers that may hold credentials.

    A hundred calls may wait for the worker, and the garbage collector looks at all the objects of each: the request of
    an HTTP client is nine, and one more for each header.
    """

    __slots__ = ("_content", "headers", "url")

    def __init__(self, request: Any, content: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        url = getattr(request, "url", None)
        self._content = content
        self.headers = KeptHeaders(headers)
        self.url = None if url is None else url if isinstance(url, str) else _with_credentials(url)


class KeptHeaders:
    """Some of a request's headers, in the form in which httpx has them."""

    __slots__ = ("raw",)

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self.raw = raw


def _with_credentials(url: Any) -> str | None:
    """A URL of httpx, if it may hold credentials."""
    return str(url) if url.userinfo or url.query else None


class RawHeaders:
    """Headers in the form in which httpx has them."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.raw = [(str(name).encode(), str(value).encode()) for name, value in headers.items()]
