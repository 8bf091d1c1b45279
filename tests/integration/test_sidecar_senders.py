"""How many senders there may be: the longest idle one makes room, a busy one never, and none shuts the others out."""

from __future__ import annotations

import logging
import resource
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from llmspan.backends.memory import MemoryBackend
from llmspan.backends.socket import SocketBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.errors import RetryableError, ThrottledError
from llmspan.pipeline import Pipeline
from llmspan.settings import Settings
from llmspan.sidecar import server
from llmspan.sidecar.senders import Senders, limit_by_descriptors
from llmspan.trace import ProviderTrace
from polling import until
from records import make_trace
from scripted import Ready
from stores import shutting_down
from stores.raw_sender import HELLO, heard, is_connected, record
from stores.sidecar import RunningSidecar, SidecarProcess, running_sidecars, short_directory


class Gated(MemoryBackend):
    """A store whose writes wait for ``gate``."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.arrived = threading.Semaphore(0)

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        self.arrived.release()
        assert self.gate.wait(60)
        super().write(traces)


@pytest.fixture
def path() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "s.sock"


@pytest.fixture
def run(path: Path) -> Iterator[Callable[..., RunningSidecar]]:
    with running_sidecars(path) as start:
        yield start


@pytest.fixture
def opened(path: Path, run: object) -> Iterator[Callable[[], SocketBackend]]:
    """Make a sender; all are shut down before the sidecar stops."""
    with ExitStack() as stack:

        def start() -> SocketBackend:
            return stack.enter_context(shutting_down(SocketBackend(path)))

        yield start


@pytest.fixture
def raw(path: Path) -> Iterator[Callable[..., socket.socket]]:
    """Connect a sender by hand, which has sent these bytes."""
    with ExitStack() as stack:

        def connect(data: bytes = b"") -> socket.socket:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(60)
            connection.connect(str(path))
            connection.sendall(data)
            return connection

        yield connect


# -- the longest idle one makes room --------------------------------------------------------------------------------


def test_the_longest_idle_sender_makes_room(run, opened) -> None:
    """One that has just sent stays; one that was closed goes on by itself, without an error, and nothing is lost."""
    store = MemoryBackend()
    run(store, max_clients=3)
    first, second, third = (opened() for _ in range(3))
    for at, sender in enumerate((first, second, third, first)):
        sender.write([make_trace(id=f"{at}")])
    links = {sender: sender._link for sender in (first, second, third)}
    opened().write([make_trace(id="newcomer")])
    until(lambda: not links[second].alive())  # the newcomer may be served before the other has seen its end
    assert [links[sender].alive() for sender in (first, second, third)] == [True, False, True]
    first.write([make_trace(id="again-0")])
    second.write([make_trace(id="again-1")])
    until(lambda: not links[third].alive())  # it has made room for the second in its turn
    third.write([make_trace(id="again-2")])
    assert store.ids_with_prefix("", 99) == [*"0123", "again-0", "again-1", "again-2", "newcomer"]


@pytest.mark.parametrize("begun", [b"", HELLO])
def test_idle_senders_shut_nobody_out(run, opened, raw, begun) -> None:
    """However many connect and stay silent, greeted or not: each newcomer has its place at once."""
    store = MemoryBackend()
    run(store, max_clients=16)
    silent = [raw(begun) for _ in range(16)]
    for connection in silent if begun else ():
        connection.recv(1, socket.MSG_PEEK)
    for at in range(40):
        sender = opened()
        until(lambda: _writes(sender, f"{at:02}"))  # noqa: B023 - the silent ones may not be there yet
    assert len(store.ids_with_prefix("", 99)) == 40
    (*_, error) = heard(silent[0])
    assert (error["type"], error["code"]) == ("error", "unavailable")
    assert "was idle and its slot is needed" in error["message"]


def _writes(sender: SocketBackend, name: str) -> bool:
    try:
        sender.write([make_trace(id=name)])
    except RetryableError:
        return False
    return True


def test_a_sender_is_idle_as_soon_as_it_has_its_answer(run, opened, raw) -> None:
    """Who has heard the acknowledgement of all that it sent can be closed: a newcomer need not try twice."""
    run(MemoryBackend(), max_clients=1)
    for at in range(50):
        opened().write([make_trace(id=f"{at}")])
        raw(HELLO).recv(1, socket.MSG_PEEK)
        opened().open()


def test_what_is_closed_costs_one_log_line(run, opened, caplog) -> None:
    """The log says that the places are taken, and by which option there are more; not for each one that is closed."""
    with caplog.at_level(logging.INFO, "llmspan"):
        run(MemoryBackend(), max_clients=1)
        for at in range(10):
            opened().write([make_trace(id=f"{at}")])
        opened().open()
    lines = [line.getMessage() for line in caplog.records]
    assert len([line for line in lines if "slot is needed for another sender" in line]) == 1
    assert "--max-clients" in "".join(lines)


def test_senders_that_share_too_few_places_lose_nothing(run, path) -> None:
    """Ten programs at two places, each closed again and again for the others: all records are stored, once."""
    store = MemoryBackend()
    sidecar = run(store, max_clients=2)
    pipelines = [Pipeline() for _ in range(10)]
    for pipeline in pipelines:
        pipeline.configure(Settings())
        pipeline.add(SocketBackend(path))

    def send(at: int) -> bool:
        for part in range(5):
            for number in range(20):
                pipelines[at].submit(Ready(make_trace(id=f"{at}-{part}-{number}")))
            assert pipelines[at].flush(120)
        return pipelines[at].close(60)

    with ThreadPoolExecutor(10) as pool:
        assert all(pool.map(send, range(10)))
    assert len(store.ids_with_prefix("", 2000)) == 1000
    assert [(s.delivered, s.dropped) for pipeline in pipelines for s in pipeline.status()] == [(100, {})] * 10
    assert sidecar.record_store.status()[0].accepted == 1000


# -- a busy one does not --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "begun",
    [HELLO[:3], HELLO[:-1], HELLO + b"\0", HELLO + record(1, "x")[:-1], HELLO + record(1, "x")[:5]],
)
def test_a_sender_in_the_middle_of_a_frame_is_not_idle(run, opened, raw, begun) -> None:
    """With half a frame under way it stays, and the newcomer is refused as before; when it has ended, it is idle."""
    store = MemoryBackend()
    run(store, max_clients=1)
    half = raw(begun)
    if len(begun) > len(HELLO):
        half.recv(1, socket.MSG_PEEK)
    with pytest.raises(ThrottledError, match="1 senders are connected already") as refused:
        opened().open()
    assert refused.value.delay == 1.0
    rest = (HELLO + record(1, "x"))[len(begun) :]
    half.sendall(rest)
    while b'"ack"' not in half.recv(65_536):
        pass
    opened().write([make_trace(id="y")])
    assert store.ids_with_prefix("", 9) == ["x", "y"]


def test_a_sender_that_waits_for_its_acknowledgement_is_not_idle(run, opened) -> None:
    """While the store takes its time nobody is closed for a newcomer; what is under way is acknowledged."""
    store = Gated()
    run(store, max_clients=2)
    writing = [opened(), opened()]
    with ThreadPoolExecutor(2) as pool:
        writes = [pool.submit(sender.write, [make_trace(id=f"{at}")]) for at, sender in enumerate(writing)]
        assert store.arrived.acquire(timeout=60)
        until(lambda: all(sender._link is not None and sender._link._sender.sent for sender in writing))
        with pytest.raises(ThrottledError, match="2 senders are connected already"):
            opened().open()
        store.gate.set()
        for write in writes:
            write.result(60)
    opened().write([make_trace(id="later")])
    assert store.ids_with_prefix("", 9) == ["0", "1", "later"]


def test_of_busy_and_idle_ones_the_idle_one_is_closed(run, opened, raw) -> None:
    """Also if the busy ones have been there for longer."""
    run(MemoryBackend(), max_clients=4)
    busy = [raw(HELLO + b"\0\0") for _ in range(3)]
    for connection in busy:
        connection.recv(65_536)
    idle = opened()
    idle.write([make_trace(id="a")])
    link = idle._link
    assert link is not None
    opened().write([make_trace(id="b")])
    assert not link.alive()
    assert all(map(is_connected, busy))


def test_who_may_not_send_takes_no_place(run, opened) -> None:
    """A newcomer of a user who is not allowed is refused before anybody is closed for it."""
    sidecar = run(MemoryBackend(), max_clients=1)
    first = opened()
    first.write([make_trace(id="a")])
    sidecar.server._allowed = {54_321}
    with pytest.raises(Exception, match="may not send here"):
        opened().open()
    assert [sender.is_closing for sender in sidecar.server._senders._all] == [False]


def test_what_has_come_and_is_not_read_yet_is_not_idle() -> None:
    """A connection whose thread has not woken up yet is busy; one whose other end is gone can go first."""
    senders = Senders(2)
    with ExitStack() as stack:
        pairs = [[stack.enter_context(end) for end in socket.socketpair()] for _ in range(3)]
        first, second = (senders.admit(pair[0]) for pair in pairs[:2])
        assert first is not None
        assert second is not None
        for pair in pairs[:2]:
            pair[1].sendall(b"x")
        assert senders.admit(pairs[2][0]) is None
        assert senders.end_idle(first)
        assert senders.end_idle(second)
        pairs[1][0].recv(1)
        senders.begin_idle(second)
        assert senders.admit(pairs[2][0]) is not None
        assert (first.is_closing, second.is_closing) == (False, True)
        assert not senders.end_idle(second)


# -- how many -------------------------------------------------------------------------------------------------------


def test_the_default_is_enough_for_a_host_of_500_workers(path, tmp_path) -> None:
    """Each of 500 has its connection, and keeps it; the log says nothing of limits."""
    sidecar = SidecarProcess(path, tmp_path / "t.db")
    try:
        with ExitStack() as stack:
            senders = [stack.enter_context(shutting_down(SocketBackend(path))) for _ in range(500)]
            for at, sender in enumerate(senders):
                sender.write([make_trace(id=f"{at:03}")])
            assert all(sender._link is not None and sender._link.alive() for sender in senders)
        assert sidecar.end() == 0
    finally:
        sidecar.remove()
    assert "sqlite: 500 stored" in sidecar.told[-1]
    assert "RLIMIT_NOFILE" not in "".join(sidecar.told)


@pytest.mark.parametrize("limit", [64, 256])
def test_there_are_no_more_than_the_limit_of_open_files_allows(path, tmp_path, limit) -> None:
    """The log names the limit and the number that is left; beyond it idle ones make room, and records are stored."""
    sidecar = SidecarProcess(
        path, tmp_path / "t.db", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    )
    try:
        with ExitStack() as stack:
            for at in range(limit + 20):
                sender = stack.enter_context(shutting_down(SocketBackend(path)))
                until(lambda: _writes(sender, f"{at:03}"))  # noqa: B023 - called at once
        assert sidecar.end() == 0
    finally:
        sidecar.remove()
    told = "".join(sidecar.told)
    assert f"senders at a time, not 1000: the limit of open files (RLIMIT_NOFILE) is {limit}; raise it" in told
    assert "cannot accept" not in told
    with shutting_down(SQLiteBackend(tmp_path / "t.db")) as store:
        assert len(store.ids_with_prefix("", 999)) == limit + 20


@pytest.mark.parametrize(("limit", "wanted"), [(resource.RLIM_INFINITY, 10**9), (10, 1000), (1, 5), (100_000, 1000)])
def test_the_limit_is_at_least_one(limit, wanted, monkeypatch) -> None:
    """No limit leaves what is wanted; the smallest one leaves a place."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert limit_by_descriptors(wanted) == (wanted if limit not in (1, 10) else 1)


