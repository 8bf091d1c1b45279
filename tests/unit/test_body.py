"""The bytes of a response: joined, timed piece by piece, and bounded."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan import _guard
from llmspan.instrumentation.body import Body
from records import patient

TAIL = 256 * 1024


@pytest.fixture(autouse=True)
def failures() -> Iterator[None]:
    """Failures counted in a test are its own."""
    _guard.reset_error_counts()
    yield
    _guard.reset_error_counts()


def body_of(pieces: list[bytes], encoding: str = "") -> Body:
    """A body as the tee fills it, piece n at time n + 1."""
    body = Body(sum(map(len, pieces)), encoding)
    for moment, piece in enumerate(pieces, 1):
        take(body, piece, moment)
    return body


def take(body: Body, piece: bytes, moment: int) -> None:
    body.pieces.append(piece)
    body.stamps.extend((body.received_size, moment))


# -- times


@patient
@given(pieces=st.lists(st.binary(max_size=5), min_size=1, max_size=8), data=st.data())
def test_time_at(pieces, data):
    """The time of an offset is that of the first piece with which that many bytes had arrived."""
    whole = b"".join(pieces)
    offset = data.draw(st.integers(0, len(whole)))
    first = next(at for at in range(1, len(pieces) + 1) if len(b"".join(pieces[:at])) >= offset)
    assert body_of(pieces).time_at(offset) == first


def test_time_of_decoded_bytes():
    """Offsets are in decoded bytes: of a compressed body it is the piece whose decoding brought the byte."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    pieces = [packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in (b"a" * 100, b"b" * 100, b"c")]
    body = body_of(pieces, "gzip")
    assert [body.time_at(offset) for offset in (1, 100, 101, 200, 201, 999)] == [1, 1, 2, 2, 3, 3]


def test_a_body_read_before():
    """A body that had been read and decoded before we saw it has its bytes and no times."""
    body = Body.from_content(b"{}")
    assert (body.decoded(), body.size, body.time_at(1), body.is_cut) == (b"{}", 2, None, False)


def test_an_empty_body():
    """Nothing received is no bytes at no time."""
    body = Body(10, "gzip")
    assert (body.decoded(), body.size, body.time_at(0), body.is_cut) == (b"", 0, None, False)
    assert Body.from_content(b"").decoded() == b""


# -- the limit


def fill(body: Body, pieces: list[bytes]) -> int:
    """Let pieces pass as the tee does; the most bytes that were held at any time."""
    most = 0
    for moment, piece in enumerate(pieces, 1):
        take(body, piece, moment)
        body.trim()
        most = max(most, body.size)
    return most


@patient
@given(
    sizes=st.lists(st.integers(0, TAIL // 2), max_size=4)
    | st.lists(st.integers(TAIL // 8, TAIL // 2), min_size=12, max_size=20),
    limit=st.sampled_from([1, 1000, TAIL // 2, TAIL]),
)
def test_a_body_beyond_its_limit(sizes, limit):
    """Of a body that is too long the head and at least the last 256 KiB are kept, in order."""
    pieces = [bytes([at % 251]) * size for at, size in enumerate(sizes)]
    body = Body(limit)
    most = fill(body, pieces)
    total = sum(sizes)
    assert body.is_cut == (total > limit)
    largest = max(sizes, default=0)
    assert most <= max(limit, largest) + 2 * TAIL + largest
    assert body.received_size == total
    if not body.is_cut:
        assert body.decoded() == b"".join(pieces)
        return
    held = len(body.pieces)
    head = next((at for at in range(held) if body.pieces[at] != pieces[at]), held)
    tail = body.pieces[head:]
    assert tail == pieces[len(pieces) - len(tail) :]
    if len(body.pieces) < len([*filter(None, pieces)]):
        assert sum(sizes[: head + 1]) > limit or head == 1  # the head is as long as it may be
        assert sum(map(len, tail)) + sizes[len(pieces) - len(tail) - 1] > TAIL  # and the tail


def test_head_and_tail():
    """What began the response and what ended it are kept; the middle is gone, and the body says so."""
    pieces = [b"head", *[bytes([65 + at % 26]) * 1024 for at in range(2000)], b"tail"]
    body = Body(10_000)
    most = fill(body, pieces)
    content = body.decoded()
    assert content.startswith(b"head" + b"A" * 1024)
    assert content.endswith(b"tail")
    assert body.is_cut
    assert len(content) <= most <= 10_000 + 2 * TAIL + 1024
    assert body.time_at(1) == 1
    assert body.time_at(len(content)) is None  # what came behind the gap cannot be told by its place


def test_a_last_piece_beyond_the_tail():
    """A last piece that alone is longer than the tail is kept whole: usage is in it."""
    body = Body(10)
    fill(body, [b"h" * 11, b"m" * (TAIL + 1), b"t" * (TAIL + 1)])
    assert body.decoded() == b"h" * 11 + b"t" * (TAIL + 1)


def test_one_piece_beyond_the_limit():
    """A single piece that is longer than the limit is kept: it is head and tail."""
    body = Body(10)
    fill(body, [b"x" * 5000])
    assert (body.decoded(), body.is_cut) == (b"x" * 5000, True)


def test_small_pieces_are_joined():
    """Hundreds of small pieces are held as few, in order and with their times; large ones are not copied."""
    pieces = [b"data: %d\n\n" % n for n in range(320)]
    body = Body(1 << 20)
    for moment, piece in enumerate(pieces, 1):
        take(body, piece, moment)
        if moment % 32 == 0:
            body.trim()
    assert (body.decoded(), body.size) == (b"".join(pieces), len(b"".join(pieces)))
    assert len(body.pieces) <= 2
    assert [body.time_at(len(b"".join(pieces[:n]))) for n in (1, 33, 320)] == [1, 33, 320]
    for large in ([bytes(64 * 1024)] * 4, [*[bytes(64 * 1024)] * 3, b"small"]):
        body = Body(1 << 20)
        body.pieces += large
        body.trim()
        assert all(held is given for held, given in zip(body.pieces, large, strict=True))
