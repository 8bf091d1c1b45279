"""Settings: every value is read or refused with the variable, the value and what would be right."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from pathlib import Path
from unittest import mock

import pytest

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.errors import LlmspanError, SettingsError
from llmspan.settings import TABLE, DynamicSetting, Settings

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
MALFORMED = {
    "LLMSPAN_BACKENDS": ["", " ", ",", "sqlite,", ",sqlite", "sqlite,,memory", "sqlite,SQLite"],
    "LLMSPAN_SQLITE_PATH": ["", "  ", "~no-such-user-at-all/x.db", ":memory:", "sqlite://x.db"],
    "LLMSPAN_SQLITE_RETENTION_DAYS": ["", "0", "-1", "1.5", "a month", "30d"],
    "LLMSPAN_SQLITE_MAX_BYTES": ["", "0", "-1", "10", "500", "4096", "255KiB", "1.5GiB", "ten", "10tb"],
    "LLMSPAN_PRICES": ["", " ", "~no-such-user-at-all/prices.toml"],
    "LLMSPAN_POSTGRES_PAYLOAD": ["", "some"],
    "LLMSPAN_POSTGRES_RETENTION_DAYS": ["", "0", "-1", "a month"],
    "LLMSPAN_CLICKHOUSE_TTL": ["", "0", "1.5", "never"],
    "LLMSPAN_CLICKHOUSE_OTEL_TRACES": ["maybe"],
    "LLMSPAN_SOCKET": ["", "~no-such-user-at-all/x.sock"],
    "LLMSPAN_SOCKET_FRAMING": ["", "v2", "3"],
    "LLMSPAN_AUTO_MIGRATE": ["maybe"],
    "LLMSPAN_WRITE_TIMEOUT": ["", "-1", "3601", "nan"],
    "LLMSPAN_DEAD_LETTER_DIR": [""],
    "LLMSPAN_STATUS_DIR": [""],
    "LLMSPAN_CAPTURE_PAYLOADS": ["", "none", "fulll"],
    "LLMSPAN_MAX_MEDIA_BYTES": ["", "0"],
    "LLMSPAN_REDACT": ["", "module", "module:", ":function", "a b:c", "a.:b", "os:system()"],
    "LLMSPAN_REDACT_PATTERNS": ["phone", "keys,phones"],
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": ["maybe", "SPAN"],
    "LLMSPAN_SPAN_CONTENT_FORMAT": ["", "text", "maps"],
    "LLMSPAN_SEMCONV_COMPAT": ["maybe", "both"],
    "LLMSPAN_SPANS": ["some", "1"],
    "LLMSPAN_CHUNK_METRICS": ["maybe"],
    "LLMSPAN_MAX_PAYLOAD_BYTES": ["", "0", "-1", "1.5MiB", "ten", "10tb", "MiB", "1 0", "nan", "1e3"],
    "LLMSPAN_QUEUE_MAX_BYTES": ["", "0", "-5k", "16 MiBit"],
    "LLMSPAN_QUEUE_MAX_ITEMS": ["", "0", "-1", "1.5", "many"],
    "LLMSPAN_SPOOL_DIR": [""],
    "LLMSPAN_SPOOL_SYNC": ["", "yes", "batch"],
    "LLMSPAN_SPOOL_MAX_BYTES": ["", "0", "1.5GiB"],
    "LLMSPAN_SPOOL_FULL_POLICY": ["", "block"],
    "LLMSPAN_INCLUDE_USAGE": [
        "",
        "yes",
        "1",
        "atuo",
        "on,off",
        "auto,off",
        "auto,auto",
        "https://gateway.example",
        "gateway.example/v1",
        "gateway.example,,x.example",
        "*",
        "a b.example",
    ],
    "LLMSPAN_ANTHROPIC_NATIVE_SPANS": ["", "off"],
    "LLMSPAN_REQUEST_METADATA": ["maybe"],
    "LLMSPAN_ESTIMATE_USAGE": ["", "yes", "module", ":function", "a b:c"],
    "LLMSPAN_EXIT_TIMEOUT": ["", "-1", "3601", "nan", "inf", "5s"],
    "LLMSPAN_LINGER": ["", "-1", "61", "nan", "inf", "1s"],
    "LLMSPAN_SUMMARY": ["maybe", "2"],
    "LLMSPAN_OTLP_MAX_BYTES": ["", "0", "4.5MiB"],
    "LLMSPAN_OTLP_MAX_SPAN_BYTES": ["", "-1"],
}
#: any text is right for these
FREE = {
    "LLMSPAN_SERVICE_NAME",
    "LLMSPAN_BAGGAGE_KEYS",
    "LLMSPAN_UI_PASSWORD",
    "LLMSPAN_POSTGRES_DSN",
    "LLMSPAN_CLICKHOUSE_DSN",
    "LLMSPAN_CLICKHOUSE_CLUSTER",
    "LLMSPAN_CLICKHOUSE_ENGINE",
    "OTEL_EXPORTER_OTLP_PROTOCOL",  # the SDK's own exporters speak more; it is checked when llmspan_otlp is used
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_TRACES_EXPORTER",
}

GOOD = [
    ("LLMSPAN_BACKENDS", " SQLite , memory", "backends", ("sqlite", "memory")),
    ("LLMSPAN_SQLITE_PATH", "/x/y.db", "sqlite_path", Path("/x/y.db")),
    ("LLMSPAN_SQLITE_PATH", "~/y.db", "sqlite_path", Path.home() / "y.db"),
    ("LLMSPAN_POSTGRES_DSN", " postgresql://db/x ", "postgres_dsn", "postgresql://db/x"),
    ("LLMSPAN_PRICES", "~/prices.toml", "prices", Path.home() / "prices.toml"),
    ("LLMSPAN_POSTGRES_PAYLOAD", "Metadata", "postgres_payload", "metadata"),
    ("LLMSPAN_SQLITE_RETENTION_DAYS", " 30 ", "sqlite_retention_days", 30),
    ("LLMSPAN_SQLITE_MAX_BYTES", "256KiB", "sqlite_max_bytes", 262_144),
    ("LLMSPAN_SQLITE_MAX_BYTES", "4GiB", "sqlite_max_bytes", 4 * 1024**3),
    ("LLMSPAN_POSTGRES_RETENTION_DAYS", "30", "postgres_retention_days", 30),
    ("LLMSPAN_CLICKHOUSE_DSN", "chdb:///x", "clickhouse_dsn", "chdb:///x"),
    ("LLMSPAN_CLICKHOUSE_CLUSTER", "main", "clickhouse_cluster", "main"),
    ("LLMSPAN_CLICKHOUSE_ENGINE", "ReplacingMergeTree", "clickhouse_engine", "ReplacingMergeTree"),
    ("LLMSPAN_CLICKHOUSE_TTL", "90", "clickhouse_ttl", 90),
    ("LLMSPAN_CLICKHOUSE_TTL", "None", "clickhouse_ttl", None),
    ("LLMSPAN_CLICKHOUSE_OTEL_TRACES", "1", "clickhouse_otel_traces", True),
    ("LLMSPAN_SOCKET", "/x/y.sock", "socket", Path("/x/y.sock")),
    ("LLMSPAN_SOCKET_FRAMING", "V3", "socket_framing", "v3"),
    ("LLMSPAN_AUTO_MIGRATE", "0", "auto_migrate", False),
    ("LLMSPAN_WRITE_TIMEOUT", "5", "write_timeout", 5.0),
    ("LLMSPAN_DEAD_LETTER_DIR", "/x", "dead_letter_dir", Path("/x")),
    ("LLMSPAN_STATUS_DIR", "/x", "status_dir", Path("/x")),
    ("LLMSPAN_STATUS_DIR", "OFF", "status_dir", "off"),
    ("LLMSPAN_CAPTURE_PAYLOADS", "Metadata", "capture_payloads", "metadata"),
    ("LLMSPAN_MAX_MEDIA_BYTES", "1MiB", "max_media_bytes", 1024**2),
    ("LLMSPAN_REDACT", " shop.privacy:Redact.call ", "redact", "shop.privacy:Redact.call"),
    ("LLMSPAN_REDACT_PATTERNS", "Email, keys", "redact_patterns", ("email", "keys")),
    *(("LLMSPAN_SEMCONV_COMPAT", text, "semconv_compat", "beside") for text in ("1", "true", "Beside", "on")),
    *(("LLMSPAN_SEMCONV_COMPAT", text, "semconv_compat", "off") for text in ("0", "off", "no", "")),
    ("LLMSPAN_SEMCONV_COMPAT", " instead ", "semconv_compat", "instead"),
    ("LLMSPAN_SPANS", "all", "spans", "all"),
    ("LLMSPAN_CHUNK_METRICS", "1", "chunk_metrics", True),
    ("LLMSPAN_MAX_PAYLOAD_BYTES", "65536", "max_payload_bytes", 65536),
    ("LLMSPAN_MAX_PAYLOAD_BYTES", "512KiB", "max_payload_bytes", 512 * 1024),
    ("LLMSPAN_MAX_PAYLOAD_BYTES", "16 mb", "max_payload_bytes", 16 * 1024**2),
    ("LLMSPAN_QUEUE_MAX_BYTES", "1g", "queue_max_bytes", 1024**3),
    ("LLMSPAN_QUEUE_MAX_ITEMS", "7", "queue_max_items", 7),
    ("LLMSPAN_LINGER", "0.5", "linger", 0.5),
    ("LLMSPAN_LINGER", "0", "linger", 0.0),
    ("LLMSPAN_SPOOL_DIR", "/x", "spool_dir", Path("/x")),
    ("LLMSPAN_SPOOL_SYNC", "Always", "spool_sync", "always"),
    ("LLMSPAN_SPOOL_MAX_BYTES", "4GiB", "spool_max_bytes", 4 * 1024**3),
    ("LLMSPAN_SPOOL_FULL_POLICY", "drop_new", "spool_full_policy", "drop_new"),
    ("LLMSPAN_INCLUDE_USAGE", "OFF", "include_usage", "off"),
    ("LLMSPAN_INCLUDE_USAGE", " On ", "include_usage", "on"),
    ("LLMSPAN_INCLUDE_USAGE", "auto, Gateway.example", "include_usage", ("auto", "gateway.example")),
    ("LLMSPAN_INCLUDE_USAGE", "localhost,litellm:4000", "include_usage", ("localhost", "litellm:4000")),
    (
        "LLMSPAN_INCLUDE_USAGE",
        "*.internal.example,10.0.0.7:80,[::1]:8000",
        "include_usage",
        ("*.internal.example", "10.0.0.7:80", "[::1]:8000"),
    ),
    ("LLMSPAN_ANTHROPIC_NATIVE_SPANS", "both", "anthropic_native_spans", "both"),
    ("LLMSPAN_REQUEST_METADATA", "0", "request_metadata", False),
    ("LLMSPAN_ESTIMATE_USAGE", " On ", "estimate_usage", "on"),
    ("LLMSPAN_ESTIMATE_USAGE", "shop.tokens:count", "estimate_usage", "shop.tokens:count"),
    ("LLMSPAN_SERVICE_NAME", " api ", "service_name", "api"),
    ("LLMSPAN_SERVICE_NAME", "", "service_name", None),
    ("LLMSPAN_BAGGAGE_KEYS", "step_id, ,run_id,", "baggage_keys", ("step_id", "run_id")),
    ("LLMSPAN_EXIT_TIMEOUT", "0", "exit_timeout", 0.0),
    ("LLMSPAN_EXIT_TIMEOUT", "3600", "exit_timeout", 3600.0),
    ("LLMSPAN_UI_PASSWORD", " open sesame", "ui_password", "open sesame"),
    ("LLMSPAN_SUMMARY", "yes", "summary", True),
    ("LLMSPAN_SUMMARY", "0", "summary", False),
    ("LLMSPAN_SUMMARY", "", "summary", False),
    ("LLMSPAN_OTLP_MAX_BYTES", "16MiB", "otlp_max_bytes", 16 * 1024**2),
    ("LLMSPAN_OTLP_MAX_SPAN_BYTES", "65536", "otlp_max_span_bytes", 65536),
    ("LLMSPAN_SPAN_CONTENT_FORMAT", " Structured", "span_content_format", "structured"),
    ("LLMSPAN_SPAN_CONTENT_FORMAT", "json", "span_content_format", "json"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "otel_exporter_otlp_protocol", "http/protobuf"),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "otel_exporter_otlp_traces_protocol", "grpc"),
    ("OTEL_TRACES_EXPORTER", "otlp,console", "otel_traces_exporter", "otlp,console"),
    *(
        (
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
            value,
            "otel_instrumentation_genai_capture_message_content",
            mode,
        )
        for value, mode in (("span_only", "SPAN_ONLY"), ("true", "EVENT_ONLY"), ("False", "NO_CONTENT"))
    ),
]
#: values of old names that are not just any text
ALIAS_VALUES = {
    "LETTA_TELEMETRY_PROVIDER_TRACE_PG_METADATA_ONLY": "True", "LLMSPAN_CONTENT": "metadata",
    "LLMSPAN_ANTHROPIC_NATIVE": "both", "LLMSPAN_SPOOL_FULL": "drop_new",
}  # fmt: skip
ALIASES = [(alias, setting) for setting in TABLE for alias in setting.aliases]


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    """Each test meets old names for the first time, in whatever order tests run."""
    monkeypatch.setattr("llmspan._setting_names._noticed", set())


@pytest.mark.parametrize(("variable", "value"), [(name, value) for name in MALFORMED for value in MALFORMED[name]])
def test_malformed_value(variable, value):
    """A value that cannot be read is an error that names the variable, the value and what is expected."""
    (setting,) = [setting for setting in TABLE if setting.env == variable]
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({variable: value})
    assert str(caught.value).startswith(f"{variable}={value}: expected {setting.expects}")
    assert isinstance(caught.value, LlmspanError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("variable", "value", "name", "expected"), GOOD)
@pytest.mark.peer_fault("U13")
def test_good_value(variable, value, name, expected):
    """A value is read into its field, and only there."""
    found = Settings.from_env({variable: value})
    assert getattr(found, name) == expected
    assert found == dataclasses.replace(Settings(), **{name: expected})


def test_every_setting_is_tested():
    """No row of the table is left out here."""
    assert {setting.env for setting in TABLE} == MALFORMED.keys() | FREE
    assert {variable for variable, *_ in GOOD} == {setting.env for setting in TABLE}


@pytest.mark.parametrize(
    ("value", "reason"),
    [("", "it is empty"), ("a,", "one of the names is empty"), ("b,a,b,a", "a, b is given twice")],
)
def test_backends_say_what_is_wrong(value, reason):
    """An error about backends says which rule was broken."""
    with pytest.raises(SettingsError, match=rf"\({reason}\)$"):
        Settings.from_env({"LLMSPAN_BACKENDS": value})


def test_nothing_set():
    """Without any variable the settings are those of the class, and nothing is said."""
    assert Settings.from_env({}) == Settings()


def test_the_environment_is_read(monkeypatch):
    """Without an argument it is the process's environment that is read."""
    monkeypatch.setenv("LLMSPAN_QUEUE_MAX_ITEMS", "3")
    assert Settings.from_env().queue_max_items == 3


