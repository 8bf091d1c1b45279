"""Files of others in the viewer: the ones that were published, with their licences."""

from __future__ import annotations

import hashlib
from pathlib import Path

from llmspan import ui

VENDOR = Path(ui.__file__).parent / "static" / "vendor"


def test_checksums() -> None:
    """Each script and style sheet is the published one, to the byte."""
    lines = (VENDOR / "SHA256SUMS").read_text().splitlines()
    sums = dict(reversed(line.split("  ")) for line in lines)
    files = [path for path in VENDOR.iterdir() if path.suffix in (".js", ".css")]
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files} == sums


def test_licences() -> None:
    """Each file's line in the README names a licence that is there."""
    text = (VENDOR / "README.md").read_text()
    for path in VENDOR.iterdir():
        if path.suffix in (".js", ".css"):
            (line,) = [line for line in text.splitlines() if f"`{path.name}`" in line]
            licence = line.split("|")[-2].strip().strip("`")
            assert (VENDOR / licence).read_text().strip()
