"""What the sidecar answers, and where records go: a primary that is away, others that hang, senders that misbehave."""

from __future__ import annotations

import errno
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llmspan.backends.memory import MemoryBackend
from llmspan.backends.socket import SocketBackend
from llmspan.errors import PermanentError, RetryableError, SchemaError, SettingsError, ThrottledError
from llmspan.pipeline.spool import Spool
from llmspan.settings import Settings
from llmspan.sidecar import RecordStore, server
from llmspan.trace import ProviderTrace
from polling import until
from records import make_trace
from stores import shutting_down
from stores.sidecar import RunningSidecar, running_sidecars, short_directory

HELLO = {"type": "hello", "version": 4, "max_frame": 1_000_000}


class Store(MemoryBackend):
    """A store that does what it is told: fail with ``error``, refuse ids, wait for ``gate``."""

    def __init__(self, *, refused: Sequence[str] = (), gate: threading.Event | None = None) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.batches: list[list[str]] = []
        self.arrived = threading.Event()
        self._refused = refused
        self._gate = gate

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        self.arrived.set()
        if self._gate is not None:
            self._gate.wait()
        if self.error is not None:
            raise self.error
        for trace in traces:
            if trace.id in self._refused:
                raise PermanentError(f"record {trace.id} is odd")
        super().write(traces)
        self.batches.append([trace.id for trace in traces])

    @property
    def ids(self) -> list[str]:
        return list(self.ids_with_prefix("", 1_000_000))


@pytest.fixture
def path() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "s.sock"


@pytest.fixture
def run(path: Path) -> Iterator[Callable[..., RunningSidecar]]:
    with running_sidecars(path) as start:
        yield start


@pytest.fixture
def backend(path: Path, run: object) -> Iterator[SocketBackend]:
    with shutting_down(SocketBackend(path)) as made:
        yield made


class Raw:
    """A sender by hand."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))

    def say(self, *frames: dict[str, Any]) -> None:
        self.send(*(json.dumps(values).encode() for values in frames))

    def send(self, *bodies: bytes) -> None:
        with suppress(ConnectionError):  # who is refused may find the connection closed while it still sends
            self.socket.sendall(b"".join(struct.pack(">I", len(body)) + body for body in bodies))

    def heard(self) -> list[dict[str, Any]]:
        """All that is said until the other end closes."""
        data = b""
        with self.socket, suppress(ConnectionResetError):
            while piece := self.socket.recv(65_536):
                data += piece
        found: list[dict[str, Any]] = []
        while data:
            (length,) = struct.unpack(">I", data[:4])
            found.append(json.loads(data[4 : 4 + length]))
            data = data[4 + length :]
        return found


def record(seq: int, **values: Any) -> dict[str, Any]:
    return {"type": "record", "seq": seq, **json.loads(make_trace(**values).to_json())}


# -- the primary ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RetryableError("the disk is full"), RetryableError),
        (ThrottledError("too fast", 1.5), ThrottledError),
        (SettingsError("wrong password"), RetryableError),
        (SchemaError("made by a newer one"), RetryableError),
    ],
)
def test_a_primary_that_cannot_store_is_told_and_nothing_is_acknowledged(backend, run, error, kind) -> None:
    """The sender hears the reason and keeps its records; when the store is back they go in, once, everywhere."""
    first, second = Store(), Store()
    run(first, second)
    first.error = error
    traces = [make_trace(id="a"), make_trace(id="b")]
    with pytest.raises(kind, match=str(error)):
        backend.write(traces)
    assert (first.ids, second.ids) == ([], [])
    first.error = None
    backend.write(traces)
    assert first.ids == ["a", "b"]


def test_a_record_that_the_primary_refuses_is_the_only_one_that_is_lost(backend, run) -> None:
    """Whatever batch it is in, the bad record is named to its sender, and the others are stored everywhere."""
    first, second = Store(refused=["id-3"]), Store()
    sidecar = run(first, second)
    with pytest.raises(PermanentError, match=r"record id-3: refused at .*: memory: record id-3 is odd"):
        backend.write([make_trace(id=f"id-{at}") for at in range(8)])
    expected = [f"id-{at}" for at in range(8) if at != 3]
    assert first.ids == expected
    run_down(sidecar)
    assert second.ids == expected


# -- the others -----------------------------------------------------------------------------------------------------


def test_one_that_hangs_holds_nobody_up(backend, run) -> None:
    """Acknowledgements wait for the primary alone; the other one gets everything once it goes on, before the end."""
    gate = threading.Event()
    first, slow = Store(), Store(gate=gate)
    sidecar = run(first, slow)
    for at in range(5):
        backend.write([make_trace(id=f"id-{at}")])
    assert slow.arrived.wait(60)
    assert (len(first.ids), slow.ids) == (5, [])
    gate.set()
    assert run_down(sidecar)
    assert slow.ids == first.ids
    assert [(status.delivered, status.queued) for status in sidecar.record_store.status()] == [(5, 0), (5, 0)]


class Away(Store):
    """A store that is down."""

    name = "away"

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        raise RetryableError("connection refused")


class Back(Store):
    """The same, when it is up again."""

    name = "away"


def test_with_a_spool_stored_means_in_the_spool_too(tmp_path: Path) -> None:
    """What is to be acknowledged is on disk for the others; the next sidecar delivers it without a new record."""
    settings = Settings(spool_dir=tmp_path / "spool")
    archive = RecordStore([Store(), Away()], settings)
    ids: list[str] = []
    for number in range(20):
        traces = [make_trace() for _ in range(number)]
        assert archive.store(traces) == {}
        ids += [trace.id for trace in traces]
        spooled = b"".join(path.read_bytes() for path in (tmp_path / "spool").glob("log-*/seg-*"))
        assert all(id_.encode() in spooled for id_ in ids)
    archive.close(0.05)
    back = Back()
    again = RecordStore([Store(), back], settings)
    until(lambda: again.status()[1].delivered == len(ids))
    assert sorted(back.ids) == sorted(ids)
    assert again.close(30)


def test_a_spool_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    """The first store has the records, and so they are acknowledged; for the others they wait in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmspan.pipeline.spool.spool.make_root", _full)
        first, second = Store(), Back()
        archive = RecordStore([first, second], Settings(spool_dir=tmp_path / "spool"))
        assert archive.store([make_trace(id="a")]) == {}
        until(lambda: second.ids)
    assert archive.close(30)
    assert first.ids == second.ids == ["a"]