def test_overrides_win():
    """Arguments win over the environment, as values or as text; None stands for not given."""
    environ = {"LLMSPAN_CAPTURE_PAYLOADS": "metadata", "LLMSPAN_QUEUE_MAX_ITEMS": "nonsense"}
    found = Settings.from_env(
        environ, queue_max_items=5, capture_payloads=None, backends=["memory"], sqlite_path=Path("/x")
    )
    assert (found.queue_max_items, found.capture_payloads) == (5, "metadata")
    assert (found.backends, found.sqlite_path) == (("memory",), Path("/x"))
    assert Settings.from_env({}, backends="a,b", max_payload_bytes="1k").max_payload_bytes == 1024


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ({"backends": 5}, "backends=5: expected a comma-separated list"),
        ({"sqlite_path": 5}, "sqlite_path=5: expected a file path"),
        ({"exit_timeout": [1]}, "exit_timeout=[1]: expected seconds"),
        ({"colour": 1, "backend": 2}, 'unknown settings "backend", "colour"; available: backends, sqlite_path, '),
    ],
)
def test_bad_override(override, start):
    """A wrong argument is an error that names it, and an unknown one lists those that there are."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({}, **override)
    assert str(caught.value).startswith(start)


@pytest.mark.peer_fault("U1")
@pytest.mark.parametrize("is_own", [True, False], ids=["a mapping", "the process's variables"])
def test_a_live_setting(caplog, monkeypatch, is_own):
    """A variable that changes, or goes, is obeyed; a value that cannot be read is told once, and changes nothing."""
    environ = {CAPTURE: "SPAN_ONLY"} if is_own else os.environ
    monkeypatch.setenv(CAPTURE, "SPAN_ONLY")
    mode = DynamicSetting("otel_instrumentation_genai_capture_message_content", "SPAN_ONLY", environ)
    assert mode() == "SPAN_ONLY"
    environ[CAPTURE] = "event_only"
    assert mode() == "EVENT_ONLY"
    environ[CAPTURE] = "everything"
    assert [mode(), mode()] == ["EVENT_ONLY", "EVENT_ONLY"]
    (line,) = caplog.messages
    assert line.startswith(f"llmspan: {CAPTURE}=everything: expected NO_CONTENT, SPAN_ONLY")
    assert line.endswith("It stays EVENT_ONLY.")
    del environ[CAPTURE]
    assert mode() == "NO_CONTENT"
    with mock.patch.dict(environ, {CAPTURE: "SPAN_ONLY"}, clear=True):
        assert mode() == "SPAN_ONLY"
    assert mode() == "NO_CONTENT"


def test_there_are_aliases():
    """The seed's names are known."""
    assert "LETTA_TELEMETRY_PROVIDER_TRACE_BACKEND" in dict(ALIASES)


