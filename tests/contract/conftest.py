"""The stores that the contract is checked against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmspan.backends.base import Backend
from llmspan.backends.memory import MemoryBackend
from llmspan.backends.sqlite import SQLiteBackend

#: one line for each backend: a new, empty store, given a directory that is there for this store alone
MAKERS: dict[str, Callable[[Path], Backend]] = {
    "memory": lambda _: MemoryBackend(),
    "sqlite": lambda directory: SQLiteBackend(directory / "traces.db"),
}


@pytest.fixture(params=MAKERS)
def make_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Backend]]:
    made: list[Backend] = []

    def make() -> Backend:
        directory = tmp_path / f"{len(made)}"
        directory.mkdir()
        made.append(MAKERS[request.param](directory))
        made[-1].open()
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def backend(make_backend: Callable[[], Backend]) -> Backend:
    return make_backend()
