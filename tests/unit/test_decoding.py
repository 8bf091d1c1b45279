"""Content codings: what a body decodes to is what the HTTP client gives the SDK, with httpx2 and with httpx."""

from __future__ import annotations

import gzip
import importlib
import sys
import types
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from llmspan import _guard
from llmspan.instrumentation.body import Body
from records import patient
from replay import split

TEXT = b"".join(b'data: {"n": %d, "text": "caf\xc3\xa9"}\n\n' % number for number in range(200))


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd}
CLIENTS = [name for name in ("httpx2", "httpx") if importlib.util.find_spec(name)]


@pytest.fixture(autouse=True)
def no_defects() -> Iterator[None]:
    """Whatever a server sends, decoding it counts no defect of ours."""
    _guard.reset_error_counts()
    yield
    assert _guard.failures() == {}
    _guard.reset_error_counts()


def decoded(pieces: list[bytes], encoding: str, client: str = "httpx2") -> bytes:
    body = Body(sum(map(len, pieces)), encoding, client)
    body.pieces += pieces
    return body.decoded()


def by_client(pieces: list[bytes], encoding: str, client: str = "httpx2") -> tuple[bytes, bool]:
    """What the client decodes, and whether it then raised."""
    http: Any = importlib.import_module(client)
    stream = type("Pieces", (http.SyncByteStream,), {"__iter__": lambda _: iter(pieces)})()
    response = http.Response(200, headers=[("content-encoding", encoding)], stream=stream)
    found = b""
    try:
        for piece in response.iter_bytes():
            found += piece
    except http.DecodingError:
        return found, True
    return found, False


def check(pieces: list[bytes], encoding: str, client: str = "httpx2") -> bytes:
    """The decoded bytes, once they are those of the client; of a body that breaks there may be more."""
    theirs, has_raised = by_client(pieces, encoding, client)
    ours = decoded(pieces, encoding, client)
    assert ours.startswith(theirs) if has_raised else ours == theirs
    return ours


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("encoding", ["gzip", "GZip", " gzip ", "identity, gzip", "gzip,", "none, gzip", "gzip, none",
                                      "aws-chunked,gzip", "deflate", "Deflate", "zstd", "zstd, x"])  # fmt: skip
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_known_codings(client, encoding, size):
    """A known coding is undone in whatever case, beside whatever names, and however the body was cut into pieces."""
    coding = next(name for name in PACKERS if name in encoding.lower())
    if coding == "zstd":
        pytest.importorskip("backports.zstd" if client == "httpx2" and sys.version_info < (3, 14) else "zstandard")
    assert check(split(PACKERS[coding](TEXT), size), encoding, client) == TEXT


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("encoding", [
    "none", "None", "utf-8", "UTF-8", "", " ", ",", "identity", "rot13", "x-gzip", "gzip;q=1", "gzip deflate",
])  # fmt: skip
def test_names_that_are_no_codings(client, encoding):
    """A name that the client does not know is no coding: the body is what it is."""
    assert check(split(TEXT, 50), encoding, client) == TEXT


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("encoding", ["deflate, gzip", "deflate, none, gzip", "deflate,identity,gzip"])
def test_codings_in_turn(client, encoding):
    """Several codings are undone in the reverse of the order in which they were done."""
    assert check(split(gzip.compress(zlib.compress(TEXT))), encoding, client) == TEXT


@pytest.mark.parametrize("layers", [5, 6])
def test_many_codings(layers):
    """httpx2 refuses more than five codings, and so do we."""
    packed = TEXT
    for _ in range(layers):
        packed = gzip.compress(packed)
    assert check([packed], ",".join(["gzip"] * layers)) == (TEXT if layers == 5 else b"")


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("size", [2, 7, 10_000])
def test_raw_deflate(client, size):
    """``deflate`` without the zlib header, as some servers send it, is decoded too."""
    assert check(split(raw_deflate(TEXT), size), "deflate", client) == TEXT