@pytest.mark.parametrize(("alias", "setting"), ALIASES)
def test_alias(alias, setting, caplog, monkeypatch):
    """An old name is read as the new one, with one notice that names both."""
    monkeypatch.setattr("llmspan._setting_names._noticed", set())  # of the tests before
    value = ALIAS_VALUES.get(alias, "memory")
    with caplog.at_level(logging.WARNING, "llmspan"):
        found = Settings.from_env({alias: value})
    assert getattr(found, setting.name) == setting.read(value, "")
    assert getattr(found, setting.name) != getattr(Settings(), setting.name)
    (record,) = caplog.records
    assert alias in record.getMessage()
    assert setting.env in record.getMessage()


@pytest.mark.parametrize(("alias", "setting"), ALIASES)
def test_new_name_wins_over_alias(alias, setting, caplog):
    """Where both names are set the new one counts; one notice says so, unless another program may need the old one."""
    value = {"LLMSPAN_POSTGRES_PAYLOAD": "metadata"}.get(setting.env) or ALIAS_VALUES.get(alias, "memory")
    with caplog.at_level(logging.WARNING, "llmspan"):
        for _ in range(2):
            found = Settings.from_env({alias: "old", setting.env: value})
    assert getattr(found, setting.name) == setting.read(value, "")
    notice = f"llmspan: {alias} is ignored because {setting.env} is given; please remove the old name"
    assert caplog.messages == ([notice] if alias.startswith("LLMSPAN_") else [])


