"""Records that wait on disk: who gets them, when they go, and what happens when there is no room."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llmspan.errors import RetryableError, SettingsError
from llmspan.trace import ProviderTrace
from polling import until
from records import full_trace, make_trace
from scripted import (
    Away,
    Noting,
    Ready,
    Scripted,
    file_limit,
    identity_holds,
    ids_in,
    leave,
    only,
    pipeline_to,
    raising,
    submit,
    waiting,
)

PAYLOAD = '"' + "x" * 4000 + '"'

pytestmark = pytest.mark.usefixtures("no_defects")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def left_behind(root: Path, *backends: Scripted, number: int = 10, **settings: Any) -> list[str]:
    """What a process that ended with its stores down has left in the spool."""
    pipeline = pipeline_to(*backends, spool_dir=root, **settings)
    ids = submit(pipeline, number)
    until(lambda: all(status.spooled == number for status in pipeline.status()))
    until(lambda: all(not isinstance(backend, Away) or backend.asked for backend in backends))
    leave(pipeline)
    return ids


def logs_in(root: Path) -> list[Path]:
    return sorted(root.glob("log-*"))


def test_delivered_records_leave_nothing_behind(root: Path) -> None:
    """All stores get all records, and after a clean end the spool is empty."""
    one, two = Noting("one"), Noting("two")
    pipeline = pipeline_to(one, two, spool_dir=root)
    ids = submit(pipeline, 500)
    assert pipeline.flush(30)
    assert ids_in(one) == ids_in(two) == set(ids)
    assert all((status.delivered, status.spooled, status.queued) == (500, 0, 0) for status in pipeline.status())
    assert pipeline.close(30)
    assert list(root.iterdir()) == []


def test_a_record_comes_out_as_it_went_in(root: Path) -> None:
    """Every key of a record survives the way through the disk."""
    backend = Noting()
    pipeline = pipeline_to(backend, spool_dir=root)
    trace = full_trace(request_json='{ "a" :1,\n"a": 1e400}', response_json='"\\u0000ü"')
    pipeline.submit(Ready(trace))
    assert pipeline.flush(30)
    assert backend.get(trace.id) == trace


def test_the_next_process_delivers(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a process could not deliver is delivered by the next one, counted as recovered, and then gone."""
    ids = left_behind(root, Away())
    backend = Noting()
    pipeline = pipeline_to(backend, spool_dir=root)
    assert pipeline.flush(30)
    assert ids_in(backend) == set(ids)
    status = only(pipeline)
    assert (status.accepted, status.recovered, status.delivered, status.spooled) == (10, 10, 10, 0)
    assert pipeline.close(30)
    assert list(root.iterdir()) == []


def test_a_batch_is_sent_again_as_it_was(root: Path) -> None:
    """A batch that was begun before the end is the same batch after it, whatever came in the meantime."""
    gate, stuck = threading.Event(), threading.Event()

    class Dying(Away):
        def write(self, traces: Sequence[ProviderTrace]) -> None:
            self.asked.append([trace.id for trace in traces])
            stuck.set()
            gate.wait(30)
            raise RetryableError("executed, and then the connection was reset")

    first = Dying()
    pipeline = pipeline_to(first, spool_dir=root)
    ids = submit(pipeline, 3)
    assert stuck.wait(30)
    ids += submit(pipeline, 30)
    until(lambda: only(pipeline).spooled == 33)
    leave(pipeline)
    gate.set()
    second = Noting()
    assert pipeline_to(second, spool_dir=root).flush(30)
    assert second.asked[0] == first.asked[0]
    assert [id_ for batch in second.asked for id_ in batch] == ids


def test_everything_is_private(root: Path) -> None:
    """Directories are for their owner only, and so are files."""
    left_behind(root, Away())
    paths = [root, *root.rglob("*")]
    assert len(paths) == 5  # the root, a log, its lock, a segment, a cursor
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o700, 0o600}
    assert all(stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600) for path in paths)


