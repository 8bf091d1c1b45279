"""Receivers that contradict the protocol: each lie is an error of ours that names it, and no record is lost by it."""

from __future__ import annotations

import json
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llmspan.backends.socket import SocketBackend
from llmspan.errors import PermanentError, RetryableError, SettingsError, ThrottledError
from llmspan.pipeline import Pipeline
from llmspan.settings import Settings
from receiver import Receiver
from records import make_trace
from scripted import Ready
from stores.sidecar import short_directory

#: what stands for itself in the frames below, and is put in by ``spelled_out``
WORDS = {"DEEP": "[" * 600 + "]" * 600, "LONG": "9" * 400, "HUGE": "9" * 8000}


def spelled_out(text: str) -> bytes:
    for word, meaning in WORDS.items():
        text = text.replace(word, meaning)
    return text.encode()


class Liar(Receiver):
    """Answers its first record with ``lie``; what comes on later connections is stored and acknowledged."""

    lie = b""
    greeting: bytes | None = None

    def converse(self, connection: socket.socket) -> None:
        is_first = not self.seen
        if self.greeting is not None and is_first:
            self.seen.append([])
            self.read(connection)
            self.send(connection, self.greeting)
            self.wait_for_the_end(connection)
        else:
            super().converse(connection)

    def store(self, record: dict[str, Any], text: str) -> None:
        if len(self.seen) > 1:
            super().store(record, text)

    def answer(self, connection: socket.socket, record: dict[str, Any]) -> None:
        if len(self.seen) > 1:
            super().answer(connection, record)
        else:
            self.send(connection, self.lie)
            self.wait_for_the_end(connection)

    def wait_for_the_end(self, connection: socket.socket) -> None:
        with suppress(ConnectionError):
            while connection.recv(65_536):
                pass
        raise EOFError

    def send(self, connection: socket.socket, body: bytes) -> None:
        connection.sendall(struct.pack(">I", len(body)) + body)


@pytest.fixture
def path() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "s.sock"


@pytest.fixture
def run(path: Path) -> Iterator[Callable[[type[Receiver]], Any]]:
    """Start a receiver at ``path``. It is stopped in the end, after the backend."""
    started: list[Receiver] = []

    def start(kind: type[Receiver]) -> Receiver:
        started.append(kind(path))
        return started[-1]

    yield start
    for receiver in started:
        receiver.stop()


@pytest.fixture
def lying(run: Callable[[type[Receiver]], Any]) -> Callable[..., Liar]:
    def start(lie: str = "", greeting: str | None = None) -> Liar:
        greeted = None if greeting is None else spelled_out(greeting)
        return run(type("Lying", (Liar,), {"lie": spelled_out(lie), "greeting": greeted}))

    return start


@pytest.fixture
def backend(path: Path, run: object) -> Iterator[SocketBackend]:
    made = SocketBackend(path)
    yield made
    made.shutdown()


def numbered(count: int) -> list[Any]:
    return [make_trace(id=f"id-{at}") for at in range(count)]


LIES = [
    ('{"type":"reject","seq":99,"message":"no"}', "reject of 99; 0 was acknowledged, 3 was sent"),
    ('{"type":"reject","seq":0,"message":"no"}', "reject of 0; 0 was acknowledged, 3 was sent"),
    ('{"type":"reject","seq":-1}', "reject of -1"),
    ('{"type":"reject"}', "seq is None, not a whole number"),
    ('{"type":"reject","seq":"1"}', "seq is '1', not a whole number"),
    ('{"type":"reject","seq":true}', "seq is True, not a whole number"),
    ('{"type":"reject","seq":[1]}', "seq is a JSON list, not a whole number"),
    ('{"type":"ack","seq":4}', "ack of 4; 0 was acknowledged, 3 was sent"),
    ('{"type":"ack","seq":-4}', "ack of -4"),
    ('{"type":"ack","seq":1.0}', r"seq is 1\.0, not a whole number"),
    ('{"type":"ack","seq":NaN}', "seq is nan, not a whole number"),
    ('{"type":"ack","seq":1e999}', "seq is inf, not a whole number"),
    ('{"type":"ack","seq":LONG}', r"seq is a number of \d+ bits, not a whole number of 64 bits"),
    ('{"type":"ack","seq":HUGE}', "not JSON"),
    ('{"type":"ack","seq":DEEP}', "not JSON|seq is a JSON list"),
    ('{"type":["ack"],"seq":1}', "the type is a JSON list, not a text"),
    ("[]", "not a JSON object"),
    ('{"type":"error","code":5,"message":"x"}', "the code of an error is 5, not a text"),
    ('{"type":"error","code":DEEP}', "not JSON|the code of an error is a JSON list"),
    ('{"type":"error"}', "the code of an error is None"),
]  # fmt: skip