FORMER = [(setting, ALIAS_VALUES.get(setting.aliases[0], "till")) for setting in TABLE if setting.former_name]


@pytest.mark.parametrize(("setting", "value"), FORMER)
@pytest.mark.parametrize("variable_is", ["absent", "current", "older"])
def test_former_keyword(setting, value, variable_is, caplog):
    """A keyword that was renamed is still taken, wins over each variable, and is named in one notice."""
    environ = {"current": {setting.env: "full"}, "older": {setting.aliases[0]: "full"}}.get(variable_is, {})
    with caplog.at_level(logging.WARNING, "llmspan"):
        for _ in range(2):
            found = Settings.from_env(environ, **{setting.former_name: value})
    assert found == dataclasses.replace(Settings(), **{setting.name: value})
    assert caplog.messages == [f"llmspan: {setting.former_name}= is read as {setting.name}=; please use the new name"]


@pytest.mark.parametrize(("setting", "value"), FORMER)
def test_current_keyword_wins_over_former(setting, value, caplog):
    """Where a program gives both keywords the current one counts, and one notice says so; None is not given."""
    with caplog.at_level(logging.WARNING, "llmspan"):
        for _ in range(2):
            found = Settings.from_env({}, **{setting.former_name: "old", setting.name: value})
    assert getattr(found, setting.name) == value
    assert caplog.messages == [
        f"llmspan: {setting.former_name}= is ignored because {setting.name}= is given; please remove the old name"
    ]
    assert getattr(Settings.from_env({}, **{setting.former_name: value, setting.name: None}), setting.name) == value
    assert getattr(Settings.from_env({}, **{setting.former_name: None, setting.name: value}), setting.name) == value


