"""The reader: the primary backend's answers, and finding a record by the beginning of its id."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from llmspan.backends.base import Filters
from llmspan.backends.memory import MemoryBackend
from llmspan.errors import RecordError, SettingsError
from llmspan.reader import AsyncReader, Reader
from records import NOON, make_trace


class Watched(MemoryBackend):
    """Counts what is done to it, and in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.threads: set[int] = set()

    def open(self) -> None:
        self.events.append("open")

    def shutdown(self) -> None:
        self.events.append("close")

    def list(self, filters=None, *, limit=50, cursor=None):
        self.events.append(f"list {limit}")
        self.threads.add(threading.get_ident())
        return super().list(filters, limit=limit, cursor=cursor)


RECORDS = [
    make_trace(id=f"0198-abcd-{at}", step_id="s", run_id="r" if at else None, started_at=NOON + at) for at in range(5)
]


@pytest.fixture
def backend() -> Watched:
    backend = Watched()
    backend.write(RECORDS)
    return backend


@pytest.fixture
def reader(backend: Watched) -> Iterator[Reader]:
    with Reader(backend) as reader:
        yield reader


def test_passes_on(reader, backend):
    """Each question is answered as the backend answers it."""
    assert reader.get("0198-abcd-1") == RECORDS[1]
    assert reader.get("0198-abcd") is None
    assert reader.get_by_step_id("s") == RECORDS[4]
    assert reader.list_by_step_id("s") == RECORDS
    page = reader.list(Filters(run_id="r"), limit=2)
    assert page == backend.list(Filters(run_id="r"), limit=2)
    assert reader.list(Filters(run_id="r"), limit=2, cursor=page.next_cursor).traces[0].id == "0198-abcd-2"
    assert reader.stats(["model"], Filters(run_id="r")) == backend.stats(["model"], Filters(run_id="r"))
    assert reader.stats()[0].calls == 5


def test_opens_and_closes(backend):
    """``with`` opens the backend and closes it, also when the block fails."""
    with pytest.raises(ZeroDivisionError), Reader(backend):
        backend.events.append(1 / 0)
    assert backend.events == ["open", "close"]


def test_from_env(monkeypatch, tmp_path):
    """The reader of the environment reads the first backend that the settings name; its first use opens it."""
    monkeypatch.setenv("LLMSPAN_BACKENDS", "memory,sqlite")
    monkeypatch.setenv("LLMSPAN_SQLITE_PATH", str(tmp_path / "env.db"))
    with Reader.from_env() as reader:
        assert reader.backend.name == "memory"
    with Reader.from_env(backends="sqlite", sqlite_path=tmp_path / "x.db") as reader:
        assert reader.backend.location == str(tmp_path / "x.db")
    assert {file.name for file in tmp_path.iterdir()} == {"x.db"}
    reader = Reader.from_env(backends=["sqlite"])
    assert not (tmp_path / "env.db").exists()
    assert reader.get("an-id") is None
    assert (tmp_path / "env.db").is_file()
    reader.close()


def test_opens_at_first_use(backend):
    """Without ``with`` the first use opens the backend, once; after ``close`` the next one does it again."""
    reader = Reader(backend)
    assert backend.events == []
    assert [reader.get("0198-abcd-1"), reader.find("0198-abcd-2")] == RECORDS[1:3]
    assert backend.events.count("open") == 1
    reader.close()
    reader.open()
    reader.open()
    assert backend.events.count("open") == 2
    unmade = Reader(backend, makes=False)
    assert unmade.get("0198-abcd-1") == RECORDS[1]
    assert backend.events.count("open") == 2


def test_a_failed_open_is_tried_again(backend, monkeypatch):
    """An error of opening is the caller's, from ``with`` and from the first use alike; the next use tries again."""
    with monkeypatch.context() as patched:
        patched.setattr(backend, "open", lambda: 1 / 0)
        reader = Reader(backend)
        with pytest.raises(ZeroDivisionError):
            reader.get("0198-abcd-1")
        with pytest.raises(ZeroDivisionError), reader:
            pass
    assert reader.get("0198-abcd-1") == RECORDS[1]


