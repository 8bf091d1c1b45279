"""How far one backend has got in a log: a small file beside the segments, replaced in one step.

``next`` is the first number that is not settled; ``end`` is where the batch ends that was last begun there. A replay
sends that very batch again, so that a store which already has it can tell. A file that cannot be read counts as one
that says: from the beginning (what is sent again changes nothing).
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import disk

__all__ = ["Cursor", "is_cursor", "load", "save"]

_PREFIX: Final = "cursor-"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A backend and its read position."""

    backend: str
    location: str
    next: int = 1
    end: int = 1

    @property
    def file_name(self) -> str:
        """One for each backend and place."""
        return f"{prefix_of(self.backend)}{hashlib.sha256(self.location.encode(errors='replace')).hexdigest()[:12]}"


def prefix_of(backend: str) -> str:
    """How the file names of one backend's cursors begin, wherever it is."""
    return f"{_PREFIX}{re.sub(r'[^A-Za-z0-9_]', '_', backend)}-"


def is_cursor(path: Path) -> bool:
    """Whether a file is one, and not one in the making."""
    return path.name.startswith(_PREFIX) and path.suffix != ".new"


def save(directory: Path, cursor: Cursor, *, durable: bool) -> None:
    """Write ``cursor`` to its file."""
    values = {"backend": cursor.backend, "location": cursor.location, "next": cursor.next, "end": cursor.end}
    text = json.dumps(values).encode()
    disk.replace(directory / cursor.file_name, b"%08x %s\n" % (zlib.crc32(text), text), durable=durable)


def load(directory: Path) -> dict[str, Cursor | None]:
    """All cursors of a log by file name; None for a file that cannot be read."""
    return {path.name: _read(path) for path in sorted(directory.iterdir()) if is_cursor(path)}


def _read(path: Path) -> Cursor | None:
    try:
        checksum, _, text = path.read_bytes().rstrip(b"\n").partition(b" ")
        if int(checksum, 16) != zlib.crc32(text):
            return None
        values = json.loads(text)
        return Cursor(values["backend"], values["location"], values["next"], max(values["next"], values["end"]))
    except (OSError, ValueError, KeyError):
        return None