def test_malformed_former_keyword():
    """An error in an old keyword names the old keyword: it is what the caller wrote."""
    with pytest.raises(SettingsError, match=r"^content=some: expected full or metadata"):
        Settings.from_env({}, content="some")


def test_former_names():
    """Each renamed setting keeps its old variable and its old keyword."""
    assert {setting.former_name: (setting.aliases[0], setting.env) for setting, _ in FORMER} == {
        "content": ("LLMSPAN_CONTENT", "LLMSPAN_CAPTURE_PAYLOADS"),
        "spool_full": ("LLMSPAN_SPOOL_FULL", "LLMSPAN_SPOOL_FULL_POLICY"),
        "anthropic_native": ("LLMSPAN_ANTHROPIC_NATIVE", "LLMSPAN_ANTHROPIC_NATIVE_SPANS"),
        "source": ("LLMSPAN_SOURCE", "LLMSPAN_SERVICE_NAME"),
    }


def test_of_two_older_variables_ours_wins(caplog):
    """LLMSPAN_SOURCE counts where LETTA_TELEMETRY_SOURCE is set too."""
    with caplog.at_level(logging.WARNING, "llmspan"):
        found = Settings.from_env({"LLMSPAN_SOURCE": "till", "LETTA_TELEMETRY_SOURCE": "memgpt"})
    assert found.service_name == "till"
    assert caplog.messages == ["llmspan: LLMSPAN_SOURCE is read as LLMSPAN_SERVICE_NAME; please use the new name"]


