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

__all__ = ["HEADER_SIZE", "MARK", "RECORD", "Damage", "Entry", "encode", "read_entries", "valid_size"]

#: how a segment begins; the last byte is the version of the format
MARK: Final = b"llmspan\x01"
#: the one kind there is: a record in its canonical JSON form
RECORD: Final = 1

_HEADER: Final = struct.Struct("<IIQB")
_CHECKSUM_INPUT: Final = struct.Struct("<IQB")
_SEARCH_KEY: Final = struct.Struct("<QB")
HEADER_SIZE: Final = _HEADER.size
#: how many lost frames in a row are looked beyond
_SEARCH_RANGE: Final = 1000
#: the low bytes of a number, in which those within reach differ
_VARYING_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class Entry:
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


def read_entries(data: bytes | memoryview, sequence: int, offset: int = len(MARK)) -> Iterator[Entry | Damage]:
    """All sound frames from ``offset`` on, where number ``sequence`` is expected, and the damage between them."""
    while offset < len(data):
        frame = _entry_at(data, offset)
        if frame is None or frame.sequence < sequence:
            start, (frame, offset) = offset, _next_after(data, offset, sequence)
            yield Damage(start, offset)
            if frame is None:
                return
        yield frame
        sequence, offset = frame.sequence + 1, frame.end


def valid_size(data: bytes, sequence: int) -> tuple[int, int]:
    """Where the last sound frame of a segment ends, and the number that comes after it."""
    end = min(len(MARK), len(data))
    for entry in read_entries(data, sequence):
        if isinstance(entry, Entry):
            end, sequence = entry.end, entry.sequence + 1
    return end, sequence


def _checksum(sequence: int, kind: int, payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(_CHECKSUM_INPUT.pack(len(payload), sequence, kind)))


def _entry_at(data: bytes | memoryview, offset: int) -> Entry | None:
    start = offset + HEADER_SIZE
    if start > len(data):
        return None
    length, checksum, sequence, kind = _HEADER.unpack_from(data, offset)
    if length > len(data) - start:
        return None
    payload = bytes(data[start : start + length])
    if checksum != _checksum(sequence, kind, payload):
        return None
    return Entry(sequence, kind, payload, start + length)


def _next_after(data: bytes | memoryview, offset: int, sequence: int) -> tuple[Entry | None, int]:
    """Where number ``sequence`` should be, at ``offset``, it is not: the next sound frame, and where it begins.

    It is found by its number. No record can hold such bytes: there is no NUL in JSON text. What the numbers within
    reach have in common is looked for, so that much damage is gone through once or twice, not once for each number.
    """
    content = bytes(data)
    numbers = range(sequence + 1, sequence + _SEARCH_RANGE)
    candidates: list[tuple[int, Entry]] = []
    for shared in {_SEARCH_KEY.pack(number, RECORD)[_VARYING_BYTES:] for number in (numbers[0], numbers[-1])}:
        at = content.find(shared, offset)
        while at >= 0:
            start = at - _VARYING_BYTES - (HEADER_SIZE - _SEARCH_KEY.size)
            frame = _entry_at(content, start) if start >= offset else None
            if frame is not None and frame.sequence in numbers:
                candidates.append((start, frame))
                break
            at = content.find(shared, at + 1)
    start, frame = min(candidates, key=lambda each: each[0], default=(len(data), None))
    return frame, start
