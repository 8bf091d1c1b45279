"""Passwords in DSNs and endpoints: whatever is in them and however they are written, nothing shows a piece of them."""

from __future__ import annotations

import traceback
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.backends.clickhouse.dsn import parse_dsn as parse_clickhouse
from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.postgres.connection import parse_dsn as parse_postgres
from llmspan.cli import doctor_checks, main, run, trial
from llmspan.errors import LlmspanError, SettingsError
from llmspan.redaction import display_url
from llmspan.settings import Settings

#: pieces that are in no message by chance; between them stands what ends a password early in one form or another
FIRST, LAST = "Xq1Zw", "Wz7Kv"
ODD = st.text(st.sampled_from("@:/?#%&;=[]'\"\\ +$!~*(),."), min_size=1, max_size=3)

CLICKHOUSE = (
    "http://u:{}@h/d", "https://u:{}@h:8443", "http://u:{}@h", "http://h/d?password={}", "http://h?user=u&password={}",
    "http://h?password={}&secure=1", "http://h?password={}&verify=x", "http://u:{}@h/d?sekure=1", "u:{}@h:8123/d",
    "clickhouse://u:{}@h:9000/d", "chdb://u:{}@h/d", "tcp://h?password={}", "http://u:{}@h:port",
    "http://h#password={}", "http://h/d;password={}", "http://h?verify=1&password={}", "http://u:1{}@h", "http://:{}@h",
)  # fmt: skip
POSTGRES = (
    "postgresql://u:{}@h/d", "postgres://u:{}@h:5433/d?sslmode=require", "postgresql://h/d?user=u&password={}",
    "postgresql://u:1{}@h/d", "host=h user=u password='{}' dbname=d", "host=h password={} user=u", "password={}",
    "mysql://u:{}@h/d", "postgresql://u:{}@[::1/d", "POSTGRESQL://u:{}@h/d", "host=h password='{}",
)  # fmt: skip


def shown_by(dsn: str, parse: Any, backend: Any) -> str:
    """All that is shown of a DSN: a location, a parsed place, an error with its traceback."""
    shown = [backend.location, repr(backend), repr(Settings(clickhouse_dsn=dsn, postgres_dsn=dsn))]
    try:
        place = parse(dsn)
    except SettingsError as error:
        lines = traceback.TracebackException.from_exception(error, lookup_lines=False).format_exception_only()
        shown += [str(error), *lines, repr(error.__cause__)]
    else:
        shown += [] if isinstance(place, dict) else [repr(place), place.location]
    return "\n".join(shown)


@pytest.mark.parametrize("form", CLICKHOUSE)
@given(odd=ODD, more=ODD, is_quoted=st.booleans())
@example(odd="@", more="@", is_quoted=False)
@example(odd="/", more="@", is_quoted=False)
@example(odd="?", more="&", is_quoted=False)
@example(odd="?x=", more="@", is_quoted=False)
@example(odd="://", more="@", is_quoted=False)
def test_clickhouse(form: str, odd: str, more: str, is_quoted: bool) -> None:
    """No form of a ClickHouse DSN shows its password, whole or in part."""
    password = f"{FIRST}{odd}9{more}{LAST}"
    dsn = form.replace("{}", quote(password, safe="") if is_quoted else password)
    shown = shown_by(dsn, parse_clickhouse, ClickHouseBackend.from_settings(Settings(clickhouse_dsn=dsn)))
    assert FIRST not in shown
    assert LAST not in shown


@pytest.mark.parametrize("form", ["http://u:{}", "u:{}", "https://u:{}/d", "default:{}"])
@given(odd=ODD)
def test_clickhouse_without_a_host(form: str, odd: str) -> None:
    """Where the host was forgotten the password stands in the place of the port; an @ in it would begin a host."""
    dsn = form.replace("{}", f"{FIRST}{odd.replace('@', '')}{LAST}")
    shown = shown_by(dsn, parse_clickhouse, ClickHouseBackend.from_settings(Settings(clickhouse_dsn=dsn)))
    assert FIRST not in shown
    assert LAST not in shown


