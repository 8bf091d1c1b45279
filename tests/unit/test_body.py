"""The bytes of a response: joined, decompressed, timed piece by piece, and bounded."""

from __future__ import annotations

import gzip
import sys
import types
import zlib
from collections.abc import Iterator

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan import _guard
from llmspan.instrumentation._body import Body
from records import patient
from replay import split

TAIL = 256 * 1024

TEXT = b"".join(b'data: {"n": %d, "text": "caf\xc3\xa9"}\n\n' % number for number in range(200))


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


CODINGS = {"": bytes, "identity": bytes, "gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


@pytest.fixture(autouse=True)
def failures() -> Iterator[None]:
    """Failures counted in a test are its own."""
    _guard.forget_failures()
    yield
    _guard.forget_failures()


def body_of(pieces: list[bytes], encoding: str = "") -> Body:
    """A body as the tee fills it, piece n at time n + 1."""
    body = Body(sum(map(len, pieces)), encoding)
    for moment, piece in enumerate(pieces, 1):
        take(body, piece, moment)
    return body


def take(body: Body, piece: bytes, moment: int) -> None:
    body.pieces.append(piece)
    body.stamps.extend((body.received, moment))


# -- decoding


@pytest.mark.parametrize("encoding", [*CODINGS, "GZip", " gzip ", "identity, gzip", "gzip,", " "])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_decoded(encoding, size):
    """A body is decoded whatever its content coding is and however it was cut into pieces."""
    pack = CODINGS.get(encoding.strip().lower().removeprefix("identity, ").removesuffix(","), gzip.compress)
    body = body_of(split(pack(TEXT), size), encoding)
    assert body.decoded() == TEXT
    assert body.size == len(pack(TEXT))
    assert _guard.failures() == {}


@pytest.mark.parametrize("size", [2, 7, 10_000])
def test_raw_deflate(size):
    """``deflate`` without the zlib header, as some servers send it, is decoded too."""
    body = body_of(split(raw_deflate(TEXT), size), "deflate")
    assert body.decoded() == TEXT
    assert _guard.failures() == {}


def test_codings_in_turn():
    """Several codings are undone in the reverse of the order in which they were done."""
    assert body_of(split(gzip.compress(zlib.compress(TEXT))), "deflate, gzip").decoded() == TEXT


@patient
@given(content=st.binary(max_size=400), pack=st.sampled_from(["gzip", "deflate", ""]), size=st.integers(1, 60))
def test_decoded_as_httpx_does(content, pack, size):
    """The decoded bytes are those that httpx gives the SDK."""
    packed = CODINGS[pack](content)
    headers = {"content-encoding": pack} if pack else {}
    theirs = httpx2.Response(200, headers=headers, stream=httpx2.ByteStream(packed)).read()
    assert body_of(split(packed, size), pack).decoded() == theirs == content


@pytest.mark.parametrize("encoding", ["rot13", "gzip, rot13", "br"])
def test_unknown_coding(encoding, monkeypatch, caplog):
    """A coding that nobody here can undo is noted once and leaves no bytes; it raises nothing, and times stay."""
    for name in ("brotli", "brotlicffi"):
        monkeypatch.setitem(sys.modules, name, None)
    body = body_of([b"what", b"ever"], encoding)
    assert body.decoded() == b""
    assert body.time_at(3) == 2
    assert _guard.failures() == {"body.decompress": 2}
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("encoding", "window"), [
    ("gzip", zlib.MAX_WBITS | 16), ("deflate", zlib.MAX_WBITS), ("deflate", -zlib.MAX_WBITS),
])  # fmt: skip
def test_broken_coding(encoding, window):
    """A compressed body that breaks keeps what was decoded before the break, which is no defect of ours."""
    packer = zlib.compressobj(wbits=window)
    pieces = [packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in split(TEXT, 1000)]
    reserved_block_type = b"\x07\x07\x07\x07"
    body = body_of([*pieces[:3], reserved_block_type, *pieces[3:]], encoding)
    assert body.decoded() == TEXT[:3000]
    assert _guard.failures() == {}
    assert body.time_at(2500) == 3


