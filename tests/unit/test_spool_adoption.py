"""What dead processes have left in the spool: who takes it over, how much at a time, and what may fail meanwhile."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmspan import _guard
from llmspan.pipeline import Pipeline, Status
from llmspan.pipeline import spool as spools
from llmspan.pipeline.counts import Counts
from llmspan.pipeline.spool import Spool, SpoolBacklog, disk
from llmspan.pipeline.spool.home import make_home, orphans
from scripted import Away, Noting, accept, identity_holds, ids_in, pipeline_to, until

pytestmark = pytest.mark.usefixtures("no_defects")


class OtherAway(Away):
    name = "other"


class Other(Noting):
    name = "other"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def no_room() -> Iterator[None]:
    """No file grows beyond a few bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def only(pipeline: Pipeline) -> Status:
    (status,) = pipeline.status()
    assert identity_holds(status)
    return status


def left_behind(root: Path, *backends: Away, number: int = 3) -> list[str]:
    """What a process that ended with its stores down has left in the spool."""
    pipeline = pipeline_to(*backends, spool_dir=root)
    ids = accept(pipeline, number)
    assert pipeline.hand_over(30)
    pipeline.close(30)
    return ids


def swallowed(*places: str) -> None:
    """What is broken on purpose was told, and nothing else was."""
    assert _guard.failures().keys() == set(places)
    _guard.forget_failures()


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
    real, tried = Spool._tidy, threading.Event()

    def failing(spool: Spool, *args: Any, **options: Any) -> None:
        if not tried.is_set():
            tried.set()
            raise PermissionError(1, "not permitted")
        real(spool, *args, **options)

    monkeypatch.setattr(Spool, "_tidy", failing)
    one, two = Away(), Noting()
    first = pipeline_to(one, spool_dir=root)
    first.flush(0)
    until(lambda: one.asked)
    swallowed("spool.tidy")
    assert pipeline_to(two, spool_dir=root).flush(30)
    assert (one.asked[0], two.asked) == (ids, [])
    assert first.status()[0].recovered == 3
    first.close(0)


def test_what_was_adopted_and_delivered_is_forgotten(root: Path) -> None:
    """A process that lives for long does not collect the places of all logs that it has ever adopted."""
    for _ in range(3):
        left_behind(root, Away())
    pipeline = pipeline_to(Noting(), spool_dir=root)
    assert pipeline.flush(30)
    assert only(pipeline).recovered == 9
    (delivery,) = pipeline._deliveries
    assert isinstance(delivery.backlog, SpoolBacklog)
    assert len(delivery.backlog.places) == 1


@pytest.mark.parametrize("by", ["a flush", "a call"])
def test_many_logs_are_adopted_some_at_a_time(by: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds a descriptor, of which the program may need many; all of them are delivered nevertheless."""
    monkeypatch.setattr(spools, "_ADOPTED_AT_ONCE", 2)
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
        ids += accept(pipeline, 1)
        until(lambda: only(pipeline).delivered == len(ids))
    assert ids_in(backend) == set(ids)
    assert max(held) <= 2
    assert len(backend.asked) >= 9


def test_a_disk_that_is_full_at_the_start_is_emptied(root: Path, no_room: None) -> None:
    """Without room for a log of one's own, those of the dead are delivered: that is what makes room."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    ids = left_behind(root, Away())
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    backend = Noting()
    pipeline = pipeline_to(backend, spool_dir=root)
    ids += accept(pipeline, 1)
    assert pipeline.flush(30)
    assert ids_in(backend) == set(ids)
    assert list(root.glob("log-*")) == []
    swallowed("spool.freeze", "spool.cursor")


def test_nobody_tidies_before_all_places_are_known(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that is quick with what was adopted must not remove what another one has not begun with."""
    ids = left_behind(root, Away(), OtherAway())
    seen: list[bool] = []
    real_adopt, real = Spool._adopt, Counts.recovered

    def adopting(spool: Spool, home: Any) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(Counts, "recovered", lambda *args: (seen.append(spool._tidying.locked()), real(*args)))
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
    home = make_home(root, lambda _: None, durable=False)
    inherited = os.dup(home.descriptor)
    assert list(orphans(root)) == []
    home.leave()
    (found,) = orphans(root)
    assert found.directory == home.directory
    os.close(inherited)
    found.leave()
