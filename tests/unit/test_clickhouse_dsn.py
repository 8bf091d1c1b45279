"""Reading the DSN of ClickHouse: the right forms, the wrong ones, and passwords."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.backends.clickhouse.dsn import ClickHouseDsn, parse_dsn
from llmspan.errors import SettingsError
from llmspan.settings import Settings


def server(scheme: str, host: str, port: int, database: str = "default", **rest: object) -> ClickHouseDsn:
    return ClickHouseDsn(scheme=scheme, host=host, port=port, database=database, **rest)  # type: ignore[arg-type]


GOOD = {
    "http://localhost": server("http", "localhost", 8123),
    "http://localhost:8123": server("http", "localhost", 8123),
    "https://ch.example": server("https", "ch.example", 8443),
    "HTTPS://CH.example:443/llm": server("https", "ch.example", 443, "llm"),
    "http://ch.example/?secure=true": server("https", "ch.example", 8443),
    "http://ch.example:8123?secure=0": server("http", "ch.example", 8123),
    "http://u@h/d": server("http", "h", 8123, "d", user="u"),
    "http://u:p@h/d/": server("http", "h", 8123, "d", user="u", password="p"),
    "http://u:p%40%2F%3A%23%C3%BC@h": server("http", "h", 8123, user="u", password="p@/:#ü"),
    "http://:p@h": server("http", "h", 8123, user="default", password="p"),
    "http://h:1?username=u&password=p&database=d": server("http", "h", 1, "d", user="u", password="p"),
    "http://[::1]:9/a%20b": server("http", "::1", 9, "a b"),
    "https://h?verify=false&ca_cert=/x.pem": server("https", "h", 8443, options={"verify": False, "ca_cert": "/x.pem"}),
    "http://h?compress=none&connect_timeout=3": server(
        "http", "h", 8123, options={"compress": False, "connect_timeout": 3}
    ),
    "http://h?compress=ZSTD": server("http", "h", 8123, options={"compress": "zstd"}),
    "chdb:///var/lib/x": ClickHouseDsn("chdb", "default", path=Path("/var/lib/x")),
    "chdb:///var/lib/x/": ClickHouseDsn("chdb", "default", path=Path("/var/lib/x")),
    "chdb:///a%20b?database=llm": ClickHouseDsn("chdb", "llm", path=Path("/a b")),
}


@pytest.mark.parametrize("dsn", GOOD)
def test_good(dsn):
    """Each form names its place."""
    assert parse_dsn(dsn) == GOOD[dsn]


def test_embedded_path_is_settled(monkeypatch, tmp_path):
    """A relative directory and a home are made absolute."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert parse_dsn("chdb://data/chdb").path == tmp_path / "data" / "chdb"
    assert parse_dsn("chdb://~/chdb").path == Path("/home/me/chdb")


BAD = {
    None: "LLMSPAN_CLICKHOUSE_DSN is not set; set it to http://user:password@host:8123/database",
    "": "is not set",
    "localhost": "it has no http:// or chdb://; write http://localhost:8123/database",
    "localhost:8123": "write http://localhost:8123/database",
    "user:secret@host:8123/db": r"write http://\*\*\*@host:8123/db",
    "/var/lib/chdb": "or chdb:///var/lib/llmspan/chdb for a directory",
    "clickhouse://u:secret@host:9000/db": "clickhouse:// is not supported",
    "tcp://host:9000?password=secret": "tcp:// is not supported",
    "postgresql://u:secret@host/db": "postgresql:// is unknown; write http",
    "http://": "there is no host",
    "http:///db": "there is no host",
    "http://u:secret@host:port/db": "the port is no number up to 65535",
    "http://u:secret@host:65536/db": "the port is no number up to 65535",
    "http://u:secret/x@host/db": "there is an @ behind the /; in a password write / as %2F",
    "http://u:secret#x@host/db": "write it as %23|the port is no number",
    "http://[host/db": "it is not a URL",
    "http://host/a/b": "the path has more than the name of a database",
    "http://u:secret@host/db?sekure=1": "unknown option 'sekure'; available: ca_cert, client_cert",
    "http://host?verify=perhaps": "verify: 'perhaps' must be true or false",
    "http://host?compress=br": "compress: 'br' must be lz4, zstd, gzip or none",
    "http://host?connect_timeout=0": "connect_timeout: '0' must be a whole number of seconds above 0",
    "http://host?ca_cert=": "ca_cert: '' must be a file path",
    "chdb://": "there is no directory; write chdb:///",
    "chdb://:memory:": "a directory has no user, password or port",
    "chdb:///x?mode=ro": "an option is unknown; available: database",
}


@pytest.mark.parametrize("dsn", BAD)
def test_bad(dsn):
    """Each wrong form is one clear sentence that names the variable and shows the right form, and no password."""
    with pytest.raises(SettingsError, match=BAD[dsn]) as caught:
        parse_dsn(dsn)
    message = str(caught.value)
    assert message.startswith("LLMSPAN_CLICKHOUSE_DSN")
    assert "\n" not in message
    assert "secret" not in message


@pytest.mark.parametrize("dsn", [*GOOD, *BAD])
def test_backend_neither_raises_nor_tells(dsn):
    """Any DSN makes a backend, whose location has no password."""
    backend = ClickHouseBackend.from_settings(Settings(clickhouse_dsn=dsn))
    assert "secret" not in backend.location
    assert ":p@" not in backend.location
    backend.shutdown()


def test_same_place_same_location():
    """Spellings of one place have one location."""
    spellings = ("http://u:p@h", "http://u@h:8123/default", "http://h?user=u&password=x&compress=none")
    assert {parse_dsn(dsn).location for dsn in spellings} == {"http://u@h:8123/default"}
    assert parse_dsn("https://[::1]/ü").location == "https://[::1]:8443/%C3%BC"
    assert parse_dsn("chdb:///x/?database=default").location == "chdb:///x"
    assert parse_dsn("chdb:///x?database=d").location == "chdb:///x?database=d"


def test_place_does_not_show_its_password():
    """Printing a place shows no password."""
    assert "secret" not in repr(parse_dsn("http://u:secret@h"))
