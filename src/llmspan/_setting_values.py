"""Parsers of the settings' values, and the types of those that are one of a few words.

Each parser takes text, or a value of the right type, and raises ``ValueError`` for one that it refuses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal, get_args
from urllib.parse import unquote, urlsplit

__all__ = [
    "REDACTIONS",
    "AnthropicNativeSpans",
    "BadValueError",
    "Capture",
    "ContentMode",
    "IncludeUsage",
    "SemconvCompat",
    "SocketFraming",
    "SpanContentFormat",
    "SpoolFullPolicy",
    "SpoolSync",
    "capture",
    "count",
    "days",
    "estimate_usage",
    "file_size",
    "flag",
    "function",
    "include_usage",
    "keys",
    "names",
    "names_host",
    "one_of",
    "path",
    "patterns",
    "postgres_payload",
    "seconds",
    "semconv_compat",
    "size",
    "sqlite_path",
    "text",
]

ContentMode = Literal["full", "metadata"]
_CONTENT: Final = ("full", "metadata")
#: the patterns of ``redaction/patterns.py``, by name
REDACTIONS: Final = ("keys", "email", "cards")
Capture = Literal["NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"]
SpanContentFormat = Literal["json", "structured"]
SemconvCompat = Literal["off", "beside", "instead"]
SocketFraming = Literal["v4", "v3"]
SpoolSync = Literal["always", "group", "none"]
SpoolFullPolicy = Literal["drop_oldest", "drop_new"]
#: a list names hosts; ``auto`` in it stands for those of OpenAI and Azure
IncludeUsage = Literal["auto", "off", "on"] | tuple[str, ...]
AnthropicNativeSpans = Literal["suppress", "adopt", "both"]

#: a host name, the names below one (``*.example.com``) or an address, with or without a port
_HOST: Final = re.compile(r"(?:\*\.)?(?:[a-z0-9_-]+\.)*[a-z0-9_-]+(?::\d{1,5})?|\[[0-9a-f:.]+\](?::\d{1,5})?")
_PORT: Final = re.compile(r":(\d+)$")


#: what a URL begins with; a word before a lone colon may be part of a file's name
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://|(sqlite3?(?:\+\w+)?|file):", re.IGNORECASE)


class BadValueError(ValueError):
    """A refusal whose message is for the user."""

    def __init__(self, reason: str, value_text: str | None = None) -> None:
        """``value_text``: what to print in place of the value, which may have a password in it."""
        super().__init__(reason)
        self.shown = value_text


def names(value: Any) -> tuple[str, ...]:
    """A comma-separated list of names, in lower case, none empty and each once."""
    parts = value.split(",") if isinstance(value, str) else list(value)
    parsed = tuple(str(part).strip().lower() for part in parts)
    if not any(parsed):
        raise BadValueError("it is empty")
    if "" in parsed:
        raise BadValueError("one of the names is empty")
    repeated = sorted({name for name in parsed if parsed.count(name) > 1})
    if repeated:
        raise BadValueError(f"{', '.join(repeated)} is given twice")
    return parsed


def include_usage(value: Any) -> str | tuple[str, ...]:
    """``off``, ``auto``, ``on``, or a list of hosts, which may hold ``auto``."""
    hosts = names(value)
    if len(hosts) == 1 and hosts[0] in ("auto", "off", "on"):
        return hosts[0]
    for host in hosts:
        if host in ("off", "on"):
            raise BadValueError(f"{host!r} cannot be combined with hosts")
        if not _HOST.fullmatch(host):
            raise BadValueError(f"{host!r} is not a host name; leave out scheme and path")
        if host not in ("auto", "localhost") and "." not in host and ":" not in host:
            raise BadValueError(f"{host!r} is not off, auto or on; a host without a dot needs its port, as {host}:8000")
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


def sqlite_path(value: Any) -> Path:
    """The path of a SQLite file, given as it is or as a URL: SQLAlchemy's ``sqlite:///`` or SQLite's ``file:``."""
    text = os.fspath(value)
    if not text.strip():
        raise BadValueError("it is empty")
    scheme = _SCHEME.match(text.strip())
    if scheme is not None:
        name = (scheme[1] or scheme[2]).lower()
        url = text.strip()[len(name) + 1 :]
        text = _file_url_path(url) if name == "file" else _sqlite_url_path(name, url)
    if text.strip() in ("", ":memory:"):
        raise BadValueError("it names no file; other processes cannot read a database in memory")
    return Path(text).expanduser()


def _sqlite_url_path(scheme: str, url: str) -> str:
    """The path in what follows ``sqlite:``, as SQLAlchemy reads it: three slashes, then the path, nothing decoded."""
    if scheme.partition("+")[0] not in ("sqlite", "sqlite3"):
        raise BadValueError(f"{scheme}:// does not name a SQLite file", f"{scheme}://...")
    if url in ("", "//"):
        return ""
    if not url.startswith("///"):
        raise BadValueError("a path begins after three slashes, an absolute one with the fourth")
    path = url[3:]
    if "?" in path:
        raise BadValueError("options are not supported; leave out what follows the ?")
    if re.search("%[0-9a-f]{2}", path, re.IGNORECASE):
        raise BadValueError("%-escapes are not decoded in this form; write the characters themselves")
    return f"/{path.lstrip('/')}" if path.startswith("/") else path


def _file_url_path(url: str) -> str:
    """The path in what follows ``file:``, as SQLite reads it: relative or absolute, with %-escapes."""
    try:
        parts = urlsplit(f"file:{url}")
    except ValueError:
        raise BadValueError("it is not a URL") from None
    if parts.netloc.lower() not in ("", "localhost"):
        raise BadValueError("the file is on another host; an absolute path begins after three slashes")
    if "?" in url or "#" in url:
        raise BadValueError("options are not supported; leave out what follows the ? or #")
    return unquote(parts.path)


_UNITS: Final = {"": 1, "b": 1, "k": 1024, "kb": 1024, "kib": 1024, "m": 1024**2, "mb": 1024**2, "mib": 1024**2,
                 "g": 1024**3, "gb": 1024**3, "gib": 1024**3}  # fmt: skip
_SMALLEST_FILE: Final = 256 * 1024


def size(value: Any) -> int:
    """A number of bytes, with a unit or without."""
    text = str(value).strip().lower()
    number = text.rstrip("bkmgi")
    unit = text[len(number) :].strip()
    parsed = int(number) * _UNITS[unit] if unit in _UNITS else -1
    if parsed <= 0:
        raise ValueError(text)
    return parsed


def file_size(value: Any) -> int:
    """The size of a file of records; a number that lacks its unit is refused, by which nearly all would be deleted."""
    parsed = size(value)
    if parsed < _SMALLEST_FILE:
        raise BadValueError("it is too small for a file of records; is its unit missing?")
    return parsed


def keys(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else list(value)
    return tuple(key for part in parts if (key := str(part).strip()))


#: what the variable meant to instrumentations that put content into events only
_CAPTURE_FLAGS: Final = {"TRUE": "EVENT_ONLY", "FALSE": "NO_CONTENT", "": "NO_CONTENT"}


def capture(value: Any) -> str:
    word = str(value).strip().upper()
    word = _CAPTURE_FLAGS.get(word, word)
    if word not in get_args(Capture):
        raise ValueError(word)
    return word


def function(value: Any) -> Any:
    """A function, or the place of one as ``module:function``; imported later, when the program's modules are there."""
    if callable(value):
        return value
    module, colon, name = str(value).strip().partition(":")
    if not (colon and all(part.isidentifier() for part in (*module.split("."), *name.split(".")))):
        raise ValueError(value)
    return f"{module}:{name}"


