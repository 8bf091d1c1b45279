"""Ids of records: UUIDv7 (RFC 9562, section 5.7), ordered by creation time to the millisecond, random within it.

The random bits are the system's, never those of a generator of ours: a machine that is restored from a snapshot, twice
perhaps, would repeat them. They are asked for in blocks that are used for ten milliseconds: each question releases the
GIL, and where another thread waits for it, a call of the program would wait until that thread gives it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from os import urandom
from struct import iter_unpack
from time import time_ns
from typing import Final

from ._fork import after_fork_in_child

__all__ = ["new_id"]

_ID_BYTES: Final = 10
_BLOCK_IDS: Final = 32
_BLOCK_NANOSECONDS: Final = 10_000_000
#: a random hexadecimal digit as the one with the variant's two bits
_VARIANT: Final = {digit: "89ab"[at % 4] for at, digit in enumerate("0123456789abcdef")}


#: when it was made, and the random bytes of the next ids; each is taken once, as the GIL is held meanwhile
_Block = tuple[int, Iterator[tuple[bytes]]]
_NO_BLOCK: Final[_Block] = (0, iter(()))
#: its one item is the block that is used now
_current: Final[list[_Block]] = [_NO_BLOCK]


def _forget() -> None:
    _current[0] = _NO_BLOCK


after_fork_in_child(_forget)  # the parent goes on with its block


def new_id() -> str:
    """A fresh UUIDv7."""
    now = time_ns()
    digits = ((now // 1_000_000 & (1 << 48) - 1).to_bytes(6, "big") + _random_part(now)).hex()
    return f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


def _random_part(now: int) -> bytes:
    made_at, parts = _current[0]
    part = next(parts, None) if 0 <= now - made_at < _BLOCK_NANOSECONDS else None
    if part is None:  # too old, or all taken
        parts = iter_unpack(f"{_ID_BYTES}s", urandom(_BLOCK_IDS * _ID_BYTES))
        part = next(parts)  # before other threads can take all of them
        _current[0] = now, parts
    return part[0]
