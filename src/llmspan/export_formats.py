"""The formats of ``llmspan export``: each writes records page by page, so that one page is in memory."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TextIO

from . import _json
from ._clock import SECOND
from .printable import json_printable

if TYPE_CHECKING:
    from .backends.base import Filters, Page
    from .query.tables import Column
    from .reader import Reader

__all__ = ["Export", "write"]

#: records that are read and written together; fewer where their payloads are long
_PAGE: Final = 2_000
#: what a spreadsheet takes for the beginning of a formula
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(slots=True)
class Export:
    """What is exported, and how."""

    reader: Reader
    filters: Filters
    columns: Sequence[str] | None = None
    #: whether costs are added
    cost: bool = False
    #: whether CSV texts that a spreadsheet would run as formulas get a quotation mark
    escape_formulas: bool = True
    #: called with the number of records each time that some were read
    advance: Callable[[int], None] = lambda _: None
    #: why records were not written, and how many
    skipped: Counter[str] = field(default_factory=Counter[str])

    def pages(self, *, payload: bool) -> Iterator[Page]:
        """The records, page by page, newest first."""
        cursor = None
        while True:
            page = self.reader.list(self.filters, limit=_PAGE, cursor=cursor, payload=payload)
            yield page
            self.advance(len(page.traces))
            cursor = page.next_cursor
            if cursor is None:
                return


def write(format_name: str, export: Export, stream: BinaryIO | None) -> int:
    """Write the records in a format to a file, or to standard output in its own encoding; their number."""
    if format_name == "parquet":
        return _write_parquet(export, sys.stdout.buffer if stream is None else stream)
    if stream is None:
        return _TEXT_FORMATS[format_name](export, sys.stdout)
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    try:
        return _TEXT_FORMATS[format_name](export, text)
    finally:
        text.detach()


def _write_jsonl(export: Export, stream: TextIO) -> int:
    """Write whole records, one JSON object per line; with columns, objects that have only these keys."""
    count = 0
    for lines in _table_lines(export) if export.columns is not None else _record_lines(export):
        stream.writelines(f"{line}\n" for line in lines)
        count += len(lines)
    return count


def _record_lines(export: Export) -> Iterator[Sequence[str]]:
    if export.cost:
        from .priced_lines import priced_line

        own = export.reader.own_prices
        for page in export.pages(payload=True):
            yield [priced_line(record, own) for record in page.traces]
        return
    cursor = None
    while True:
        page = export.reader.list_json(export.filters, limit=_PAGE, cursor=cursor)
        yield page.lines
        export.advance(len(page.lines))
        cursor = page.next_cursor
        if cursor is None:
            return


def _table_lines(export: Export) -> Iterator[Sequence[str]]:
    columns, pages = _table(export)
    names = [column.name for column in columns]
    for rows in pages:
        cells = ([_json_cell(column, value) for column, value in zip(columns, row, strict=True)] for row in rows)
        yield [json_printable(_json.dumps(dict(zip(names, row, strict=True)))) for row in cells]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Takes rows of CSV. Python up to 3.12 quotes only the line ends of its rows: these have both, the file has one."""

    stream: TextIO

    def write(self, row: str) -> int:
        return self.stream.write(f"{row[:-2]}\n")


def _write_csv(export: Export, stream: TextIO) -> int:
    """Write a table with a head; lists and maps are JSON, what was not reported is empty."""
    columns, pages = _table(export)
    writer = csv.writer(_Rows(stream), lineterminator="\r\n")
    writer.writerow([column.name for column in columns])
    count = 0
    for rows in pages:
        cells = ([_csv_cell(column, value, export) for column, value in zip(columns, row, strict=True)] for row in rows)
        writer.writerows(cells)
        count += len(rows)
    return count


def _write_parquet(export: Export, stream: BinaryIO) -> int:
    """Write a Parquet file, a row group for each page."""
    from .query.tables import arrow_batch, arrow_schema

    columns = _columns(export)
    schema = arrow_schema(columns)
    from pyarrow import parquet

    own = export.reader.own_prices
    count = 0
    with parquet.ParquetWriter(stream, schema) as writer:
        for page in export.pages(payload=any(column.is_payload for column in columns)):
            writer.write_batch(arrow_batch(page.traces, columns, schema, own))
            count += len(page.traces)
    return count


def _write_finetune(export: Export, stream: TextIO) -> int:
    """Write examples for OpenAI's fine-tuning; calls that cannot be one are counted with the reason."""
    from .query.finetune import NotAnExampleError, finetune_example

    count = 0
    for page in export.pages(payload=True):
        for record in page.traces:
            try:
                example = finetune_example(record)
            except NotAnExampleError as error:
                export.skipped[str(error)] += 1
                continue
            stream.write(f"{json_printable(_json.dumps(example))}\n")
            count += 1
    return count


_TEXT_FORMATS: Final[dict[str, Callable[[Export, TextIO], int]]] = {
    "jsonl": _write_jsonl,
    "csv": _write_csv,
    "openai-finetune": _write_finetune,
}


def _columns(export: Export) -> tuple[Column, ...]:
    from .query.tables import COLUMNS, DEFAULT_COLUMNS, check_columns

    costs = tuple(name for name in COLUMNS if name.startswith("cost_") and name not in (export.columns or ()))
    return check_columns([*(export.columns or DEFAULT_COLUMNS), *(costs if export.cost else ())])


def _table(export: Export) -> tuple[tuple[Column, ...], Iterator[list[list[Any]]]]:
    """The columns, and the rows of each page."""
    from .query.tables import row_values

    columns = _columns(export)
    own = export.reader.own_prices
    pages: Iterable[Page] = export.pages(payload=any(column.is_payload for column in columns))
    return columns, ([row_values(record, columns, own) for record in page.traces] for page in pages)


def _json_cell(column: Column, value: Any) -> Any:
    if value is None:
        return None
    if column.type == "timestamp":
        return _time_text(value)
    return f"{value:f}" if isinstance(value, Decimal) else value


def _csv_cell(column: Column, value: Any, export: Export) -> Any:
    if value is None:
        return ""
    if column.type == "timestamp":
        return _time_text(value)
    if column.type == "boolean":
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, list | dict):
        return _json.dumps(value)
    if export.escape_formulas and isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _time_text(nanoseconds: int) -> str:
    seconds, fraction = divmod(nanoseconds, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"
