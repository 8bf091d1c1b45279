"""The selection of a page as a file, in the formats of ``llmspan export``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import BinaryIO, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ...backends.base import Filters
from ...errors import QueryError
from ...export_formats import Export, write
from ...reader import Reader
from ..filtering import filters_of
from ..rendering import store_of

__all__ = ["export"]

#: formats, their media types, and the endings of their files
FORMATS: Final = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
#: calls of one export; the command has no limit
MOST_CALLS: Final = 200_000


async def export(request: Request) -> Response:
    """The calls that the address means, as a file, read while they are sent."""
    format_name: str = request.path_params["format"]
    if format_name not in FORMATS:
        raise HTTPException(404, f"There is no format {format_name!r}; there are {', '.join(FORMATS)}.")
    filters = filters_of(request)
    calls = await store_of(request).run(lambda reader: reader.count(filters))
    if calls > MOST_CALLS:
        raise QueryError(
            f"these are {calls:,} calls, and a page exports {MOST_CALLS:,} at most; narrow the filter, or run"
            f" `llmspan export --format {format_name}`, which has no limit"
        )
    pieces = store_of(request).stream(lambda reader, file: _write(format_name, reader, filters, file))
    first = await anext(pieces, b"")  # what is wrong with the store becomes a page, while none of the file is sent

    async def body() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    name = f"llmspan-{datetime.now(UTC):%Y%m%d-%H%M%S}.{format_name}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(body(), media_type=FORMATS[format_name], headers=headers)


def _write(format_name: str, reader: Reader, filters: Filters, file: BinaryIO) -> None:
    with reader:
        write(format_name, Export(reader, filters), file)
