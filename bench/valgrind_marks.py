"""Asks the Valgrind that this process runs under to count instructions, from now to then.

Valgrind takes requests by a sequence of instructions that does nothing anywhere else (``valgrind.h``); it is put into
memory here, as Python has no macro for it. So only what lies between two marks is counted, and slowed down.
"""

from __future__ import annotations

import ctypes
import mmap
import platform

#: a function (address of six words, default) -> answer
_CODE = {
    "x86_64": (
        "4889f8"  # mov  rax, rdi
        "4889f2"  # mov  rdx, rsi
        "48c1c703 48c1c70d 48c1c73d 48c1c733"  # rol rdi, 3, 13, 61, 51: once around
        "4887db"  # xchg rbx, rbx
        "4889d0"  # mov  rax, rdx
        "c3"  # ret
    )
}
_RUNNING_ON_VALGRIND = 0x1001
_CALLGRIND = ord("C") << 24 | ord("T") << 16
_ZERO, _DUMP, _START, _STOP = _CALLGRIND + 1, _CALLGRIND + 3, _CALLGRIND + 4, _CALLGRIND + 5


def is_known(machine: str = platform.machine()) -> bool:
    """Whether this kind of processor can be asked."""
    return machine in _CODE


class Marks:
    """The requests. Without Valgrind around the process they do nothing."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._memory.write(bytes.fromhex(_CODE[platform.machine()]))
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._ask = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)(address)

    def _request(self, number: int, argument: int = 0) -> int:
        words = (ctypes.c_uint64 * 6)(number, argument)
        return self._ask(ctypes.addressof(words), 0)

    @property
    def is_under_valgrind(self) -> bool:
        return bool(self._request(_RUNNING_ON_VALGRIND))

    def start(self) -> None:
        """Count from now on."""
        self._request(_START)

    def zero(self) -> None:
        """Forget what was counted."""
        self._request(_ZERO)

    def dump(self, name: str) -> None:
        """Write what was counted since the last time under ``name``."""
        text = ctypes.create_string_buffer(name.encode())
        self._request(_DUMP, ctypes.addressof(text))

    def stop(self) -> None:
        """Count no more."""
        self._request(_STOP)
