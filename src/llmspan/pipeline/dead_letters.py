"""Records that a backend can never store, kept for people: one JSONL file per backend, private and bounded.

A line has the record in its canonical form and why it was refused. When the file is full, records are kept without
their payloads; when that does not fit either, the record is given up, and counted.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from .. import _json
from .._guard import outcome
from ..trace import ProviderTrace

__all__ = ["DeadLetters", "default_directory"]

_MAX_BYTES: Final = 256 * 1024 * 1024
_REASON_LIMIT: Final = 2000


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

    @property
    def path(self) -> Path:
        """Where the file is, or will be."""
        return self._directory / self._name

    def keep(self, trace: ProviderTrace, backend: str, error: BaseException) -> str | None:
        """Write ``trace`` down. None if it is kept; else why it is not."""
        reason = f"{type(error).__name__}: {error}"[:_REASON_LIMIT]
        head = _json.dumps({"backend": backend, "reason": reason, "at": time.time_ns()})[:-1]
        bare = replace(trace, request_json=None, response_json=None, content="truncated")
        lines = [f'{head},"record":{kept.to_json()}}}\n'.encode(errors="replace") for kept in (trace, bare)]
        failure = outcome(self._append, lines)
        return None if failure is None else str(failure)

    def _append(self, lines: Sequence[bytes]) -> None:
        """The first of ``lines`` that fits, whole or not at all."""
        directory = self._directory.expanduser()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / self._name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            for line in lines:
                if size + len(line) <= self._max_bytes:
                    _write(descriptor, line, size)
                    return
        finally:
            os.close(descriptor)
        raise OSError(f"{self.path} is full ({self._max_bytes} bytes); move it away")


def _write(descriptor: int, line: bytes, size: int) -> None:
    try:
        written = 0
        while written < len(line):
            written += os.write(descriptor, line[written:])
    except OSError:
        os.ftruncate(descriptor, size)
        raise
