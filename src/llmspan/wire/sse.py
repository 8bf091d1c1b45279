"""Server-sent events in a finished body.

Reading follows the WHATWG event stream format as the SDKs implement it: an event counts once its blank line has
arrived, so half an event at the end of a cut stream is not one. Data that is not a JSON object (``[DONE]``, comments)
is passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from .._json import quick_value
from .reply import JsonObject

_NOT_JSON = frozenset(b'{["')
_WHITE = " \t\r\n"
#: ``json.loads`` less its search for encodings and white space, which takes as long as a small object
_raw_decode = json.JSONDecoder().raw_decode
_CR = re.compile(rb"\r\n?")
#: how providers write an event: an object on one line, behind at most a name
_USUAL_EVENT = re.compile(rb"(?:event: ?([^\n]*)\n)?data: ?(\{[^\n]*)")


class Event(NamedTuple):
    """``data`` is None when the event's data is not a JSON object; ``end`` is the offset behind the event."""

    name: str | None
    data: JsonObject | None
    end: int
    is_done: bool = False


#: what a body is made of: one JSON value, server-sent events, AWS frames around such, or what the API says it may be
Shape = Literal["json", "events", "frames", "text", "bytes"]
_EVENT_STREAM = "text/event-stream"
_JSON = "application/json"
#: what most bodies begin with: an object, ``data:`` or ``event:``, the length of an AWS frame
_FIRST_BYTES: Final[dict[int, Shape]] = {ord("{"): "json", ord("d"): "events", ord("e"): "events", 0: "frames"}
_BLANK = b"\xef\xbb\xbf \t\r\n"


def shape_of(body: bytes, media_type: str = "", plain: Literal["", "text", "bytes"] = "") -> Shape:
    """What a body that is not empty is made of.

    Its first byte decides: error replies to streams are JSON, and gateways mislabel. Only where an API may answer with
    ``plain`` text or bytes, which look like anything, does its media type, or, without one, the mark of an event.
    """
    if plain:
        kind = media_type.partition(";")[0].strip().lower()
        if kind != _JSON and kind != _EVENT_STREAM and (kind or not _looks_marked(body)):
            return plain
    elif body[0] in _FIRST_BYTES:
        return _FIRST_BYTES[body[0]]
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
        event = parse(body, start, end)
        start = end + 2
        if event is not None:
            yield event


def parse(body: bytes, start: int, stop: int) -> Event | None:
    """The event on the lines from ``start`` to the blank line at ``stop``; None if it has no data."""
    end = stop + 2
    usual = _USUAL_EVENT.fullmatch(body, start, stop)
    if usual is not None:
        raw_name, content = usual.groups()
        return Event(None if raw_name is None else raw_name.decode(errors="replace"), json_object(content), end)
    name: str | None = None
    data: bytes | None = None
    for line in body[start:stop].split(b"\n"):
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            data = value if data is None else data + b"\n" + value
        elif field == b"event":
            name = value.decode(errors="replace")
    if data is None:
        return None
    if data.startswith(b"[DONE]"):
        return Event(name, None, end, is_done=True)
    return Event(name, json_object(data), end)


def json_object(data: bytes) -> JsonObject | None:
    """The JSON object that ``data`` (UTF-8, as on the wire) is; None if it is anything else."""
    value = quick_value(data)
    if value is not None:
        return value if isinstance(value, dict) else None
    try:
        if data[:1] != b"{":
            value = json.loads(data)
        else:
            text = data.decode("utf-8", "surrogatepass")
            value, end = _raw_decode(text)
            if end != len(text) and text[end:].strip(_WHITE):
                return None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
