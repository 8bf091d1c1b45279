"""Content codings, decoded exactly as the HTTP client decodes them.

The SDK reads what httpx or httpx2 decodes, so their rules apply here: names in any case; unknown names, and those whose
package is not installed, are skipped; only the first member of a gzip file, but all frames of Zstandard are decoded.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Final, Protocol

#: httpx2 refuses a response with more
_MAX_CODINGS: Final = 5


class UndecodableError(Exception):
    """The bytes are not in their content coding. The client raises on them too, so it is no internal error."""


class _Decoder(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode a piece. The bytes in front of an error are yielded before it is raised."""
        ...


def decoder(encoding: str, client: str = "httpx2") -> Callable[[bytes], Iterator[bytes]]:
    """An incremental decoder of a ``content-encoding`` header for responses of ``client``, ``httpx`` or ``httpx2``.

    It raises :class:`UndecodableError` on bytes that are not what the header says.
    """
    codings = [_coding(part.strip().lower(), client) for part in encoding.split(",")]
    steps = [coding for coding in reversed(codings) if coding is not None]
    if client == "httpx2" and len(steps) > _MAX_CODINGS:
        return _refuse

    def feed(piece: bytes) -> Iterator[bytes]:
        pieces = iter((piece,))
        for number, step in enumerate(steps):
            pieces = _feed_step(step, pieces, skip_empty=number > 0 and client == "httpx2")
        return pieces

    return feed


def decompress(pieces: list[bytes], encoding: str, client: str) -> list[bytes]:
    """The decoded pieces, one for each piece, up to the first that cannot be decoded."""
    feed = decoder(encoding, client)
    decoded: list[bytes] = []
    for piece in pieces:
        parts: list[bytes] = []
        try:
            parts.extend(feed(piece))
        except UndecodableError:
            return [*decoded, b"".join(parts)] if parts else decoded
        decoded.append(b"".join(parts))
    return decoded


def _feed_step(step: _Decoder, pieces: Iterator[bytes], *, skip_empty: bool) -> Iterator[bytes]:
    """Feed ``pieces`` to a step.

    httpx passes empty pieces from one step to the next, httpx2 does not. That matters: by the first piece, even an
    empty one, ``deflate`` decides whether the data is raw.
    """
    for piece in pieces:
        if piece or not skip_empty:
            yield from step.feed(piece)


def _refuse(_: bytes) -> Iterator[bytes]:
    raise UndecodableError(f"more than {_MAX_CODINGS} content codings")


def _coding(name: str, client: str) -> _Decoder | None:
    """The decoder of one coding; None for those that the client ignores."""
    if name == "gzip":
        return _Zlib(zlib.MAX_WBITS | 16)
    if name == "deflate":
        return _Zlib(zlib.MAX_WBITS, or_raw=True)
    if name == "br":
        brotli = _first_module("brotli", "brotlicffi")
        return None if brotli is None else _Brotli(brotli)
    if name == "zstd":
        if client == "httpx":
            zstandard = _first_module("zstandard")
            return (
                None
                if zstandard is None
                else _Zstandard(zstandard, lambda: zstandard.ZstdDecompressor().decompressobj())
            )
        zstd = _first_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
        return None if zstd is None else _Zstandard(zstd, zstd.ZstdDecompressor, reopens=True)
    return None


class _Zlib:
    """gzip and ``deflate``. By the standard that is zlib; some servers send it raw, which the first piece shows."""

    def __init__(self, window: int, *, or_raw: bool = False) -> None:
        self._object = zlib.decompressobj(window)
        self._or_raw = or_raw

    def feed(self, data: bytes) -> Iterator[bytes]:
        or_raw, self._or_raw = self._or_raw, False
        try:
            yield self._object.decompress(data)
        except zlib.error as error:
            if not or_raw:
                raise UndecodableError(str(error)) from error
            self._object = zlib.decompressobj(-zlib.MAX_WBITS)
            yield from self.feed(data)


class _Brotli:
    def __init__(self, brotli: Any) -> None:
        self._error: type[Exception] = brotli.error
        decompressor = brotli.Decompressor()
        self._decompress: Callable[[bytes], bytes] = getattr(decompressor, "decompress", None) or decompressor.process

    def feed(self, data: bytes) -> Iterator[bytes]:
        if data:
            try:
                yield self._decompress(data)
            except self._error as error:
                raise UndecodableError(str(error)) from error


class _Zstandard:
    """Zstandard. Servers that flush often send many frames."""

    def __init__(self, zstd: Any, new: Callable[[], Any], *, reopens: bool = False) -> None:
        self._error: type[Exception] = zstd.ZstdError
        self._new = new
        #: whether a piece may start behind a frame that ended with the piece before; httpx's decoder fails there
        self._reopens = reopens
        self._object = new()

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not data:
            return
        try:
            if self._reopens and self._object.eof:
                data = self._object.unused_data + data
                self._object = self._new()
            yield self._object.decompress(data)
            while self._object.eof and self._object.unused_data:
                data = self._object.unused_data
                self._object = self._new()
                yield self._object.decompress(data)
        except self._error as error:
            raise UndecodableError(str(error)) from error


def _first_module(*names: str) -> Any:
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None
