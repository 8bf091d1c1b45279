"""The numbered SQL files of a backend: which there are, and which a store of some version still needs.

``sql/0001_name.sql`` makes version 1 of nothing, ``0002_...`` version 2 of that. How a file is run, and in what
transaction, is the backend's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

__all__ = ["Migration", "missing_migrations", "newest_version"]


class Migration(NamedTuple):
    """One step from the version before to ``version``."""

    version: int
    #: the file's name, which ``llmspan migrate`` prints
    name: str
    sql: str


def newest_version(package: str) -> int:
    """The version of a store to which all migrations of a backend's package have been applied."""
    return _migrations(package)[-1].version


def missing_migrations(package: str, version: int) -> Sequence[Migration]:
    """What a store of ``version`` needs, in the order in which it is applied; 0 is an empty store."""
    return [migration for migration in _migrations(package) if migration.version > version]


@cache
def _migrations(package: str) -> Sequence[Migration]:
    folder = files(package).joinpath("sql")
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return [Migration(int(name[:4]), name, folder.joinpath(name).read_text("utf-8")) for name in names]
