"""The bytes of a segment: a mark, then frames. Pure: no file is touched here.

A frame is ``u32 length, u32 crc32, u64 sequence, u8 kind`` (little endian), then ``length`` bytes. The checksum covers
all but itself. Sequence numbers of a log go up by one, so that after damage the next frame can be found by its number.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["HEADER_SIZE", "MARK", "RECORD", "Damage", "Frame", "encode", "frames", "sound_size"]

#: how a segment begins; the last byte is the version of the format
MARK: Final = b"llmspan\x01"
#: the one kind there is: a record in its canonical JSON form
RECORD: Final = 1

_HEADER: Final = struct.Struct("<IIQB")
_COVERED: Final = struct.Struct("<IQB")
_SOUGHT: Final = struct.Struct("<QB")
HEADER_SIZE: Final = _HEADER.size
#: how many lost frames in a row are looked beyond
_REACH: Final = 1000
#: the low bytes of a number, in which those within reach differ
_VARIES: Final = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """One sound frame: its number, its bytes, and the offset at which the next one begins."""

    sequence: int
    kind: int
    payload: bytes
    end: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no sound frame, from ``start`` to ``end``."""

    start: int
    end: int


def encode(sequence: int, payload: bytes, kind: int = RECORD) -> bytes:
    """The header of a frame; ``payload`` follows it."""
    return _HEADER.pack(len(payload), _checksum(sequence, kind, payload), sequence, kind)


def frames(data: bytes | memoryview, sequence: int, offset: int = len(MARK)) -> Iterator[Frame | Damage]:
    """All sound frames from ``offset`` on, where number ``sequence`` is expected, and the damage between them."""
    while offset < len(data):
        frame = _frame_at(data, offset)
        if frame is None or frame.sequence < sequence:
            start, (frame, offset) = offset, _next_after(data, offset, sequence)
            yield Damage(start, offset)
            if frame is None:
                return
        yield frame
        sequence, offset = frame.sequence + 1, frame.end


def sound_size(data: bytes, sequence: int) -> tuple[int, int]:
    """Where the last sound frame of a segment ends, and the number that comes after it."""
    end = min(len(MARK), len(data))
    for found in frames(data, sequence):
        if isinstance(found, Frame):
            end, sequence = found.end, found.sequence + 1
    return end, sequence


def _checksum(sequence: int, kind: int, payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(_COVERED.pack(len(payload), sequence, kind)))


def _frame_at(data: bytes | memoryview, offset: int) -> Frame | None:
    start = offset + HEADER_SIZE
    if start > len(data):
        return None
    length, checksum, sequence, kind = _HEADER.unpack_from(data, offset)
    if length > len(data) - start:
        return None
    payload = bytes(data[start : start + length])
    if checksum != _checksum(sequence, kind, payload):
        return None
    return Frame(sequence, kind, payload, start + length)


def _next_after(data: bytes | memoryview, offset: int, sequence: int) -> tuple[Frame | None, int]:
    """Where number ``sequence`` should be, at ``offset``, it is not: the next sound frame, and where it begins.

    It is found by its number. No record can hold such bytes: there is no NUL in JSON text. What the numbers within
    reach have in common is looked for, so that much damage is gone through once or twice, not once for each number.
    """
    whole = bytes(data)
    numbers = range(sequence + 1, sequence + _REACH)
    found: list[tuple[int, Frame]] = []
    for shared in {_SOUGHT.pack(number, RECORD)[_VARIES:] for number in (numbers[0], numbers[-1])}:
        at = whole.find(shared, offset)
        while at >= 0:
            start = at - _VARIES - (HEADER_SIZE - _SOUGHT.size)
            frame = _frame_at(whole, start) if start >= offset else None
            if frame is not None and frame.sequence in numbers:
                found.append((start, frame))
                break
            at = whole.find(shared, at + 1)
    start, frame = min(found, key=lambda each: each[0], default=(len(data), None))
    return frame, start
