"""Every setting, in one table: its variable, type, default and meaning. Nothing else reads one from the environment.

``docs/settings.md`` is generated from this table. A value that cannot be read is an error that names the variable,
the value and what would be right; it is raised when the settings are loaded, that is at start.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Unpack, get_args

from . import _setting_values as parse
from ._setting import Setting
from ._setting_names import first_given
from ._setting_values import (
    REDACTIONS,
    AnthropicNativeSpans,
    Capture,
    ContentMode,
    IncludeUsage,
    SemconvCompat,
    SocketFraming,
    SpanContentFormat,
    SpoolFullPolicy,
    SpoolSync,
)
from .errors import SettingsError
from .settings_arguments import SettingsArguments

__all__ = [
    "REDACTIONS",
    "TABLE",
    "AnthropicNativeSpans",
    "Capture",
    "ContentMode",
    "DynamicSetting",
    "IncludeUsage",
    "SemconvCompat",
    "Setting",
    "Settings",
    "SocketFraming",
    "SpanContentFormat",
    "SpoolFullPolicy",
    "SpoolSync",
]

logger = logging.getLogger("llmspan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The values of all settings; see :data:`TABLE` for the meaning of each field."""

    backends: tuple[str, ...] = ()
    sqlite_path: Path | None = None
    sqlite_retention_days: int | None = None
    sqlite_max_bytes: int | None = None
    postgres_dsn: str | None = field(default=None, repr=False)
    postgres_payload: ContentMode = "full"
    postgres_retention_days: int | None = None
    clickhouse_dsn: str | None = field(default=None, repr=False)
    clickhouse_cluster: str | None = None
    clickhouse_engine: str | None = None
    clickhouse_ttl: int | None = 30
    clickhouse_otel_traces: bool = False
    socket: Path | None = None
    socket_framing: SocketFraming = "v4"
    auto_migrate: bool = True
    write_timeout: float = 30.0
    dead_letter_dir: Path | None = None
    capture_payloads: ContentMode = "full"
    max_media_bytes: int = 64 * 1024
    redact: Callable[[Any], Any] | str | None = None
    redact_patterns: tuple[str, ...] = ()
    span_content_format: SpanContentFormat = "json"
    semconv_compat: SemconvCompat = "off"
    spans: Literal["off", "parents", "all"] = "parents"
    chunk_metrics: bool = False
    max_payload_bytes: int = 16 * 1024 * 1024
    queue_max_bytes: int = 64 * 1024 * 1024
    queue_max_items: int = 10_000
    linger: float = 0.2
    spool_dir: Path | None = None
    spool_sync: SpoolSync = "group"
    spool_max_bytes: int = 1024 * 1024 * 1024
    spool_full_policy: SpoolFullPolicy = "drop_oldest"
    include_usage: IncludeUsage = "auto"
    anthropic_native_spans: AnthropicNativeSpans = "suppress"
    request_metadata: bool = True
    estimate_usage: Callable[..., Any] | str = "off"
    prices: Path | None = None
    service_name: str | None = None
    baggage_keys: tuple[str, ...] = ()
    exit_timeout: float = 5.0
    summary: bool = False
    status_dir: Path | Literal["off"] | None = None
    ui_password: str | None = field(default=None, repr=False)
    otlp_max_bytes: int = 4_000_000
    otlp_max_span_bytes: int = 256 * 1024
    otel_exporter_otlp_protocol: str | None = "grpc"
    otel_exporter_otlp_traces_protocol: str | None = None
    otel_traces_exporter: str | None = None
    otel_instrumentation_genai_capture_message_content: Capture = "NO_CONTENT"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Unpack[SettingsArguments]) -> Settings:
        """The settings of the environment; ``overrides`` (field names) win over it, given as text or as values.

        Raises:
            SettingsError: a value cannot be read, or ``overrides`` names an unknown setting.
        """
        environ = os.environ if environ is None else environ
        arguments = {name: value for name, value in overrides.items() if value is not None}
        _reject_unknown(overrides.keys())
        values: dict[str, Any] = {}
        for setting in TABLE:
            keyword = first_given(arguments, setting.keywords, "=")
            if keyword is not None:
                values[setting.name] = setting.read(arguments[keyword], f"{keyword}=")
                continue
            variable = first_given(environ, setting.variables)
            if variable is not None:
                values[setting.name] = setting.read(environ[variable], f"{variable}=")
        return cls(**values)