@pytest.mark.parametrize("form", POSTGRES)
@given(odd=ODD, more=ODD, is_quoted=st.booleans())
@example(odd='"', more="@", is_quoted=False)
@example(odd="/s?", more='"@', is_quoted=False)
@example(odd="' ", more=" ", is_quoted=False)
def test_postgres(form: str, odd: str, more: str, is_quoted: bool) -> None:
    """No form of a Postgres DSN shows its password, whole or in part."""
    password = f"{FIRST}{odd}9{more}{LAST}"
    dsn = form.replace("{}", quote(password, safe="") if is_quoted else password)
    shown = shown_by(dsn, parse_postgres, PostgresBackend.from_settings(Settings(postgres_dsn=dsn)))
    assert FIRST not in shown
    assert LAST not in shown


@pytest.mark.parametrize(
    "message", ['fehlendes "=" nach »Xq1Zw« in', "manque « = » après « Xq1Zw » dans", 'no "a"Xq1Zw" in']
)
def test_libpq_in_other_languages(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """libpq quotes with the quotation marks of its language."""
    import psycopg

    def refuse(_: str) -> None:
        raise psycopg.ProgrammingError(message)

    monkeypatch.setattr("llmspan.backends.postgres.connection.conninfo.conninfo_to_dict", refuse)
    with pytest.raises(SettingsError, match="LLMSPAN_POSTGRES_DSN cannot be read") as caught:
        parse_postgres("Xq1Zw")
    assert FIRST not in str(caught.value)


ENDPOINTS = (
    "https://u:Xq1Zw@otel.example:4318/v1", "http://u:Xq1Zw@Wz7Kv@h", "https://h/?token=Xq1Zw", "https://u:Xq1Zw/x@h",
    "https://h/v1?api_key=Xq1Zw@Wz7Kv", "u:Xq1Zw@h:4317", "https://h#Xq1Zw", "https://u:Xq1Zw",
)  # fmt: skip


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
@pytest.mark.parametrize("is_installed", [True, False])
def test_endpoints(endpoint: str, name: str, is_installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """``doctor`` and ``run`` say where spans go, and show nothing of a password in it."""
    if not is_installed:
        monkeypatch.setattr(doctor_checks, "entry_points", lambda **_: [])
        monkeypatch.setattr(run, "_installed", lambda _: set())
    monkeypatch.setattr(trial, "_run", lambda sdks, environ: {})
    monkeypatch.setenv(name, endpoint)
    shown = CliRunner().invoke(main, ["doctor", "--backend", "memory"]).output
    shown += "\n".join(run._choose_exporters({name: endpoint}))
    assert "spans" in shown
    assert FIRST not in shown
    assert LAST not in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://otel.example:4318/v1/traces", "https://otel.example:4318/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318"),
        ("u:p@h", "***@h"),
        ("http://u:se@cret@h/d?password=secret", "http://***@h/d"),
        ("http://u:secret?x@h", "http://***"),
        ("http://h?password=se@cret", "http://***"),
        ("http://u:secret", "http://u:***"),
        ("localhost:8123", "localhost:8123"),
    ],
)
def test_display_url(url: str, shown: str) -> None:
    """A host, port and path stay; what could be a password does not."""
    assert display_url(url) == shown


def test_a_server_that_refuses_is_told_without_the_password() -> None:
    """What the driver says of a server that is not there names the place, and no password."""
    for backend in (
        PostgresBackend(f"postgresql://u:{FIRST}%40{LAST}@127.0.0.1:1/d?connect_timeout=2"),
        ClickHouseBackend.from_settings(Settings(clickhouse_dsn=f"http://u:{FIRST}%40{LAST}@127.0.0.1:1/d")),
    ):
        with pytest.raises(LlmspanError) as caught:
            backend.open()
        shown = "".join(traceback.format_exception(caught.value))
        assert FIRST not in str(caught.value)
        assert LAST not in str(caught.value)
        assert f"{FIRST}@{LAST}" not in shown
        backend.shutdown()
