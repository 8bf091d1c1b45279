"""The stores that the contract is checked against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from llmspan.backends.base import Backend
from stores import MAKERS, SERVERS, cleared, dropped


@contextmanager
def making(store: str, directory: Path) -> Iterator[Callable[[], Backend]]:
    """Make open, empty stores; all are shut down at the end."""
    made: list[Backend] = []

    def make() -> Backend:
        place = directory / f"{len(made)}"
        place.mkdir()
        made.append(MAKERS[store](place))
        made[-1].open()
        return made[-1]

    yield make
    for backend in made:
        backend.shutdown()
        dropped(backend)


@pytest.fixture(params=MAKERS)
def make_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Backend]]:
    with making(request.param, tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Backend]]:
    """Give a module's one store of a kind, with nothing in it."""
    with ExitStack() as stack:
        made: dict[str, Backend] = {}

        def empty(store: str) -> Backend:
            if store in made:
                made[store].open()
                cleared(made[store])
            else:
                made[store] = stack.enter_context(making(store, tmp_path_factory.mktemp("server")))()
            return made[store]

        yield empty


@pytest.fixture(params=MAKERS)
def backend(request: pytest.FixtureRequest, tmp_path: Path, servers: Callable[[str], Backend]) -> Iterator[Backend]:
    """An empty store; a server's is that of the tests before, cleared."""
    if request.param in SERVERS:
        yield servers(request.param)
        return
    with making(request.param, tmp_path) as make:
        yield make()


@pytest.fixture
def empty_backend(make_backend: Callable[[], Backend]) -> Callable[[], Backend]:
    """Give a store with nothing in it, for each example of a property; a server's is made once and then cleared."""
    backend: Backend | None = None

    def empty() -> Backend:
        nonlocal backend
        if backend is None or not cleared(backend):
            if backend is not None:
                backend.shutdown()
            backend = make_backend()
        return backend

    return empty


@pytest.fixture(scope="module", params=MAKERS)
def make_lasting_backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Backend]]:
    """Stores that the tests of a module share, for what is written once and only read."""
    with making(request.param, tmp_path_factory.mktemp("stores")) as make:
        yield make
