"""llmspan: one exact span and one stored provider trace for every call of the openai and anthropic SDKs.

>>> import llmspan
>>> llmspan.instrument()  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .errors import BackendError, LlmspanError, RecordError, SettingsError
    from .reader import AsyncReader, Reader
    from .recording import create, record
    from .scope import context
    from .trace import ProviderTrace
    from .usage import Usage
    from .wiring import flush, instrument, shutdown, status, uninstrument

_HOMES = {
    "AsyncReader": "reader",
    "BackendError": "errors",
    "LlmspanError": "errors",
    "ProviderTrace": "trace",
    "Reader": "reader",
    "RecordError": "errors",
    "SettingsError": "errors",
    "Usage": "usage",
    "context": "scope",
    "create": "recording",
    "flush": "wiring",
    "instrument": "wiring",
    "record": "recording",
    "shutdown": "wiring",
    "status": "wiring",
    "uninstrument": "wiring",
}

__all__ = [
    "AsyncReader",
    "BackendError",
    "LlmspanError",
    "ProviderTrace",
    "Reader",
    "RecordError",
    "SettingsError",
    "Usage",
    "__version__",
    "context",
    "create",
    "flush",
    "instrument",
    "record",
    "shutdown",
    "status",
    "uninstrument",
]


def __getattr__(name: str) -> Any:
    """Load public names on first use: ``import llmspan`` and ``llmspan --help`` stay light."""
    if name in _HOMES:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
