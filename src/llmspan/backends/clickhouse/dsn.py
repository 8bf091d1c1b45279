"""Where a ClickHouse is, read from one text by writer and reader alike.

``http(s)://user:password@host:port/database?option=value`` is a server, ``chdb:///directory?database=name`` the engine
in this process. What is refused is refused with the form that would be right; a password is never shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from ...errors import SettingsError
from ...redaction import display_url, url_scheme

__all__ = ["OPTIONS", "ClickHouseDsn", "display_dsn", "parse_dsn"]

_VARIABLE: Final = "LLMSPAN_CLICKHOUSE_DSN"
_SERVER_FORM: Final = "http://user:password@host:8123/database"
_EMBEDDED_FORM: Final = "chdb:///var/lib/llmspan/chdb"
_PORTS: Final = {"http": 8123, "https": 8443}
#: forms that other clients take, for the protocol that is not HTTP
_NATIVE: Final = frozenset({"clickhouse", "clickhouses", "clickhousedb", "clickhousedbs", "native", "tcp"})
_WHO: Final = {"user": "user", "username": "user", "password": "password", "database": "database"}
#: of an option; others may have a piece of a password in them
_SAFE_VALUE: Final = re.compile(r"[\w.]{0,40}")
_COMPRESSION: Final = ("lz4", "zstd", "gzip", "none")

#: what may stand behind the ``?`` of a server's DSN, and what it must be
OPTIONS: Final[Mapping[str, str]] = {
    "secure": "true or false",
    "verify": "true or false",
    "compress": "lz4, zstd, gzip or none",
    "connect_timeout": "a whole number of seconds above 0",
    "ca_cert": "a file path",
    "client_cert": "a file path",
    "client_cert_key": "a file path",
    "server_host_name": "a host name",
}


@dataclass(frozen=True, slots=True)
class ClickHouseDsn:
    """A database: on a server, or, if there is a ``path``, of the engine in this process."""

    scheme: str
    database: str
    host: str = ""
    port: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    path: Path | None = None

    @property
    def location(self) -> str:
        """The DSN without its password and options."""
        if self.path is not None:
            return f"chdb://{self.path}" + (f"?database={self.database}" if self.database != "default" else "")
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{user}{host}:{self.port}/{quote(self.database, safe='')}"


def parse_dsn(dsn: str | None) -> ClickHouseDsn:
    """The place that ``dsn`` names.

    Raises:
        SettingsError: it names none; the message shows the right form, and no password.
    """
    if not dsn:
        raise SettingsError(
            f"{_VARIABLE} is not set; set it to {_SERVER_FORM} (a server) or {_EMBEDDED_FORM} (embedded)"
        )
    scheme = (url_scheme(dsn) or "").lower()
    if not scheme:
        guess = f"http://{display_dsn(dsn)}" if ":" in dsn else f"http://{display_dsn(dsn)}:8123"
        raise _wrong(dsn, f"it has no http:// or chdb://; write {guess}/database, or {_EMBEDDED_FORM} for a directory")
    if scheme == "chdb":
        return _embedded(dsn)
    if scheme in _NATIVE:
        raise _wrong(dsn, f"{scheme}:// is not supported, only ClickHouse's HTTP interface; write {_SERVER_FORM}")
    if scheme not in _PORTS:
        raise _wrong(dsn, f"{scheme}:// is unknown; write {_SERVER_FORM} or {_EMBEDDED_FORM}")
    return _server(dsn)


def display_dsn(dsn: str) -> str:
    """``dsn`` for people: nothing that could be a password, however wrongly it is written."""
    return display_url(dsn)


def _server(dsn: str) -> ClickHouseDsn:
    parts = _split(dsn)
    parameters = _query(dsn, parts, {*OPTIONS, *_WHO})
    who = {_WHO[name]: parameters.pop(name) for name in list(parameters) if name in _WHO}
    options = {name: _option(dsn, name, value) for name, value in parameters.items()}
    scheme = parts.scheme.lower()
    if options.pop("secure", False):
        scheme = "https"
    if "@" in parts.path:  # http://user:12/34@host, whose password is 12/34
        raise _wrong(dsn, f"there is an @ behind the /; in a password write / as %2F and @ as %40: {_SERVER_FORM}")
    if re.search("[;&=]", parts.path):  # http://host/database;password=...
        raise _wrong(dsn, f"options stand behind a ?, as in {_SERVER_FORM}?secure=true")
    names = [unquote(name) for name in parts.path.split("/") if name]
    if len(names) > 1:
        raise _wrong(dsn, f"the path has more than the name of a database; write {_SERVER_FORM}")
    try:
        port = parts.port
    except ValueError:
        raise _wrong(dsn, f"the port is no number up to 65535; write {_SERVER_FORM}") from None
    if not parts.hostname:
        raise _wrong(dsn, f"there is no host; write {_SERVER_FORM}")
    user = unquote(parts.username) if parts.username else who.get("user")
    password = unquote(parts.password) if parts.password else who.get("password")
    return ClickHouseDsn(
        scheme=scheme,
        host=parts.hostname,
        port=port or _PORTS[scheme],
        user=user or ("default" if password else None),
        password=password,
        database=names[0] if names else who.get("database", "default"),
        options=options,
    )


def _embedded(dsn: str) -> ClickHouseDsn:
    # Not by urlsplit: a path may begin in the place of a host (chdb://data/chdb).
    path, _, query = dsn.partition("://")[2].partition("?")
    if path.partition("/")[0].strip("~") and re.search("[:@]", path.partition("/")[0]):
        raise _wrong(dsn, f"a directory has no user, password or port; write {_EMBEDDED_FORM}")
    if not path:
        raise _wrong(dsn, f"there is no directory; write {_EMBEDDED_FORM}")
    parameters = _query(dsn, SplitResult("chdb", "", "", query, ""), {"database"})
    try:
        directory = Path(unquote(path)).expanduser().absolute()
    except (RuntimeError, OSError):
        raise _wrong(dsn, f"the directory cannot be found from here; write {_EMBEDDED_FORM}") from None
    return ClickHouseDsn(scheme="chdb", path=directory, database=parameters.get("database", "default"))


def _split(dsn: str) -> SplitResult:
    try:
        return urlsplit(dsn)
    except ValueError:
        raise _wrong(dsn, f"it is not a URL; write {_SERVER_FORM}") from None


def _query(dsn: str, parts: SplitResult, allowed: set[str]) -> dict[str, str]:
    if parts.fragment:
        raise _wrong(dsn, "there is a #; in a password write it as %23")
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in parameters:
        if name not in allowed:
            # the name may be the end of a password with an & or a ? in it, unless it is nearly that of an option
            is_typo = (
                "@" not in parts.query
                and "password" not in parameters
                and get_close_matches(name, allowed, cutoff=0.75)
            )
            unknown = f"unknown option {name!r}" if is_typo else "an option is unknown"
            raise _wrong(dsn, f"{unknown}; available: {', '.join(sorted(allowed))}")
    return parameters


def _option(dsn: str, name: str, value: str) -> Any:
    word = value.strip().lower()
    if name in ("secure", "verify") and word in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        return word in ("1", "true", "yes", "on")
    if name == "compress" and word in _COMPRESSION:
        return False if word == "none" else word
    if name == "connect_timeout" and word.isdecimal() and int(word) > 0:
        return int(word)
    if name.endswith(("cert", "cert_key", "name")) and value.strip():
        return value.strip()
    what = repr(value) if _SAFE_VALUE.fullmatch(value) else "the value"
    raise _wrong(dsn, f"{name}: {what} must be {OPTIONS[name]}")


def _wrong(dsn: str, reason: str) -> SettingsError:
    return SettingsError(f"{_VARIABLE}={display_dsn(dsn)}: {reason}")