def _full(_: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_without_the_spools_word_nothing_is_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool that takes too long is a reason to refuse, also when the same records come again."""
    monkeypatch.setattr("llmspan.sidecar.record_store._SPOOL_TIMEOUT", 0.01)
    entered, gate = threading.Event(), threading.Event()

    def commit(spool: Spool, payloads: Sequence[bytes]) -> None:
        entered.set()
        gate.wait(60)
        real(spool, payloads)

    real = Spool.commit
    monkeypatch.setattr(Spool, "commit", commit)
    first, second = Store(), Back()
    archive = RecordStore([first, second], Settings(spool_dir=tmp_path / "spool"))
    traces = [make_trace()]
    for _ in range(2):
        with pytest.raises(RetryableError, match="LLMSPAN_SPOOL_DIR"):
            archive.store(traces)
    assert entered.wait(30)
    gate.set()
    until(lambda: second.ids)
    assert archive.store(traces) == {}
    assert archive.close(30)
    assert first.ids == second.ids == [traces[0].id]


def test_the_end_tells_what_the_others_did_not_get() -> None:
    """Closing waits for the other backends as long as it may, and says when that was not enough."""
    gate = threading.Event()
    first, slow = Store(), Store(gate=gate)
    archive = RecordStore([first, slow], Settings())
    archive.store([make_trace(id="a")])
    assert slow.arrived.wait(60)
    assert archive.close(0.05) is False
    assert first.ids == ["a"]
    gate.set()


def test_what_comes_twice_is_stored_once_and_acknowledged_twice(path, backend, run) -> None:
    """A record that comes again, from the same sender or another, in the same batch or another, goes nowhere twice."""
    first, second = Store(), Store()
    sidecar = run(first, second)
    traces = [make_trace(id="a"), make_trace(id="b")]
    backend.write([*traces, traces[0]])
    with shutting_down(SocketBackend(path)) as other:
        other.write([*traces, make_trace(id="c")])
    run_down(sidecar)
    assert [name for batch in first.batches for name in batch] == ["a", "b", "c"]
    assert [status.accepted for status in sidecar.record_store.status()] == [3, 3]


def test_many_senders_at_once(path, run) -> None:
    """Each sender's write returns with its own records stored."""
    store = Store()
    run(store, max_clients=8)

    def send(sender: int) -> None:
        with shutting_down(SocketBackend(path)) as backend:
            for at in range(10):
                mine = [f"{sender}-{at}-{n}" for n in range(30)]
                backend.write([make_trace(id=name) for name in mine])
                assert set(mine) <= set(store.ids)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    assert len(store.ids) == 2400


# -- senders that misbehave -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "code", "told"),
    [
        (b"nonsense", "malformed", "frame 4: not JSON"),
        (b'{"type":"record","seq":5}', "malformed", "frame 4: seq is 5, expected 3"),
        (b'{"type":"story","seq":3}', "malformed", "frame 4: the type is 'story', not record"),
        (b" " * 1_000_001, "too_large", "frame 4, at byte "),
    ],
)
def test_a_bad_frame_ends_its_connection_and_loses_nothing_else(path, backend, run, bad, code, told) -> None:
    """What came before it is stored and acknowledged, the error names what and where, other senders go on."""
    store = Store()
    run(store)
    raw = Raw(path)
    raw.say(HELLO, record(1, id="a"), record(2, id="b"))
    raw.send(bad)
    *answers, error = raw.heard()
    assert max(answer["seq"] for answer in answers if answer["type"] == "ack") == 2
    assert (error["type"], error["code"], error["seq"]) == ("error", code, 3)
    assert told in error["message"]
    backend.write([make_trace(id="c")])
    assert store.ids == ["a", "b", "c"]


