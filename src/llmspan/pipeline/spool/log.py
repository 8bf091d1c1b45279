"""One log: a directory of segments that one process appends to, and that every backend reads at its own pace.

An append is whole or leaves nothing behind that would be read; it is seen by readers once it is published. ``lock`` is
for what moves: segments, and the places of readers. Only our own workers take it, never a caller.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final

from ..._native import allocate_lock
from ...settings import SpoolSync
from . import disk, entries

__all__ = ["Log", "Segment"]

_NAME: Final = re.compile(r"seg-([0-9a-f]{16})\.log")


@dataclass(slots=True)
class Segment:
    """One file: the numbers from ``first`` up to, not including, ``end``, in its first ``size`` bytes."""

    path: Path
    first: int
    end: int
    size: int = len(entries.MARK)


class Log:
    """The segments of one directory."""

    def __init__(self, directory: Path, *, sync: SpoolSync, segment_bytes: int) -> None:
        self.directory = directory
        self.lock = allocate_lock()
        self.segments: list[Segment] = []
        #: the number after the last one that readers may see
        self.end = 1
        #: the bytes behind the last sound frame that recovery has cut off
        self.bytes_cut = 0
        #: no longer ours: what is settled from now on is not written down
        self.is_closed = False
        #: left by a process that has died: what it had begun to send is sent again
        self.is_recovered = False
        self._written = 1
        self._active: int | None = None
        self._sync: SpoolSync = sync
        self._segment_bytes = segment_bytes

    @classmethod
    def recover(cls, directory: Path, *, sync: SpoolSync) -> Log:
        """The log that a dead process has left: what follows the last sound frame is cut off."""
        log = cls(directory, sync=sync, segment_bytes=0)
        log.is_recovered = True
        firsts = sorted(int(match[1], 16) for path in directory.iterdir() if (match := _NAME.fullmatch(path.name)))
        for first, following in zip_longest(firsts, firsts[1:]):
            path = directory / _name(first)
            segment = Segment(path, first, following or first, path.stat().st_size)
            if following is None:
                log._cut_tail(segment)
            log.segments.append(segment)
            log.end = log._written = segment.end
        return log

    def _cut_tail(self, segment: Segment) -> None:
        sound, segment.end = entries.valid_size(segment.path.read_bytes(), segment.first)
        self.bytes_cut = segment.size - sound
        if self.bytes_cut:
            os.truncate(segment.path, sound)
        segment.size = sound

    @property
    def bytes(self) -> int:
        """What the segments take on the disk."""
        return sum(segment.size for segment in self.segments)

    @property
    def durable(self) -> bool:
        """Whether what is said to be written shall survive a crash of the machine."""
        return self._sync != "none"

    # -- the one who writes -----------------------------------------------------------------------------------------

    def append(self, payloads: Sequence[bytes]) -> None:
        """Write ``payloads``, synchronised as the setting says; readers see them after :meth:`publish`.

        Raises:
            OSError: none of them is written; nor are they after any other error.
        """
        first = self._written
        buffers: list[bytes] = []
        for number, payload in enumerate(payloads, first):
            buffers += (entries.encode(number, payload), payload)
        size = sum(map(len, buffers))
        try:
            descriptor = self._file_for(size)
            disk.append(descriptor, buffers)
            if self.durable:
                disk.sync(descriptor)
        except BaseException:
            self._take_back()
            raise
        with self.lock:
            self.segments[-1].size += size
            self.segments[-1].end = self._written = first + len(payloads)

    def publish(self) -> None:
        """Let readers see what was appended."""
        self.end = self._written

    def seal(self) -> None:
        """Append to another file from now on."""
        active, self._active = self._active, None
        if active is not None:
            os.close(active)

    def close(self) -> None:
        """Leave the directory to others."""
        self.is_closed = True
        self.seal()

    def _file_for(self, size: int) -> int:
        """The file to append ``size`` bytes to: the one in use, or another if it is full."""
        if self._active is not None and self.segments[-1].size + size > self._segment_bytes:
            self.seal()
        if self._active is None:
            path = self.directory / _name(self._written)
            self._active = _make_file(path)
            with self.lock:
                self.segments.append(Segment(path, self._written, self._written))
            disk.append(self._active, [entries.MARK])
            if self.durable:
                disk.sync_directory(self.directory)
        return self._active

    def _take_back(self) -> None:
        """After a failure: what may have been written in part is cut off, or never appended to."""
        active = self._active
        if active is None:
            return
        segment = self.segments[-1]
        if segment.first == segment.end:
            with self.lock:
                self.segments.pop()
            with suppress(OSError):
                disk.remove(segment.path)
        else:
            with suppress(OSError):
                disk.truncate(active, segment.size)
        self.seal()

    # -- those who read ---------------------------------------------------------------------------------------------

    def segment_of(self, number: int) -> Segment | None:
        """The segment that has ``number``, or the first one after it, if readers may see it."""
        return next((segment for segment in self.segments if segment.end > number and segment.first < self.end), None)

    def drop_segment(self, segment: Segment) -> None:
        """Forget and remove a segment. Called with the lock held."""
        if segment is self.segments[-1]:
            self.seal()
        self.segments.remove(segment)
        disk.remove(segment.path)


def _make_file(path: Path) -> int:
    try:
        return disk.make_file(path)
    except FileExistsError:  # a write has failed there, and could not take back what it had begun
        disk.remove(path)
        return disk.make_file(path)


def _name(first: int) -> str:
    return f"seg-{first:016x}.log"
