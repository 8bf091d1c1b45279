"""Reading records back, from one backend: the first of ``LLMSPAN_BACKENDS`` that can be read.

The reader adds no meaning of its own to what the backend says; :class:`AsyncReader` is the same in threads.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack

from ._native import Lock
from .annotation_reading import AnnotationReading, AsyncAnnotationReading
from .backends import primary_backend
from .backends.base import (
    NO_RECORDS,
    Backend,
    Filters,
    GroupBy,
    JsonPage,
    Page,
    StatsRow,
    SupportsCount,
    SupportsJsonPages,
    SupportsMeasures,
    SupportsReadOnly,
    check_filters,
    check_known_groups,
)
from .backends.joint_reads import SupportsJointStats
from .backends.series import fill_periods
from .bills import Bill, Group, bills, tree_bills
from .comparison_reading import AsyncComparisonReading, ComparisonReading
from .cost import Cost, cost_of, own_prices
from .errors import NoTablesError, RecordError, SettingsError, shorten_traceback
from .own_prices import OwnPrices
from .price_reading import PriceReading
from .query.statistics import Measures, groups_of, measures_of
from .query.tree import EMPTY_TREE, Tree
from .settings import Settings
from .settings_arguments import SettingsArguments
from .table_reading import AsyncTableReading, TableReading
from .text_reading import AsyncTextReading, TextReading
from .trace import ProviderTrace
from .tree_loading import load_tree

__all__ = ["AsyncReader", "Reader"]

T = TypeVar("T")

#: how much of an id is enough to look for it
SHORTEST_PREFIX: Final = 8
_MOST_NAMED: Final = 100


class Reader(TableReading, TextReading, AnnotationReading, ComparisonReading, PriceReading):
    """Reads one backend.

    >>> with Reader.from_env() as reader:
    ...     record = reader.get_by_step_id("step-1")
    """

    def __init__(self, backend: Backend, *, makes: bool = True) -> None:
        """``makes``: whether a store that is not there is made; else it is read as one without records."""
        if not backend.readable:
            raise SettingsError(f"the backend {backend.name!r} only takes records; they cannot be read back from it")
        self.backend = backend
        self._makes = makes
        self._is_open = not makes  # one that makes nothing leaves opening to the backend, at its first read
        self._opening = Lock()
        self._prices_path: Path | None = None

    @classmethod
    @shorten_traceback
    def from_env(cls, *, makes: bool = True, **overrides: Unpack[SettingsArguments]) -> Self:
        """A reader of the primary backend; ``overrides`` are settings that win over the environment.

        It is opened by ``with``, or at its first use. ``makes``: whether a store that is not there is made; else it is
        read as one without records.

        Raises:
            SettingsError: a setting is wrong.
        """
        settings = Settings.from_env(**(overrides if makes else {**overrides, "auto_migrate": False}))
        reader = cls(primary_backend(settings), makes=makes)
        reader._prices_path = settings.prices
        return reader

    @shorten_traceback
    def open(self) -> None:
        """Open the backend, if it is not open yet. ``with`` does it, and so does the first use.

        Raises:
            SettingsError: the store cannot be used as configured.
            SchemaError: the store is of a newer version, or not ours.
        """
        with self._opening:
            if not self._is_open:
                _open(self.backend)
                self._is_open = True

    def __enter__(self) -> Self:
        self.open()
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
        check_filters(self.backend, filters)
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
        check_filters(backend, filters)
        if isinstance(backend, SupportsJsonPages):
            return self._asked(lambda: backend.list_json(filters, limit=limit, cursor=cursor), JsonPage([]))
        page = self.list(filters, limit=limit, cursor=cursor, payload=True)
        return JsonPage([record.to_json_line() for record in page.traces], page.next_cursor)

    def iterate_json(self, filters: Filters | None = None, *, page_size: int = 200) -> Iterator[str]:
        """The records that :meth:`iterate` gives with ``payload``, each as its ``to_json_line()``; this is faster."""
        page = self.list_json(filters, limit=page_size)
        yield from page.lines
        while page.next_cursor is not None:
            page = self.list_json(filters, limit=page_size, cursor=page.next_cursor)
            yield from page.lines

    @property
    def own_prices(self) -> OwnPrices:
        """The own prices of the setting ``prices``; raises :class:`SettingsError` if its file is wrong."""
        return own_prices(self._prices_path)

    def cost_of(self, record: ProviderTrace) -> Cost:
        """What a call cost, at the reader's own prices or those of genai-prices; see :func:`llmspan.cost_of`."""
        return cost_of(record, self.own_prices)

    def tree_costs(self, tree: Tree) -> list[Bill]:
        """What the calls at and below each node of a tree cost together, in the order of ``tree.nodes``; each once."""
        return tree_bills(tree, self.cost_of)

    def costs(self, group_by: Sequence[GroupBy] = (), filters: Filters | None = None) -> Mapping[Group, Bill]:
        """What the calls of each group cost together, to the last digit, by the values of ``group_by``.

        Raises:
            SettingsError: a group is unknown, or the file of own prices is wrong.
        """
        return bills(self, group_by, filters)

    def count(self, filters: Filters | None = None) -> int:
        """How many records are meant."""
        backend = self.backend
        check_filters(backend, filters)
        if isinstance(backend, SupportsCount):
            return self._asked(lambda: backend.count(filters), 0)
        return self.stats((), filters)[0].calls

    def stats(
        self,
        group_by: Sequence[GroupBy] = (),
        filters: Filters | None = None,
        *,
        measures: bool = False,
        fill: bool = False,
    ) -> Sequence[StatsRow]:
        """Calls, failures and tokens per group; without groups, one row over all.

        Args:
            group_by: scalar keys of the record, ``model``, ``tag``, attributes, or one of ``hour``, ``day``, ``week``,
                ``month`` (UTC). A record with several tags is in the group of each.
            filters: which records.
            measures: with latencies and rates as :attr:`StatsRow.measures`, which takes longer.
            fill: with a row for each period that has no calls, from ``since`` or the first to ``until`` or the last.

        Raises:
            QueryError: records cannot be grouped by that, or the backend cannot.
        """
        check_filters(self.backend, filters)
        check_known_groups(self.backend, group_by)
        backend, nothing = self.backend, [] if group_by else [NO_RECORDS]
        if measures and isinstance(backend, SupportsJointStats):
            rows = self._asked(lambda: backend.stats_with_measures(group_by, filters), nothing)
        else:
            rows = self._asked(lambda: backend.stats(group_by, filters), nothing)
            if measures:
                of_groups = self._measures(group_by, filters)
                rows = [replace(row, measures=of_groups.get(tuple(row.group.values()))) for row in rows]
        return fill_periods(rows, group_by, filters) if fill else rows

    def _measures(
        self, group_by: Sequence[GroupBy], filters: Filters | None
    ) -> Mapping[tuple[str | None, ...], Measures]:
        backend = self.backend
        if isinstance(backend, SupportsMeasures):
            return self._asked(lambda: backend.measures(group_by, filters), {})
        records: defaultdict[tuple[str | None, ...], list[ProviderTrace]] = defaultdict(list)
        for record in self.iterate(filters):
            for group in groups_of(record, group_by):
                records[group].append(record)
        return {group: measures_of(members) for group, members in records.items()}

    def tree(
        self,
        *,
        trace_id: str | None = None,
        run_id: str | None = None,
        conversation_id: str | None = None,
        limit: int = 1_000,
    ) -> Tree:
        """The calls of a trace, a run or a conversation below the spans that they were made in, without payloads.

        Args:
            trace_id: the trace, 32 hexadecimal digits; exactly one of the three is given.
            run_id: the run.
            conversation_id: the conversation.
            limit: how many calls, and of spans ten times as many, the tree has at most. Of more the newest are taken,
                and :attr:`Tree.omitted` says how many calls are not in it.

        Raises:
            SettingsError: not exactly one of the three is given, or ``limit`` is below 1.
        """
        ids = {"trace_id": trace_id, "run_id": run_id, "conversation_id": conversation_id}
        return self._asked(lambda: load_tree(self.backend, ids, limit), EMPTY_TREE)

    def _asked(self, ask: Callable[[], T], without_tables: T) -> T:
        if not self._is_open:
            self.open()
        try:
            return ask()
        except NoTablesError:
            if self._makes:
                raise
            return without_tables

    def close(self) -> None:
        """Release the backend's connections; the next use opens it again."""
        self.backend.shutdown()
        self._is_open = not self._makes


