"""What the spool does to files, each as one function: the only place of the spool that calls the system to write.

Everything raises ``OSError``. Directories are 0700, files 0600.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["append", "make_directory", "make_file", "remove", "replace", "sync", "sync_directory", "truncate"]

#: buffers that one ``writev`` takes (IOV_MAX is 1024)
_VECTOR: Final = 1000


def make_directory(path: Path) -> None:
    """Make ``path``, which must not be there."""
    path.mkdir(mode=0o700)


def make_file(path: Path) -> int:
    """Make ``path``, which must not be there; its descriptor, for appending."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)


def append(descriptor: int, buffers: Sequence[bytes]) -> None:
    """Write all of ``buffers``."""
    for start in range(0, len(buffers), _VECTOR):
        some = buffers[start : start + _VECTOR]
        number = os.writev(descriptor, some)
        if number < sum(map(len, some)):  # the disk is nearly full, or a signal came
            _write_all(descriptor, memoryview(b"".join(some))[number:])


def _write_all(descriptor: int, remaining: memoryview) -> None:
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]


def truncate(descriptor: int, size: int) -> None:
    """Cut the file to ``size`` bytes."""
    os.ftruncate(descriptor, size)


def sync(descriptor: int) -> None:
    """Return when what was written is on the disk."""
    os.fdatasync(descriptor)


def sync_directory(path: Path) -> None:
    """Return when the names in ``path`` are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes, *, durable: bool) -> None:
    """Give ``path`` a new content, in one step: a reader finds the old one or the new one, whole."""
    temporary = path.with_name(f"{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        append(descriptor, [content])
        if durable:
            sync(descriptor)
    finally:
        os.close(descriptor)
    rename(temporary, path)
    if durable:
        sync_directory(path.parent)


def rename(old: Path, new: Path) -> None:
    """Give a file another name, in place of the one that has it."""
    old.replace(new)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    path.unlink(missing_ok=True)
