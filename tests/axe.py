"""axe-core, which finds what keeps people from using a page: fetched from npm once, into a cache outside the tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

_VERSION = "4.14.1"


def find_axe() -> Path | None:
    """The script, fetched if it is not there; None without npm, or where npm reaches no registry."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmspan" / f"axe-core-{_VERSION}"
    script = cache / "package" / "axe.min.js"
    if not script.exists() and shutil.which("npm"):
        _fetch(cache)
    return script if script.exists() else None


def _fetch(cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["npm", "pack", "--silent", f"axe-core@{_VERSION}"], cwd=cache, capture_output=True, check=False, timeout=120
    )
    if done.returncode == 0:
        with tarfile.open(cache / f"axe-core-{_VERSION}.tgz") as archive:
            archive.extractall(cache, filter="data")