class DynamicSetting:
    """The current value of a setting that a running program may change by its variable.

    A value that cannot be read changes nothing; it is logged once. It is asked for at each call: of ``os.environ`` the
    stored form is compared, as to decode a variable, or to raise that there is none, takes longer than all the rest.
    """

    def __init__(self, name: str, value: Any, environ: Mapping[str, str] = os.environ) -> None:
        (self._setting,) = (setting for setting in TABLE if setting.name == name)
        self._environ = environ
        stored: dict[Any, Any] | None = getattr(environ, "_data", None) if environ is os.environ else None
        if stored is None:
            self._read = functools.partial(environ.get, self._setting.env)
        else:
            self._read = functools.partial(stored.get, os.environ.encodekey(self._setting.env))
        self._last_read = self._read()
        self._value = value

    def __call__(self) -> Any:
        """The value."""
        read = self._read()
        if read != self._last_read:
            self._last_read = read
            setting, text = self._setting, self._environ.get(self._setting.env)
            try:
                self._value = setting.read(setting.default if text is None else text, f"{setting.env}=")
            except SettingsError as error:
                logger.warning("llmspan: %s. It stays %s.", error, self._value)
        return self._value


def _reject_unknown(keywords: Iterable[str]) -> None:
    unknown = sorted(set(keywords) - {keyword for setting in TABLE for keyword in setting.keywords})
    if unknown:
        quoted = ", ".join(f'"{name}"' for name in unknown)
        names = ", ".join(setting.name for setting in TABLE)
        raise SettingsError(f"unknown setting{'s' if unknown[1:] else ''} {quoted}; available: {names}")


