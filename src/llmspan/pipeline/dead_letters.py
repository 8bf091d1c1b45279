"""Records that a backend can never store, kept for people: one JSONL file per backend, private and bounded.

A line has the record in its canonical form and why it was refused. When the file is full, records are kept without
their payloads; when that does not fit either, the record is given up, and counted. A record is kept once: what a
process that died may have kept already is looked for first, and the half of a line that it left is cut off.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from time import time_ns
from typing import Final

from .. import _json
from .._directories import make_private_directory
from .._guard import exception_of
from ..span_record import StoredItem
from .queue import without_payload
from .statistics import describe_error

__all__ = ["DeadLetters", "default_directory"]

_MAX_BYTES: Final = 256 * 1024 * 1024
_REASON_LIMIT: Final = 2000
#: what is read at a time in search of the end of the last whole line
_BLOCK: Final = 64 * 1024
_TEXT: Final = rb'"(?:[^"\\]|\\.)*"'
#: how a line begins, up to the record's id
_HEAD: Final = re.compile(rb'\{"backend":%b,"reason":%b,"at":\d+,"record":\{"id":(%b)' % (_TEXT, _TEXT, _TEXT))


def default_directory() -> Path:
    """``$XDG_STATE_HOME/llmspan/dead-letters``, or the same under ``~/.local/state``."""
    # as for SQLite's default place: the desktop's variable, not one of ours, and only if ours is not set
    state = Path(os.environ.get("XDG_STATE_HOME") or "")
    if not state.is_absolute():
        state = Path("~/.local/state")
    return state / "llmspan" / "dead-letters"


class DeadLetters:
    """The file of one backend. Written by the backend's worker, shared with those of other processes."""

    def __init__(self, directory: Path | None, backend: str, *, max_bytes: int = _MAX_BYTES) -> None:
        safe = re.sub(r"[^A-Za-z0-9_.-]", "_", backend)
        self._directory = default_directory() if directory is None else directory
        self._name = f"{safe}.jsonl"
        self._max_bytes = max_bytes
        self._wanted_ids: dict[bytes, str] = {}
        self._stored_ids: set[str] | None = None
        self._is_synced = True

    @property
    def path(self) -> Path:
        """Where the file is, or will be."""
        return self._directory / self._name

    def look_for(self, ids: Iterable[str]) -> None:
        """Of these records some may have been kept already; if they come now, they are not kept twice."""
        self._wanted_ids = {_json.dumps(id_).encode(): id_ for id_ in ids}
        self._stored_ids = None

    def store(self, record: StoredItem, backend: str, error: BaseException) -> str | None:
        """Write ``record`` down. None if it is kept; else why it is not."""
        if self._is_stored(record.id):
            return None
        reason = describe_error(error)[:_REASON_LIMIT]
        head = _json.dumps({"backend": backend, "reason": reason, "at": time_ns()})[:-1]
        bare = without_payload(record) or record
        lines = [f'{head},"record":{version.to_json_line()}}}\n'.encode(errors="replace") for version in (record, bare)]
        failure = exception_of(self._append, lines)
        return None if failure is None else str(failure)

    def sync(self) -> None:
        """Return when what was kept is on the disk.

        Raises:
            OSError: it is unknown whether it is.
        """
        if self._is_synced:
            return
        for path, kind in ((self.path, 0), (self.path.parent, os.O_DIRECTORY)):
            descriptor = os.open(path.expanduser(), os.O_RDONLY | os.O_CLOEXEC | kind)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self._is_synced = True

    def _is_stored(self, id_: str) -> bool:
        if self._stored_ids is None:
            self._stored_ids = set()
            exception_of(self._search, self._stored_ids)  # an unreadable file is skipped: better twice than never
        return id_ in self._stored_ids

    def _search(self, ids: set[str]) -> None:
        """All that is sought, in one pass."""
        if not self._wanted_ids:
            return
        with self.path.expanduser().open("rb") as file:
            for line in file:
                head = _HEAD.match(line)
                if head is not None and line.endswith(b"\n") and head[1] in self._wanted_ids:
                    ids.add(self._wanted_ids[head[1]])

    def _append(self, lines: Sequence[bytes]) -> None:
        """The first of ``lines`` that fits, whole or not at all."""
        directory = self._directory.expanduser()
        make_private_directory(directory)
        descriptor = os.open(directory / self._name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = _whole_lines(descriptor)
            for line in lines:
                if size + len(line) <= self._max_bytes:
                    self._is_synced = False
                    _write(descriptor, line, size)
                    return
        finally:
            with suppress(OSError):  # closing is not enough while a child, just forked, has it too
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)
        raise OSError(f"{self.path} is full ({self._max_bytes} bytes); move it away")


def _whole_lines(descriptor: int) -> int:
    """The bytes of the file's whole lines; what a process that was killed has left behind them is cut off."""
    size = end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - _BLOCK)
        line_end = os.pread(descriptor, end - start, start).rfind(b"\n")
        if line_end >= 0:
            end = start + line_end + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)
    return end


def _write(descriptor: int, line: bytes, size: int) -> None:
    try:
        position = 0
        while position < len(line):
            position += os.write(descriptor, line[position:])
    except OSError:
        os.ftruncate(descriptor, size)
        raise
