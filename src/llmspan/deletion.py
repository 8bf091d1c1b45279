"""Deleting records from the stores that the settings name: ``llmspan.delete``, and what the commands share with it.

All stores have to be such that records can be deleted from them, which is checked before the first is touched. One that
fails does not keep the others from deleting. A store that is not there is never made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, Unpack, runtime_checkable

from .backends import load_backends
from .backends.base import Backend, Filters, SupportsDelete, check_filters
from .errors import LlmspanError, NoTablesError, SettingsError, shorten_traceback
from .settings import Settings
from .settings_arguments import SettingsArguments

__all__ = ["DeletableBackend", "deletable_backends", "delete", "delete_async", "delete_in"]

Progress = Callable[[int], object]


@runtime_checkable
class DeletableBackend(Backend, SupportsDelete, Protocol):
    """A backend whose records can be deleted by filters."""


@shorten_traceback
def delete(
    filters: Filters, *, thorough: bool = True, progress: Progress | None = None, **overrides: Unpack[SettingsArguments]
) -> dict[str, int]:
    """Delete all records that ``filters`` mean, payloads and all, from every store of ``LLMSPAN_BACKENDS``.

    What still waits in a queue or in the spool is stored afterwards: call :func:`llmspan.flush` before. Dead letters,
    and what Collectors and backups have, stay.

    >>> llmspan.delete(llmspan.Filters(user_id="user-1"))  # doctest: +SKIP
    {'sqlite': 3}

    Args:
        filters: which records; ``Filters()`` means all.
        thorough: also clear copies that a store may have left in parts that it shares with other records. SQLite
            writes its file anew for that, and others wait meanwhile.
        progress: called with the number of records each time that some are deleted.
        overrides: settings that win over the environment, such as ``backends="sqlite"``.

    Returns:
        For each store, by the name of its backend, how many records were deleted.

    Raises:
        SettingsError: a setting is wrong, one of the stores only takes records, or this user may not delete there.
        BackendError: a store cannot do it now; the others have been gone through. Doing it again does the rest.
    """
    deleted: dict[str, int] = {}
    failures: list[LlmspanError] = []
    for backend in deletable_backends(overrides):
        try:
            deleted[backend.name] = delete_in(backend, filters, thorough=thorough, progress=progress)
        except LlmspanError as error:
            failures.append(error)
        finally:
            backend.shutdown()
    if failures:
        for error in failures[1:]:
            failures[0].add_note(f"and: {error}")
        raise failures[0]
    return deleted


async def delete_async(
    filters: Filters, *, thorough: bool = True, progress: Progress | None = None, **overrides: Unpack[SettingsArguments]
) -> dict[str, int]:
    """:func:`delete` for event loops: it runs in a thread, which also calls ``progress``."""
    return await asyncio.to_thread(delete, filters, thorough=thorough, progress=progress, **overrides)


def deletable_backends(overrides: SettingsArguments) -> Sequence[DeletableBackend]:
    """The backends of the settings, none of them opened.

    Raises:
        SettingsError: as :func:`llmspan.backends.load_backends`, or records cannot be deleted from one of them.
    """
    settings = Settings.from_env(**{**overrides, "auto_migrate": False})
    backends = load_backends(settings)
    deletable = [backend for backend in backends if isinstance(backend, DeletableBackend)]
    for backend in backends:
        if not isinstance(backend, DeletableBackend):
            raise SettingsError(_refusal(backend, [other.name for other in deletable], settings))
    return deletable


def delete_in(
    backend: DeletableBackend, filters: Filters, *, thorough: bool = True, progress: Progress | None = None
) -> int:
    """Delete the records that are meant from one store, and return how many there were.

    Raises:
        QueryError: the backend does not know all that ``filters`` require.
    """
    check_filters(backend, filters)
    try:
        return backend.delete(filters, thorough=thorough, progress=progress)
    except NoTablesError:
        return 0


def _refusal(backend: Backend, deletable: Sequence[str], settings: Settings) -> str:
    named_by = f"LLMSPAN_BACKENDS={','.join(settings.backends)}"
    if backend.readable:
        reason = f"the backend {backend.name!r} ({backend.location}) cannot delete by filters; use its own means"
    else:
        reason = (
            f"{backend.name!r} ({backend.location}) only takes records; delete where the receiver stores them, which"
            " `llmspan sidecar` says when it starts: give --db PATH for its SQLite file or --backend NAME for its"
            " database (in Python llmspan.delete(..., backends='sqlite', sqlite_path=PATH))"
        )
    others = f". For the others alone, give --backend {','.join(deletable)}" if deletable else ""
    return f"{named_by}: {reason}{others}"
