"""Backends by name: which there are, which are meant, and what is said if one cannot be had."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from types import SimpleNamespace

import pytest

from llmspan.backends import backend_names, load_backends, loading, primary_backend
from llmspan.backends.memory import MemoryBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.errors import SettingsError
from llmspan.settings import Settings


class Distribution:
    """As much of an installed distribution as an entry point needs."""

    def __init__(self, name: str, *extras: str) -> None:
        self.name = name
        self.metadata = SimpleNamespace(get_all=lambda _: list(extras))


class WriteOnly(MemoryBackend):
    """A backend that only takes records."""

    name = "writeonly"
    readable = False


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, Distribution], None]:
    """Pretend that a distribution with one more backend is installed."""
    points = list(loading.entry_points(group="llmspan.backends"))

    def add(name: str, value: str, distribution: Distribution) -> None:
        point = EntryPoint(name, value, "llmspan.backends")
        object.__setattr__(point, "dist", distribution)
        points.append(point)
        monkeypatch.setattr(loading, "entry_points", lambda group: EntryPoints(points).select(group=group))

    return add


def refused(*names: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load_backends(Settings(backends=names))
    return str(caught.value)


def test_ours_are_there():
    """The package itself offers the file and the memory, in alphabetical order with all others."""
    assert {"memory", "sqlite"} <= set(backend_names())
    assert backend_names() == sorted(backend_names())


def test_sqlite_without_any_setting(tmp_path):
    """Who names nothing gets SQLite."""
    (backend,) = load_backends(Settings(sqlite_path=tmp_path / "x.db"))
    assert isinstance(backend, SQLiteBackend)
    assert backend.location == str(tmp_path / "x.db")


def test_in_the_order_of_the_setting():
    """All backends that are named are made, in that order."""
    assert [backend.name for backend in load_backends(Settings(backends=("memory", "sqlite")))] == ["memory", "sqlite"]
    assert [backend.name for backend in load_backends(Settings(backends=("sqlite", "memory")))] == ["sqlite", "memory"]


def test_unknown_name():
    """An unknown name is shown with the setting and the names that there are."""
    assert refused("click-house") == (
        f"LLMSPAN_BACKENDS=click-house: unknown backend 'click-house'; available: {', '.join(backend_names())}"
    )
    assert refused("sqlite", "x").startswith("LLMSPAN_BACKENDS=sqlite,x: unknown backend 'x'; available: ")


def test_backend_of_another_package(install):
    """An entry point is all that another package needs, whatever the case of its name."""
    install("Other", f"{__name__}:WriteOnly", Distribution("other"))
    install("readable", "llmspan.backends.memory:MemoryBackend", Distribution("other"))
    assert {"other", "readable"} <= set(backend_names())
    assert [type(backend) for backend in load_backends(Settings(backends=("readable",)))] == [MemoryBackend]


@pytest.mark.parametrize(
    ("value", "extras", "remedy"),
    [
        ("no_such_module:Backend", ["Other"], "install 'other-dist[other]'"),
        ("no_such_module:Backend [fast]", ["other", "fast"], "install 'other-dist[fast]'"),
        ("no_such_module:Backend", [], "install 'other-dist' again"),
        ("llmspan.backends.memory:Nothing", ["other"], "install 'other-dist[other]'"),
    ],
)
def test_code_that_cannot_be_imported(install, value, extras, remedy):
    """A backend whose driver is missing is named with the reason and what to install."""
    install("other", value, Distribution("other-dist", *extras))
    message = refused("sqlite", "other")
    assert re.match(r"LLMSPAN_BACKENDS=sqlite,other: the backend 'other' cannot be imported \(.*No", message) or (
        "has no attribute 'Nothing'" in message
    )
    assert message.endswith(remedy)


def test_others_are_not_imported(install):
    """A backend that is not named may be broken."""
    install("other", "no_such_module:Backend", Distribution("other"))
    assert [backend.name for backend in load_backends(Settings(backends=("memory",)))] == ["memory"]


@pytest.mark.parametrize("names", [("memory", "sqlite"), ("sqlite", "memory"), ("sqlite",)])
def test_the_first_that_can_be_read_is_read(monkeypatch, names):
    """A backend that only takes records may stand anywhere; what is read is the first of the others."""
    monkeypatch.setattr(MemoryBackend, "readable", False)
    assert [one.name for one in load_backends(Settings(backends=names))] == list(names)
    assert primary_backend(Settings(backends=names)).name == "sqlite"


@pytest.mark.parametrize("names", [("socket",), ("memory",), ("memory", "socket")])
def test_nothing_that_can_be_read(monkeypatch, names):
    """If all backends only take records, they are taken, and reading says which they are and where to read instead."""
    monkeypatch.setattr(MemoryBackend, "readable", False)
    assert [one.name for one in load_backends(Settings(backends=names))] == list(names)
    with pytest.raises(SettingsError) as caught:
        primary_backend(Settings(backends=names))
    message = str(caught.value)
    assert message.startswith(f"LLMSPAN_BACKENDS={','.join(names)}: '{names[0]}' (")
    assert "--db PATH" in message
    assert "--backend NAME" in message