def test_a_break_is_not_raw_deflate():
    """Only the first piece decides whether ``deflate`` is raw: what breaks later on is not tried as something else."""
    body = body_of([zlib.compress(b"sound")[:-4], raw_deflate(b"not part of it")], "deflate")
    assert body.decoded() == b"sound"
    assert _guard.failures() == {}


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_coding_cut_short(encoding):
    """A compressed body that was cut gives all that can be known of it, and no defect is counted."""
    packed = CODINGS[encoding](TEXT)
    decoded = body_of(split(packed[: len(packed) * 3 // 4], 13), encoding).decoded()
    assert decoded
    assert TEXT.startswith(decoded)
    assert _guard.failures() == {}


ZSTD = ("compression.zstd", "backports.zstd", "zstandard")
PACKAGES = {
    "br": [("brotli", "Decompressor", "process"), ("brotlicffi", "Decompressor", "decompress")],
    "zstd": [(name, "ZstdDecompressor", "decompress") for name in ZSTD],
}


@pytest.mark.parametrize(("encoding", "package"), [(coding, one) for coding in PACKAGES for one in PACKAGES[coding]])
def test_codings_of_other_packages(encoding, package, monkeypatch):
    """Brotli and Zstandard are decoded by whichever of the packages is there, each by its own method."""
    name, kind, method = package
    for absent in ("brotli", "brotlicffi", "compression", "backports", *ZSTD):
        monkeypatch.setitem(sys.modules, absent, None)
    parent, dot, _ = name.partition(".")
    if dot:
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    # a stand-in, as none of the packages may be installed
    maker = type(kind, (), {method: lambda self, piece: piece.upper(), "decompressobj": lambda self: self})
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**{kind: maker}))
    assert body_of([b"ab", b"c"], encoding).decoded() == b"ABC"
    assert _guard.failures() == {}


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
    body = Body.whole(b"{}")
    assert (body.decoded(), body.size, body.time_at(1), body.cut) == (b"{}", 2, None, False)


def test_an_empty_body():
    """Nothing received is no bytes at no time."""
    body = Body(10, "gzip")
    assert (body.decoded(), body.size, body.time_at(0), body.cut) == (b"", 0, None, False)
    assert Body.whole(b"").decoded() == b""


# -- the limit


def fill(body: Body, pieces: list[bytes]) -> int:
    """Let pieces pass as the tee does; the most bytes that were held at any time."""
    most = 0
    for moment, piece in enumerate(pieces, 1):
        take(body, piece, moment)
        body.check()
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
    assert body.cut == (total > limit)
    largest = max(sizes, default=0)
    assert most <= max(limit, largest) + 2 * TAIL + largest
    assert body.received == total
    if not body.cut:
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
    assert body.cut
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
    assert (body.decoded(), body.cut) == (b"x" * 5000, True)


def test_small_pieces_are_joined():
    """Hundreds of small pieces are held as few, in order and with their times; large ones are not copied."""
    pieces = [b"data: %d\n\n" % n for n in range(320)]
    body = Body(1 << 20)
    for moment, piece in enumerate(pieces, 1):
        take(body, piece, moment)
        if moment % 32 == 0:
            body.check()
    assert (body.decoded(), body.size) == (b"".join(pieces), len(b"".join(pieces)))
    assert len(body.pieces) <= 2
    assert [body.time_at(len(b"".join(pieces[:n]))) for n in (1, 33, 320)] == [1, 33, 320]
    for large in ([bytes(64 * 1024)] * 4, [*[bytes(64 * 1024)] * 3, b"small"]):
        body = Body(1 << 20)
        body.pieces += large
        body.check()
        assert all(held is given for held, given in zip(body.pieces, large, strict=True))
