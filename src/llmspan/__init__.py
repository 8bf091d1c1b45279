"""llmspan: one exact span and one stored provider trace for every call of the openai and anthropic SDKs.

>>> import llmspan
>>> llmspan.instrument()  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .annotation import Annotation
    from .annotation_writing import annotate, annotate_async, remove_annotation
    from .backends.base import Filters, GroupBy, NoneOf, OneOf, Page, StatsRow
    from .bills import Bill
    from .call_context import context
    from .cost import Cost, cost_of
    from .deletion import delete, delete_async
    from .errors import BackendError, LlmspanError, QueryError, RecordError, SettingsError
    from .exporter import ClickHouseSpanExporter, PostgresSpanExporter, SocketSpanExporter, SQLiteSpanExporter
    from .lifecycle import flush, instrument, shutdown, status, uninstrument
    from .otlp import OTLPSpanExporter
    from .pipeline.statistics import BackendStatus
    from .query.snippets import Snippet
    from .query.tree import Node, Tree
    from .reader import AsyncReader, Reader
    from .recording import create, record, record_async
    from .settings_arguments import SettingsArguments
    from .trace import ProviderTrace, RecordStatus
    from .usage import Usage

_HOMES = {
    "Annotation": "annotation",
    "AsyncReader": "reader",
    "BackendError": "errors",
    "BackendStatus": "pipeline.statistics",
    "Bill": "bills",
    "ClickHouseSpanExporter": "exporter",
    "Cost": "cost",
    "Filters": "backends.base",
    "GroupBy": "backends.base",
    "LlmspanError": "errors",
    "Node": "query.tree",
    "NoneOf": "backends.base",
    "OTLPSpanExporter": "otlp",
    "OneOf": "backends.base",
    "Page": "backends.base",
    "PostgresSpanExporter": "exporter",
    "ProviderTrace": "trace",
    "QueryError": "errors",
    "Reader": "reader",
    "RecordError": "errors",
    "RecordStatus": "trace",
    "SQLiteSpanExporter": "exporter",
    "SettingsArguments": "settings_arguments",
    "SettingsError": "errors",
    "Snippet": "query.snippets",
    "SocketSpanExporter": "exporter",
    "StatsRow": "backends.base",
    "Tree": "query.tree",
    "Usage": "usage",
    "annotate": "annotation_writing",
    "annotate_async": "annotation_writing",
    "context": "call_context",
    "cost_of": "cost",
    "create": "recording",
    "delete": "deletion",
    "delete_async": "deletion",
    "flush": "lifecycle",
    "instrument": "lifecycle",
    "record": "recording",
    "record_async": "recording",
    "remove_annotation": "annotation_writing",
    "shutdown": "lifecycle",
    "status": "lifecycle",
    "uninstrument": "lifecycle",
}

__all__ = [
    "Annotation",
    "AsyncReader",
    "BackendError",
    "BackendStatus",
    "Bill",
    "ClickHouseSpanExporter",
    "Cost",
    "Filters",
    "GroupBy",
    "LlmspanError",
    "Node",
    "NoneOf",
    "OTLPSpanExporter",
    "OneOf",
    "Page",
    "PostgresSpanExporter",
    "ProviderTrace",
    "QueryError",
    "Reader",
    "RecordError",
    "RecordStatus",
    "SQLiteSpanExporter",
    "SettingsArguments",
    "SettingsError",
    "Snippet",
    "SocketSpanExporter",
    "StatsRow",
    "Tree",
    "Usage",
    "__version__",
    "annotate",
    "annotate_async",
    "context",
    "cost_of",
    "create",
    "delete",
    "delete_async",
    "flush",
    "instrument",
    "record",
    "record_async",
    "remove_annotation",
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