@pytest.mark.parametrize(("lie", "named"), LIES)
def test_a_lie_is_named_and_everything_is_sent_again(backend, lying, lie, named) -> None:
    """What contradicts the protocol is a setting or a program that is wrong there; no record is at fault for it."""
    receiver = lying(lie)
    traces = numbered(3)
    with pytest.raises(SettingsError, match=named) as caught:
        backend.write(traces)
    assert "LLMSPAN_SOCKET=" in str(caught.value)
    assert "does not use protocol v4" in str(caught.value)
    backend.write(traces)
    assert receiver.seen[1] == [trace.id for trace in traces]
    assert set(receiver.records) == {trace.id for trace in traces}


DELAYS = ["-1", "-1e9", "NaN", "Infinity", "-Infinity", "1e300", "3601", "LONG", '"5"', "true", "[5]", "{}"]


@pytest.mark.parametrize("delay", DELAYS)
def test_a_pause_that_is_none_is_named_and_ignored(backend, lying, delay) -> None:
    """``retry_after`` is believed between 0 and an hour; else the records are tried again as without it."""
    receiver = lying(f'{{"type":"error","code":"unavailable","message":"full","retry_after":{delay}}}')
    traces = numbered(3)
    with pytest.raises(RetryableError, match=r"full \(its retry_after is .*, not a number of seconds") as caught:
        backend.write(traces)
    assert not isinstance(caught.value, ThrottledError)
    backend.write(traces)
    assert len(receiver.records) == 3


@pytest.mark.parametrize(("delay", "seconds"), [("0", 0.0), ("1.5", 1.5), ("3600", 3600.0), ("null", None)])
def test_a_pause_that_is_one_is_believed(backend, lying, delay, seconds) -> None:
    """The bounds are pauses, too; null says nothing."""
    lying(f'{{"type":"error","code":"unavailable","message":"full","retry_after":{delay}}}')
    with pytest.raises(RetryableError, match=r"full$") as caught:
        backend.write(numbered(1))
    assert getattr(caught.value, "delay", None) == seconds


@pytest.mark.parametrize(
    "error",
    [
        '"code":"malformed","seq":9',
        '"code":"malformed","seq":0',
        '"code":"too_large","seq":-3',
        '"code":"malformed","seq":"2"',
        '"code":"too_large","seq":true',
        '"code":"malformed","seq":LONG',
        '"code":"malformed","seq":2.0',
        '"code":"malformed","seq":NaN',
        '"code":"unavailable","seq":2',
        '"code":"a newer one","seq":2',
        '"code":"malformed"',
    ],
)
def test_an_error_gives_up_no_record_unless_it_names_one(backend, lying, error) -> None:
    """Only the errors of a record that is under way are its end; an outage that names a record is an outage."""
    receiver = lying(f'{{"type":"error","message":"bad one",{error}}}')
    traces = numbered(3)
    with pytest.raises(RetryableError, match="bad one"):
        backend.write(traces)
    backend.write(traces)
    assert len(receiver.records) == 3


def test_an_error_about_a_stored_record_is_not_believed(backend, run) -> None:
    """What was acknowledged is stored; an error that names it afterwards says nothing about the others."""

    class Doubting(Receiver):
        def answer(self, connection: socket.socket, record: dict[str, Any]) -> None:
            super().answer(connection, record)
            if record["seq"] == 2 and len(self.seen) == 1:
                self.say(connection, type="error", code="malformed", message="no good", seq=1)
                raise EOFError

    receiver = run(Doubting)
    traces = numbered(4)
    with pytest.raises(RetryableError, match=r"it names record 1; 2 was acknowledged"):
        backend.write(traces)
    backend.write(traces)
    assert receiver.seen[1] == ["id-2", "id-3"]


@pytest.mark.parametrize(
    ("greeting", "named"),
    [
        ('{"type":"hello","version":4}', "max_frame is None"),
        ('{"type":"hello","version":4,"max_frame":"1"}', "max_frame is '1'"),
        ('{"type":"hello","version":4,"max_frame":LONG}', r"max_frame is a number of \d+ bits"),
        ('{"type":"hello","version":4,"max_frame":99999,"window_records":"many"}', "window_records is 'many'"),
        ('{"type":"hello","version":4,"max_frame":99999,"window_bytes":1.5}', r"window_bytes is 1\.5"),
        ('{"type":"hello","version":4,"max_frame":99999,"window_bytes":LONG}', "window_bytes is a number of"),
        ('{"type":{},"version":4,"max_frame":99999}', "the type is a JSON object"),
        ('{"type":"ack","seq":1}', "the answer to HELLO is 'ack', not hello"),
    ],
)
def test_a_greeting_that_lies_is_named(backend, lying, greeting, named) -> None:
    """A limit of the wrong kind or size is an error before a record is sent."""
    receiver = lying(greeting=greeting)
    with pytest.raises(SettingsError, match=named):
        backend.open()
    backend.write(numbered(3))
    assert len(receiver.records) == 3


