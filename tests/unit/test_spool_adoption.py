"""What dead processes have left in the spool: who takes it over, how much at a time, and what may fail meanwhile."""

from __future__ import annotations

import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from llmspan import _guard
from llmspan.pipeline.spool import Spool, SpoolBacklog, disk
from llmspan.pipeline.spool import cursor as cursors
from llmspan.pipeline.spool import spool as spools
from llmspan.pipeline.spool.directory import make_directory, orphaned_directories
from llmspan.pipeline.statistics import DeliveryStats
from polling import until
from scripted import Away, Noting, file_limit, identity_holds, ids_in, only, pipeline_to, submit

pytestmark = pytest.mark.usefixtures("no_defects")


class OtherAway(Away):
    name = "other"


class Other(Noting):
    name = "other"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def left_behind(root: Path, *backends: Away, number: int = 3) -> list[str]:
    """What a process that ended with its stores down has left in the spool."""
    pipeline = pipeline_to(*backends, spool_dir=root)
    ids = submit(pipeline, number)
    assert pipeline.wait_until_spooled(30)
    pipeline.close(30)
    return ids


def swallowed(*places: str) -> None:
    """What is broken on purpose was told, and nothing else was."""
    assert _guard.failures().keys() == set(places)
    _guard.reset_error_counts()


def test_what_cannot_be_adopted_is_left_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one of two backends' cursors cannot be taken over, neither is: another process will send all of it, once."""

    ids = left_behind(root, Away("old"), OtherAway("old"))
    with monkeypatch.context() as patch:
        real = disk.rename

        def refusing(old: Path, new: Path) -> None:
            if old.name.startswith("cursor-other") and old.suffix != ".new":
                raise PermissionError(1, "not permitted")
            real(old, new)

        patch.setattr(disk, "rename", refusing)
        first = Noting("new"), Other("new")
        one = pipeline_to(*first, spool_dir=root)
        assert one.flush(30)
    swallowed("spool.adopt")
    assert [status.recovered for status in one.status()] == [0, 0]
    second = Noting("new"), Other("new")
    two = pipeline_to(*second, spool_dir=root)
    assert two.flush(30)
    assert one.flush(30)
    assert [ids_in(backend) for backend in (*first, *second)] == [set(), set(), set(ids), set(ids)]
    assert all(identity_holds(status) for status in (*one.status(), *two.status()))