def test_from_env_tells_what_is_wrong(monkeypatch, tmp_path):
    """A wrong setting and a place that cannot be used are errors that name the variable."""
    monkeypatch.setenv("LLMSPAN_BACKENDS", "nothing")
    with pytest.raises(SettingsError, match="LLMSPAN_BACKENDS=nothing"):
        Reader.from_env()
    with pytest.raises(SettingsError, match="LLMSPAN_SQLITE_PATH="):
        Reader.from_env(backends="sqlite", sqlite_path=tmp_path).get("an-id")
    with (
        pytest.raises(SettingsError, match="LLMSPAN_SQLITE_PATH="),
        Reader.from_env(backends="sqlite", sqlite_path=tmp_path),
    ):
        pass


def test_needs_a_backend_that_can_be_read(backend, monkeypatch):
    """A backend that only takes records has no reader."""
    monkeypatch.setattr(MemoryBackend, "readable", False)
    with pytest.raises(SettingsError, match="'memory' only takes records"):
        Reader(backend)


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_iterate(reader, backend, size):
    """All records are given once, newest first, page by page and only as far as they are wanted."""
    assert [trace.id for trace in reader.iterate(page_size=size)] == [trace.id for trace in reversed(RECORDS)]
    assert [trace.id for trace in reader.iterate(Filters(run_id="r"), page_size=size)][-1] == "0198-abcd-1"
    backend.events.clear()
    assert next(reader.iterate(page_size=size)).id == "0198-abcd-4"
    assert backend.events == [f"list {size}"]


def test_find(reader, backend):
    """A record is found by its id or by the beginning of it, if that is long enough and of one record only."""
    short, long = make_trace(id="short"), make_trace(id="12345678-9")
    backend.write([short, long, make_trace(id="12345678-9-more")])
    assert reader.find("short") == short
    assert reader.find("shor") is None
    assert reader.find("0198-abcd-3") == RECORDS[3]
    assert reader.find("12345678-9-") == reader.get("12345678-9-more")
    assert reader.find("12345678-9") == long
    assert reader.find("nothing-of-that-kind") is None


def test_shortest_prefix(reader, backend):
    """Eight characters are enough, seven are not."""
    backend.write([make_trace(id="abcdefgh-1")])
    assert reader.find("abcdefg") is None
    assert reader.find("abcdefgh").id == "abcdefgh-1"


def test_find_among_several(reader, backend):
    """A beginning that several ids share is an error that says of how many, and shows some."""
    with pytest.raises(
        RecordError, match=r"'0198-abc' begins the ids of 5 records: 0198-abcd-0, .*-2, \.\.\.; give more"
    ):
        reader.find("0198-abc")
    backend.write([make_trace(id=f"two-of-them-{at}") for at in range(2)])
    with pytest.raises(RecordError, match=r"2 records: two-of-them-0, two-of-them-1; give more"):
        reader.find("two-of-them")
    backend.write([make_trace(id=f"too-many-{at}") for at in range(150)])
    with pytest.raises(RecordError, match="more than 100 records"):
        reader.find("too-many")


def test_async_reader(backend):
    """The async reader gives the same answers, and never reads on the event loop's thread."""

    async def read() -> None:
        async with AsyncReader(backend) as reader:
            assert backend.events == ["open"]
            assert await reader.get("0198-abcd-1") == RECORDS[1]
            assert await reader.find("0198-abcd-1") == RECORDS[1]
            assert await reader.get_by_step_id("s") == RECORDS[4]
            assert await reader.list_by_step_id("s") == RECORDS
            page = await reader.list(Filters(run_id="r"), limit=2)
            assert [trace.id for trace in page.traces] == ["0198-abcd-4", "0198-abcd-3"]
            assert [trace.id async for trace in reader.iterate(page_size=2)] == [one.id for one in reversed(RECORDS)]
            assert (await reader.stats(["model"]))[0].calls == 5
        assert backend.events[-1] == "close"

    asyncio.run(read())
    assert backend.threads
    assert threading.get_ident() not in backend.threads


def test_async_reader_from_env(tmp_path):
    """``from_env`` does no work on the event loop: the file is made on entering."""

    async def read() -> None:
        reader = AsyncReader.from_env(backends="sqlite", sqlite_path=tmp_path / "x.db")
        assert not (tmp_path / "x.db").exists()
        async with reader:
            assert (tmp_path / "x.db").exists()
            assert await reader.get("x") is None

    asyncio.run(read())