@pytest.mark.parametrize(
    "more",
    [
        '"max_frame":-5',
        '"max_frame":0,"window_records":-7,"window_bytes":-7',
        '"max_frame":9000000000,"window_records":0,"window_bytes":0',
        '"max_frame":99999,"software":[[1]]',
        '"max_frame":99999,"software":"DEEP"',
    ],
)
def test_limits_that_are_odd_are_made_the_best_of(backend, lying, more) -> None:
    """Whole numbers that no receiver needs still let one record at a time through, of the least size that holds."""
    receiver = lying()

    def say(connection: socket.socket, **values: Any) -> None:
        if values["type"] == "hello":
            receiver.send(connection, spelled_out(f'{{"type":"hello","version":4,{more}}}'))
        else:
            Liar.say(receiver, connection, **values)

    receiver.say = say  # type: ignore[method-assign]
    receiver.seen.append([])  # from the first record on it stores and acknowledges
    backend.write(numbered(3))
    assert len(receiver.records) == 3
    assert len(backend.check()) < 400


def test_an_ack_of_what_has_not_left_is_refused(backend, run) -> None:
    """A receiver cannot have stored a record whose bytes are still here, however plausible its number is."""

    class Hasty(Receiver):
        def converse(self, connection: socket.socket) -> None:
            self.read(connection)
            self.say(connection, type="hello", version=4, max_frame=self.max_frame, window_bytes=10**9)
            self.seen.append([])
            if len(self.seen) == 1:
                self.exactly(connection, 100)
                self.say(connection, type="ack", seq=3)
                raise EOFError
            while text := self.read(connection).decode():
                record = json.loads(text)
                self.store(record, text)
                self.answer(connection, record)

    receiver = run(Hasty)
    traces = [make_trace(id=f"id-{at}", request_json=f'"{"x" * 15_000_000}"') for at in range(3)]
    with pytest.raises(SettingsError, match="ack of 3; 0 was acknowledged, 0 was sent"):
        backend.write(traces)
    backend.write(traces)
    assert len(receiver.records) == 3


def test_who_talks_without_end_is_given_up_in_time(backend, run) -> None:
    """Frames that say nothing are no progress: the time limit of the write holds."""

    class Talkative(Receiver):
        def answer(self, connection: socket.socket, record: dict[str, Any]) -> None:
            while True:
                self.say(connection, type="news", text="x" * 1000)

    run(Talkative)
    backend._timeout = 0.3
    with pytest.raises(RetryableError, match="not all was acknowledged within"):
        backend.write(numbered(2))


def test_in_a_program_a_liar_costs_a_log_line(path, lying, caplog, tmp_path, monkeypatch) -> None:
    """The pipeline logs the lie once, without a traceback, keeps the records, and delivers them; no dead letters."""
    receiver = lying('{"type":"reject","seq":77}')
    monkeypatch.setattr("llmspan.pipeline.retry.LONGEST_PAUSE", 0.01)
    pipeline = Pipeline()
    pipeline.configure(Settings(dead_letter_dir=tmp_path / "dead"))
    pipeline.add(SocketBackend(path))
    with caplog.at_level(logging.WARNING, "llmspan"):
        for trace in numbered(5):
            pipeline.submit(Ready(trace))
        assert pipeline.flush(60)
    (status,) = pipeline.status()
    assert (status.delivered, status.dropped, status.dead_lettered) == (5, {}, 0)
    assert len(receiver.records) == 5
    (line,) = [record for record in caplog.records if record.name == "llmspan"]
    assert "reject of 77" in line.getMessage()
    assert line.exc_info is None
    assert pipeline.close(30)
    assert not (tmp_path / "dead").exists()


def test_a_reject_without_a_reason_is_still_one(backend, run) -> None:
    """A record that was sent, and rejected, is a permanent failure, whatever stands where the reason belongs."""

    class Curt(Receiver):
        def answer(self, connection: socket.socket, record: dict[str, Any]) -> None:
            self.say(connection, type="reject", seq=record["seq"], message={"a": [1]})
            super().answer(connection, record)

    run(Curt)
    with pytest.raises(PermanentError, match=r"record id-0: refused at .*: no reason is given"):
        backend.write(numbered(1))