class AsyncReader(AsyncTableReading, AsyncTextReading, AsyncAnnotationReading, AsyncComparisonReading):
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
        """A reader of the primary backend; it is opened by ``async with``, or at its first use.

        Raises:
            SettingsError: a setting is wrong.
        """
        settings = Settings.from_env(**overrides)
        reader = cls(primary_backend(settings))
        reader._reader._prices_path = settings.prices
        return reader

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def open(self) -> None:
        """See :meth:`Reader.open`."""
        await asyncio.to_thread(self._reader.open)

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
            for record in page.traces:
                yield record
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

    async def stats(
        self,
        group_by: Sequence[GroupBy] = (),
        filters: Filters | None = None,
        *,
        measures: bool = False,
        fill: bool = False,
    ) -> Sequence[StatsRow]:
        """See :meth:`Reader.stats`."""
        return await asyncio.to_thread(self._reader.stats, group_by, filters, measures=measures, fill=fill)

    async def tree(
        self,
        *,
        trace_id: str | None = None,
        run_id: str | None = None,
        conversation_id: str | None = None,
        limit: int = 1_000,
    ) -> Tree:
        """See :meth:`Reader.tree`."""
        return await asyncio.to_thread(
            self._reader.tree, trace_id=trace_id, run_id=run_id, conversation_id=conversation_id, limit=limit
        )

    async def cost_of(self, record: ProviderTrace) -> Cost:
        """See :meth:`Reader.cost_of`."""
        return await asyncio.to_thread(self._reader.cost_of, record)

    async def tree_costs(self, tree: Tree) -> list[Bill]:
        """See :meth:`Reader.tree_costs`."""
        return await asyncio.to_thread(self._reader.tree_costs, tree)

    async def costs(self, group_by: Sequence[GroupBy] = (), filters: Filters | None = None) -> Mapping[Group, Bill]:
        """See :meth:`Reader.costs`."""
        return await asyncio.to_thread(self._reader.costs, group_by, filters)

    async def close(self) -> None:
        """Release the backend's connections."""
        await asyncio.to_thread(self._reader.close)


def _open(backend: Backend) -> None:
    if isinstance(backend, SupportsReadOnly):
        backend.open_for_reading()
    else:
        backend.open()


def _several(ids: Sequence[str]) -> str:
    count = f"more than {_MOST_NAMED}" if len(ids) > _MOST_NAMED else f"{len(ids)}"
    return f"the ids of {count} records: {', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}"
