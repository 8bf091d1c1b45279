"""The directories that we make are closed to others, parents too, whatever the umask is."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmspan._directories import make_private_directory
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.pipeline.dead_letters import DeadLetters
from llmspan.pipeline.spool.directory import make_root
from llmspan.sidecar import bind_socket
from records import make_trace
from stores.sidecar import short_directory


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def write_sqlite(path: Path) -> None:
    backend = SQLiteBackend(path / "x.db")
    backend.write([make_trace()])
    backend.shutdown()


def write_dead_letter(path: Path) -> None:
    assert DeadLetters(path, "sqlite").store(make_trace(), "sqlite", ValueError("x")) is None


def listen_there(path: Path) -> None:
    bind_socket(path / "s.sock", {}).close()


@pytest.mark.parametrize(
    ("make", "mode"),
    [
        (make_private_directory, 0o700),
        (make_root, 0o700),
        (write_sqlite, 0o700),
        (write_dead_letter, 0o700),
        (listen_there, 0o750),  # senders of the socket's group pass through
    ],
)
def test_parents_are_private(make: Callable[[Path], None], mode: int, umask: int) -> None:
    """Every directory on the way that was not there has the mode; those that were there keep theirs."""
    with short_directory() as there:
        there.chmod(0o755)
        make(there / "a" / "b" / "c")
        for path in (there / "a", there / "a" / "b", there / "a" / "b" / "c"):
            assert stat.S_IMODE(path.stat().st_mode) == mode
        assert stat.S_IMODE(there.stat().st_mode) == 0o755


def test_a_file_in_the_place_is_an_error(tmp_path: Path) -> None:
    """Where a file stands no directory can be made; one that is there already is fine."""
    (tmp_path / "file").touch()
    make_private_directory(tmp_path)
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"exists|Not a directory"):
            make_private_directory(path)
