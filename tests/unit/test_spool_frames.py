"""The bytes of a segment: what was written is read, and damage costs only what it hit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan.pipeline.spool.entries import HEADER_SIZE, MARK, Damage, Entry, encode, read_entries, valid_size
from records import patient

PAYLOADS = [b'{"id":"a"}', b"", b"x" * 50, MARK, encode(3, b"inner") + b"inner"]


def segment(payloads: Sequence[bytes], first: int = 1) -> bytes:
    return MARK + b"".join(encode(number, payload) + payload for number, payload in enumerate(payloads, first))


def read(data: bytes, first: int = 1) -> dict[int, bytes]:
    return {found.sequence: found.payload for found in read_entries(data, first) if isinstance(found, Entry)}


@given(st.lists(st.binary(max_size=100)), st.integers(1, 2**63))
@patient
def test_what_is_written_is_read(payloads: list[bytes], first: int) -> None:
    """All frames come back, in their order, and fill the segment to its end."""
    data = segment(payloads, first)
    assert list(read(data, first).items()) == list(enumerate(payloads, first))
    assert valid_size(data, first) == (len(data), first + len(payloads))


def test_truncation_at_every_byte() -> None:
    """Whatever is cut off, the frames before the cut are there, and the sound part ends with the last of them."""
    data = segment(PAYLOADS)
    ends = [len(MARK)]
    for payload in PAYLOADS:
        ends.append(ends[-1] + HEADER_SIZE + len(payload))
    for size in range(len(data)):
        whole = sum(end <= size for end in ends[1:])
        assert list(read(data[:size]).values()) == PAYLOADS[:whole]
        assert valid_size(data[:size], 1) == (min(size, ends[whole]), 1 + whole)


def test_a_flipped_bit_costs_one_frame() -> None:
    """Whichever bit is flipped, at most the frame that has it is lost, and what is read is what was written."""
    data = segment(PAYLOADS)
    for bit in range(len(MARK) * 8, len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        found = read(bytes(damaged))
        assert len(found) == len(PAYLOADS) - 1
        assert all(PAYLOADS[number - 1] == payload for number, payload in found.items())


def test_damage_says_where_it_is() -> None:
    """The bytes between two sound frames are reported as they are."""
    data = bytearray(segment(PAYLOADS))
    second = len(MARK) + HEADER_SIZE + len(PAYLOADS[0])
    third = second + HEADER_SIZE
    data[second] ^= 1
    assert Damage(second, third) in list(read_entries(bytes(data), 1))


def test_frames_of_the_past_are_no_frames() -> None:
    """A number that is lower than the one expected is a leftover, however sound its checksum."""
    assert read(segment([b"old"], first=3), first=4) == {}


@pytest.mark.parametrize("first", [1, 250, 65_530, 2**24 - 6, 2**32 - 6])
@pytest.mark.parametrize("gone", [1, 20, 998])
def test_the_next_frame_is_found_beyond_many(first: int, gone: int) -> None:
    """However many frames are lost in a row, up to 998, and whichever bytes of the number change in between."""
    payloads = [b'{"n":%d}' % number for number in range(gone + 3)]
    frame_at = [len(segment(payloads[:number], first)) for number in range(gone + 4)]
    data = segment(payloads, first)
    damaged = data[: frame_at[1]] + b"x" * (frame_at[gone + 1] - frame_at[1]) + data[frame_at[gone + 1] :]
    assert list(read(damaged, first)) == [first, first + gone + 1, first + gone + 2]


@given(st.binary(max_size=300))
@patient
def test_any_bytes_can_be_read(data: bytes) -> None:
    """Noise is damage, never an exception."""
    assert all(isinstance(found, Damage | Entry) for found in read_entries(MARK + data, 1))
