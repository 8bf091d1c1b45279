"""Reading records back, from one backend: the first of ``LLMSPAN_BACKENDS`` that can be read.

The reader adds no meaning of its own to what the backend says; :class:`AsyncReader` is the same in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack

from .backends import primary_backend
from .backends.base import (
    NO_RECORDS,
    Backend,
    Filters,
    GroupBy,
    JsonPage,
    Page,
    PriceClass,
    StatsRow,
    SupportsCount,
    SupportsJsonPages,
    SupportsReadOnly,
    SupportsUsageSums,
)
from .cost import PriceLimits
from .errors import NoTablesError, RecordError, SettingsError, shorten_traceback
from .settings import Settings
from .settings_arguments import SettingsArguments
from .trace import ProviderTrace

__all__ = ["AsyncReader", "Reader"]

T = TypeVar("T")

#: how much of an id is enough to look for it
SHORTEST_PREFIX: Final = 8
_MOST_NAMED: Final = 100


class Reader:
    """Reads one backend.

    >>> with Reader.from_env() as reader:
    ...     trace = reader.get_by_step_id("step-1")
    """

    def __init__(self, backend: Backend, *, makes: bool = True) -> None:
        """``makes``: whether a store that is not there is made; else it is read as one without records."""
        if not backend.readable:
            raise SettingsError(f"the backend {backend.name!r} only takes records; they cannot be read back from it")
        self.backend = backend
        self._makes = makes

    @classmethod
    @shorten_traceback
    def from_env(cls, *, makes: bool = True, **overrides: Unpack[SettingsArguments]) -> Self:
        """A reader of the primary backend, opened; ``overrides`` are settings that win over the environment.

        ``makes``: whether a store that is not there is made; else it is read as one without records.

        Raises:
            SettingsError: a setting is wrong, or the store cannot be used as configured.
            SchemaError: the store is of a newer version, or not ours.
        """
        reader = cls(_primary(overrides if makes else {**overrides, "auto_migrate": False}), makes=makes)
        return reader.__enter__()

    def __enter__(self) -> Self:
        if self._makes:
            _open(self.backend)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def get(self, record_id: str) -> ProviderTrace | None:
        """The record with this ``id``, exactly."""
        return self._asked(lambda: self.backend.get(record_id), None)

    def find(self, text: str) -> ProviderTrace | None:
        """The record whose ``id`` is ``text``, or the only one whose ``id`` begins with it (8 characters or more).

        Raises:
            RecordError: more than one begins with it; the message says how many.
        """
        exact = self.get(text)
        if exact is not None or len(text) < SHORTEST_PREFIX:
            return exact
        ids = self._asked(lambda: self.backend.ids_with_prefix(text, _MOST_NAMED + 1), [])
        if len(ids) > 1:
            raise RecordError(f"{text!r} begins {_several(ids)}; give more characters of it")
        return self.get(ids[0]) if ids else None

    def get_by_step_id(self, step_id: str) -> ProviderTrace | None:
        """The newest record of a step."""
        return self._asked(lambda: self.backend.get_by_step_id(step_id), None)

    def list_by_step_id(self, step_id: str) -> Sequence[ProviderTrace]:
        """All records of a step, oldest first, with payloads."""
        return self._asked(lambda: self.backend.list_by_step_id(step_id), [])

    def list(
        self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None, payload: bool = False
    ) -> Page:
        """A page of records, newest first; ``cursor`` is the ``next_cursor`` of the page before.

        With ``payload``, the records have their requests and responses, and a page ends before ``limit`` records where
        these are long: only a ``next_cursor`` of None says that no more follow.
        """
        options: dict[str, Any] = {"payload": True} if payload else {}  # older backends have no such parameter
        return self._asked(lambda: self.backend.list(filters, limit=limit, cursor=cursor, **options), Page([]))

    def iterate(
        self, filters: Filters | None = None, *, page_size: int = 200, payload: bool = False
    ) -> Iterator[ProviderTrace]:
        """All records that are meant, newest first, read page by page; with requests and responses if ``payload``.

        Records may arrive and be deleted meanwhile: none comes twice, and each that is there all the time comes.
        """
        options: dict[str, Any] = {"payload": True} if payload else {}
        page = self.list(filters, limit=page_size, **options)
        yield from page.traces
        while page.next_cursor is not None:
            page = self.list(filters, limit=page_size, cursor=page.next_cursor, **options)
            yield from page.traces

    def list_json(self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None) -> JsonPage:
        """The page that :meth:`list` gives with ``payload``, each record as its ``to_json_line()``; this is faster."""
        backend = self.backend
        if isinstance(backend, SupportsJsonPages):
            return self._asked(lambda: backend.list_json(filters, limit=limit, cursor=cursor), JsonPage([]))
        page = self.list(filters, limit=limit, cursor=cursor, payload=True)
        return JsonPage([trace.to_json_line() for trace in page.traces], page.next_cursor)

    def iterate_json(self, filters: Filters | None = None, *, page_size: int = 200) -> Iterator[str]:
        """The records that :meth:`iterate` gives with ``payload``, each as its ``to_json_line()``; this is faster."""
        page = self.list_json(filters, limit=page_size)
        yield from page.lines
        while page.next_cursor is not None:
            page = self.list_json(filters, limit=page_size, cursor=page.next_cursor)
            yield from page.lines

    def price_classes(
        self, group_by: Sequence[GroupBy], filters: Filters | None, limits: PriceLimits
    ) -> Sequence[PriceClass] | None:
        """Calls summed up by what their price depends on; None if the backend does not do that."""
        backend = self.backend
        if not isinstance(backend, SupportsUsageSums):
            return None
        return self._asked(lambda: backend.price_classes(group_by, filters, limits), [])

    def detail_sums(
        self, group_by: Sequence[GroupBy], filters: Filters | None, names: Sequence[str]
    ) -> Mapping[tuple[str | None, ...], Mapping[str, int]] | None:
        """Sums of ``usage_details`` over the calls without usage, by group; None if the backend does not do that."""
        backend = self.backend
        if not isinstance(backend, SupportsUsageSums):
            return None
        return self._asked(lambda: backend.detail_sums(group_by, filters, names), {})

    def count(self, filters: Filters | None = None) -> int:
        """How many records are meant."""
        backend = self.backend
        if isinstance(backend, SupportsCount):
            return self._asked(lambda: backend.count(filters), 0)
        return self.stats((), filters)[0].calls

    def stats(self, group_by: Sequence[GroupBy] = (), filters: Filters | None = None) -> Sequence[StatsRow]:
        """Calls, failures and tokens per group; without groups, one row over all."""
        return self._asked(lambda: self.backend.stats(group_by, filters), [] if group_by else [NO_RECORDS])

    def _asked(self, ask: Callable[[], T], without_tables: T) -> T:
        try:
            return ask()
        except NoTablesError:
            if self._makes:
                raise
            return without_tables

    def close(self) -> None:
        """Release the backend's connections."""
        self.backend.shutdown()


