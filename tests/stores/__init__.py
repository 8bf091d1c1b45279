"""The stores that the contract is checked against: one module for each that needs a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from llmspan.backends.base import Backend
from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.backends.memory import MemoryBackend
from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.sqlite import SQLiteBackend

from . import clickhouse, postgres
from .sidecar import WiredStore

#: one line for each store: a new, empty one, given a directory that is there for it alone
MAKERS: dict[str, Callable[[Path], Backend]] = {
    "memory": lambda _: MemoryBackend(),
    "sqlite": lambda directory: SQLiteBackend(directory / "traces.db"),
    "socket": WiredStore,
    "clickhouse-chdb": lambda _: clickhouse.embedded(),
    "clickhouse-http": lambda _: clickhouse.over_http(),
    "postgres": postgres.make,
}


def cleared(backend: Backend) -> bool:
    """Delete all that is in the store of a server; False for one that is as cheap to make anew."""
    if isinstance(backend, ClickHouseBackend):
        clickhouse.clear(backend)
    elif isinstance(backend, PostgresBackend):
        postgres.clear(backend)
    else:
        return False
    return True


def dropped(backend: Backend) -> None:
    """Drop what was made for a store: an engine with hundreds of databases has work to do for each."""
    if isinstance(backend, ClickHouseBackend):
        clickhouse.drop(backend)


#: stores that are dear to make, and cheap to clear
SERVERS: Final = ("clickhouse-chdb", "clickhouse-http", "postgres")

B = TypeVar("B", bound=Backend)


@contextmanager
def shutting_down(backend: B) -> Iterator[B]:
    """Shut ``backend`` down when the block ends."""
    try:
        yield backend
    finally:
        backend.shutdown()
