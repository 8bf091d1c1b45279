"""Records as Arrow tables and data frames: what :class:`llmspan.Reader` and its asynchronous twin add for data work.

Arrow is the one way: pandas and polars are given the table that Arrow makes. Pages become batches, so a stream of
batches needs the memory of one page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from .errors import SettingsError
from .query.tables import arrow_batch, arrow_schema, check_columns

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from .backends.base import Filters, Page
    from .own_prices import OwnPrices

__all__ = ["AsyncTableReading", "TableReading"]

#: records that are read together, if their payloads are not too long
_PAGE: Final = 1_000


class _Reading(Protocol):
    @property
    def own_prices(self) -> OwnPrices: ...

    def list(
        self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None, payload: bool = False
    ) -> Page: ...


class TableReading:
    """The methods of :class:`llmspan.Reader` that give tables."""

    def to_arrow(
        self, filters: Filters | None = None, *, columns: Sequence[str] | None = None, payload: bool = False
    ) -> Any:
        """The records that are meant, newest first, as a stream of Arrow record batches; read while it is consumed.

        Args:
            filters: which records; by default all.
            columns: names of :data:`llmspan.query.tables.COLUMNS` in the order of the table; by default all but the
                payloads, the costs (``cost_amount`` ...) and the durations in nanoseconds.
            payload: whether the default columns include ``request_json`` and ``response_json``.

        Raises:
            SettingsError: pyarrow is not installed, or a column does not exist.
        """
        return _stream(self, filters, columns, payload=payload)  # pyright: ignore[reportArgumentType] - a reader

    def to_pandas(
        self, filters: Filters | None = None, *, columns: Sequence[str] | None = None, payload: bool = False
    ) -> pd.DataFrame:
        """The table of :meth:`to_arrow` as a pandas data frame: whole numbers stay whole, null is ``pandas.NA``."""
        pandas = _import("pandas")
        return _to_pandas(pandas, self.to_arrow(filters, columns=columns, payload=payload).read_all())

    def to_polars(
        self, filters: Filters | None = None, *, columns: Sequence[str] | None = None, payload: bool = False
    ) -> pl.DataFrame:
        """The table of :meth:`to_arrow` as a polars data frame; a map is a list of pairs of ``key`` and ``value``."""
        polars = _import("polars")
        return polars.from_arrow(self.to_arrow(filters, columns=columns, payload=payload).read_all())


class AsyncTableReading:
    """The methods of :class:`llmspan.AsyncReader` that give tables; all work is done in threads."""

    _reader: Any

    async def to_arrow(
        self, filters: Filters | None = None, *, columns: Sequence[str] | None = None, payload: bool = False
    ) -> Any:
        """The records that are meant as one Arrow table; :meth:`iterate_arrow` gives them batch by batch."""
        return await asyncio.to_thread(
            lambda: self._reader.to_arrow(filters, columns=columns, payload=payload).read_all()
        )

    async def iterate_arrow(
        self, filters: Filters | None = None, *, columns: Sequence[str] | None = None, payload: bool = False
    ) -> AsyncIterator[Any]:
        """The batches of :meth:`TableReading.to_arrow`."""
        stream = await asyncio.to_thread(self._reader.to_arrow, filters, columns=columns, payload=payload)
        while (batch := await asyncio.to_thread(next, stream, None)) is not None:
            yield batch

    async def to_pandas(
        self, filters: Filters | None = None, *, columns: Sequence[str] | None = None, payload: bool = False
    ) -> pd.DataFrame:
        """See :meth:`TableReading.to_pandas`."""
        return await asyncio.to_thread(self._reader.to_pandas, filters, columns=columns, payload=payload)

    async def to_polars(
        self, filters: Filters | None = None, *, columns: Sequence[str] | None = None, payload: bool = False
    ) -> pl.DataFrame:
        """See :meth:`TableReading.to_polars`."""
        return await asyncio.to_thread(self._reader.to_polars, filters, columns=columns, payload=payload)


def _stream(reader: _Reading, filters: Filters | None, names: Sequence[str] | None, *, payload: bool) -> Any:
    columns = check_columns(names, payload=payload)
    schema = arrow_schema(columns)
    own = reader.own_prices
    pyarrow = _import("pyarrow")
    with_payload = any(column.is_payload for column in columns)

    def batches() -> Iterator[Any]:
        cursor = None
        while True:
            page = reader.list(filters, limit=_PAGE, cursor=cursor, **({"payload": True} if with_payload else {}))
            yield arrow_batch(page.traces, columns, schema, own)
            cursor = page.next_cursor
            if cursor is None:
                return

    return pyarrow.RecordBatchReader.from_batches(schema, batches())


def _to_pandas(pandas: Any, table: Any) -> Any:
    pyarrow = _import("pyarrow")
    # Without these, a column of whole numbers with a null becomes one of floats, which are exact up to 2**53 only.
    types = {
        pyarrow.int64(): pandas.Int64Dtype(),
        pyarrow.bool_(): pandas.BooleanDtype(),
        pyarrow.float64(): pandas.Float64Dtype(),
        pyarrow.string(): pandas.StringDtype(),
    }
    return table.to_pandas(types_mapper=types.get, maps_as_pydicts="strict")


def _import(name: str) -> Any:
    """The module, imported now.

    Raises:
        SettingsError: it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        package = '"llmspan[frame]"' if name == "pyarrow" else f'"llmspan[frame]" {name}'
        raise SettingsError(f"this needs {name}; pip install {package}") from None