TABLE: Final[tuple[Setting, ...]] = (
    Setting(
        "backends", "LLMSPAN_BACKENDS", parse.names, "a comma-separated list of backend names, each once", "sqlite",
        "Where provider traces are written. The first one that can be read is the primary for reads.",
        ("LETTA_TELEMETRY_PROVIDER_TRACE_BACKEND",),
    ),
    Setting(
        "sqlite_path", "LLMSPAN_SQLITE_PATH", parse.sqlite_path,
        "a file path, or one as sqlite:///relative.db, sqlite:////absolute.db or file:///absolute.db",
        "`llmspan/traces.db` in `$XDG_DATA_HOME` or `~/.local/share`",
        "The SQLite file of the `sqlite` backend; made with mode 0600 if it is not there.",
    ),
    Setting(
        "sqlite_retention_days", "LLMSPAN_SQLITE_RETENTION_DAYS", parse.count, "a whole number above 0",
        "keep forever",
        "Records that began more than so many days ago are deleted from the SQLite file when it is written to. See"
        " docs/sqlite.md.",
    ),
    Setting(
        "sqlite_max_bytes", "LLMSPAN_SQLITE_MAX_BYTES", parse.file_size,
        "a size of 256KiB or more, such as 512MiB or 4GiB", "none",
        "How much the SQLite file may hold; where it is more, the oldest records are deleted when it is written to. See"
        " docs/sqlite.md.",
    ),
    Setting(
        "postgres_dsn", "LLMSPAN_POSTGRES_DSN", parse.text,
        "a DSN such as postgresql://user:password@host:5432/database",
        "libpq's own: `PGHOST`, `PGUSER`, ...",
        "The Postgres database of the `postgres` backend: a URI or `key=value` words, as libpq takes them.",
    ),
    Setting(
        "postgres_payload", "LLMSPAN_POSTGRES_PAYLOAD", parse.postgres_payload, "full or metadata", "full",
        "Whether Postgres gets requests and responses too (`full`) or only the rest of the record (`metadata`).",
        ("LETTA_TELEMETRY_PROVIDER_TRACE_PG_METADATA_ONLY",),
    ),
    Setting(
        "postgres_retention_days", "LLMSPAN_POSTGRES_RETENTION_DAYS", parse.count, "a whole number above 0",
        "keep forever",
        "Day partitions older than so many days are dropped, by the clock of the server.",
    ),
    Setting(
        "clickhouse_dsn", "LLMSPAN_CLICKHOUSE_DSN", parse.text,
        "a DSN such as https://user:password@host:8443/database or chdb:///var/lib/llmspan/chdb", "none",
        "The ClickHouse server (`http`, `https`) or embedded engine (`chdb`) of the `clickhouse` backend.",
    ),
    Setting(
        "clickhouse_cluster", "LLMSPAN_CLICKHOUSE_CLUSTER", parse.text, "the name of a cluster", "none",
        "Make the tables `ON CLUSTER` this one, with a Distributed table in front.",
    ),
    Setting(
        "clickhouse_engine", "LLMSPAN_CLICKHOUSE_ENGINE", parse.text, "a ReplacingMergeTree engine with its parameters",
        "`ReplacingMergeTree`, or the Replicated one on a cluster",
        "The engine of `provider_traces`, for replicas with paths of their own.",
    ),
    Setting(
        "clickhouse_ttl", "LLMSPAN_CLICKHOUSE_TTL", parse.days, "a whole number of days, or none", "30",
        "How many days ClickHouse keeps records.",
    ),
    Setting(
        "clickhouse_otel_traces", "LLMSPAN_CLICKHOUSE_OTEL_TRACES", parse.flag, "1 or 0", "0",
        "Also write each call as a span to `otel_traces`, the table of the Collector's exporter, which Grafana and"
        " ClickStack read.",
    ),
    Setting(
        "socket", "LLMSPAN_SOCKET", parse.path, "the path of a Unix socket", "`/run/llmspan/llmspan.sock`",
        "Where the `socket` backend finds the sidecar, and where `llmspan sidecar` listens.",
        ("TELEMETRY_SOCKET",),
    ),
    Setting(
        "socket_framing", "LLMSPAN_SOCKET_FRAMING", parse.one_of("v4", "v3"), "v4 or v3", "v4",
        "`v4`: framed and acknowledged (docs/socket-protocol.md). `v3`: one JSON line a record, for older receivers.",
    ),
    Setting(
        "auto_migrate", "LLMSPAN_AUTO_MIGRATE", parse.flag, "1 or 0", "1",
        "Whether backends make and update their tables by themselves. With `0` that is left to `llmspan migrate`.",
    ),
    Setting(
        "write_timeout", "LLMSPAN_WRITE_TIMEOUT", parse.seconds, "seconds between 0 and 3600", "30",
        "How long one write to a backend may take before it is given up and tried again.",
    ),
    Setting(
        "dead_letter_dir", "LLMSPAN_DEAD_LETTER_DIR", parse.path, "a directory",
        "`llmspan/dead-letters` in `$XDG_STATE_HOME` or `~/.local/state`",
        "Where records that a backend can never store are kept, one file per backend.",
    ),
    Setting(
        "capture_payloads", "LLMSPAN_CAPTURE_PAYLOADS", parse.one_of(*get_args(ContentMode)), "full or metadata",
        "full",
        "Whether requests and responses are stored (`full`) or only what is known about them (`metadata`)."
        " In the sidecar: of all programs that send to it.",
        ("LLMSPAN_CONTENT",), "content",
    ),
    Setting(
        "max_media_bytes", "LLMSPAN_MAX_MEDIA_BYTES", parse.size, "a size such as 65536, 512KiB or 16MiB", "64KiB",
        "The largest image, sound or file in base64 that is stored; a larger one is replaced by its type, its size in"
        " bytes and its SHA-256.",
    ),
    Setting(
        "redact", "LLMSPAN_REDACT", parse.function, "a function as module:function", "none",
        "A function that gets every request, response, error and attribute map as a JSON value and returns what may be"
        " kept of it, before any store, span or event. If it fails, the value is withheld. See docs/privacy.md.",
    ),
    Setting(
        "redact_patterns", "LLMSPAN_REDACT_PATTERNS", parse.patterns, "names out of keys, email, cards", "none",
        "What is masked wherever it is found: vendors' API keys, mail addresses, card numbers. Keys in error messages"
        " are always masked.",
    ),
    Setting(
        "span_content_format", "LLMSPAN_SPAN_CONTENT_FORMAT", parse.one_of("json", "structured"), "json or structured",
        "json",
        "How message content is written on spans: `json` writes each attribute as JSON text, which Phoenix and Langfuse"
        " read; `structured` writes maps and lists, which the GenAI conventions prefer (OpenTelemetry 1.45 or later)."
        " Events always carry structured values.",
    ),
    Setting(
        "semconv_compat", "LLMSPAN_SEMCONV_COMPAT", parse.semconv_compat,
        "off, beside or instead (1 is beside, 0 is off)",
        "off",
        "Names that the GenAI conventions have replaced, for backends that do not read the current ones"
        " (docs/compatibility.md). `beside` writes both: the attributes `gen_ai.system` and `gen_ai.usage.` with"
        " `cache_creation.input_tokens`, `prompt_tokens`, `completion_tokens`; the metrics"
        " `gen_ai.client.operation.duration` and `gen_ai.client.token.usage`. A backend that sums all of"
        " `gen_ai.usage.*` then counts cache writes twice. `instead` writes no count under two names:"
        " `cache_creation.input_tokens` takes the place of `cache_write.input_tokens`, the earlier metrics that of the"
        " current ones, and `gen_ai.system` is added.",
    ),
    Setting(
        "spans", "LLMSPAN_SPANS", parse.one_of("off", "parents", "all"), "off, parents or all", "parents",
        "Spans stored with calls: agents, tools, servers around them (`parents`), `all`, or `off`. See docs/runs.md.",
    ),
    Setting(
        "chunk_metrics", "LLMSPAN_CHUNK_METRICS", parse.flag, "1 or 0", "0",
        "Also measure `gen_ai.client.inference.time_per_output_chunk`, which reads the clock once per chunk that is"
        " received.",
    ),
    Setting(
        "max_payload_bytes", "LLMSPAN_MAX_PAYLOAD_BYTES", parse.size, "a size such as 65536, 512KiB or 16MiB", "16MiB",
        "The largest request or response that is stored whole; larger ones are truncated to valid JSON and"
        " marked `truncated`.",
    ),
    Setting(
        "queue_max_bytes", "LLMSPAN_QUEUE_MAX_BYTES", parse.size, "a size such as 65536, 512KiB or 64MiB", "64MiB",
        "The size of all records that may wait to be written. Beyond it, payloads are dropped first (the record and its"
        " usage stay).",
    ),
    Setting(
        "queue_max_items", "LLMSPAN_QUEUE_MAX_ITEMS", parse.count, "a whole number above 0", "10000",
        "How many records may wait to be written. Beyond it the oldest are dropped, and counted.",
    ),
    Setting(
        "linger", "LLMSPAN_LINGER", parse.linger, "seconds between 0 and 60", "0.2",
        "How long llmspan waits for further calls, to write their records together: a transaction of many records costs"
        " the program little more than one of a single record. The first call after a pause does not wait, nor does"
        " anything at a flush or at the end of the program. 0 writes each record at once.",
    ),
    Setting(
        "spool_dir", "LLMSPAN_SPOOL_DIR", parse.path, "a directory", "none",
        "Where records wait on disk until every backend has them, so that they survive the death of the program"
        " (docs/delivery.md). Without it they wait in memory.",
    ),
    Setting(
        "spool_sync", "LLMSPAN_SPOOL_SYNC", parse.one_of("always", "group", "none"), "always, group or none", "group",
        "Durability on power loss (a crash of the program loses nothing): `always` calls `fdatasync` for every record,"
        " `group` once for records that arrive together; `none` leaves it to the system.",
    ),
    Setting(
        "spool_max_bytes", "LLMSPAN_SPOOL_MAX_BYTES", parse.size, "a size such as 512MiB or 4GiB", "1GiB",
        "The disk space that the spool of one process may use.",
    ),
    Setting(
        "spool_full_policy", "LLMSPAN_SPOOL_FULL_POLICY", parse.one_of("drop_oldest", "drop_new"),
        "drop_oldest or drop_new", "drop_oldest",
        "Which records are dropped, and counted, when the spool is full: the oldest or the newest.",
        ("LLMSPAN_SPOOL_FULL",), "spool_full",
    ),
    Setting(
        "include_usage", "LLMSPAN_INCLUDE_USAGE", parse.include_usage,
        "off, auto, on, or a comma-separated list of hosts such as auto,gateway.example,localhost:4000", "auto",
        "Chat streams report usage only where they are asked to. For those whose caller set no `stream_options`,"
        " ask, and keep the extra chunk from the caller: at the hosts of OpenAI and Azure (`auto`), at any host (`on`),"
        " at the hosts of a list (in which `auto` stands for those of OpenAI and Azure), or nowhere (`off`)."
        " The one thing that llmspan changes on the wire.",
    ),
    Setting(
        "anthropic_native_spans", "LLMSPAN_ANTHROPIC_NATIVE_SPANS", parse.one_of("suppress", "adopt", "both"),
        "suppress, adopt or both", "suppress",
        "The spans that anthropic >= 1.14 makes by itself: off for the calls that llmspan records (`suppress`), used"
        " instead of ours (`adopt`), or kept beside ours (`both`: every sum over spans counts twice).",
        ("LLMSPAN_ANTHROPIC_NATIVE",), "anthropic_native",
    ),
    Setting(
        "request_metadata", "LLMSPAN_REQUEST_METADATA", parse.flag, "1 or 0", "1",
        "Whether a request's own `user`, `safety_identifier` and `metadata` (Anthropic: `metadata.user_id`) fill the"
        " record's `user_id` and `attributes` where `llmspan.context` says nothing.",
    ),
    Setting(
        "estimate_usage", "LLMSPAN_ESTIMATE_USAGE", parse.estimate_usage, "off, on, or a function as module:function",
        "off",
        "Whether the tokens of calls whose provider reported none are estimated, by a built-in rule (`on`) or by a"
        " function `count(text)` or `count(text, model)`. Estimates are in `usage_details` only, and in no sum.",
    ),
    Setting(
        "prices", "LLMSPAN_PRICES", parse.path, "the path of a TOML or JSON file", "none",
        "Own prices, for negotiated rates and models of one's own; they win over those of genai-prices. Read by"
        " commands and readers, never while calls are recorded. See docs/cost.md.",
    ),
    Setting(
        "service_name", "LLMSPAN_SERVICE_NAME", parse.text, "a name",
        "`service.name` of the OpenTelemetry resource, else `OTEL_SERVICE_NAME`",
        "Which program the records come from: their key `source`.",
        ("LLMSPAN_SOURCE", "LETTA_TELEMETRY_SOURCE"), "source",
    ),
    Setting(
        "baggage_keys", "LLMSPAN_BAGGAGE_KEYS", parse.keys, "a comma-separated list of baggage keys", "none",
        "Baggage entries that are copied to records: `step_id`, `run_id`, ... fill those keys, others `attributes`.",
    ),
    Setting(
        "exit_timeout", "LLMSPAN_EXIT_TIMEOUT", parse.seconds, "seconds between 0 and 3600", "5",
        "How long the exit of the program may be delayed to write queued records.",
    ),
    Setting(
        "summary", "LLMSPAN_SUMMARY", parse.flag, "1 or 0", "0",
        "Print one line at exit: calls, tokens, failures, where stored. `llmspan run` sets it.",
    ),
    Setting(
        "status_dir", "LLMSPAN_STATUS_DIR", parse.directory_or_off, "a directory, or off",
        "`llmspan/status` in `$XDG_STATE_HOME` or `~/.local/state`",
        "Where each process says how it is, for `llmspan status`: a file of its own, readable by its user alone.",
    ),
    Setting(
        "ui_password", "LLMSPAN_UI_PASSWORD", parse.text, "a password", "none",
        "The password that `llmspan ui` asks for instead of the token in its address, with any user name.",
    ),
    Setting(
        "otlp_max_bytes", "LLMSPAN_OTLP_MAX_BYTES", parse.size, "a size such as 4000000, 512KiB or 16MiB", "4000000",
        "The largest request of the `llmspan_otlp` exporter, before compression; larger batches are split. gRPC"
        " receivers accept 4 MiB by default.",
    ),
    Setting(
        "otlp_max_span_bytes", "LLMSPAN_OTLP_MAX_SPAN_BYTES", parse.size, "a size such as 65536, 512KiB or 1MiB",
        "256KiB",
        "The largest span of the `llmspan_otlp` exporter; the longest attributes of a larger one are cut.",
    ),
    Setting(
        "otel_exporter_otlp_protocol", "OTEL_EXPORTER_OTLP_PROTOCOL", parse.text, "grpc or http/protobuf", "grpc",
        "How the `llmspan_otlp` exporter sends.",
    ),
    Setting(
        "otel_exporter_otlp_traces_protocol", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", parse.text, "grpc or http/protobuf",
        "the value of `OTEL_EXPORTER_OTLP_PROTOCOL`",
        "How the `llmspan_otlp` exporter sends; wins over `OTEL_EXPORTER_OTLP_PROTOCOL`.",
    ),
    Setting(
        "otel_traces_exporter", "OTEL_TRACES_EXPORTER", parse.text, "a comma-separated list of exporters", "none",
        "Read by OpenTelemetry. llmspan warns when it names an OTLP exporter that would drop spans with content.",
    ),
    Setting(
        "otel_instrumentation_genai_capture_message_content", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        parse.capture, "NO_CONTENT, SPAN_ONLY, EVENT_ONLY or SPAN_AND_EVENT", "NO_CONTENT",
        "Whether messages, instructions and tools also go on spans, into `gen_ai.client.inference.operation.details`"
        " events, or both: to wherever OpenTelemetry sends those. `true`, of older instrumentations, is `EVENT_ONLY`."
        " llmspan warns when it puts content on spans that OTLP does not take. A program may change the variable as it"
        " runs.",
    ),
)  # fmt: skip
