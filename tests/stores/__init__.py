"""The stores that the contract is checked against: one module for each that needs a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from llmspan.backends.base import Backend
from llmspan.backends.memory import MemoryBackend
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

B = TypeVar("B", bound=Backend)


@contextmanager
def shutting_down(backend: B) -> Iterator[B]:
    """Shut ``backend`` down when the block ends."""
    try:
        yield backend
    finally:
        backend.shutdown()
