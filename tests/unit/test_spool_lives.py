"""The spool where one process ends and another begins: directories in the making, what is handed over or begun."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llmspan.errors import PermanentError, RetryableError
from llmspan.pipeline.dead_letters import DeadLetters
from llmspan.pipeline.spool import Spool, SpoolBacklog, disk
from llmspan.pipeline.spool.cursor import load
from llmspan.pipeline.spool.directory import SpoolDirectory, orphaned_directories
from llmspan.pipeline.statistics import DeliveryStats
from llmspan.trace import ProviderTrace
from polling import until
from records import make_trace
from scripted import Away, Noting, Ready, Scripted, ids_in, leave, only, pipeline_to, raising, submit

PAYLOAD = '"' + "x" * 4000 + '"'

pytestmark = pytest.mark.usefixtures("no_defects")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_unfinished_directories_are_removed(root: Path) -> None:
    """What a process left that died while it made its directory goes; what one is making stays."""
    for name in ("new-dead", "new-alive"):
        (root / name).mkdir(parents=True)
        (root / name / "lock").touch()
    with (root / "new-alive" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pipeline = pipeline_to(Noting(), spool_dir=root)
        submit(pipeline, 1)
        assert pipeline.flush(30)
        assert sorted(path.name for path in root.glob("new-*")) == ["new-alive"]


def test_empty_directories_are_removed(root: Path) -> None:
    """What a process left that died before it made its lock, or after it removed it, goes; nothing else does."""
    for name in ("new-early", "log-late", "strange"):
        (root / name).mkdir(parents=True)
    (root / "log-odd").mkdir()
    (root / "log-odd" / "something").touch()
    pipeline = pipeline_to(Noting(), spool_dir=root)
    assert pipeline.flush(30)
    assert pipeline.close(30)
    assert sorted(path.name for path in root.iterdir()) == ["log-odd", "strange"]


@pytest.mark.parametrize("step", ["make_directory", "make_file"])
def test_processes_that_start_at_the_same_time(
    step: str, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory in the making that another process takes for a dead one's is made anew; no record waits in memory."""
    real = getattr(disk, step)
    others: list[list[SpoolDirectory]] = []

    def meanwhile(path: Path) -> Any:
        made = real(path)
        if len(others) < 3:
            others.append(list(orphaned_directories(root)))
        return made

    monkeypatch.setattr(disk, step, meanwhile)
    backend = Away()
    pipeline = pipeline_to(backend, spool_dir=root)
    submit(pipeline, 3)
    assert pipeline.wait_until_spooled(30)
    assert others == [[], [], []]
    assert (only(pipeline).spooled, only(pipeline).queued) == (3, 0)
    assert not any("wait in memory" in message for message in caplog.messages)
    pipeline.close(0.01)


