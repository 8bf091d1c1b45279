"""An image or a sound of a call, for the page that shows it; nothing that a browser would run."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ...trace import ProviderTrace
from ..conversation_view import SHOWN_MEDIA, turns_of
from ..rendering import store_of

__all__ = ["media"]


async def media(request: Request) -> Response:
    """The media of turn ``at`` of the request or response, as its bytes."""
    record_id: str = request.path_params["id"]
    side, at = request.query_params.get("of", ""), request.query_params.get("at", "")
    record = await store_of(request).run(lambda reader: reader.get(record_id))
    content_of_turn = None if record is None else await asyncio.to_thread(_content, record, side, at)
    if content_of_turn is None:
        raise HTTPException(404, "There is no such image or sound.")
    kind, content = content_of_turn
    return Response(content, media_type=kind)


def _content(record: ProviderTrace, side: str, at: str) -> tuple[str, bytes] | None:
    turns = turns_of(record).get(side, [])
    if not (at.isdecimal() and len(at) < 7 and int(at) < len(turns)):
        return None
    part = turns[int(at)].media
    if part is None or part.content is None or part.type not in SHOWN_MEDIA:
        return None
    return part.type, part.content