def test_a_record_without_its_keys_is_rejected_alone(path, run) -> None:
    """The frame is in order, so the conversation goes on: a reject with the reason, then the ack over all."""
    store = Store()
    run(store)
    raw = Raw(path)
    raw.say(HELLO, record(1, id="a"), {"type": "record", "seq": 2, "id": "x"}, record(3, id="b"))
    raw.socket.shutdown(socket.SHUT_WR)
    answers = raw.heard()
    (reject,) = (answer for answer in answers if answer["type"] == "reject")
    assert (reject["seq"], "no value for provider" in reject["message"]) == (2, True)
    assert answers[-1] == {"type": "ack", "seq": 3}
    assert store.ids == ["a", "b"]


def test_an_unknown_version_gets_a_clear_answer(path, run) -> None:
    """A sender of another version hears which ones are spoken, and is let go."""
    run(Store())
    raw = Raw(path)
    raw.say({"type": "hello", "version": 3, "max_frame": 1})
    (error,) = raw.heard()
    assert (error["code"], error["versions"]) == ("unsupported_version", [4])
    assert error["message"] == "version 3 is not supported, only version 4"


def test_lines_of_v3_get_a_clear_answer(path, run) -> None:
    """A sender of the older protocol is told what it looks like."""
    run(Store())
    raw = Raw(path)
    raw.socket.sendall(b'{"protocol_version":3}\n')
    (error,) = raw.heard()
    assert "looks like text, such as the lines of v3" in error["message"]


@pytest.mark.parametrize("begun", [b"", struct.pack(">I", 100) + b"{"])
def test_who_begins_and_does_not_go_on_is_let_go(path, run, monkeypatch, begun) -> None:
    """A connection without a greeting, or a frame without its end, does not stay for ever."""
    monkeypatch.setattr(server, "_SENDER_TIMEOUT", 0.05)
    run(Store())
    raw = Raw(path)
    raw.socket.sendall(begun)
    (error,) = raw.heard()
    assert "nothing came for 0.05 s where more was announced" in error["message"]


def test_an_idle_sender_is_kept(path, backend, run, monkeypatch) -> None:
    """Between its records a sender may take as long as it likes."""
    monkeypatch.setattr(server, "_SENDER_TIMEOUT", 0.01)
    run(Store())
    backend.open()
    link = backend._link
    silent = Raw(path)
    silent.heard()  # by now the patience is over
    backend.write([make_trace()])
    assert backend._link is link


def test_no_more_senders_than_allowed(path, backend, run) -> None:
    """One too many is asked to come back while none is idle, and can when another has gone."""
    gate = threading.Event()
    store = Store(gate=gate)
    run(store, max_clients=1)
    first = Raw(path)
    first.say(HELLO, record(1, id="a"))
    assert store.arrived.wait(60)
    with pytest.raises(ThrottledError, match="1 senders are connected already"):
        backend.open()
    gate.set()
    first.socket.shutdown(socket.SHUT_WR)
    assert first.heard()[-1]["type"] == "ack"
    while not _opens(backend):
        pass
    backend.write([make_trace()])


def test_a_sender_that_waits_hears_that_it_stops(path, run) -> None:
    """When the sidecar is stopped, its senders are asked to come back soon."""
    sidecar = run(Store())
    raw = Raw(path)
    raw.say(HELLO)
    raw.socket.recv(1, socket.MSG_PEEK)
    run_down(sidecar)
    assert [answer["type"] for answer in raw.heard()] == ["hello", "error"]


def _opens(backend: SocketBackend) -> bool:
    try:
        backend.open()
    except RetryableError:
        return False
    return True


def run_down(sidecar: RunningSidecar) -> bool:
    """Stop it now; the fixture need not."""
    done = sidecar.stop()
    sidecar.stop = lambda: done  # type: ignore[method-assign]
    return done
