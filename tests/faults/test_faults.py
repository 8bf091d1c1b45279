"""Whatever is killed, torn, filled up or turned back: with a spool, what it accepted is stored, once."""

from __future__ import annotations

import os
import random
import signal
import tempfile
from pathlib import Path

import pytest

from faults.children import PATIENCE, Children
from faults.ledger import SEEDS, enter
from faults.program import BISECTING, POINTS
from faults.torn import frames_of, ids_with, last_segment

NOBODY = 65534


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("point", POINTS)
def test_killed(point: str, seed: int, children: Children) -> None:
    """Killed at a point of the way, once or twice in a row: the next process stores what the spool had accepted."""
    draw = random.Random(f"{point} {seed}")
    codes: list[int] = []
    for life in range(draw.choice((1, 1, 2))):
        count = 1 if point.startswith("make_directory") else draw.randint(1, 6 if point.startswith("make_file") else 25)
        codes.append(children.run(
            seed=seed * 10 + life, records=60, point=point, count=count, refusals=draw.choice((0.0, 0.4))
        ))  # fmt: skip
    assert set(codes) <= {0, -signal.SIGKILL}
    assert children.run(seed=seed * 10 + 9, records=20, is_last=True) == 0
    status = children.status()
    assert (status.spooled, status.queued, status.dropped) == (0, 0, {})
    assert children.spool_files() == []
    enter(
        f"SIGKILL {point}", children.accepted, children.stored, [status], duplicated=children.changed_batches,
        struck=-signal.SIGKILL in codes,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("point", BISECTING)
def test_killed_while_bisecting(point: str, seed: int, children: Children) -> None:
    """Killed while refused records are singled out: each is in the dead-letter file once, all others in the store."""
    draw = random.Random(f"bisecting {point} {seed}")
    codes = [
        children.run(
            seed=seed * 10 + life, records=60, sizes=(10, 100), refused=0.1, point=point, count=draw.randint(1, 12)
        )
        for life in range(draw.choice((1, 2)))
    ]
    assert set(codes) <= {0, -signal.SIGKILL}
    assert children.run(seed=seed, is_last=True) == 0
    status = children.status()
    assert (status.spooled, status.queued, status.dropped) == (0, 0, {})
    enter(
        f"SIGKILL while bisecting, {point}", children.accepted, children.stored + children.dead, [status],
        struck=-signal.SIGKILL in codes,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(SEEDS))
def test_down_while_bisecting(seed: int, children: Children) -> None:
    """The store goes away while refused records are singled out, to the end of the process: the next one goes on."""
    assert children.run(seed=seed, records=60, sizes=(10,), refused=0.1, away_after=4) == 0
    assert children.status().spooled > 0
    before = children.dead
    assert children.run(seed=seed, is_last=True) == 0
    status = children.status()
    assert status.dropped == {}
    assert children.dead[: len(before)] == before
    enter("store down while bisecting", children.taken, children.stored + children.dead, [status])


@pytest.mark.parametrize("seed", range(SEEDS))
def test_killed_at_any_time(seed: int, children: Children) -> None:
    """Killed from outside while records come in, several times in a row."""
    draw = random.Random(seed)
    for life in range(3):
        process = children.start(seed=seed * 10 + life, records=100_000, refusals=0.3)
        goal = len(children.accepted) + draw.randint(1, 300)
        while len(children.accepted) < goal and process.is_alive():
            process.join(0.01)
        process.kill()
        process.join()
    assert children.run(seed=seed, is_last=True) == 0
    status = children.status()
    assert status.dropped == {}
    enter("SIGKILL from outside", children.accepted, children.stored, [status], duplicated=children.changed_batches)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_down_for_a_whole_run(seed: int, children: Children) -> None:
    """The store is away while the process lives; the next process delivers everything."""
    assert children.run(seed=seed, records=200, is_away=True) == 0
    before = children.status()
    assert before.spooled == 200
    assert children.run(seed=seed, is_last=True) == 0
    after = children.status()
    assert after.recovered == 200
    enter(
        "store down for a whole run", children.taken, children.stored, [before, after],
        duplicated=children.changed_batches,
    )  # fmt: skip


def left_behind(children: Children, seed: int, records: int) -> Path:
    """A spool as a killed process leaves it; the file that was written last."""
    assert children.run(seed=seed, records=records, is_away=True) == 0
    return last_segment(children.folder / "spool")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_torn(seed: int, children: Children) -> None:
    """Wherever the last segment ends, the records before the cut are stored."""
    last = left_behind(children, seed, 40)
    found = frames_of(last)
    size = random.Random(seed).randrange(last.stat().st_size)
    os.truncate(last, size)
    assert children.run(seed=seed, is_last=True) == 0
    cut_off = [id_ for id_, _, end in found if end > size]
    stored = children.stored
    assert set(stored) == set(children.accepted) - set(cut_off)
    enter("last segment cut off somewhere", children.accepted, stored, [children.status()], destroyed=cut_off)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_flipped_bits(seed: int, children: Children) -> None:
    """A flipped bit in a segment costs the record that has it, which is told; one in a cursor costs nothing."""
    draw = random.Random(seed)
    left_behind(children, seed, 40)
    path = draw.choice([path for path in children.spool_files() if path.stat().st_size])
    frames = frames_of(path) if path.name.startswith("seg-") else []
    data = bytearray(path.read_bytes())
    at = draw.randrange(len(data))
    data[at] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    assert children.run(seed=seed, is_last=True) == 0
    hit = ids_with(frames, at)
    stored, status = children.stored, children.status()
    assert set(stored) == set(children.accepted) - set(hit)
    is_torn_end = hit == children.accepted[-1:]  # nothing follows: it is cut off, which the log tells
    assert status.dropped.get("corrupt", 0) == (0 if is_torn_end else len(hit))
    enter("flipped bit", children.accepted, stored, [status], destroyed=hit)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_full_disk(seed: int, children: Children) -> None:
    """No file can grow any more: what the spool cannot take waits in memory, and is stored when the store takes it."""
    limit = random.Random(seed).randint(5_000, 19_000)
    assert children.run(seed=seed, records=100, file_limit=limit, is_last=True) == 0
    assert (children.folder / "waiting.txt").read_text() != "[0]"
    status = children.status()
    assert (status.delivered, status.dropped) == (100, {})
    enter("full disk", children.taken, children.stored, [status])


def test_read_only_spool(children: Children) -> None:
    """A spool that this user may not write to: records wait in memory, and are stored."""
    place = children.folder / "spool"
    place.mkdir(mode=0o500)
    user = NOBODY if os.getuid() == 0 else None
    if user is not None:
        children.folder.chmod(0o777)
        temporary = Path(tempfile.gettempdir()).resolve()
        for folder in children.folder.resolve().parents:  # pytest makes those of a run and of a worker for root alone
            if temporary in folder.parents:
                folder.chmod(folder.stat().st_mode | 0o555)
    assert children.run(seed=1, records=100, user=user, is_last=True) == 0
    status = children.status()
    assert status.delivered == 100
    assert children.accepted == []
    enter("read-only spool", children.taken, children.stored, [status])


@pytest.mark.parametrize("seed", range(SEEDS))
def test_two_processes_one_root(seed: int, children: Children) -> None:
    """Two processes share a root; one is killed; the other, or the next, stores what both had accepted."""
    first = children.start(seed=seed * 2, records=100_000, refusals=0.3)
    second = children.start(seed=seed * 2 + 1, records=150, refusals=0.3)
    while len(children.accepted) < 100 and first.is_alive():
        first.join(0.01)
    first.kill()
    first.join()
    second.join(PATIENCE)
    assert second.exitcode == 0
    assert children.run(seed=seed, is_last=True) == 0
    assert children.spool_files() == []
    enter(
        "two processes, one killed", children.accepted, children.stored, [children.status()],
        duplicated=children.changed_batches,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(SEEDS))
def test_clock_that_jumps_back(seed: int, children: Children) -> None:
    """A clock that goes back by hours changes nothing about what is stored."""
    statuses = []
    for plan in ({"records": 100, "is_away": True}, {"records": 100, "refusals": 0.2}, {"is_last": True}):
        assert children.run(seed=seed + len(statuses), clock_jumps=True, **plan) == 0
        statuses.append(children.status())
    enter("clock jumping back", children.taken, children.stored, statuses, duplicated=children.changed_batches)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_without_a_spool(seed: int, children: Children) -> None:
    """Without a spool a normal end with a working store loses nothing; with one that is away, what it counts."""
    assert children.run(seed=seed, records=200, spool=False, refusals=0.2, is_last=True) == 0
    enter("normal end", children.taken, children.stored, [children.status()], spool="no")
    before = len(children.taken)
    assert children.run(seed=seed + 1, records=100, spool=False, is_away=True) == 0
    status = children.status()
    lost = status.queued + sum(status.dropped.values())  # what was being written when the time was over
    enter("store down to the end", children.taken[before:], children.stored, [status], spool="no", counted=lost)


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_new"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_spool_is_full(seed: int, policy: str, children: Children) -> None:
    """The store is down until the spool is full: what goes then is counted, and the rest is stored by the next one."""
    assert children.run(seed=seed, records=300, is_away=True, spool_max_bytes=300_000, spool_full_policy=policy) == 0
    first = children.status()
    lost = first.dropped.get("spool_full", 0)
    assert lost
    assert children.run(seed=seed, is_last=True) == 0
    second = children.status()
    assert second.recovered == first.spooled
    enter(
        f"spool cap reached (policy {policy})", children.taken, children.stored, [first, second], spool="full",
        counted=lost,
    )  # fmt: skip