def test_a_store_that_is_down_does_not_hold_up_the_end(root: Path) -> None:
    """With all on disk and the breaker open the program need not wait: its deadline, which is far away, never comes."""
    backend = Away()
    pipeline = pipeline_to(backend, spool_dir=root)
    submit(pipeline, 3)
    until(lambda: only(pipeline).breaker == "open")
    assert not pipeline.close(3600)
    assert only(pipeline).spooled == 3


def test_each_store_has_its_own_pace(root: Path) -> None:
    """Segments stay until the slowest store has them; the next process gives it the rest, and the fast one nothing."""
    fast = Noting("fast")
    ids = []
    pipeline = pipeline_to(fast, Away("slow"), spool_dir=root)
    ids = submit(pipeline, 20)
    until(lambda: pipeline.status()[0].delivered == 20)
    leave(pipeline)
    again, slow = Noting("fast"), Noting("slow")
    pipeline = pipeline_to(again, slow, spool_dir=root)
    assert pipeline.flush(30)
    assert (ids_in(again), ids_in(slow)) == (set(), set(ids))
    assert [status.recovered for status in pipeline.status()] == [0, 20]


def test_living_processes_are_left_alone(root: Path) -> None:
    """Two pipelines below one root have a log each, and neither takes the other's."""
    first, second = Away(), Noting()
    one = pipeline_to(first, spool_dir=root)
    submit(one, 5)
    until(lambda: only(one).spooled == 5)
    two = pipeline_to(second, spool_dir=root)
    ids = submit(two, 5)
    assert two.flush(30)
    assert ids_in(second) == set(ids)
    assert len(logs_in(root)) == 2
    leave(one)


def test_a_store_that_has_moved_gets_its_records(root: Path) -> None:
    """Records that wait for a backend are delivered where it is now."""
    ids = left_behind(root, Away("old place"))
    backend = Noting("new place")
    pipeline = pipeline_to(backend, spool_dir=root)
    assert pipeline.flush(30)
    assert ids_in(backend) == set(ids)


def test_records_for_others_are_left_to_others(root: Path) -> None:
    """A process without the backend that records wait for leaves them; one that has it delivers them."""

    class Other(Noting):
        name = "other"

    ids = left_behind(root, Away())
    other = Other()
    pipeline = pipeline_to(other, spool_dir=root)
    assert pipeline.flush(30)
    assert ids_in(other) == set()
    assert pipeline.close(30)
    backend = Noting()
    assert pipeline_to(backend, spool_dir=root).flush(30)
    assert ids_in(backend) == set(ids)


def test_a_backend_that_is_named_later_gets_what_comes_later(root: Path) -> None:
    """Records go to the backends that there were when they were taken in."""
    one, two = Noting("one"), Noting("two")
    pipeline = pipeline_to(one, spool_dir=root)
    early = submit(pipeline, 3)
    assert pipeline.flush(30)
    assert pipeline.add(two)
    late = submit(pipeline, 3)
    assert pipeline.flush(30)
    assert ids_in(one) == {*early, *late}
    assert ids_in(two) == set(late)
    assert all(identity_holds(status) for status in pipeline.status())


def test_a_lost_cursor_begins_anew(root: Path) -> None:
    """Without a cursor that can be read everything is sent again: nothing is lost, and stores know what they have."""
    ids = left_behind(root, Away())
    (cursor,) = root.rglob("cursor-*")
    cursor.write_bytes(b"\x00noise")
    backend = Noting()
    assert pipeline_to(backend, spool_dir=root).flush(30)
    assert ids_in(backend) == set(ids)


def test_a_torn_end_is_cut_off_and_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A last record that was not written whole is cut off; the log says how much."""
    ids = left_behind(root, Away())
    (segment,) = root.rglob("seg-*")
    os.truncate(segment, segment.stat().st_size - 1)
    backend = Noting()
    assert pipeline_to(backend, spool_dir=root).flush(30)
    assert ids_in(backend) == set(ids[:-1])
    assert any("were not written whole and are cut off" in message for message in caplog.messages)


def test_damage_costs_what_it_hit_and_is_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A record with a flipped bit is lost, counted and told; those around it are delivered."""
    ids = left_behind(root, Away())
    (segment,) = root.rglob("seg-*")
    data = bytearray(segment.read_bytes())
    data[data.index(ids[4].encode())] ^= 1
    segment.write_bytes(data)
    backend = Noting()
    pipeline = pipeline_to(backend, spool_dir=root)
    assert pipeline.flush(30)
    assert ids_in(backend) == {*ids} - {ids[4]}
    assert only(pipeline).dropped == {"corrupt": 1}
    assert any("1 records in" in message for message in caplog.messages)