def test_malformed_alias():
    """An error in an old name names the old name: it is what the user wrote."""
    with pytest.raises(SettingsError, match=r"^LETTA_TELEMETRY_PROVIDER_TRACE_BACKEND=,: "):
        Settings.from_env({"LETTA_TELEMETRY_PROVIDER_TRACE_BACKEND": ","})


def test_table_and_class_agree():
    """Each field has one row, in the same order, and no name or variable is there twice."""
    assert [setting.name for setting in TABLE] == [field.name for field in dataclasses.fields(Settings)]
    variables = [name for setting in TABLE for name in (setting.env, *setting.aliases)]
    assert len(set(variables)) == len(variables)
    own, standard = (lambda name: f"LLMSPAN_{name.upper()}"), str.upper
    assert all(setting.env in (own(setting.name), standard(setting.name)) for setting in TABLE)


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.name)
def test_defaults_agree(setting):
    """The default that the table tells people is the one that the class has."""
    default = getattr(Settings(), setting.name)
    if setting.name == "backends":  # filled in where backends are loaded; see test_load_backends
        assert (default, setting.default) == ((), "sqlite")
    elif default in (None, ()):
        assert setting.default in ("none", "keep forever") or "`" in setting.default
    else:
        assert setting.read(setting.default, "") == default


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.name)
def test_rows_are_documentation(setting):
    """Each row has what a reader of the documentation needs."""
    assert setting.expects
    assert setting.doc.endswith(".")