def test_a_backend_that_has_moved_has_one_cursor(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At no moment are there two, of which one would hold on to what is delivered for ever."""
    pipeline = pipeline_to(Away("old place"), spool_dir=root)
    ids = submit(pipeline, 3)
    assert pipeline.wait_until_spooled(30)
    pipeline.close(30)
    seen: list[int] = []
    real = disk.rename

    def looking(old: Path, new: Path) -> None:
        real(old, new)
        seen.append(sum(path.suffix != ".new" for path in orphaned.glob("cursor-*")))

    (orphaned,) = root.glob("log-*")
    monkeypatch.setattr(disk, "rename", looking)
    backend = Noting("new place")
    pipeline = pipeline_to(backend, spool_dir=root)
    assert pipeline.flush(30)
    assert ids_in(backend) == set(ids)
    assert max(seen) == 1
    assert pipeline.close(30)
    assert list(root.iterdir()) == []


def test_handed_over_means_on_disk(root: Path) -> None:
    """``hand_over`` returns when the spool has all that was accepted, though the store has nothing."""
    pipeline = pipeline_to(Away(), spool_dir=root)
    assert pipeline.wait_until_spooled(0)
    for number in range(1, 21):
        submit(pipeline, 50)
        assert pipeline.wait_until_spooled(30)
        assert (only(pipeline).spooled, only(pipeline).queued) == (50 * number, 0)
    pipeline.close(0.01)


def test_a_record_is_set_aside_once(root: Path, tmp_path: Path) -> None:
    """A process ends while it singles out what its store refuses; the next one begins anew, and keeps nothing twice."""
    letters = tmp_path / "dead"
    poison = make_trace(request_json=PAYLOAD)

    class Refusing(Noting):
        """It refuses the poison, and goes away with the first write after it was refused alone."""

        def write(self, traces: Sequence[ProviderTrace]) -> None:
            if self.asked[-1:] == [[poison.id]] and self.place == "goes away":
                raise RetryableError("connection refused")
            self.asked.append([trace.id for trace in traces])
            if poison in traces:
                raise PermanentError("cannot hold this")
            Scripted.write(self, traces)

    settings: dict[str, Any] = {"spool_dir": root, "dead_letter_dir": letters}
    first = Refusing("goes away")
    pipeline = pipeline_to(first, **settings)
    traces = [poison, *(make_trace() for _ in range(5))]
    for trace in traces:
        pipeline.submit(Ready(trace))
    until(lambda: only(pipeline).dead_lettered == 1 and only(pipeline).failed_writes > 1)
    leave(pipeline)
    second = Refusing("stays")
    pipeline = pipeline_to(second, **settings)
    assert pipeline.flush(30)
    assert ids_in(first) | ids_in(second) == {trace.id for trace in traces[1:]}
    (line,) = (letters / "memory.jsonl").read_text().splitlines()
    assert poison.id in line
    assert pipeline.close(30)


def test_what_is_set_aside_is_on_disk_before_it_leaves_the_spool(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead-letter file is synchronised while the cursor still says that the batch is to be sent again."""
    seen: list[tuple[int, list[int]]] = []
    sync = DeadLetters.sync

    def looking(letters: DeadLetters) -> None:
        sync(letters)
        cursors = [cursor for log in root.glob("log-*") for cursor in load(log).values()]
        seen.append((letters.path.read_text().count("\n"), [0 if c is None else c.next for c in cursors]))

    monkeypatch.setattr(DeadLetters, "sync", looking)
    pipeline = pipeline_to(
        Scripted(raising(PermanentError("cannot hold this"))), spool_dir=root, dead_letter_dir=tmp_path / "dead"
    )
    submit(pipeline, 1)
    assert pipeline.flush(30)
    assert only(pipeline).dead_lettered == 1
    assert seen == [(1, [1])]


def test_nothing_is_taken_where_nothing_is() -> None:
    """What waited may have gone to make room, between the look and the take."""
    assert SpoolBacklog("memory", DeliveryStats(), lambda _: None).take() == []


def test_what_comes_while_it_closes_is_in_the_spool(root: Path) -> None:
    """A call that ends after the last flush, and before the deliveries are gone, is left to the next process."""
    late, begun = [make_trace(), make_trace()], threading.Event()

    class Slow(Ready):
        def build(self) -> ProviderTrace:
            begun.set()
            until(lambda: pipeline._deferred)  # the deliveries are closed, and the spool is about to be
            return super().build()

    class Busy(Noting):
        def force_flush(self, timeout: float) -> bool:
            pipeline.submit(Slow(late[0]))
            pipeline.submit(Ready(late[1]))
            begun.wait(30)
            return super().force_flush(timeout)

    pipeline = pipeline_to(Busy(), spool_dir=root)
    submit(pipeline, 1)
    pipeline.close(30)
    status = only(pipeline)
    assert (status.accepted, status.delivered, status.spooled, status.dropped) == (3, 1, 2, {})
    backend = Noting()
    assert pipeline_to(backend, spool_dir=root).flush(30)
    assert ids_in(backend) == {trace.id for trace in late}


def test_no_error_of_the_spool_costs_a_record(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory half way through a write: the records wait in memory, and nothing of the half is read later."""
    monkeypatch.setattr("llmspan.pipeline.spool.writer._RETRY_AFTER", 0.0)
    pipeline = pipeline_to(Away(), spool_dir=root)
    ids = submit(pipeline, 1)
    assert pipeline.wait_until_spooled(30)
    real = disk.append

    def running_out(descriptor: int, buffers: Sequence[bytes]) -> None:
        if len(buffers) > 1:  # records, and no cursor
            real(descriptor, buffers[:1])
            raise MemoryError
        real(descriptor, buffers)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "append", running_out)
        submit(pipeline, 1)
        assert pipeline.wait_until_spooled(30)
    assert (only(pipeline).spooled, only(pipeline).queued) == (1, 1)
    ids += submit(pipeline, 1)
    assert pipeline.wait_until_spooled(30)
    assert (only(pipeline).spooled, only(pipeline).queued) == (2, 1)
    leave(pipeline)
    backend = Noting()
    assert pipeline_to(backend, spool_dir=root).flush(30)
    assert ids_in(backend) == set(ids)


def test_what_a_failed_write_could_not_take_back_is_no_hindrance(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was begun, and can be neither written nor removed, is replaced once the disk is well again."""
    monkeypatch.setattr("llmspan.pipeline.spool.writer._RETRY_AFTER", 0.0)
    pipeline = pipeline_to(Away(), spool_dir=root)

    def failing(*_: Any) -> None:
        raise OSError(5, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "remove", failing)
        patch.setattr(disk, "sync", lambda descriptor: failing() if os.fstat(descriptor).st_size > 300 else None)
        submit(pipeline, 1)
        assert pipeline.wait_until_spooled(30)
        assert (only(pipeline).spooled, only(pipeline).queued) == (0, 1)
    submit(pipeline, 2)
    assert pipeline.wait_until_spooled(30)
    assert (only(pipeline).spooled, only(pipeline).queued) == (2, 1)
    pipeline.close(0)


def test_a_forked_child_spools_whatever_fails_at_the_fork(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that has closed all its descriptors, ours with them, and changed its directory, has a spool still."""
    monkeypatch.chdir(root.parent)
    pipeline = pipeline_to(Away(), spool_dir=Path(root.name))
    submit(pipeline, 1)
    assert pipeline.wait_until_spooled(30)

    def failing(_: Spool) -> None:
        raise OSError(9, "bad file descriptor")

    monkeypatch.setattr(Spool, "forget", failing)
    monkeypatch.chdir("/")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # no assertion may escape into pytest's copy
        submit(pipeline, 2)
        handed = pipeline.wait_until_spooled(30)
        status = pipeline.status()[0]
        os.write(write, repr((handed, status.accepted, status.spooled, len(list(root.glob("log-*"))))).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1000).decode() == repr((True, 2, 2, 2))
    os.close(read)
    os.close(write)
    pipeline.close(0)