def test_the_oldest_go_when_it_is_full(root: Path) -> None:
    """``drop_oldest``: the spool stays below its limit, the newest records are kept, each that went is counted."""
    backend = Away()
    settings: dict[str, Any] = {"spool_dir": root, "spool_max_bytes": 600_000}
    pipeline = pipeline_to(backend, **settings)
    ids = submit(pipeline, 1)
    until(lambda: backend.asked)
    ids += submit(pipeline, 400, request_json=PAYLOAD)
    until(lambda: only(pipeline).queued == 0)
    status = only(pipeline)
    dropped = status.dropped["spool_full"]
    assert status.spooled == 401 - dropped
    assert sum(path.stat().st_size for path in root.rglob("seg-*")) <= 600_000
    leave(pipeline)
    kept = Noting()
    pipeline = pipeline_to(kept, **settings)
    assert pipeline.flush(30)
    assert ids_in(kept) - set(ids[: len(backend.asked[0])]) == set(ids[dropped + len(backend.asked[0]) :])


def test_a_batch_in_hand_outlives_its_segment(root: Path) -> None:
    """Records that are being written are not counted as dropped when their file makes room for others."""
    gate, stuck = threading.Event(), threading.Event()
    backend = Scripted(waiting(gate, stuck))
    pipeline = pipeline_to(backend, spool_dir=root, spool_max_bytes=600_000)
    first = submit(pipeline, 1)
    assert stuck.wait(30)
    ids = submit(pipeline, 400, request_json=PAYLOAD)
    until(lambda: only(pipeline).queued == 0)
    dropped = only(pipeline).dropped["spool_full"]
    gate.set()
    assert pipeline.flush(30)
    assert ids_in(backend) == {*first, *ids[dropped:]}
    assert only(pipeline).delivered == 401 - dropped


def test_a_batch_in_hand_that_lost_its_file_is_told_at_the_end(root: Path) -> None:
    """What waits in memory only, as its file made room for others, is counted as dropped when the program ends."""
    backend = Away()
    pipeline = pipeline_to(backend, spool_dir=root, spool_max_bytes=600_000)
    ids = submit(pipeline, 3)
    until(lambda: backend.asked)
    ids += submit(pipeline, 400, request_json=PAYLOAD)
    until(lambda: only(pipeline).breaker == "open")
    assert not pipeline.close(30)
    status = only(pipeline)
    kept = Noting()
    assert pipeline_to(kept, spool_dir=root, spool_max_bytes=600_000).flush(30)
    assert ids_in(kept) == set(ids[-status.spooled :])
    assert status.dropped == {"spool_full": len(ids) - status.spooled}


def test_the_newest_go_when_it_is_full(root: Path) -> None:
    """``drop_new``: what is there stays, what comes is dropped, and counted."""
    backend = Away()
    settings: dict[str, Any] = {"spool_dir": root, "spool_max_bytes": 600_000, "spool_full_policy": "drop_new"}
    pipeline = pipeline_to(backend, **settings)
    ids = submit(pipeline, 400, request_json=PAYLOAD)
    until(lambda: only(pipeline).queued == 0)
    spooled = only(pipeline).spooled
    assert only(pipeline).dropped == {"spool_full": 400 - spooled}
    leave(pipeline)
    kept = Noting()
    assert pipeline_to(kept, **settings).flush(30)
    assert ids_in(kept) == set(ids[:spooled])


def test_room_is_made_by_delivery(root: Path) -> None:
    """A spool that is drained as fast as it fills never drops anything, however much goes through it."""
    backend = Noting()
    pipeline = pipeline_to(backend, spool_dir=root, spool_max_bytes=600_000, spool_full_policy="drop_new")
    for _ in range(5):
        submit(pipeline, 100, request_json=PAYLOAD)
        assert pipeline.flush(30)
    assert (only(pipeline).delivered, only(pipeline).dropped) == (500, {})


