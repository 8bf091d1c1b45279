"""Protocol v4 without any I/O: frames out of bytes, what a sender and what a receiver may do next.

docs/socket-protocol.md is the specification. Both ends are driven by whoever has the socket: bytes that came in go to
``feed``, bytes to send are returned. What is wrong on the wire is a :class:`ProtocolError` that says what and where,
raised only after all that came before it was given out.
"""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .messages import (
    VERSION,
    ProtocolError,
    encode_frame,
    integer_member,
    parse_object,
    quoted,
    reported_error,
    text_member,
)

__all__ = [
    "LEAST_MAX_FRAME",
    "MAX_FRAME",
    "VERSION",
    "WINDOW_BYTES",
    "WINDOW_RECORDS",
    "FrameDecoder",
    "ProtocolError",
    "Received",
    "Receiver",
    "Sender",
    "encode_frame",
]

#: bytes of one frame, without its length
MAX_FRAME: Final = 64 * 1024 * 1024
#: what both ends must be able to take; frames other than records are never larger
LEAST_MAX_FRAME: Final = 64 * 1024
#: what may be sent and not yet acknowledged; one record may always be under way, whatever its size
WINDOW_RECORDS: Final = 1024
WINDOW_BYTES: Final = 8 * 1024 * 1024

#: characters of the name that the other end gives its software
_LONGEST_NAME: Final = 100

_LENGTH: Final = struct.Struct(">I")
_RECORD: Final = re.compile(rb'\{"type":"record","seq":([0-9]{1,18}),')
#: how much of a record's frame is not its body: the longest that :meth:`Sender.frames` puts before it
_HEAD: Final = len('{"type":"record","seq":,') + 18


class FrameDecoder:
    """Frames out of a stream of bytes, however it is cut. Holds at most one frame that is not whole."""

    def __init__(self, max_frame: int) -> None:
        self.max_frame = max_frame
        self._buffer = bytearray()
        self._frames = 0
        self._offset = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that ``data`` completes. Must be iterated to its end before more is fed.

        Raises:
            ProtocolError: a frame is empty or too large; the message says which one, and at which byte.
        """
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(buffer, at)
                if not 0 < length <= self.max_frame:
                    raise self._bad(length, at)
                end = at + _LENGTH.size + length
                if len(buffer) < end:
                    return
                frame = bytes(memoryview(buffer)[at + _LENGTH.size : end])
                self._frames += 1
                at = end
                yield frame
        finally:
            del buffer[:at]
            self._offset += at

    @property
    def pending(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._buffer)

    @property
    def where(self) -> str:
        """The frame that came last, for messages."""
        return f"frame {self._frames}"

    def _bad(self, length: int, at: int) -> ProtocolError:
        where = f"frame {self._frames + 1}, at byte {self._offset + at}"
        if length == 0:
            return ProtocolError("malformed", f"{where}: it is empty")
        text = self._frames == 0 and bytes(self._buffer[:4]).isascii()
        hint = "; this looks like text, such as the lines of v3, not like protocol v4" if text else ""
        return ProtocolError("too_large", f"{where}: {length} bytes, the limit is {self.max_frame}{hint}")


class Sender:
    """The end that has records. One for each connection; ``seq`` begins at 1 on every one."""

    def __init__(self, software: str, max_frame: int = MAX_FRAME) -> None:
        self.ready = False
        self.peer = ""
        self.max_frame = max(LEAST_MAX_FRAME, max_frame)
        #: whether the receiver takes spans, as its greeting says
        self.takes_spans = False
        self.sent = 0
        self.acked = 0
        #: ``seq`` and reason of records that the receiver will never take; they count as acknowledged
        self.rejected: dict[int, str] = {}
        self._software = software
        self._decoder = FrameDecoder(LEAST_MAX_FRAME)
        self._window = (WINDOW_RECORDS, WINDOW_BYTES)
        self._sizes: deque[int] = deque()
        self._transmitted = 0
        self._under_way = 0

    @property
    def largest_body(self) -> int:
        """The bytes that a record's body may have."""
        return self.max_frame - _HEAD

    def greeting(self) -> bytes:
        """The first bytes on the connection. Records follow when the answer has made this ``ready``."""
        hello = {"type": "hello", "version": VERSION, "max_frame": self.max_frame, "software": self._software}
        return encode_frame(hello)

    def frames(self, bodies: Sequence[bytes], at: int, limit: int) -> list[bytes]:
        """The frames of the bodies from ``at`` on, at most ``limit``, that the window lets go now.

        Each is two pieces, what goes before the body (a JSON object without its opening brace) and the body. They are
        under way from now on.
        """
        records, size = self._window
        pieces: list[bytes] = []
        for body in bodies[at : at + min(limit, max(records - len(self._sizes), 0 if self._sizes else 1))]:
            length = len(body)
            if self._sizes and self._under_way + length > size:
                break
            self.sent += 1
            self._sizes.append(length)
            self._under_way += length
            head = b'{"type":"record","seq":%d,' % self.sent
            pieces += (_LENGTH.pack(len(head) + length) + head, body)
        return pieces

    def feed(self, data: bytes, unsent: int = 0) -> None:
        """Take what the receiver says. The last ``unsent`` records have not left yet: it cannot have them.

        Raises:
            ProtocolError: it ended the connection, or uses another protocol.
        """
        self._transmitted = max(0, self.sent - unsent)
        for frame in self._decoder.feed(data):
            values = parse_object(frame, self._decoder.where)
            kind = values.get("type")
            if not isinstance(kind, str):
                raise ProtocolError("malformed", f"{self._decoder.where}: the type is {quoted(kind)}, not a text")
            if kind == "error":
                raise reported_error(values)
            if not self.ready and kind == "hello":
                self._greeted(values)
            elif self.ready and kind == "ack":
                self._acknowledged(integer_member(values, "seq", self._decoder.where))
            elif self.ready and kind == "reject":
                self._rejected(values)
            elif not self.ready:
                raise ProtocolError("malformed", f"the answer to HELLO is {quoted(kind)}, not hello")

    def is_under_way(self, seq: int) -> bool:
        """Whether that record was sent, and not acknowledged."""
        return self.acked < seq <= self.sent

    def _greeted(self, values: Mapping[str, Any]) -> None:
        where = "the answer to HELLO"
        if values.get("version") != VERSION:
            raise ProtocolError("unsupported_version", f"{where} names version {quoted(values.get('version'))}")
        self.max_frame = min(self.max_frame, max(LEAST_MAX_FRAME, integer_member(values, "max_frame", where)))
        records = integer_member(values, "window_records", where, WINDOW_RECORDS)
        self._window = (max(1, records), integer_member(values, "window_bytes", where, WINDOW_BYTES))
        self.peer = text_member(values, "software", "unnamed", _LONGEST_NAME)
        self.takes_spans = values.get("spans") is True
        self.ready = True

    def _acknowledged(self, seq: int) -> None:
        if not self.acked <= seq <= self._transmitted:
            raise self._contradiction("ack", seq)
        for _ in range(seq - self.acked):
            self._under_way -= self._sizes.popleft()
        self.acked = seq

    def _rejected(self, values: Mapping[str, Any]) -> None:
        seq = integer_member(values, "seq", self._decoder.where)
        if not self.acked < seq <= self._transmitted:
            raise self._contradiction("reject", seq)
        self.rejected[seq] = text_member(values, "message", "no reason is given")

    def _contradiction(self, kind: str, seq: int) -> ProtocolError:
        message = f"{kind} of {seq}; {self.acked} was acknowledged, {self._transmitted} was sent"
        return ProtocolError("malformed", message)


