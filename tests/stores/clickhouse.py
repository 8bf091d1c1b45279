"""ClickHouse for the tests: the real engine in this process, once for all, and a fresh database for each store.

A process can have one engine directory, and starting the engine is dear: it is started at the first use and kept open.
``LLMSPAN_TEST_CLICKHOUSE_DSN`` names a server to be tested instead, by a user who may make databases.
"""

from __future__ import annotations

import atexit
import itertools
import os
import tempfile
from dataclasses import replace
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.backends.clickhouse.client import quoted
from llmspan.backends.clickhouse.dsn import parse_dsn
from llmspan.backends.clickhouse.schema import ANNOTATIONS
from llmspan.settings import Settings

from .clickhouse_http import Front

SERVER: Final = os.environ.get("LLMSPAN_TEST_CLICKHOUSE_DSN")

_numbers = itertools.count(1)


@cache
def engine() -> Any:
    """A connection to the engine, and with it the engine itself."""
    import chdb

    return chdb.connect(directory())


@cache
def directory() -> str:
    folder = tempfile.TemporaryDirectory(prefix="llmspan-chdb-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    return folder.name


def new_database() -> str:
    return f"test_{os.getpid()}_{next(_numbers)}"


def embedded_dsn(database: str | None = None) -> str:
    """A database of the engine, a new one unless it is named."""
    engine()
    return f"chdb://{directory()}?database={database or new_database()}"


def settings(dsn: str, **given: Any) -> Settings:
    """The settings of a store; records of any age stay."""
    return replace(Settings(clickhouse_dsn=dsn, clickhouse_ttl=None), **given)


def embedded(**given: Any) -> ClickHouseBackend:
    return ClickHouseBackend.from_settings(settings(embedded_dsn(), **given))


def clear(backend: ClickHouseBackend) -> None:
    """Delete what is in the tables, without a mutation."""
    for name in ("provider_traces", ANNOTATIONS):
        backend._client().command(f"TRUNCATE TABLE {backend._table(name)}")


def drop(backend: ClickHouseBackend) -> None:
    """Drop the database that was made for a store."""
    client = backend._client()
    client.command(f"DROP DATABASE IF EXISTS {quoted(client.dsn.database)} SYNC")
    backend.shutdown()


@cache
def front() -> Front:
    """The HTTP interface in front of the engine."""
    made = Front(engine())
    made.start()
    atexit.register(made.stop)
    return made


def server_dsn(database: str | None = None) -> str:
    """A database of the server that was named, or of the engine behind HTTP; a new one unless it is named."""
    name = database or new_database()
    if SERVER:
        return urlsplit(SERVER)._replace(path=f"/{name}").geturl()
    return front().dsn(name)


def over_http(**given: Any) -> ClickHouseBackend:
    return ClickHouseBackend.from_settings(settings(server_dsn(), **given))


def tested() -> str | None:
    """For the end of a test run: which ClickHouse was tested, or None if none was."""
    if SERVER:
        return f"clickhouse: {parse_dsn(SERVER).location}, and the embedded engine"
    if not engine.cache_info().currsize:
        return None
    version = engine().query("SELECT version()", "TabSeparated").bytes().decode().strip()
    return f"clickhouse: chDB {version}, in the process" + (" and behind HTTP" if front.cache_info().currsize else "")
