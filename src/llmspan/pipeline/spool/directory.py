"""Directories below ``LLMSPAN_SPOOL_DIR``: one for each process, locked while it lives, adopted when it has died.

``log-<id>/lock`` is held with ``flock`` by the owner; the system lets go of it however the owner ends. A directory gets
its final name only when its lock is held and all that a reader needs is in it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..._directories import make_private_directory
from ...trace import new_id
from . import disk
from .cursor import is_cursor

__all__ = ["SpoolDirectory", "make_directory", "make_root", "orphaned_directories"]

_PREFIX: Final = "log-"
_UNFINISHED: Final = "new-"
_LOCK: Final = "lock"
#: how often a directory is made anew that another process took for a dead one's
_TRIES: Final = 5


@dataclass(slots=True)
class SpoolDirectory:
    """A directory whose lock this process holds."""

    path: Path
    descriptor: int

    def release_lock(self) -> None:
        """Let go of the lock: another process may adopt what is there."""
        if self.descriptor >= 0:
            with suppress(OSError):
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)  # closing is not enough while a forked child has it too
        self.forget()

    def forget(self) -> None:
        """In a forked child: the lock is the parent's."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def remove(self) -> None:
        """Remove the directory, in which nothing waits any more: cursors when no records are left, the lock last."""
        for path in sorted(self.path.iterdir(), key=lambda path: (path.name == _LOCK, is_cursor(path))):
            disk.remove(path)
        self.path.rmdir()
        self.release_lock()


def make_root(root: Path) -> None:
    """Make ``root`` if it is not there; only its owner may look into what we make."""
    make_private_directory(root)


def make_directory(root: Path, fill: Callable[[Path], None], *, durable: bool) -> SpoolDirectory:
    """A new directory of our own. ``fill`` puts in what must be there from the start."""
    for _ in range(_TRIES - 1):
        # until its lock is held, a process that starts at the same time takes it for what a dead one has left
        with suppress(BlockingIOError, FileNotFoundError):
            return _make_directory(root, fill, durable=durable)
    return _make_directory(root, fill, durable=durable)


def _make_directory(root: Path, fill: Callable[[Path], None], *, durable: bool) -> SpoolDirectory:
    name = new_id()
    unfinished = root / f"{_UNFINISHED}{name}"
    disk.make_directory(unfinished)
    home = SpoolDirectory(unfinished, disk.make_file(unfinished / _LOCK))
    try:
        fcntl.flock(home.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fill(unfinished)
        disk.rename(unfinished, root / f"{_PREFIX}{name}")
        if durable:
            disk.sync_directory(root)
    except OSError:
        with suppress(OSError):
            home.remove()
        home.release_lock()
        raise
    return SpoolDirectory(root / f"{_PREFIX}{name}", home.descriptor)


def orphaned_directories(root: Path) -> Iterator[SpoolDirectory]:
    """The directories of dead processes, oldest first, now locked by us. Unfinished and empty ones are removed."""
    for directory in sorted(root.iterdir()):
        if not directory.name.startswith((_PREFIX, _UNFINISHED)):
            continue
        home = _lock_directory(directory)
        if home is None:
            with suppress(OSError):  # it is not empty, but for what a process left that died as it made or removed it
                directory.rmdir()
        elif directory.name.startswith(_PREFIX):
            yield home
        else:
            with suppress(OSError):
                home.remove()
            home.release_lock()


def _lock_directory(directory: Path) -> SpoolDirectory | None:
    path = directory / _LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):  # no process has emptied it in the meantime
            return SpoolDirectory(directory, descriptor)
    except OSError:
        pass
    os.close(descriptor)
    return None
