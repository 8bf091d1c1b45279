"""Whatever is killed, torn, filled up or turned back: with a spool, what it accepted is stored, once."""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path

import pytest

from faults.children import Children
from faults.ledger import SEEDS, enter
from faults.program import POINTS

NOBODY = 65534


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("point", POINTS)
def test_killed(point: str, seed: int, children: Children) -> None:
    """Killed at a point of the way, once or twice in a row: the next process stores what the spool had accepted."""
    draw = random.Random(f"{point} {seed}")
    for life in range(draw.choice((1, 1, 2))):
        count = draw.randint(1, 3 if point.startswith(("make", "sync_directory")) else 25)
        code = children.run(
            seed=seed * 10 + life, records=60, point=point, count=count, refusals=draw.choice((0.0, 0.4))
        )
        assert code in (0, -signal.SIGKILL)
    assert children.run(seed=seed, is_last=True) == 0
    status = children.status()
    assert (status.spooled, status.queued, status.dropped) == (0, 0, {})
    assert children.spool_files() == []
    enter(f"SIGKILL {point}", children.accepted, children.stored, duplicated=children.changed_batches)


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
    assert children.status().dropped == {}
    enter("SIGKILL from outside", children.accepted, children.stored, duplicated=children.changed_batches)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_down_for_a_whole_run(seed: int, children: Children) -> None:
    """The store is away while the process lives; the next process delivers everything."""
    assert children.run(seed=seed, records=200, is_away=True) == 0
    assert children.status().spooled == 200
    assert children.run(seed=seed, is_last=True) == 0
    assert children.status().recovered == 200
    enter("store down for a whole run", children.taken, children.stored, duplicated=children.changed_batches)


def left_behind(children: Children, seed: int, records: int) -> Path:
    """A spool as a killed process leaves it; the file that was written last."""
    assert children.run(seed=seed, records=records, is_away=True) == 0
    return max(path for path in children.spool_files() if path.name.startswith("seg-"))


def test_torn_at_every_byte(children: Children) -> None:
    """Wherever the last segment ends, the records before the cut are stored, and those after it are told."""
    last = left_behind(children, 1, 12)
    ids = children.accepted
    whole = last.read_bytes()
    kept = children.folder / "kept"
    shutil.copytree(children.folder / "spool", kept)
    step = 1 if SEEDS >= 50 else len(whole) // 20
    for size in range(0, len(whole), step):
        shutil.rmtree(children.folder / "spool")
        shutil.copytree(kept, children.folder / "spool")
        (children.folder / "traces.db").unlink(missing_ok=True)
        os.truncate(last, size)
        assert children.run(seed=1, is_last=True) == 0
        found = children.stored
        in_earlier = len(ids) - sum(id_.encode() in whole for id_ in ids)
        complete = in_earlier + sum(_ends_before(whole, id_, size) for id_ in ids)
        assert set(found) == set(ids[:complete])
        enter("last segment cut at every byte", ids, found, allowed=len(ids) - complete)


def _ends_before(whole: bytes, id_: str, size: int) -> bool:
    at = whole.find(id_.encode())
    end = whole.find(b'"}', whole.find(b'"response_json"', at)) + 2 if at >= 0 else len(whole) + 1
    return end <= size


@pytest.mark.parametrize("seed", range(SEEDS))
def test_flipped_bits(seed: int, children: Children) -> None:
    """A flipped bit in a segment costs one record at most, which is counted; one in a cursor costs nothing."""
    draw = random.Random(seed)
    left_behind(children, seed, 40)
    path = draw.choice([path for path in children.spool_files() if path.stat().st_size])
    data = bytearray(path.read_bytes())
    bit = draw.randrange(len(data) * 8)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    assert children.run(seed=seed, is_last=True) == 0
    lost = len(set(children.accepted) - set(children.stored))
    assert lost <= path.name.startswith("seg-")
    told = children.status().dropped.get("corrupt", 0)
    is_at_end = lost and not told  # then it was cut off as a torn end, which the log tells
    enter("flipped bit", children.accepted, children.stored, allowed=1 if is_at_end else told)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_full_disk(seed: int, children: Children) -> None:
    """No file can grow any more: what the spool cannot take waits in memory, and is stored when the store takes it."""
    limit = random.Random(seed).randint(5_000, 19_000)
    assert children.run(seed=seed, records=100, file_limit=limit, is_last=True) == 0
    assert (children.folder / "waiting.txt").read_text() != "[0]"
    status = children.status()
    assert (status.delivered, status.dropped) == (100, {})
    enter("full disk", children.taken, children.stored)


def test_read_only_spool(children: Children) -> None:
    """A spool that this user may not write to: records wait in memory, and are stored."""
    place = children.folder / "spool"
    place.mkdir(mode=0o500)
    user = NOBODY if os.getuid() == 0 else None
    if user is not None:
        for above in (children.folder, *children.folder.parents[:2]):
            above.chmod(0o777)
    assert children.run(seed=1, records=100, user=user, is_last=True) == 0
    assert children.status().delivered == 100
    assert children.accepted == []
    enter("read-only spool", children.taken, children.stored)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_two_processes_one_root(seed: int, children: Children) -> None:
    """Two processes share a root; one is killed; the other, or the next, stores what both had accepted."""
    first = children.start(seed=seed * 2, records=100_000, refusals=0.3)
    second = children.start(seed=seed * 2 + 1, records=150, refusals=0.3)
    while len(children.accepted) < 100 and first.is_alive():
        first.join(0.01)
    first.kill()
    first.join()
    second.join(120)
    assert second.exitcode == 0
    assert children.run(seed=seed, is_last=True) == 0
    assert children.spool_files() == []
    enter("two processes, one killed", children.accepted, children.stored, duplicated=children.changed_batches)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_clock_that_jumps_back(seed: int, children: Children) -> None:
    """A clock that goes back by hours changes nothing about what is stored."""
    assert children.run(seed=seed, records=100, clock_jumps=True, is_away=True) == 0
    assert children.run(seed=seed + 1, records=100, clock_jumps=True, refusals=0.2) == 0
    assert children.run(seed=seed, is_last=True, clock_jumps=True) == 0
    enter("clock jumping back", children.taken, children.stored, duplicated=children.changed_batches)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_without_a_spool(seed: int, children: Children) -> None:
    """Without a spool a normal end with a working store loses nothing; with one that is away, what it counts."""
    assert children.run(seed=seed, records=200, spool=False, refusals=0.2, is_last=True) == 0
    enter("no spool, normal end", children.taken, children.stored)
    before = len(children.taken)
    assert children.run(seed=seed + 1, records=100, spool=False, is_away=True) == 0
    status = children.status()
    lost = status.queued + sum(status.dropped.values())
    enter("no spool, store down to the end", children.taken[before:], children.stored, allowed=lost)
