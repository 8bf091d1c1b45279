"""The last segment cut off at every byte: whatever is whole before the cut is delivered, once, and the rest is told."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.ledger import enter
from faults.torn import frames_of, last_segment, left_behind, recovered
from llmspan.pipeline.spool import entries


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory that no disk slows down, if there is one."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="llmspan-", dir=shared if os.access(shared, os.W_OK) else None) as name:
        yield Path(name)


@pytest.mark.parametrize("is_begun", [False, True])
def test_at_every_byte(is_begun: bool, memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also where a batch had been frozen that goes beyond the cut (``is_begun``)."""
    spool = memory / "spool"
    ids = left_behind(spool, is_begun=is_begun)
    files = {path.relative_to(spool): path.read_bytes() for path in spool.glob("*/*")}
    last = last_segment(spool)
    name, found = last.relative_to(spool), frames_of(last)
    caplog.set_level(logging.WARNING, "llmspan")
    for size in range(len(files[name])):
        caplog.clear()
        (spool / name.parent).mkdir(exist_ok=True)
        for path, content in files.items():
            (spool / path).write_bytes(content[:size] if path == name else content)
        stored, status = recovered(spool)
        cut_off = [id_ for id_, _, end in found if end > size]
        assert stored == ids[: len(ids) - len(cut_off)]
        assert status.recovered == status.delivered == len(stored)
        sound = [min(size, len(entries.MARK)), *(end for _, _, end in found if end <= size)]
        assert _told(caplog) == size - max(sound)
        assert list(spool.iterdir()) == []
        enter("last segment cut off at every byte", ids, stored, [status], destroyed=cut_off)


def _told(caplog: pytest.LogCaptureFixture) -> int:
    """How many bytes were cut off, says the log."""
    cuts = [record.args[1] for record in caplog.records if "not written whole" in record.msg]  # type: ignore[index]
    assert len(cuts) <= 1
    return sum(cuts)
