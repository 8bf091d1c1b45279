"""Records that a backend can never store: kept whole, private, bounded, and never half."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest

from llmspan.errors import PermanentError
from llmspan.pipeline import dead_letters
from llmspan.pipeline.dead_letters import DeadLetters, default_directory
from llmspan.trace import ProviderTrace
from records import full_trace, make_trace

REFUSED = PermanentError("cannot hold this")


def lines_of(letters: DeadLetters) -> list[dict[str, Any]]:
    return [json.loads(line) for line in letters.path.read_text().splitlines()]


def test_a_line_has_the_record_and_the_reason(tmp_path: Path) -> None:
    """The canonical form of the record can be read back from its line; the file is its owner's alone."""
    letters = DeadLetters(tmp_path / "made", "postgres")
    trace = full_trace()
    assert letters.store(trace, "postgres", REFUSED) is None
    (line,) = lines_of(letters)
    assert (line["backend"], line["reason"]) == ("postgres", "PermanentError: cannot hold this")
    assert ProviderTrace.from_json(json.dumps(line["record"])).id == trace.id
    assert trace.to_json() in letters.path.read_text()
    assert letters.path == tmp_path / "made" / "postgres.jsonl"
    assert stat.S_IMODE(letters.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(letters.path.parent.stat().st_mode) == 0o700


def test_a_name_is_no_path(tmp_path: Path) -> None:
    """A backend of another package cannot lead the file elsewhere by its name."""
    assert DeadLetters(tmp_path, "../../x/y").path.parent == tmp_path


def test_a_full_file_keeps_numbers_first(tmp_path: Path) -> None:
    """What does not fit whole is kept without its payload; what does not fit at all is refused, with the remedy."""
    letters = DeadLetters(tmp_path, "sqlite", max_bytes=4000)
    assert letters.store(make_trace(request_json='"' + "x" * 5000 + '"'), "sqlite", REFUSED) is None
    (line,) = lines_of(letters)
    assert (line["record"]["content"], line["record"]["request_json"]) == ("truncated", None)
    assert line["record"]["input_tokens"] == 10
    while (refusal := letters.store(make_trace(), "sqlite", REFUSED)) is None:
        pass
    assert str(letters.path) in refusal
    assert "move it away" in refusal
    assert letters.path.stat().st_size <= 4000


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A bad directory is a reason, not an exception."""
    (tmp_path / "file").write_text("")
    refusal = DeadLetters(tmp_path / "file" / "below", "sqlite").store(make_trace(), "sqlite", REFUSED)
    assert refusal is not None
    assert "below" in refusal


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """A line that the disk has no room for leaves the lines before it, and nothing of itself."""
    letters = DeadLetters(tmp_path, "sqlite")
    assert letters.store(make_trace(), "sqlite", REFUSED) is None
    before = letters.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        refusal = letters.store(make_trace(), "sqlite", REFUSED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert refusal is not None
    assert letters.path.read_bytes() == before


def test_what_was_kept_before_is_not_kept_twice(tmp_path: Path) -> None:
    """Of records that may be there already, those that are stay as they are; all others are kept."""
    odd = 'with "record":{"id":"c"} in it, and a \\'
    traces = {id_: make_trace(id=id_, request_json='{"record":{"id":"d"}}') for id_ in ("a", "b", odd, "c", "d")}
    first = DeadLetters(tmp_path, "sqlite")
    for id_ in ("a", odd):
        assert first.store(traces[id_], 'a "record":{"id":"c"}', PermanentError('"record":{"id":"b"')) is None
    before = first.path.read_bytes()
    second = DeadLetters(tmp_path, "sqlite")
    second.look_for(traces)
    for id_ in ("a", odd):
        assert second.store(traces[id_], "sqlite", REFUSED) is None
    assert first.path.read_bytes() == before
    for trace in traces.values():
        assert second.store(trace, "sqlite", REFUSED) is None
    assert [line["record"]["id"] for line in lines_of(second)] == ["a", odd, "b", "c", "d"]


@pytest.mark.parametrize("length", [1, 100, 200_000])
def test_half_a_line_is_cut_off(tmp_path: Path, length: int) -> None:
    """What a process left that was killed while it wrote does not spoil the line after it, and is not "kept"."""
    letters = DeadLetters(tmp_path, "sqlite")
    traces = [make_trace(request_json='"' + "x" * 300_000 + '"') for _ in range(2)]
    for trace in traces:
        assert letters.store(trace, "sqlite", REFUSED) is None
    first, second, _ = letters.path.read_bytes().split(b"\n")
    letters.path.write_bytes(first + b"\n" + second[:-length])
    again = DeadLetters(tmp_path, "sqlite")
    again.look_for(trace.id for trace in traces)
    for trace in traces:
        assert again.store(trace, "sqlite", REFUSED) is None
    assert [line["record"]["id"] for line in lines_of(again)] == [trace.id for trace in traces]
    letters.path.write_bytes(second[:-length])
    assert letters.store(traces[0], "sqlite", REFUSED) is None
    assert [line["record"]["id"] for line in lines_of(letters)] == [traces[0].id]


def test_what_is_kept_can_be_made_safe(tmp_path: Path) -> None:
    """``sync`` has nothing to do without a file, and needs the file once there is something to be safe."""
    letters = DeadLetters(tmp_path / "made", "sqlite")
    letters.sync()
    assert letters.store(make_trace(), "sqlite", REFUSED) is None
    letters.sync()
    assert letters.store(make_trace(), "sqlite", REFUSED) is None
    letters.path.unlink()
    with pytest.raises(FileNotFoundError):
        letters.sync()


def test_the_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """``$XDG_STATE_HOME`` if it is absolute, else below the home directory."""
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_directory() == Path("/state/llmspan/dead-letters")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_directory() == Path("~/.local/state/llmspan/dead-letters")


def test_a_child_that_is_forked_meanwhile_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the descriptor that the lock is on; who has written lets go of the lock, and does not only close."""
    inherited: list[int] = []
    real = dead_letters._write

    def write(descriptor: int, line: bytes, size: int) -> None:
        inherited.append(os.dup(descriptor))
        real(descriptor, line, size)

    monkeypatch.setattr(dead_letters, "_write", write)
    letters = DeadLetters(tmp_path, "postgres")
    assert letters.store(full_trace(), "postgres", REFUSED) is None
    with letters.path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(inherited[0])


def test_a_file_system_without_locks_costs_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be locked cannot be kept; its file is closed nevertheless."""

    def no_locks(*_: Any) -> None:
        raise OSError(95, "operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert "not supported" in (DeadLetters(tmp_path, "postgres").store(full_trace(), "postgres", REFUSED) or "")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
