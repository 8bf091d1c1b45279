"""Makes the directories of our files, which hold requests and responses: closed to others, whatever the umask is."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["make_private_directory"]


def make_private_directory(path: Path, mode: int = 0o700) -> None:
    """Make ``path`` and the parents that are missing, all with ``mode``; leave those that are there as they are."""
    for directory in [path, *path.parents][::-1]:
        if directory.exists():
            continue
        # ``mkdir`` takes the umask off the mode and, with ``parents=True``, gives parents no mode at all.
        with suppress(FileExistsError):
            directory.mkdir(mode=mode)
            directory.chmod(mode)
    path.mkdir(mode=mode, exist_ok=True)  # raises if there is a file in its place
