"""Ids of records: no two are the same, in any thread or process, and no random byte is used for long."""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmspan import _ids
from llmspan._ids import new_id

MILLISECOND = 1_000_000
NOON = 1_800_000_000_000 * MILLISECOND


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes each time that the system is asked for random bytes; no block is there to begin with."""
    asked: list[int] = []
    monkeypatch.setattr(_ids, "urandom", lambda size: asked.append(size) or os.urandom(size))
    _ids._forget()
    return asked


def _random_bits(record_id: str) -> str:
    digits = record_id.replace("-", "")
    return digits[13:16] + digits[17:]


def test_ids_are_uuid7() -> None:
    """An id is a UUID of version 7 and the RFC's variant, and says when it was made."""
    found = uuid.UUID(new_id())
    assert (found.int >> 76 & 0xF, found.int >> 62 & 0x3) == (7, 2)
    assert str(found) == str(found).lower()


def test_ids_are_ordered_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of later milliseconds sort later, as text too; ids of the same one differ."""
    made: list[str] = []
    for milliseconds in (0, 1, 0x0123_4567_89AB, 2**48 - 1):
        monkeypatch.setattr("llmspan._ids.time_ns", lambda now=milliseconds: now * MILLISECOND + 999_999)
        made.append(new_id())
        assert int(made[-1].replace("-", "")[:12], 16) == milliseconds
    assert made == sorted(made)
    assert len({new_id() for _ in range(1000)}) == 1000


def test_all_other_bits_are_random() -> None:
    """Over many ids each of the 74 free bits is sometimes 0 and sometimes 1."""
    values = [uuid.UUID(new_id()).int for _ in range(200)]
    free = (1 << 80) - 1 & ~(0xF << 76) & ~(0x3 << 62)
    ones = zeros = 0
    for value in values:
        ones |= value
        zeros |= ~value
    assert ones & zeros & free == free


def test_the_system_is_asked_once_for_the_ids_of_a_few_milliseconds(
    monkeypatch: pytest.MonkeyPatch, blocks: list[int]
) -> None:
    """A question releases the GIL."""
    monkeypatch.setattr(_ids, "time_ns", lambda: NOON)
    made = [new_id() for _ in range(20)]
    assert len(blocks) == 1
    assert len({_random_bits(record_id) for record_id in made}) == 20


@pytest.mark.parametrize("later", [10 * MILLISECOND, 3600_000 * MILLISECOND, -1])
def test_random_bytes_are_used_for_some_milliseconds_only(
    monkeypatch: pytest.MonkeyPatch, blocks: list[int], later: int
) -> None:
    """A machine that was stopped, and started again from a snapshot, does not go on with the bytes that it had."""
    monkeypatch.setattr(_ids, "time_ns", lambda: NOON)
    new_id()
    monkeypatch.setattr(_ids, "time_ns", lambda: NOON + later)
    new_id()
    assert len(blocks) == 2


def test_more_ids_than_a_block_has(monkeypatch: pytest.MonkeyPatch, blocks: list[int]) -> None:
    """The clock may stand still."""
    monkeypatch.setattr(_ids, "time_ns", lambda: NOON)
    assert len({new_id() for _ in range(1000)}) == 1000
    assert 1 < len(blocks) < 1000


def test_threads_share_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """However they take turns."""
    monkeypatch.setattr(_ids, "time_ns", lambda: NOON)
    with ThreadPoolExecutor(8) as pool:
        made = [record_id for ids in pool.map(lambda _: [new_id() for _ in range(500)], range(8)) for record_id in ids]
    assert len(set(made)) == 4000


def test_a_forked_child_does_not_repeat_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both go on in the same millisecond."""
    monkeypatch.setattr(_ids, "time_ns", lambda: NOON)
    new_id()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100).decode() not in [new_id() for _ in range(40)]
    os.close(reader)
    os.close(writer)