def test_without_a_descriptor_an_idle_one_makes_room(run, path, monkeypatch) -> None:
    """Where the system gives no more descriptors, whatever took them, newcomers do not wait for ever."""
    monkeypatch.setattr(server, "limit_by_descriptors", lambda wanted: wanted)
    run(MemoryBackend())
    connections = [socket.socket(socket.AF_UNIX) for _ in range(12)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = 5
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(connection.fileno() for connection in connections) + 1 + free, hard)
    )
    try:
        for connection in connections:
            connection.settimeout(60)
            connection.connect(str(path))
            connection.sendall(HELLO)
            assert connection.recv(1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for connection in connections:
            connection.close()


def test_without_a_thread_a_newcomer_is_asked_to_come_back(run, opened, monkeypatch) -> None:
    """It hears why, and an idle one makes room for the next thread."""
    run(MemoryBackend())
    idle = opened()
    idle.write([make_trace(id="a")])
    link = idle._link
    assert link is not None
    start = threading.Thread.start

    def failing(thread: threading.Thread) -> None:
        if thread.name == "llmspan-sender":
            monkeypatch.setattr(threading.Thread, "start", start)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", failing)
    newcomer = opened()
    with pytest.raises(ThrottledError, match="can't start new thread"):
        newcomer.open()
    until(lambda: not link.alive())
    newcomer.write([make_trace(id="b")])


def test_few_batches_are_in_memory_at_a_time(run, opened, monkeypatch) -> None:
    """However many senders there are: the others wait with theirs unread, and have their turn."""
    monkeypatch.setattr(server, "_MOST_BATCHES", 2)
    store = Gated()
    sidecar = run(store)
    real, inside, most = sidecar.record_store.store, [0], [0]

    def counting(records: Any, **options: Any) -> dict[str, str]:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        try:
            return real(records, **options)
        finally:
            inside[0] -= 1

    sidecar.record_store.store = counting  # type: ignore[method-assign]
    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(opened().write, [make_trace(id=f"{at}")]) for at in range(8)]
        assert store.arrived.acquire(timeout=60)
        until(lambda: inside[0] == 2)
        store.gate.set()
        for write in writes:
            write.result(60)
    assert most == [2]
    assert len(store.ids_with_prefix("", 99)) == 8
