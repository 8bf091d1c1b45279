"""The trace backends by name: an entry point in the group ``llmspan.backends`` is all that one needs to be known.

Nothing is imported before it is named in the settings, so a driver that is not installed does not affect the others.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from .._guard import logger
from .._native import cooperative_sleep
from ..errors import BackendError, LlmspanError, RefusedError, SettingsError, WrongFileError
from ..settings import Settings
from .base import Backend

__all__ = [
    "DEFAULT",
    "backend_names",
    "load_backend",
    "load_backends",
    "open_backend",
    "open_backends",
    "primary_backend",
]

#: what is used if nothing is named
DEFAULT: Final = ("sqlite",)
_GROUP: Final = "llmspan.backends"
#: the remedy in a program that PyInstaller, or another tool, has built without our hook
FROZEN: Final = (
    "build it with PyInstaller's hook of llmspan (it is found where llmspan is installed), or with"
    " --collect-all llmspan --copy-metadata llmspan"
)


def backend_names() -> list[str]:
    """The names that ``LLMSPAN_BACKENDS`` can hold, those of other packages among them."""
    return sorted(_entry_points())


def load_backends(settings: Settings) -> list[Backend]:
    """The backends that the settings name, in that order; none of them is opened.

    Raises:
        SettingsError: a name is unknown, or its code cannot be imported.
    """
    points = _entry_points()
    return [_load(name, points, _named_by(settings)).from_settings(settings) for name in settings.backends or DEFAULT]


def primary_backend(settings: Settings) -> Backend:
    """The one that is read: of those that the settings name, the first that can be. It is not opened.

    Raises:
        SettingsError: as :func:`load_backends`, or all of them only take records.
    """
    backends = load_backends(settings)
    for backend in backends:
        if backend.readable:
            return backend
    only = " and ".join(f"{backend.name!r} ({backend.location})" for backend in backends)
    raise _wrong(
        _named_by(settings),
        f"{only} only takes records; they are read where the receiver stores them, which `llmspan sidecar` says when it"
        " starts: give --db PATH for its SQLite file or --backend NAME for its database (in Python"
        " Reader.from_env(backends='sqlite', sqlite_path=PATH))",
    )


def _named_by(settings: Settings) -> str:
    return f"LLMSPAN_BACKENDS={','.join(settings.backends or DEFAULT)}"


def load_backend(name: str, settings: Settings, *, named_by: str) -> Backend:
    """The one backend called ``name``, not opened. ``named_by``: what named it, for the error.

    Raises:
        SettingsError: the name is unknown, or its code cannot be imported.
    """
    return _load(name, _entry_points(), named_by).from_settings(settings)


def open_backends(settings: Settings) -> list[Backend]:
    """The backends that the settings name, opened. One that cannot be opened now is left to those who try again.

    Raises:
        SettingsError: as :func:`load_backends` and :func:`open_backend`.
    """
    backends = load_backends(settings)
    for backend in backends:
        if (error := open_backend(backend)) is not None:
            logger.warning("llmspan: %s: %s; trying again when there is something to write", backend.name, error)
    return backends


def open_backend(backend: Backend) -> LlmspanError | None:
    """Open ``backend``; returns why that is not possible now.

    Raises:
        SettingsError: a setting cannot be read, or names a local file that cannot be used.
    """
    try:
        backend.open()
        if cooperative_sleep() is not None:
            backend.shutdown()  # a greenlet's connection is of no use to the worker, which is another thread
    except WrongFileError as error:
        raise SettingsError(str(error)) from error
    except (BackendError, RefusedError) as error:
        return error
    return None


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name.lower(): point for point in entry_points(group=_GROUP)}


def _load(name: str, points: dict[str, EntryPoint], named_by: str) -> type[Backend]:
    if name not in points:
        if not points and getattr(sys, "frozen", False):
            raise _wrong(named_by, f"the backend {name!r} is not in this frozen program; {FROZEN}")
        if not points:
            raise _wrong(named_by, f"the backend {name!r} is not found: llmspan is not installed as a package; pip"
                         " install it")  # fmt: skip
        raise _wrong(named_by, f"unknown backend {name!r}; available: {', '.join(sorted(points))}")
    try:
        return points[name].load()
    except (ImportError, AttributeError) as error:
        remedy = _remedy(name, points[name])
        raise _wrong(named_by, f"the backend {name!r} cannot be imported ({error}); {remedy}") from error


def _remedy(name: str, point: EntryPoint) -> str:
    """What to install: the extra of the distribution that the entry point names, or that has the backend's name."""
    if getattr(sys, "frozen", False):
        return FROZEN
    if point.dist is None:
        return f"repair the package that provides {point.value}"
    extras = point.extras or [name]
    offered = {extra.lower() for extra in point.dist.metadata.get_all("Provides-Extra") or ()}
    extra_names = ",".join(extra for extra in extras if extra.lower() in offered)
    return f"install '{point.dist.name}[{extra_names}]'" if extra_names else f"install '{point.dist.name}' again"


def _wrong(named_by: str, reason: str) -> SettingsError:
    return SettingsError(f"{named_by}: {reason}")
