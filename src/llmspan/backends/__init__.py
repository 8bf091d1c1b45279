"""The trace backends by name: an entry point in the group ``llmspan.backends`` is all that one needs to be known.

Nothing is imported before it is named in the settings, so a driver that is not installed is no matter to the others.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from .._guard import logger
from .._native import cooperative_sleep
from ..errors import BackendError, RetryableError, SettingsError
from ..settings import Settings
from .base import Backend

__all__ = ["DEFAULT", "backend_names", "load_backend", "load_backends", "open_backend", "open_backends"]

#: what is used if nothing is named
DEFAULT: Final = ("sqlite",)
_GROUP: Final = "llmspan.backends"
#: the remedy in a program that PyInstaller, or another tool, has built without what our hook tells
FROZEN: Final = (
    "build it with PyInstaller's hook of llmspan (it is found where llmspan is installed), or with"
    " --collect-all llmspan --copy-metadata llmspan"
)


def backend_names() -> list[str]:
    """The names that ``LLMSPAN_BACKENDS`` can hold, those of other packages among them."""
    return sorted(_known())


def load_backends(settings: Settings, *, to_read: bool = True) -> list[Backend]:
    """The backends that the settings name, in that order; none of them is opened.

    Raises:
        SettingsError: a name is unknown, its code cannot be imported, or the first one cannot be read; with
            ``to_read=False`` nobody is going to read.
    """
    names = settings.backends or DEFAULT
    known = _known()
    named_by = f"LLMSPAN_BACKENDS={','.join(names)}"
    backends = [_load(name, known, named_by).from_settings(settings) for name in names]
    if to_read and not backends[0].readable:
        raise _wrong(named_by, f"the first backend is the one that is read, and {names[0]!r} only takes records;"
                            " name another before it, such as sqlite")  # fmt: skip
    return backends


def load_backend(name: str, settings: Settings, *, named_by: str) -> Backend:
    """The one backend called ``name``, not opened. ``named_by``: what named it, for the error.

    Raises:
        SettingsError: the name is unknown, or its code cannot be imported.
    """
    return _load(name, _known(), named_by).from_settings(settings)


def open_backends(settings: Settings) -> list[Backend]:
    """The backends that the settings name, opened. One that is away for now is left to those who try again.

    Raises:
        SettingsError: as :func:`load_backends`, or a backend's place cannot be used.
    """
    backends = load_backends(settings)
    for backend in backends:
        open_backend(backend)
    return backends


def open_backend(backend: Backend) -> None:
    """Open ``backend``, as :func:`open_backends` does."""
    try:
        backend.open()
        if cooperative_sleep() is not None:
            backend.shutdown()  # a greenlet's connection is of no use to the worker, which is another thread
    except RetryableError as error:
        logger.warning("llmspan: %s: %s; trying again when there is something to write", backend.name, error)
    except BackendError as error:
        raise SettingsError(str(error)) from error


def _known() -> dict[str, EntryPoint]:
    return {point.name.lower(): point for point in entry_points(group=_GROUP)}


def _load(name: str, known: dict[str, EntryPoint], named_by: str) -> type[Backend]:
    if name not in known:
        if not known and getattr(sys, "frozen", False):
            raise _wrong(named_by, f"the backend {name!r} is not in this frozen program; {FROZEN}")
        raise _wrong(named_by, f"no backend is called {name!r}; there are {', '.join(sorted(known))}")
    try:
        return known[name].load()
    except (ImportError, AttributeError) as error:
        remedy = _remedy(name, known[name])
        raise _wrong(named_by, f"the backend {name!r} cannot be imported ({error}); {remedy}") from error


def _remedy(name: str, point: EntryPoint) -> str:
    """What to install: the extra of the distribution that the entry point names, or that has the backend's name."""
    if getattr(sys, "frozen", False):
        return FROZEN
    if point.dist is None:
        return f"repair the package that provides {point.value}"
    extras = point.extras or [name]
    offered = {extra.lower() for extra in point.dist.metadata.get_all("Provides-Extra") or ()}
    wanted = ",".join(extra for extra in extras if extra.lower() in offered)
    return f"install '{point.dist.name}[{wanted}]'" if wanted else f"install '{point.dist.name}' again"


def _wrong(named_by: str, reason: str) -> SettingsError:
    return SettingsError(f"{named_by}: {reason}")