@dataclass(frozen=True, slots=True)
class Received:
    """One record's frame, not read any further yet."""

    seq: int
    frame: bytes


class Receiver:
    """The end that stores records, and spans if it says so. One for each connection."""

    def __init__(self, software: str, max_frame: int = MAX_FRAME, *, takes_spans: bool = False) -> None:
        self._takes_spans = takes_spans
        self.greeted = False
        self.peer = ""
        self.seq = 0
        self._software = software
        self._own_max_frame = max(LEAST_MAX_FRAME, max_frame)
        self._decoder = FrameDecoder(LEAST_MAX_FRAME)

    @property
    def idle(self) -> bool:
        """Whether nothing is owed by the sender: it has greeted, and ended every frame."""
        return self.greeted and not self.pending

    @property
    def pending(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._decoder.pending

    def feed(self, data: bytes) -> Iterator[Received | bytes]:
        """What ``data`` completes: records, or bytes to answer with at once. Must be iterated to its end.

        Raises:
            ProtocolError: the sender uses another version or another protocol; its :meth:`~ProtocolError.frame` is
                the last thing to answer.
        """
        try:
            for frame in self._decoder.feed(data):
                yield self._record(frame) if self.greeted else self._greet(parse_object(frame, "HELLO"))
        except ProtocolError as error:
            if self.greeted and error.seq is None:
                error.seq = self.seq + 1
            raise

    def ack(self, seq: int) -> bytes:
        """All records up to ``seq`` are stored, or were rejected."""
        return encode_frame({"type": "ack", "seq": seq})

    def reject(self, seq: int, message: str) -> bytes:
        """This record will never be stored; to be sent before the ack that covers it."""
        return encode_frame({"type": "reject", "seq": seq, "message": message[:4096]})

    def _greet(self, values: Mapping[str, Any]) -> bytes:
        if values.get("type") != "hello":
            raise ProtocolError("malformed", f"the first frame is {quoted(values.get('type'))}, not hello")
        version = values.get("version")
        if version != VERSION:
            raise ProtocolError(
                "unsupported_version", f"version {quoted(version)} is not supported, only version {VERSION}"
            )
        max_frame = integer_member(values, "max_frame", "HELLO")
        self._decoder.max_frame = min(self._own_max_frame, max(LEAST_MAX_FRAME, max_frame))
        self.peer = text_member(values, "software", "unnamed", _LONGEST_NAME)
        self.greeted = True
        answer = {"type": "hello", "version": VERSION, "max_frame": self._own_max_frame}
        window = {"window_records": WINDOW_RECORDS, "window_bytes": WINDOW_BYTES}
        spans = {"spans": True} if self._takes_spans else {}
        return encode_frame(answer | window | spans | {"software": self._software})

    def _record(self, frame: bytes) -> Received:
        where = self._decoder.where
        if match := _RECORD.match(frame):
            seq = int(match[1])
        else:
            values = parse_object(frame, where)
            if values.get("type") != "record":
                raise ProtocolError("malformed", f"{where}: the type is {quoted(values.get('type'))}, not record")
            seq = integer_member(values, "seq", where)
        if seq != self.seq + 1:
            raise ProtocolError("malformed", f"{where}: seq is {seq}, expected {self.seq + 1}")
        self.seq = seq
        return Received(seq, frame)
