"""How a URL is shown to people: its scheme, host, port and path, and nothing that could be a password.

Masking finds credentials in a URL that is written rightly. What is shown here may be written wrongly, such as a
password with an ``@``, ``/`` or ``?`` in it, so the end of such a password is unknown: then less is shown.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["display_url", "url_scheme"]

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BEHIND_THE_PATH: Final = re.compile(r"[?#;&\s]")
_HIDDEN: Final = "***"


def url_scheme(url: str) -> str | None:
    """The scheme of ``url`` as it is written; None if it begins with something else, such as a user and a password."""
    match = _SCHEME.match(url)
    return match[1] if match else None


def display_url(url: str) -> str:
    """``url`` without userinfo and query, and without what stands in the place of a port and is no number."""
    scheme = url_scheme(url)
    start = "" if scheme is None else f"{scheme}://"
    userinfo, at, host_and_path = url[len(start) :].rpartition("@")
    if at and _BEHIND_THE_PATH.search(userinfo):  # the @ may belong to a password in the query
        return f"{start}{_HIDDEN}"
    host, slash, path = _BEHIND_THE_PATH.split(host_and_path, maxsplit=1)[0].partition("/")
    bracket = host.find("]") + 1 if host.startswith("[") else 0  # the end of an IPv6 address
    name, colon, port = host[bracket:].partition(":")
    if colon and not (port.isascii() and port.isdecimal()):
        return f"{start}{_HIDDEN + '@' if at else ''}{host[:bracket]}{name}:{_HIDDEN}"  # what follows may belong to it
    return f"{start}{_HIDDEN + '@' if at else ''}{host[:bracket]}{name}{colon}{port}{slash}{path}"
