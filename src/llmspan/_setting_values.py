"""Parsers of settings whose values have a form of their own. Each raises ``ValueError`` for a value that it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["BadValueError", "include_usage", "names", "names_host"]

#: a host name, the names below one (``*.example.com``) or an address, with or without a port
_HOST: Final = re.compile(r"(?:\*\.)?(?:[a-z0-9_-]+\.)*[a-z0-9_-]+(?::\d{1,5})?|\[[0-9a-f:.]+\](?::\d{1,5})?")
_PORT: Final = re.compile(r":(\d+)$")


class BadValueError(ValueError):
    """A refusal whose message is for the user."""


def names(value: Any) -> tuple[str, ...]:
    """A comma-separated list of names, in lower case, none empty and each once."""
    parts = value.split(",") if isinstance(value, str) else list(value)
    parsed = tuple(str(part).strip().lower() for part in parts)
    if not any(parsed):
        raise BadValueError("it is empty")
    if "" in parsed:
        raise BadValueError("there is nothing between two commas")
    repeated = sorted({name for name in parsed if parsed.count(name) > 1})
    if repeated:
        raise BadValueError(f"{', '.join(repeated)} is there twice")
    return parsed


def include_usage(value: Any) -> str | tuple[str, ...]:
    """``off``, ``auto``, ``on``, or a list of hosts, which may hold ``auto``."""
    hosts = names(value)
    if len(hosts) == 1 and hosts[0] in ("auto", "off", "on"):
        return hosts[0]
    for host in hosts:
        if host in ("off", "on"):
            raise BadValueError(f"{host!r} stands alone")
        if not _HOST.fullmatch(host):
            raise BadValueError(f"{host!r} is not a host name; leave out scheme and path")
        if host not in ("auto", "localhost") and "." not in host and ":" not in host:
            raise BadValueError(f"{host!r} is none of the words; a host without a dot needs its port, as {host}:8000")
    return hosts


def names_host(patterns: Iterable[str], host: str, port: int | None) -> bool:
    """Whether one of the hosts that :func:`include_usage` gives is ``host``, or ``*.`` and a domain that it is in."""
    host = host.lower().rstrip(".")
    host = f"[{host}]" if ":" in host else host
    for pattern in patterns:
        wanted_port = _PORT.search(pattern) if not pattern.endswith("]") else None
        name = pattern[: wanted_port.start()] if wanted_port else pattern
        if wanted_port is not None and int(wanted_port[1]) != port:
            continue
        if name == host or (name.startswith("*.") and host.endswith(name[1:])):
            return True
    return False
