"""Server-sent events in a finished body: all of them, or only those that bear a sign.

Reading follows the WHATWG event stream format as the SDKs implement it: an event counts once its blank line has
arrived, so half an event at the end of a cut stream is not one. Data that is not a JSON object (``[DONE]``, comments)
is passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from .reply import JsonObject

_NOT_JSON = frozenset(b'{["')
_CR = re.compile(rb"\r\n?")


class Event(NamedTuple):
    """``data`` is None when the event's data is not a JSON object; ``end`` is the offset behind the event."""

    name: str | None
    data: JsonObject | None
    end: int
    done: bool = False


#: what a body is made of: one JSON value, server-sent events, AWS frames around such, or what the API says it may be
Shape = Literal["json", "events", "frames", "text", "bytes"]
_EVENT_STREAM = "text/event-stream"
_JSON = "application/json"
_BLANK = b"\xef\xbb\xbf \t\r\n"


def shape_of(body: bytes, media_type: str = "", plain: Literal["", "text", "bytes"] = "") -> Shape:
    """What a body that is not empty is made of.

    Told by its first byte: error replies to streams are JSON, and gateways mislabel. Only where an API may answer with
    ``plain`` text or bytes, which look like anything, is its media type asked, or, without one, the mark of an event.
    """
    kind = media_type.partition(";")[0].strip().lower()
    if plain and kind != _JSON and kind != _EVENT_STREAM and (kind or not _looks_marked(body)):
        return plain
    if body[0] == 0 and not plain:
        return "frames"
    start = body[:64].lstrip(_BLANK)[:1]
    return "events" if bool(start) and start[0] not in _NOT_JSON else "json"


def _looks_marked(body: bytes) -> bool:
    """Whether a body of no known type begins as JSON and events do."""
    return body[:64].lstrip(_BLANK).startswith((b"{", b"[", b'"', b"data:", b"event:"))


def unix_lines(body: bytes) -> bytes:
    """The body with line feeds as its only line ends."""
    return _CR.sub(b"\n", body) if b"\r" in body else body


def wire_offset(body: bytes, offset: int) -> int:
    """Where in ``body`` something is that is at ``offset`` of its form with unix lines."""
    at = offset
    while (missing := offset - len(unix_lines(body[:at]))) > 0:
        at += missing
    return at


def events(body: bytes, start: int = 0) -> Iterator[Event]:
    """The complete events of a body with unix line ends, in order, from the one that begins at ``start``."""
    while (end := body.find(b"\n\n", start)) != -1:
        block = body[start:end]
        start = end + 2
        event = _parse(block, start)
        if event is not None:
            yield event


def signed_events(body: bytes, signs: Iterable[re.Pattern[bytes]]) -> list[Event]:
    """The complete events in which one of ``signs`` occurs, in order, without reading the others."""
    blocks: dict[int, int] = {}
    for sign in signs:
        at = 0
        while (match := sign.search(body, at)) is not None:
            start = body.rfind(b"\n\n", 0, match.start()) + 2
            start = 0 if start == 1 else start
            end = body.find(b"\n\n", match.end())
            if end == -1:
                break
            blocks[start] = end
            at = end
    found = (_parse(body[start:end], end + 2) for start, end in sorted(blocks.items()))
    return [event for event in found if event is not None]


def events_from_last(body: bytes, mark: bytes, sooner: bytes) -> Iterator[Event]:
    """The complete events from the last one with ``mark`` or, if it comes sooner, the first one with ``sooner``."""
    at = min(filter(lambda place: place != -1, (body.rfind(mark), body.find(sooner))), default=0)
    start = body.rfind(b"\n\n", 0, at) + 2
    return events(body, 0 if start == 1 else start)


def _parse(block: bytes, end: int) -> Event | None:
    name: str | None = None
    lines: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value.decode(errors="replace")
    if not lines:
        return None
    data = b"\n".join(lines)
    if data.startswith(b"[DONE]"):
        return Event(name, None, end, done=True)
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        return Event(name, None, end)
    return Event(name, parsed if isinstance(parsed, dict) else None, end)
