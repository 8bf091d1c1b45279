"""AWS event streams (``application/vnd.amazon.eventstream``), in which Bedrock wraps Anthropic's events.

Source: the frame layout of the Amazon event stream encoding: total length, header length, prelude CRC, headers,
payload, message CRC; all numbers big-endian. Frames are turned into server-sent events, so that everything behind
reads one format. Checksums are not verified: the SDK does, and raises.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from .reply import obj, string

_PRELUDE: Final = struct.Struct(">III")
_CRC: Final = 4
_SMALLEST: Final = _PRELUDE.size + _CRC
_STRING: Final = 7
#: bytes of a header's value, by its type; 6 and 7 say their length themselves
_FIXED: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}


class Frame(NamedTuple):
    """One frame; ``end`` is the offset behind it."""

    headers: dict[str, str]
    payload: bytes
    end: int


class EventText(NamedTuple):
    """Frames as server-sent events; ``ends`` says, for each, how far it reaches here and there."""

    text: bytes
    ends: list[tuple[int, int]]

    def wire_offset(self, offset: int) -> int:
        """Where in the frames something ended that ends at ``offset`` of the text."""
        return next((wire_end for here, wire_end in self.ends if here >= offset), 0)


def read_frames(body: bytes) -> Iterator[Frame]:
    """The complete frames of a body, in order; what is not a frame ends them."""
    start = 0
    while start + _SMALLEST <= len(body):
        total, head, _ = _PRELUDE.unpack_from(body, start)
        end = start + total
        payload_at = start + _PRELUDE.size + head
        if total < _SMALLEST or end > len(body) or payload_at > end - _CRC:
            return
        yield Frame(_headers(body[start + _PRELUDE.size : payload_at]), body[payload_at : end - _CRC], end)
        start = end


def as_events(body: bytes) -> EventText:
    """The events in a body of frames."""
    parts: list[bytes] = []
    ends: list[tuple[int, int]] = []
    size = 0
    for frame in read_frames(body):
        event = _event(frame)
        if event is not None:
            parts.append(event)
            size += len(event)
            ends.append((size, frame.end))
    return EventText(b"".join(parts), ends)


def _headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    position = 0
    while position < len(block):
        name_end = position + 1 + block[position]
        name, kind = block[position + 1 : name_end], block[name_end : name_end + 1]
        position = name_end + 1
        if not kind:
            break
        length = _FIXED.get(kind[0])
        if length is None:
            length = int.from_bytes(block[position : position + 2])
            position += 2
        if kind[0] == _STRING:
            headers[name.decode(errors="replace")] = block[position : position + length].decode(errors="replace")
        position += length
    return headers


def _event(frame: Frame) -> bytes | None:
    try:
        data = obj(json.loads(frame.payload))
    except (ValueError, RecursionError):
        data = {}
    if frame.headers.get(":message-type", "event") != "event":
        kind = frame.headers.get(":exception-type") or frame.headers.get(":error-code")
        message = data.get("message") or frame.headers.get(":error-message")
        error = {"type": "error", "error": {"type": kind, "message": message}}
        return b"event: error\ndata: %b\n\n" % json.dumps(error).encode()
    try:
        payload = base64.b64decode(string(data.get("bytes")) or "")
        name = string(obj(json.loads(payload)).get("type")) or "completion"
    except (ValueError, RecursionError):
        return None
    return b"event: %b\ndata: %b\n\n" % (name.encode(), payload.replace(b"\n", b" "))