def test_an_adopted_log_is_kept_whatever_fails_after(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its records are counted here, nobody else can adopt it."""
    ids = left_behind(root, Away())
    real, tried = Spool._remove_settled, threading.Event()

    def failing(spool: Spool, *args: Any, **options: Any) -> None:
        if not tried.is_set():
            tried.set()
            raise PermissionError(1, "not permitted")
        real(spool, *args, **options)

    monkeypatch.setattr(Spool, "_remove_settled", failing)
    one, two = Away(), Noting()
    first = pipeline_to(one, spool_dir=root)
    first.flush(0)
    until(lambda: one.asked)
    swallowed("spool.tidy")
    assert pipeline_to(two, spool_dir=root).flush(30)
    asked = one.asked[0]  # on a slow machine, the first attempt may come before all of the log is read
    assert (asked, two.asked) == (ids[: len(asked)], [])
    assert first.status()[0].recovered == 3
    first.close(0)


def test_what_was_adopted_and_delivered_is_forgotten(root: Path) -> None:
    """A process that lives for long does not collect the places of all logs that it has ever adopted."""
    for _ in range(3):
        left_behind(root, Away())
    pipeline = pipeline_to(Noting(), spool_dir=root)
    assert pipeline.flush(30)
    assert only(pipeline).recovered == 9
    (delivery,) = pipeline._workers
    assert isinstance(delivery.backlog, SpoolBacklog)
    assert len(delivery.backlog.positions) == 1


@pytest.mark.parametrize("by", ["a flush", "a call"])
def test_many_logs_are_adopted_some_at_a_time(by: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds a descriptor, of which the program may need many; all of them are delivered nevertheless."""
    monkeypatch.setattr(spools, "_max_adopted", lambda: 2)
    ids = [id_ for _ in range(9) for id_ in left_behind(root, Away())]
    held: list[int] = []
    real = Spool._adopt

    def adopting(spool: Spool, home: Any) -> bool:
        done = real(spool, home)
        held.append(len(spool._adopted))
        return done

    monkeypatch.setattr(Spool, "_adopt", adopting)
    backend = Noting()
    pipeline = pipeline_to(backend, spool_dir=root)
    if by == "a flush":
        assert pipeline.flush(30)
    else:
        ids += submit(pipeline, 1)
        until(lambda: only(pipeline).delivered == len(ids))
    assert ids_in(backend) == set(ids)
    assert max(held) <= 2
    assert len(backend.asked) >= 9


def test_a_flush_waits_for_logs_that_wait_for_their_turn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are held are done, and the next ones are not adopted yet: that is no reason to give up."""
    monkeypatch.setattr(spools, "_max_adopted", lambda: 2)
    ids = [id_ for _ in range(5) for id_ in left_behind(root, Away())]
    real = Spool._adopt

    def adopting(spool: Spool, home: Any) -> bool:
        if spool.adoptions == 2:
            until(lambda: pipeline._waiters)  # the flush has seen that the first two are done, and asks again
        return real(spool, home)

    class Gated(Noting):
        def write(self, traces: Any) -> None:
            if not self.asked:
                until(lambda: pipeline._workers[0]._flush_requests)  # the flush has seen the first two
            super().write(traces)

    monkeypatch.setattr(Spool, "_adopt", adopting)
    backend = Gated()
    pipeline = pipeline_to(backend, spool_dir=root)
    pipeline.ensure_started()
    assert pipeline.wait_until_spooled(30)
    assert pipeline.flush(30)
    assert ids_in(backend) == set(ids)


@pytest.mark.parametrize("by", ["a flush", "a call"])
def test_a_disk_that_is_full_at_the_start_is_emptied(by: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for a log of one's own, those of the dead are delivered, all of them: that is what makes room."""
    monkeypatch.setattr(spools, "_max_adopted", lambda: 2)
    ids = [id_ for _ in range(7) for id_ in left_behind(root, Away())]
    real = Spool._adopt

    def adopting(spool: Spool, home: Any) -> bool:
        if backend.asked:  # its thread has gone to sleep, and has to be woken
            until(lambda: pipeline._workers[0]._changed.is_awaited)  # type: ignore[attr-defined]
        return real(spool, home)

    monkeypatch.setattr(Spool, "_adopt", adopting)
    backend = Noting()
    pipeline = pipeline_to(backend, spool_dir=root)
    with file_limit(10):
        ids += submit(pipeline, 1)
        flushed = by == "a call" or pipeline.flush(30)
        if by == "a call":
            until(lambda: only(pipeline).delivered == len(ids) and not list(root.glob("log-*")))
    assert flushed
    assert ids_in(backend) == set(ids)
    assert list(root.glob("log-*")) == []
    swallowed("spool.freeze", "spool.cursor")


def test_nobody_tidies_before_all_places_are_known(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that is quick with what was adopted must not remove what another one has not begun with."""
    ids = left_behind(root, Away(), OtherAway())
    seen: list[bool] = []
    real_adopt, real = Spool._adopt, DeliveryStats.recovered

    def adopting(spool: Spool, home: Any) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(DeliveryStats, "recovered", lambda *a: (seen.append(spool._removing.locked()), real(*a)))
            return real_adopt(spool, home)

    monkeypatch.setattr(Spool, "_adopt", adopting)
    backends = Noting(), Other()
    assert pipeline_to(*backends, spool_dir=root).flush(30)
    assert [ids_in(backend) for backend in backends] == [set(ids), set(ids)]
    assert seen == [True, True]


def test_a_cursor_of_others_that_cannot_be_read_holds_all(root: Path) -> None:
    """Nobody knows how far that backend is: what it may need is left to it."""
    ids = left_behind(root, Away(), OtherAway())
    (cursor,) = root.rglob("cursor-other-*")
    cursor.write_bytes(b"\x00noise")
    one, other = Noting(), Other()
    pipeline = pipeline_to(one, spool_dir=root)
    assert pipeline.flush(30)
    assert pipeline.close(30)
    assert pipeline_to(other, spool_dir=root).flush(30)
    assert (ids_in(one), ids_in(other)) == (set(ids), set(ids))


def test_a_log_can_be_adopted_though_a_child_has_its_lock_open(root: Path) -> None:
    """A process that was forked, by whomever, has all descriptors of its parent: closing ours is not enough."""
    root.mkdir()
    home = make_directory(root, lambda _: None, durable=False)
    inherited = os.dup(home.descriptor)
    assert list(orphaned_directories(root)) == []
    home.release_lock()
    (found,) = orphaned_directories(root)
    assert found.path == home.path
    os.close(inherited)
    found.release_lock()


def test_descriptors_are_left_to_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """An eighth of them is ours at most, if that is more than a few."""
    for soft, most in ((256, 32), (1024, 128), (-1, sys.maxsize // 8 + 1)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert spools._max_adopted() == most


def test_a_flush_that_can_adopt_no_more_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories that cannot be let go of: what they had is delivered; the others wait, and nobody waits for them."""
    monkeypatch.setattr(spools, "_max_adopted", lambda: 2)
    ids = [id_ for _ in range(5) for id_ in left_behind(root, Away())]

    def failing(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(Spool, "_remove_settled", failing)
    backend = Noting()
    pipeline = pipeline_to(backend, spool_dir=root)
    rounds: list[float] = []
    real = pipeline._flush
    pipeline._flush = lambda *args, **how: (rounds.append(0), real(*args, **how))[1]  # type: ignore[method-assign]
    assert not pipeline.flush(30)
    assert ids_in(backend) == set(ids[:6])
    assert not pipeline.flush(30)
    assert len(rounds) < 10
    swallowed("spool.tidy", "spool.settled")
    monkeypatch.undo()
    pipeline.close(30)


def test_a_segment_that_cannot_be_removed_holds_up_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log is let go of when it is done, and nothing of it is sent again."""
    ids = left_behind(root, Away())
    real = disk.remove

    def refusing(path: Path) -> None:
        if path.name.startswith("seg-"):
            raise PermissionError(1, "not permitted")
        real(path)

    backend = Noting()
    with monkeypatch.context() as patch:
        patch.setattr(disk, "remove", refusing)
        pipeline = pipeline_to(backend, spool_dir=root)
        assert pipeline.flush(30)
        (delivery,) = pipeline._workers
        assert isinstance(delivery.backlog, SpoolBacklog)
        assert len(delivery.backlog.positions) == 1
        pipeline.close(30)
    swallowed("spool.remove")
    assert pipeline_to(backend, spool_dir=root).flush(30)
    assert backend.asked == [ids]


def test_a_log_is_not_removed_while_a_cursor_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two backends are done at the same time: who is the last to write that down removes the log."""
    ids = left_behind(root, Away(), OtherAway())
    (orphaned,) = root.glob("log-*")
    others_done = threading.Event()
    real, real_settled = cursors.save, Spool._on_settled

    def saving(directory: Path, cursor: cursors.Cursor, *, durable: bool) -> None:
        if directory == orphaned and cursor.backend == "memory" and cursor.next > 1:
            others_done.wait(30)
        real(directory, cursor, durable=durable)

    def settled(spool: Spool, log: Any) -> None:
        real_settled(spool, log)
        if threading.current_thread().name == "llmspan-other":
            others_done.set()

    monkeypatch.setattr(cursors, "save", saving)
    monkeypatch.setattr(Spool, "_on_settled", settled)
    backends = Noting(), Other()
    assert pipeline_to(*backends, spool_dir=root).flush(30)
    assert [ids_in(backend) for backend in backends] == [set(ids), set(ids)]
    assert not orphaned.exists()