class AsyncReader:
    """:class:`Reader` for event loops: each call runs in a thread.

    >>> async def record_of(step_id):
    ...     async with AsyncReader.from_env() as reader:
    ...         return await reader.get_by_step_id(step_id)
    """

    def __init__(self, backend: Backend) -> None:
        self._reader = Reader(backend)

    @classmethod
    @shorten_traceback
    def from_env(cls, **overrides: Unpack[SettingsArguments]) -> Self:
        """A reader of the primary backend; ``async with`` opens it.

        Raises:
            SettingsError: a setting is wrong.
        """
        return cls(_primary(overrides))

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(_open, self._reader.backend)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def get(self, record_id: str) -> ProviderTrace | None:
        """The record with this ``id``, exactly."""
        return await asyncio.to_thread(self._reader.get, record_id)

    async def find(self, text: str) -> ProviderTrace | None:
        """See :meth:`Reader.find`."""
        return await asyncio.to_thread(self._reader.find, text)

    async def get_by_step_id(self, step_id: str) -> ProviderTrace | None:
        """The newest record of a step."""
        return await asyncio.to_thread(self._reader.get_by_step_id, step_id)

    async def list_by_step_id(self, step_id: str) -> Sequence[ProviderTrace]:
        """All records of a step, oldest first, with payloads."""
        return await asyncio.to_thread(self._reader.list_by_step_id, step_id)

    async def list(
        self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None, payload: bool = False
    ) -> Page:
        """See :meth:`Reader.list`."""
        return await asyncio.to_thread(self._reader.list, filters, limit=limit, cursor=cursor, payload=payload)

    async def iterate(
        self, filters: Filters | None = None, *, page_size: int = 200, payload: bool = False
    ) -> AsyncIterator[ProviderTrace]:
        """See :meth:`Reader.iterate`."""
        cursor = None
        while True:
            page = await self.list(filters, limit=page_size, cursor=cursor, payload=payload)
            for trace in page.traces:
                yield trace
            cursor = page.next_cursor
            if cursor is None:
                return

    async def list_json(
        self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None
    ) -> JsonPage:
        """See :meth:`Reader.list_json`."""
        return await asyncio.to_thread(self._reader.list_json, filters, limit=limit, cursor=cursor)

    async def iterate_json(self, filters: Filters | None = None, *, page_size: int = 200) -> AsyncIterator[str]:
        """See :meth:`Reader.iterate_json`."""
        cursor = None
        while True:
            page = await self.list_json(filters, limit=page_size, cursor=cursor)
            for line in page.lines:
                yield line
            cursor = page.next_cursor
            if cursor is None:
                return

    async def count(self, filters: Filters | None = None) -> int:
        """How many records are meant."""
        return await asyncio.to_thread(self._reader.count, filters)

    async def stats(self, group_by: Sequence[GroupBy] = (), filters: Filters | None = None) -> Sequence[StatsRow]:
        """See :meth:`Reader.stats`."""
        return await asyncio.to_thread(self._reader.stats, group_by, filters)

    async def close(self) -> None:
        """Release the backend's connections."""
        await asyncio.to_thread(self._reader.close)


def _open(backend: Backend) -> None:
    if isinstance(backend, SupportsReadOnly):
        backend.open_for_reading()
    else:
        backend.open()


def _primary(overrides: SettingsArguments) -> Backend:
    return primary_backend(Settings.from_env(**overrides))


def _several(ids: Sequence[str]) -> str:
    count = f"more than {_MOST_NAMED}" if len(ids) > _MOST_NAMED else f"{len(ids)}"
    return f"the ids of {count} records: {', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}"
