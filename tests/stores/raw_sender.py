"""A sender of protocol v4 by hand: frames that are sent as they are, and what is answered."""

from __future__ import annotations

import json
import select
import socket
import struct
from contextlib import suppress
from typing import Any

from records import make_trace


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


HELLO = frame(b'{"type":"hello","version":4,"max_frame":1000000}')


def record(seq: int, name: str) -> bytes:
    values = {"type": "record", "seq": seq, **json.loads(make_trace(id=name).to_json())}
    return frame(json.dumps(values).encode())


def heard(connection: socket.socket) -> list[dict[str, Any]]:
    """All that is said until the other end closes."""
    data = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            data += piece
    frames: list[dict[str, Any]] = []
    while data:
        (length,) = struct.unpack(">I", data[:4])
        frames.append(json.loads(data[4 : 4 + length]))
        data = data[4 + length :]
    return frames


def is_connected(connection: socket.socket) -> bool:
    """Whether the other end has neither closed nor said anything."""
    poll = select.poll()  # a run of all tests has descriptors beyond what `select` takes
    poll.register(connection, select.POLLIN)
    return not poll.poll(0)
