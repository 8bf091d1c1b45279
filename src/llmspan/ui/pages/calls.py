"""The list of calls: a filter line, a page of rows, and what came in since."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from ...backends.base import Filters, Page
from ...conversation import Turn, request_turns, response_turns
from ...errors import LlmspanError
from ...query.snippets import Snippet
from ...reader import Reader
from ...trace import ProviderTrace
from ..costs import cost_text
from ..filtering import bounded_query, everything_query, filters_of
from ..formats import TokenBar, token_bar, total_tokens
from ..rendering import render, store_of

__all__ = ["calls", "calls_json", "events", "previews"]

PAGE: Final = 50
_LARGEST_PAGE: Final = 500
#: seconds between two looks for new calls
_LOOK_EVERY: Final = 1.0
#: a look that took a second is followed by a pause of so many
_PAUSE_FACTOR: Final = 10
#: a payload of more bytes is not read for its first words
_PREVIEW_BYTES: Final = 256 * 1024
_PREVIEW_CHARACTERS: Final = 160


@dataclass(frozen=True, slots=True)
class Row:
    """A call in the list."""

    record: ProviderTrace
    bar: TokenBar
    cost: str
    #: where the text is that was searched for
    snippet: Snippet | None = None


async def calls(request: Request) -> Response:
    """A page of calls, newest first."""
    query, cursor = bounded_query(request), request.query_params.get("cursor")
    filters = filters_of(request, query)
    page, snippets = await store_of(request).run(lambda reader: _searched_page(reader, filters, cursor))
    values = {"rows": rows_of(page.traces, snippets), "query": query, "group": request.query_params.get("group")}
    values["everything"] = everything_query(request, query)
    return render(request, "calls.html", {**values, "cursor": cursor, "next_cursor": page.next_cursor})


def _searched_page(reader: Reader, filters: Filters, cursor: str | None) -> tuple[Page, Mapping[str, Snippet]]:
    page = reader.list(filters, limit=PAGE, cursor=cursor)
    return page, reader.snippets(page.traces, filters)


def rows_of(records: Sequence[ProviderTrace], snippets: Mapping[str, Snippet] | None = None) -> list[Row]:
    """The rows of ``records``, whose bars have one scale."""
    totals = [total_tokens(record.usage) for record in records]
    largest = max((total or 0 for total in totals), default=0)
    by_id = snippets or {}
    return [
        Row(record, token_bar(record.usage, largest), cost_text(record), by_id.get(record.id)) for record in records
    ]


async def calls_json(request: Request) -> Response:
    """A page of calls as JSON: ``calls`` as ``llmspan show --json`` has them, without payloads, and ``next_cursor``."""
    parameters = request.query_params
    filters, limit = filters_of(request), _limit(parameters.get("limit", str(PAGE)))
    if isinstance(limit, str):
        return PlainTextResponse(limit, 400)
    cursor = parameters.get("cursor")
    page: Page = await store_of(request).run(lambda reader: reader.list(filters, limit=limit, cursor=cursor))
    lines = ",\n".join(record.to_json_line() for record in page.traces)
    text = f'{{"calls":[{lines}],"next_cursor":{json.dumps(page.next_cursor)}}}\n'
    return Response(text, media_type="application/json")


def _limit(text: str) -> int | str:
    """The number of calls of a page, or what is wrong with it."""
    if text.isdecimal() and len(text) <= len(str(_LARGEST_PAGE)) and 1 <= int(text) <= _LARGEST_PAGE:
        return int(text)
    return f"limit={text}: expected a whole number from 1 to {_LARGEST_PAGE}\n"


async def previews(request: Request) -> Response:
    """The first words of requests and responses, by the ids that are questions for; long payloads are left out."""
    ids = request.query_params.getlist("id")[:PAGE]
    texts = await store_of(request).run(lambda reader: _previews(reader, ids))
    return JSONResponse(texts)


def _previews(reader: Reader, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    from ...backends.base import OneOf

    page = reader.list(Filters(id=OneOf(tuple(ids))), limit=PAGE) if ids else Page([])
    short = [r.id for r in page.traces if max(r.request_bytes or 0, r.response_bytes or 0) <= _PREVIEW_BYTES]
    records = filter(None, map(reader.get, short))
    return {record.id: _preview(record) for record in records}


def _preview(record: ProviderTrace) -> dict[str, str]:
    questions = [turn for turn in request_turns(record.request_json) if turn.role == "user" and turn.kind == "text"]
    answers = [turn for turn in response_turns(record.response_json) if turn.kind in ("text", "call")]
    return {"request": _words(questions[-1:]), "response": _words(answers[:1])}


def _words(turns: Sequence[Turn]) -> str:
    if not turns:
        return ""
    text = " ".join(turns[0].text[: _PREVIEW_CHARACTERS * 4].split())
    text = f"{turns[0].label}({text})" if turns[0].kind == "call" else text
    return text if len(text) <= _PREVIEW_CHARACTERS else f"{text[: _PREVIEW_CHARACTERS - 1]}…"


async def events(request: Request) -> Response:
    """Server-sent events: ``calls`` with their number, each time that some are there that were not there before.

    ``newest`` is the first call of the page, so that none is missed between the page and this request.
    """
    filters = filters_of(request)
    newest = request.query_params.get("newest")
    return StreamingResponse(_events(request, filters, newest), media_type="text/event-stream")


async def _events(request: Request, filters: Filters, newest: str | None) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    previous_ids: frozenset[str] | None = None
    clock = asyncio.get_running_loop().time
    while not await request.is_disconnected():
        began = clock()
        if store_of(request).is_busy:  # pages go first
            await asyncio.sleep(_LOOK_EVERY)
            continue
        with suppress(LlmspanError):  # the page says that the store is away when it is asked for
            ids = await _first_ids(request, filters)
            if previous_ids is None:
                previous_ids = frozenset(ids[ids.index(newest) :] if newest in ids else ())
            number = len(set(ids) - previous_ids)
            previous_ids = frozenset(ids)
            if number:
                yield f"event: calls\ndata: {number}\n\n"
        # a filter that reads much looks less often: the store has other pages to answer
        await asyncio.sleep(max(_LOOK_EVERY, _PAUSE_FACTOR * (clock() - began)))


async def _first_ids(request: Request, filters: Filters) -> list[str]:
    """The ids of the first page. A long call is recorded behind shorter ones, so the newest alone would not do."""

    def ask(reader: Reader) -> list[str]:
        return [record.id for record in reader.list(filters, limit=PAGE).traces]

    return await store_of(request).run(ask)
