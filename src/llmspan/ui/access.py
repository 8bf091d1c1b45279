"""Who may ask the viewer for something, decided before any page is made.

A page on the internet can make a browser send requests to this machine, under a name that it points at 127.0.0.1
(DNS rebinding) or from its own origin (CSRF). So the ``Host`` has to be one of the viewer's own names, whatever changes
something has to come from the viewer's own pages, and everything but the static files takes the token, the password or
the header of a trusted proxy. What is refused says why in plain text, and reads nothing.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .tries import PasswordTries

__all__ = ["LOOPBACK_NAMES", "Access", "AccessMiddleware"]

LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # without any referrer a browser sends the forms of our own pages with ``Origin: null``
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_STATIC: Final = "/static/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a request needs. Exactly one of ``token``, ``password`` and ``proxy_header`` is set.

    Attributes:
        hosts: the names under which the viewer is reached, as in the ``Host`` header, without the port.
        port: the port that it listens on; it tells the cookies of two viewers on one machine apart.
        token: the secret in the first URL, which then becomes a cookie.
        password: the password of HTTP's Basic authentication, with any user name.
        proxy_header: a header that a proxy in front sets to the name of the user, and removes from what it gets.
    """

    hosts: frozenset[str]
    port: int
    token: str | None = None
    password: str | None = None
    proxy_header: str | None = None

    @property
    def cookie(self) -> str:
        """The name of the cookie; cookies are shared by all ports of a host."""
        return f"llmspan_ui_{self.port}"

    def __repr__(self) -> str:
        return f"Access(hosts={sorted(self.hosts)}, port={self.port})"


class AccessMiddleware:
    """Lets through what :class:`Access` allows; each answer gets the headers that keep a page to itself."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._tries = PasswordTries()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no page opens a WebSocket
        # the static files are the same for everybody and say nothing of the store, so they need no token
        is_static = scope["path"].startswith(_STATIC)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-cache" if is_static else "no-store")
            await send(message)

        response = self._refusal(scope)
        await (response or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that is not let through; None for one that is."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _host_name(host) not in self._access.hosts:
            names = ", ".join(sorted(self._access.hosts))
            return _refuse(403, f"This viewer is reached as {names}; the request asked for another host.")
        if scope["method"] not in _SAFE_METHODS and not _is_same_origin(headers, host):
            return _refuse(403, "The request came from another page than the viewer's own.")
        if scope["path"].startswith(_STATIC):
            return None
        # a viewer has one way in: with a password or a proxy in front, an address with a token does not let in as well
        if self._access.proxy_header is not None:
            user = headers.get(self._access.proxy_header)
            return None if user else _refuse(401, f"The proxy in front has not set {self._access.proxy_header}.")
        if self._access.password is not None:
            return self._check_password(scope, headers, self._access.password)
        return self._check_token(scope, headers)

    def _check_password(self, scope: Scope, headers: Headers, password: str) -> Response | None:
        attempt = _password_of(headers)
        if attempt is None:
            return _ask_password()
        client = (scope.get("client") or ("", 0))[0]
        pause = math.ceil(self._tries.pause(client))
        if pause:
            text = f"Too many wrong passwords came from this address; try again in {pause} s."
            return _refuse(429, text, {"Retry-After": f"{pause}"})
        if _is_equal(attempt, password):
            self._tries.note_right(client)
            return None
        self._tries.note_wrong(client)
        return _ask_password()

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        token = self._access.token or ""
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        query = [(name, value) for name, value in pairs if name != "token"]
        given = next((value for name, value in pairs if name == "token"), None)
        if given is not None and _is_equal(given, token) and scope["method"] in _SAFE_METHODS:
            response = RedirectResponse(_relative(scope["path"], query), 303)
            response.set_cookie(self._access.cookie, token, path="/", httponly=True, samesite="strict")
            return response
        if _is_equal(cookie_parser(headers.get("cookie", "")).get(self._access.cookie, ""), token):
            return None
        return _refuse(401, "Open the address that `llmspan ui` has printed: it has the token that lets you in.")


def _relative(path: str, query: list[tuple[str, str]]) -> str:
    """A path of this host: two slashes at its beginning would name another one."""
    path = "/" + path.lstrip("/\\")
    return f"{path}?{urlencode(query)}" if query else path


def _host_name(host: str) -> str:
    """The ``Host`` header without its port, in lower case."""
    name, separator, port = host.rpartition(":")
    return (name if separator and port.isdecimal() else host).lower()


def _is_same_origin(headers: Mapping[str, str], host: str) -> bool:
    """Whether a browser says that the request is from a page of ours; one that says nothing is refused."""
    origin = headers.get("origin", "")
    try:
        return origin != "" and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _password_of(headers: Mapping[str, str]) -> str | None:
    """The password of Basic authentication; None if none is given."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        _, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return password


def _is_equal(given: str, secret: str) -> bool:
    return bool(secret) and hmac.compare_digest(given.encode(), secret.encode())


def _ask_password() -> Response:
    return _refuse(
        401, "The viewer needs its password.", {"WWW-Authenticate": 'Basic realm="llmspan", charset="UTF-8"'}
    )


def _refuse(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers)