def estimate_usage(value: Any) -> Any:
    word = value.strip().lower() if isinstance(value, str) else value
    return word if word in ("off", "on") else function(value)


def patterns(value: Any) -> tuple[str, ...]:
    words = tuple(word.lower() for word in keys(value))
    unknown = [word for word in words if word not in REDACTIONS]
    if unknown:
        raise BadValueError(f"{unknown[0]!r} is none of them")
    return words


def one_of(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        word = str(value).strip().lower()
        if word not in choices:
            raise ValueError(word)
        return word

    return parse


def count(value: Any) -> int:
    number = int(value)
    if number <= 0:
        raise ValueError(value)
    return number


def days(value: Any) -> int | None:
    return None if str(value).strip().lower() == "none" else count(value)


def postgres_payload(value: Any) -> str:
    """The mode, or the yes or no of the older variable, which asked whether only metadata is to be kept."""
    word = str(value).strip().lower()
    return {"true": "metadata", "1": "metadata", "false": "full", "0": "full"}.get(word) or one_of(*_CONTENT)(word)


def seconds(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= 3600:
        raise ValueError(value)
    return number


def linger(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= 60:
        raise ValueError(value)
    return number


def flag(value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in ("1", "true", "yes", "on", "0", "false", "no", "off", ""):
        raise ValueError(word)
    return word in ("1", "true", "yes", "on")


def semconv_compat(value: Any) -> str:
    """The mode, or the yes or no of the time when there was one only."""
    word = str(value).strip().lower()
    return word if word in get_args(SemconvCompat) else "beside" if flag(word) else "off"


def path(value: Any) -> Path:
    if not str(value).strip():
        raise BadValueError("it is empty")
    return Path(value).expanduser()


def directory_or_off(value: Any) -> Path | Literal["off"]:
    return "off" if str(value).strip().lower() == "off" else path(value)


def text(value: Any) -> str | None:
    return str(value).strip() or None