# -- the path of the SQLite file


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("x.db", "x.db"),
        ("/abs/x.db", "/abs/x.db"),
        ("a:b.db", "a:b.db"),
        ("sqlite", "sqlite"),
        ("sqlite:///x.db", "x.db"),
        ("sqlite:///./data/x.db", "data/x.db"),
        ("sqlite:////abs/x y.db", "/abs/x y.db"),
        ("sqlite://///abs/x.db", "/abs/x.db"),
        (" SQLite:////abs/x.db ", "/abs/x.db"),
        ("sqlite3:////abs/x.db", "/abs/x.db"),
        ("sqlite+aiosqlite:////abs/x.db", "/abs/x.db"),
        ("sqlite:///~/x.db", "/home/ann/x.db"),
        ("file:x.db", "x.db"),
        ("file:/abs/x.db", "/abs/x.db"),
        ("file:///abs/a%20b%3f.db", "/abs/a b?.db"),
        ("file://localhost/abs/x.db", "/abs/x.db"),
        ("FILE:///abs/x.db", "/abs/x.db"),
    ],
)
def test_sqlite_path_as_url(given, path, monkeypatch):
    """A path is taken as it is, as SQLAlchemy's URL, or as SQLite's; backend and settings read it alike."""
    monkeypatch.setenv("HOME", "/home/ann")
    assert Settings.from_env({"LLMSPAN_SQLITE_PATH": given}).sqlite_path == Path(path)
    assert SQLiteBackend(given).location == str(Path(path).absolute())


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (":memory:", "it names no file"),
        ("sqlite://", "it names no file"),
        ("sqlite:", "it names no file"),
        ("sqlite:///", "it names no file"),
        ("sqlite:///:memory:", "it names no file"),
        ("file::memory:", "it names no file"),
        ("file:", "it names no file"),
        ("sqlite://x.db", "after three slashes"),
        ("sqlite:x.db", "after three slashes"),
        ("sqlite:/abs/x.db", "after three slashes"),
        ("sqlite:///x.db?timeout=5", "options are not supported"),
        ("file:x.db?mode=ro", "options are not supported"),
        ("file:///x.db#part", "options are not supported"),
        ("sqlite:////a%20b.db", "not decoded"),
        ("file://host/x.db", "another host"),
        ("file://[/x.db", "not a URL"),
        ("http://host/x.db", "http:// does not name a SQLite file"),
    ],
)
def test_bad_sqlite_path(given, reason):
    """What names no local file is refused with the variable, the value, the reason and the forms that are right."""
    with pytest.raises(SettingsError, match=reason) as caught:
        Settings.from_env({"LLMSPAN_SQLITE_PATH": given})
    assert str(caught.value).startswith("LLMSPAN_SQLITE_PATH=")
    assert "sqlite:////absolute.db" in str(caught.value)
    with pytest.raises(SettingsError, match=reason):
        SQLiteBackend(given)


def test_dsn_of_another_store_as_sqlite_path():
    """A password in it is not shown."""
    with pytest.raises(SettingsError, match=re.escape("LLMSPAN_SQLITE_PATH=postgresql://...: ")) as caught:
        Settings.from_env({"LLMSPAN_SQLITE_PATH": "postgresql://user:topsecret@host/db"})
    assert "topsecret" not in str(caught.value)