def frames(count: int) -> list[bytes]:
    return [zstd(part) for part in split(TEXT, len(TEXT) // count + 1)]


@pytest.mark.parametrize("pieces", [
    [b"".join(frames(3))], frames(3), split(b"".join(frames(7)), 5), [b"", *frames(2), b""],
    [frames(2)[0] + frames(2)[1][:3], frames(2)[1][3:]],
], ids=["one piece", "a piece a frame", "small pieces", "empty pieces", "a frame across pieces"])  # fmt: skip
def test_zstandard_frames(pieces):
    """All frames of a Zstandard body are read, however they are spread over the network's reads."""
    assert check(pieces, "zstd") == TEXT
    packed = [gzip.compress(b"".join(pieces))]
    assert check(packed, "zstd, gzip") == TEXT


@pytest.mark.skipif("httpx" not in CLIENTS, reason="httpx is not installed")
def test_zstandard_frames_of_httpx():
    """httpx reads the frames of one piece; a frame that begins a piece behind a whole one breaks it, and so here."""
    assert check([b"".join(frames(3))], "zstd", "httpx") == TEXT
    assert len(check(frames(3), "zstd", "httpx")) < len(TEXT)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("size", [3, 10_000])
def test_gzip_members(client, size):
    """Of a gzip file with several members the client reads the first, and so do we; what follows breaks nothing."""
    packed = gzip.compress(TEXT) + gzip.compress(b"second")
    assert check(split(packed, size), "gzip", client) == TEXT
    assert check([gzip.compress(TEXT), b"trailing bytes"], "gzip", client) == TEXT


@pytest.mark.parametrize(("encoding", "window"), [
    ("gzip", zlib.MAX_WBITS | 16), ("deflate", zlib.MAX_WBITS), ("deflate", -zlib.MAX_WBITS),
])  # fmt: skip
def test_broken_coding(encoding, window):
    """A compressed body that breaks keeps what was decoded before the break."""
    packer = zlib.compressobj(wbits=window)
    pieces = [packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in split(TEXT, 1000)]
    reserved_block_type = b"\x07\x07\x07\x07"
    body = Body(100, encoding)
    for moment, piece in enumerate([*pieces[:3], reserved_block_type, *pieces[3:]], 1):
        body.pieces.append(piece)
        body.stamps.extend((body.received_size, moment))
    assert body.decoded() == TEXT[:3000]
    assert body.time_at(2500) == 3


@pytest.mark.parametrize("client", CLIENTS)
def test_a_broken_frame(client):
    """A Zstandard body that breaks behind a frame keeps that frame, and counts no defect of ours."""
    first, second, _ = frames(3)
    assert check([first + b"no frame at all"], "zstd", client) == TEXT[: len(TEXT) // 3 + 1]
    assert check([first + second[:-4] + b"\xff" * 40], "zstd", client).startswith(TEXT[: len(TEXT) // 3 + 1])


def test_a_break_is_not_raw_deflate():
    """Only the first piece decides whether ``deflate`` is raw: what breaks later on is not tried as something else."""
    assert check([zlib.compress(b"sound")[:-4], raw_deflate(b"not part of it")], "deflate") == b"sound"


@pytest.mark.parametrize("encoding", PACKERS)
def test_coding_cut_short(encoding):
    """A compressed body that was cut gives all that can be known of it."""
    packed = PACKERS[encoding](TEXT * 200)
    found = check(split(packed[: len(packed) * 3 // 4], 13), encoding)
    assert found or encoding == "zstd"
    assert (TEXT * 200).startswith(found)


@patient
@given(
    content=st.binary(max_size=300),
    layers=st.lists(st.sampled_from([*PACKERS, "raw", "none", "identity", "br?"]), max_size=4),
    size=st.integers(1, 60),
    damage=st.none() | st.tuples(st.integers(0, 400), st.binary(max_size=3)),
)
def test_decoded_as_httpx2_does(content, layers, size, damage):
    """Any coding in any order, sound or damaged: the decoded bytes are those that httpx2 gives the SDK."""
    packed = content
    for layer in layers:
        packed = {**PACKERS, "raw": raw_deflate}.get(layer, bytes)(packed)
    if damage is not None:
        at = damage[0] % (len(packed) + 1)
        packed = packed[:at] + damage[1] + packed[at:]
    check(split(packed, size), ", ".join("deflate" if layer == "raw" else layer for layer in layers))


BACKPORT = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
#: client, coding, package, its class, its method
PACKAGES = [
    ("httpx2", "br", "brotli", "Decompressor", "process"),
    ("httpx", "br", "brotlicffi", "Decompressor", "decompress"),
    ("httpx2", "zstd", BACKPORT, "ZstdDecompressor", "decompress"),
    ("httpx", "zstd", "zstandard", "ZstdDecompressor", "decompress"),
]


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """None of the packages for Brotli and Zstandard can be imported."""
    for absent in ("brotli", "brotlicffi", "compression.zstd", "backports.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, absent, None)
    return monkeypatch


@pytest.mark.parametrize(("client", "encoding", "package", "kind", "method"), PACKAGES)
def test_codings_of_other_packages(client, encoding, package, kind, method, no_packages):
    """Brotli and Zstandard are decoded by the package that the client uses, each by its own method."""
    parent, dot, _ = package.partition(".")
    if dot:
        no_packages.setitem(sys.modules, parent, types.ModuleType(parent))
    # a stand-in, as none of the packages may be installed
    members = {method: lambda self, piece: piece.upper(), "decompressobj": lambda self: self, "eof": False}
    module = types.SimpleNamespace(**{kind: type(kind, (), members)}, error=ValueError, ZstdError=ValueError)
    no_packages.setitem(sys.modules, package, module)
    assert decoded([b"ab", b"c"], encoding, client) == b"ABC"


@pytest.mark.parametrize("encoding", ["br", "zstd", "br, zstd", "gzip, zstd"])
@pytest.mark.parametrize("client", ["httpx", "httpx2"])
def test_codings_without_their_packages(client, encoding, no_packages):
    """Without its package the client takes a coding for none, and so do we."""
    body = gzip.compress(TEXT) if "gzip" in encoding else TEXT
    assert decoded([body], encoding, client) == TEXT


@pytest.mark.parametrize("brotli", ["brotli", "brotlicffi"])
@pytest.mark.parametrize("client", CLIENTS)
def test_brotli(brotli, client):
    """Brotli in pieces, and what is no Brotli: as the client reads it."""
    package: Any = pytest.importorskip(brotli)
    packed = package.compress(TEXT)
    assert check(split(packed, 40), "br", client) == TEXT
    check([packed, b"more"], "br", client)
    check([b"no Brotli at all" * 10], "br", client)


def test_the_client_is_the_one_of_the_response():
    """A tee knows whose response it is under, as their rules differ."""
    from llmspan.instrumentation import tee

    assert tee._http_of(httpx2.Response).__name__ == "httpx2"
