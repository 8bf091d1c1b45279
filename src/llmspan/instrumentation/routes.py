"""The route that a request's URL names, in each form that the SDKs accept.

The SDKs' own methods use one form (``/chat/completions``). A program that calls ``client.post`` itself may leave out
the leading slash, repeat the version, name an Azure deployment, or give a whole URL. Those forms are matched by their
last segments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from .call import Route

_END_OF_PATH = re.compile(r"[?#]")
_VERSION = re.compile(r"v\d+\w*")
#: no route has more segments
_MAX_SEGMENTS = 3


class Address(NamedTuple):
    """The parts of an absolute URL that name the server; named as in an SDK's ``base_url``."""

    scheme: str
    host: str
    port: int | None
    path: str


def absolute_address(url: str) -> Address | None:
    """The address of an absolute URL; None for a path, which goes to the client's ``base_url``."""
    if "://" not in url:
        return None
    try:
        parts = urlsplit(url)
        return Address(parts.scheme, parts.hostname or "", parts.port, parts.path) if parts.netloc else None
    except ValueError:  # the SDK raises for this URL as well
        return None


def path_segments(url: str) -> list[str]:
    """The segments of a URL's path, without empty ones."""
    path = _END_OF_PATH.split(url, maxsplit=1)[0]
    scheme, separator, location = path.partition("://")
    if separator and "/" not in scheme:
        path = location.partition("/")[2]
    return [segment for segment in path.split("/") if segment not in ("", ".")]


def match_route(routes: Mapping[str, Route], url: str) -> Route | None:
    """The route that ``url`` ends with; a route of one segment only directly behind the API's root."""
    segments = path_segments(url)
    for size in range(min(_MAX_SEGMENTS, len(segments)), 0, -1):
        route = routes.get("/" + "/".join(segments[-size:]))
        if route is not None and (size > 1 or is_api_root(segments[:-size])):
            return route
    return None


def is_api_root(segments: Sequence[str]) -> bool:
    """Whether ``segments`` are the root of an API: nothing, a version, ``openai``, or an Azure deployment."""
    if not segments or segments[-1] == "openai" or _VERSION.fullmatch(segments[-1]):
        return True
    return len(segments) > 1 and segments[-2] == "deployments"
