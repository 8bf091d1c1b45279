"""The settings as keyword arguments, for type checkers: what `instrument()`, readers and exporters take.

Each value may be given as the variable's text or as the value itself; None means that the setting is not given. A test
compares the keys with :data:`llmspan.settings.TABLE`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

__all__ = ["SettingsArguments"]

_PathLike: TypeAlias = str | os.PathLike[str] | None
_Text: TypeAlias = str | None
_Flag: TypeAlias = bool | str | None
_Count: TypeAlias = int | str | None
_Seconds: TypeAlias = float | str | None
_Names: TypeAlias = str | Sequence[str] | None


class SettingsArguments(TypedDict, total=False):
    """The fields of :class:`llmspan.settings.Settings`; ``docs/settings.md`` has their meaning, type and default."""

    backends: _Names
    sqlite_path: _PathLike
    sqlite_retention_days: _Count
    sqlite_max_bytes: _Count
    postgres_dsn: _Text
    postgres_payload: Literal["full", "metadata"] | None
    postgres_retention_days: _Count
    clickhouse_dsn: _Text
    clickhouse_cluster: _Text
    clickhouse_engine: _Text
    clickhouse_ttl: _Count
    clickhouse_otel_traces: _Flag
    socket: _PathLike
    socket_framing: Literal["v4", "v3"] | None
    auto_migrate: _Flag
    write_timeout: _Seconds
    dead_letter_dir: _PathLike
    capture_payloads: Literal["full", "metadata"] | None
    max_media_bytes: _Count
    redact: Callable[[Any], Any] | str | None
    redact_patterns: _Names
    span_content_format: Literal["json", "structured"] | None
    semconv_compat: Literal["off", "beside", "instead"] | bool | None
    spans: Literal["off", "parents", "all"] | None
    chunk_metrics: _Flag
    max_payload_bytes: _Count
    queue_max_bytes: _Count
    queue_max_items: _Count
    linger: _Seconds
    spool_dir: _PathLike
    spool_sync: Literal["always", "group", "none"] | None
    spool_max_bytes: _Count
    spool_full_policy: Literal["drop_oldest", "drop_new"] | None
    include_usage: _Names
    anthropic_native_spans: Literal["suppress", "adopt", "both"] | None
    request_metadata: _Flag
    estimate_usage: Callable[..., Any] | str | None
    prices: _PathLike
    service_name: _Text
    baggage_keys: _Names
    exit_timeout: _Seconds
    summary: _Flag
    status_dir: _PathLike
    ui_password: str | None
    otlp_max_bytes: _Count
    otlp_max_span_bytes: _Count
    otel_exporter_otlp_protocol: _Text
    otel_exporter_otlp_traces_protocol: _Text
    otel_traces_exporter: _Text
    otel_instrumentation_genai_capture_message_content: str | bool | None
    #: names before they were changed, each read as the current one with one notice
    content: Literal["full", "metadata"] | None
    spool_full: Literal["drop_oldest", "drop_new"] | None
    anthropic_native: Literal["suppress", "adopt", "both"] | None
    source: _Text
