"""llmspan: one exact span and one stored provider trace for every call of the openai and anthropic SDKs.

>>> import llmspan
>>> llmspan.instrument()  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .backends.base import Filters, GroupBy, NoneOf, OneOf, Page, StatsRow
    from .deletion import delete, delete_async
    from .errors import BackendError, LlmspanError, RecordError, SettingsError
    from .exporter import ClickHouseSpanExporter, PostgresSpanExporter, SocketSpanExporter, SQLiteSpanExporter
    from .otlp import OTLPSpanExporter
    from .pipeline.statistics import BackendStatus
    from .reader import AsyncReader, Reader
    from .recording import create, record, record_async
    from .scope import context
    from .settings_arguments import SettingsArguments
    from .trace import ProviderTrace, RecordStatus
    from .usage import Usage
    from .wiring import flush, instrument, shutdown, status, uninstrument

_HOMES = {
    "AsyncReader": "reader",
    "BackendError": "errors",
    "BackendStatus": "pipeline.statistics",
    "ClickHouseSpanExporter": "exporter",
    "Filters": "backends.base",
    "GroupBy": "backends.base",
    "LlmspanError": "errors",
    "NoneOf": "backends.base",
    "OTLPSpanExporter": "otlp",
    "OneOf": "backends.base",
    "Page": "backends.base",
    "PostgresSpanExporter": "exporter",
    "ProviderTrace": "trace",
    "Reader": "reader",
    "RecordError": "errors",
    "RecordStatus": "trace",
    "SQLiteSpanExporter": "exporter",
    "SettingsArguments": "settings_arguments",
    "SettingsError": "errors",
    "SocketSpanExporter": "exporter",
    "StatsRow": "backends.base",
    "Usage": "usage",
    "context": "scope",
    "create": "recording",
    "delete": "deletion",
    "delete_async": "deletion",
    "flush": "wiring",
    "instrument": "wiring",
    "record": "recording",
    "record_async": "recording",
    "shutdown": "wiring",
    "status": "wiring",
    "uninstrument": "wiring",
}

__all__ = [
    "AsyncReader",
    "BackendError",
    "BackendStatus",
    "ClickHouseSpanExporter",
    "Filters",
    "GroupBy",
    "LlmspanError",
    "NoneOf",
    "OTLPSpanExporter",
    "OneOf",
    "Page",
    "PostgresSpanExporter",
    "ProviderTrace",
    "Reader",
    "RecordError",
    "RecordStatus",
    "SQLiteSpanExporter",
    "SettingsArguments",
    "SettingsError",
    "SocketSpanExporter",
    "StatsRow",
    "Usage",
    "__version__",
    "context",
    "create",
    "delete",
    "delete_async",
    "flush",
    "instrument",
    "record",
    "record_async",
    "shutdown",
    "status",
    "uninstrument",
]


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        """Load public names on first use: ``import llmspan`` and ``llmspan --help`` stay light."""
        if name in _HOMES:
            value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
