"""The stores that the contract is checked against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmspan.backends.base import Backend
from stores import MAKERS


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
        backend.shutdown()


@pytest.fixture
def backend(make_backend: Callable[[], Backend]) -> Backend:
    return make_backend()
