"""What survives a crash of the machine: bytes that were synchronised, under names whose directory was."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmspan.errors import PermanentError, RetryableError
from llmspan.pipeline.dead_letters import DeadLetters
from llmspan.pipeline.spool.backlog import SpoolBacklog
from llmspan.pipeline.spool.cursor import is_cursor
from llmspan.pipeline.spool.disk import replace
from llmspan.pipeline.spool.log import Log
from llmspan.settings import SpoolSync
from records import make_trace
from scripted import Scripted, only, pipeline_to, raising, submit

DURABLE = pytest.mark.parametrize("sync", ["always", "group"])
REFUSED = PermanentError("cannot hold this")


class Disk:
    """Notes what ``fsync`` and ``fdatasync`` have made safe, by inode, as a crash would leave it."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.names: dict[int, dict[str, int]] = {}

    def note(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            self.names[found.st_ino] = {entry.name: entry.inode() for entry in os.scandir(descriptor)}
        else:
            self.sizes[found.st_ino] = found.st_size

    def has_name(self, path: Path) -> bool:
        """Whether ``path`` would be there after a crash, if its directory is."""
        return self.names.get(path.parent.stat().st_ino, {}).get(path.name) == path.stat().st_ino

    def has(self, path: Path) -> bool:
        """Whether the file would be there, with all that is in it now."""
        found = path.stat()
        return self.has_name(path) and self.sizes.get(found.st_ino) == found.st_size


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    noted = Disk()

    def noting(real: object) -> object:
        def sync(descriptor: int) -> None:
            real(descriptor)  # type: ignore[operator]
            noted.note(descriptor)

        return sync

    monkeypatch.setattr(os, "fsync", noting(os.fsync))
    monkeypatch.setattr(os, "fdatasync", noting(os.fdatasync))
    return noted


@DURABLE
def test_each_segment_is_safe_before_readers_see_it(tmp_path: Path, sync: SpoolSync, disk: Disk) -> None:
    """An append returns when its bytes are on the disk, and when the name of a file that it has begun is, too."""
    log = Log(tmp_path, sync=sync, segment_bytes=1)
    for number in range(1, 4):
        log.append([b"x" * number])
        assert len(log.segments) == number
        assert all(disk.has(segment.path) for segment in log.segments)
    log.close()


@DURABLE
def test_the_second_append_to_a_segment_is_safe_too(tmp_path: Path, sync: SpoolSync, disk: Disk) -> None:
    """The name is on the disk by then; the new bytes must be."""
    log = Log(tmp_path, sync=sync, segment_bytes=1 << 20)
    for _ in range(3):
        log.append([b"x", b"y"])
        (segment,) = log.segments
        assert disk.has(segment.path)
    log.close()


def test_none_synchronises_nothing(tmp_path: Path, disk: Disk) -> None:
    """``none`` leaves it to the system when anything gets to the disk."""
    log = Log(tmp_path, sync="none", segment_bytes=1)
    log.append([b"x"])
    log.append([b"y"])
    log.close()
    assert (disk.sizes, disk.names) == ({}, {})


@DURABLE
def test_a_log_and_its_cursors_are_safe(tmp_path: Path, sync: str, disk: Disk) -> None:
    """The directory of a log is found after a crash, and in it how far each store had got."""
    pipeline = pipeline_to(Scripted(raising(RetryableError("x"))), spool_dir=tmp_path, spool_sync=sync)
    submit(pipeline, 3)
    assert pipeline.flush(30)
    (directory,) = tmp_path.glob("log-*")
    assert disk.has_name(directory)
    (cursor,) = filter(is_cursor, directory.iterdir())
    assert disk.has(cursor)
    assert pipeline.close(30)


def test_a_file_that_is_replaced_is_safe(tmp_path: Path, disk: Disk) -> None:
    """After ``replace`` the new content is on the disk under the old name, if that was asked for."""
    replace(tmp_path / "cursor", b"one", durable=True)
    assert disk.has(tmp_path / "cursor")
    replace(tmp_path / "cursor", b"other", durable=True)
    assert disk.has(tmp_path / "cursor")
    replace(tmp_path / "cursor", b"third", durable=False)
    assert not disk.has(tmp_path / "cursor")


def test_dead_letters_are_safe_once_synchronised(tmp_path: Path, disk: Disk) -> None:
    """``sync`` returns when the file's bytes and its name are on the disk, each time that something was kept."""
    letters = DeadLetters(tmp_path, "sqlite")
    for _ in range(3):
        assert letters.store(make_trace(), "sqlite", REFUSED) is None
        letters.sync()
        assert disk.has(letters.path)


def test_the_spool_lets_go_of_what_the_dead_letters_have_safe(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that a store refused leaves the spool when its dead letter would survive a crash, and not before."""
    letters = DeadLetters(tmp_path / "dead", "memory")
    safe: list[bool] = []
    real = SpoolBacklog.settle

    def settle(backlog: SpoolBacklog) -> None:
        safe.append(disk.has(letters.path))
        real(backlog)

    monkeypatch.setattr(SpoolBacklog, "settle", settle)
    backend = Scripted(raising(REFUSED))
    pipeline = pipeline_to(backend, spool_dir=tmp_path / "spool", dead_letter_dir=tmp_path / "dead")
    submit(pipeline, 1)
    assert pipeline.flush(30)
    assert only(pipeline).dead_lettered == 1
    assert safe == [True]
    assert pipeline.close(30)