def test_a_full_disk_is_told_and_memory_takes_over(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without room on the disk records wait in memory, are counted there, and are delivered all the same."""
    backend = Away()
    pipeline = pipeline_to(backend, spool_dir=root)
    ids = submit(pipeline, 5)
    until(lambda: only(pipeline).spooled == 5)
    (segment,) = root.rglob("seg-*")
    size = segment.stat().st_size
    with file_limit(size + 500):
        ids += submit(pipeline, 5, request_json=PAYLOAD)
        until(lambda: sum(len(delivery._queue) for delivery in pipeline._workers) == 5)
    status = only(pipeline)
    assert (status.spooled, status.queued) == (5, 5)
    assert any(str(root) in message and "wait in memory" in message for message in caplog.messages)
    assert segment.stat().st_size == size
    backend.write = lambda traces: Scripted.write(backend, traces)  # type: ignore[method-assign]
    assert pipeline.flush(30)
    assert ids_in(backend) == set(ids)


def test_a_spool_that_fails_is_tried_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk has room again, records go to the spool again."""
    monkeypatch.setattr("llmspan.pipeline.spool.writer._RETRY_AFTER", 0.0)
    backend = Away()
    pipeline = pipeline_to(backend, spool_dir=root)
    with file_limit(10):
        submit(pipeline, 1)
        until(lambda: sum(len(delivery._queue) for delivery in pipeline._workers) == 1 or backend.asked)
    assert only(pipeline).spooled == 0
    submit(pipeline, 2)
    until(lambda: only(pipeline).spooled == 2)
    pipeline.close(0.01)


def test_a_place_that_is_no_directory(tmp_path: Path) -> None:
    """A path that can never be a directory is an error at start that names setting, place and remedy."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"LLMSPAN_SPOOL_DIR=.*below: .*file is not a directory; set it to one"):
        pipeline_to(Scripted(), spool_dir=tmp_path / "file" / "below")


def test_a_forked_child_has_its_own(root: Path) -> None:
    """The child spools below the same root in a log of its own, and holds no lock of the parent's."""
    pipeline = pipeline_to(Away(), spool_dir=root)
    submit(pipeline, 2)
    until(lambda: only(pipeline).spooled == 2)
    (parents,) = logs_in(root)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            submit(pipeline, 3)
            until(lambda: pipeline.status()[0].spooled == 3)
            held = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
            os.write(write, repr((len(logs_in(root)), str(parents / "lock") in held)).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1000).decode() == repr((2, False))
    os.close(read)
    os.close(write)
    pipeline.close(0.01)


def test_what_cannot_be_stored_leaves_the_spool_too(root: Path) -> None:
    """A poisoned record goes from the spool to the dead letters; the rest of its batch is delivered."""
    poison = make_trace()

    class Picky(Noting):
        def write(self, traces: Sequence[ProviderTrace]) -> None:
            if any(trace.id == poison.id for trace in traces):
                raise ValueError("a defect")
            super().write(traces)

    backend = Picky()
    pipeline = pipeline_to(backend, spool_dir=root)
    pipeline.submit(Ready(poison))
    ids = submit(pipeline, 9)
    assert pipeline.flush(30)
    assert ids_in(backend) == set(ids)
    assert (only(pipeline).dead_lettered, only(pipeline).spooled) == (1, 0)


@pytest.mark.parametrize("sync", ["always", "group", "none"])
def test_what_is_spooled_is_synchronised(root: Path, sync: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``always``: one ``fdatasync`` of the segment a record; ``group``: at most that; ``none``: none at all."""
    synced: list[str] = []
    real = os.fdatasync

    def noting(descriptor: int) -> None:
        synced.append(os.path.realpath(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", noting)
    pipeline = pipeline_to(Scripted(raising(RetryableError("x"))), spool_dir=root, spool_sync=sync)
    submit(pipeline, 20)
    assert pipeline.flush(30)
    segments = sum("seg-" in path for path in synced)
    assert {"always": segments == 20, "group": 1 <= segments <= 20, "none": synced == []}[sync]
