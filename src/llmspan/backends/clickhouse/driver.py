"""The driver, imported when a ClickHouse is first talked to: who has another backend needs none of it."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

from ...errors import SettingsError
from .dsn import ClickHouseDsn

__all__ = ["exceptions", "open_client"]


def open_client(dsn: ClickHouseDsn, **options: Any) -> Any:
    """A client of ``clickhouse_connect`` for a server or, if ``dsn`` names a directory, for the embedded engine.

    Raises:
        SettingsError: the driver is not installed.
    """
    try:
        if dsn.path is not None:
            import_module("chdb")
        driver = import_module("clickhouse_connect")
    except ImportError as error:
        extra = "clickhouse" if dsn.path is None else "chdb"
        raise SettingsError(f"LLMSPAN_CLICKHOUSE_DSN={dsn.location}: {error}; install 'llmspan[{extra}]'") from error
    _load_all()
    return driver.get_client(**options)


def _load_all() -> None:
    """Have the driver import now what it would import at its first insert (pandas, if it is there).

    That may be at the end of the program, when Python lets nothing be imported that makes threads.
    """
    with suppress(ImportError):
        options = import_module("clickhouse_connect.driver.options")
        for name in ("pd", "np", "arrow"):
            getattr(options, name, None)


def exceptions() -> Any:
    """The driver's exceptions."""
    return import_module("clickhouse_connect.driver.exceptions")
