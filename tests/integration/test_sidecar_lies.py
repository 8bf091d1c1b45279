"""Senders that contradict the protocol: the sidecar answers what is wrong, logs it once, and serves the others."""

from __future__ import annotations

import json
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from llmspan.backends.memory import MemoryBackend
from llmspan.backends.socket import SocketBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.sidecar import server
from polling import until
from records import make_trace
from stores import shutting_down
from stores.raw_sender import HELLO, frame, heard, is_connected, record
from stores.sidecar import RunningSidecar, running_sidecars, short_directory


@pytest.fixture
def path() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "s.sock"


@pytest.fixture
def run(path: Path) -> Iterator[Callable[..., RunningSidecar]]:
    with running_sidecars(path) as start:
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


DEEP = b"[" * 700 + b"]" * 700
LIES = {
    "version": b'{"type":"hello","version":%s,"max_frame":1}' % DEEP,
    "version object": b'{"type":"hello","version":{"a":4},"max_frame":1}',
    "max_frame": b'{"type":"hello","version":4,"max_frame":1e999}',
    "max_frame digits": b'{"type":"hello","version":4,"max_frame":%s}' % (b"9" * 8000),
    "max_frame long": b'{"type":"hello","version":4,"max_frame":%s}' % (b"9" * 400),
    "max_frame true": b'{"type":"hello","version":4,"max_frame":true}',
    "type": b'{"type":%s}' % DEEP,
    "nothing": b"{}",
    "list": b"[4]",
    "number": b"4",
    "too deep": b"[" * 60_000,
    "bytes": b"\xff\xfe\x00",
}
RECORD_LIES = {
    "seq text": b'{"type":"record","seq":"1"}',
    "seq long": b'{"type":"record", "seq":%s}' % (b"9" * 4000),
    "seq digits": b'{"type":"record", "seq":%s}' % (b"9" * 8000),
    "seq nan": b'{"type":"record","seq":NaN}',
    "seq negative": b'{"type":"record","seq":-1}',
    "seq deep": b'{"type":"record","seq":%s}' % DEEP,
    "type deep": b'{"type":%s,"seq":1}' % DEEP,
    "hello again": b'{"type":"hello","version":4,"max_frame":99999}',
}


@pytest.mark.parametrize("name", [*LIES, *RECORD_LIES])
def test_a_lie_is_named_and_logged_once(path, run, raw, caplog, name) -> None:
    """A frame that contradicts the protocol is an answer that says so; no traceback, however often it comes."""
    run(MemoryBackend())
    begun = frame(LIES[name]) if name in LIES else HELLO + frame(RECORD_LIES[name])
    with caplog.at_level(logging.INFO, "llmspan"):
        for _ in range(5):
            (*_, error) = heard(raw(begun))
            assert error["code"] in ("malformed", "unsupported_version")
            assert 5 < len(error["message"]) < 300
        with shutting_down(SocketBackend(path)) as backend:
            backend.write([make_trace(id="honest")])
    assert "Traceback" not in caplog.text
    assert "internal error" not in caplog.text
    assert len([line for line in caplog.records if line.levelno >= logging.WARNING]) == 1


@pytest.mark.parametrize(
    "member",
    [
        '"id":5', '"id":[]', '"started_at":1e999', '"started_at":"9999-99-99T00:00:00Z"', '"duration_ns":1.5',
        '"duration_ns":true', '"status":"fine"', '"agent_tags":"a"', '"attributes":[1]', '"usage_details":{"a":1e999}',
        '"stream":1', '"http_status":"x"', '"input_tokens":NaN', '"id":%s' % ("[" * 700 + "]" * 700),
        '"attributes":%s' % ("[" * 700 + "]" * 700), '"duration_ns":%s' % ("9" * 8000), '"content":{}',
        '"duration_ns":%s' % ("9" * 400), '"started_at":-%s' % ("9" * 400), '"input_tokens":%s' % ("9" * 40),
    ],
)  # fmt: skip
def test_a_record_that_lies_is_rejected_alone(path, tmp_path, raw, member, caplog) -> None:
    """Whatever stands where a value belongs: the sender hears which record and why; those around it are stored."""
    sidecar = RunningSidecar(path, SQLiteBackend(tmp_path / "t.db"))
    key = member.split(":")[0]
    values = json.loads(make_trace(id="b").to_json())
    rest = json.dumps({name: value for name, value in values.items() if f'"{name}"' != key})
    bad = frame(f'{{"type":"record","seq":2,{member},{rest[1:]}'.encode())
    connection = raw(HELLO + record(1, "a") + bad + record(3, "c"))
    connection.shutdown(socket.SHUT_WR)
    answers = heard(connection)
    sidecar.stop()
    (reject,) = [answer for answer in answers if answer["type"] == "reject"]
    assert (reject["seq"], len(reject["message"]) > 5) == (2, True)
    assert answers[-1] == {"type": "ack", "seq": 3}
    assert "Traceback" not in caplog.text
    with shutting_down(SQLiteBackend(tmp_path / "t.db")) as store:
        assert store.ids_with_prefix("", 9) == ["a", "c"]


def test_senders_that_hang_up_fill_no_log(run, raw, caplog) -> None:
    """However many connect and are gone before their answer: one line a minute says so."""
    sidecar = run(MemoryBackend())
    with caplog.at_level(logging.INFO, "llmspan"):
        for _ in range(20):
            raw(HELLO + HELLO[:3]).close()
        until(lambda: not sidecar.server._senders._all)
        for _ in range(20):
            connection = raw(HELLO)
            assert connection.recv(1)
            connection.close()  # with the rest of the answer unread: the connection is reset
        until(lambda: not sidecar.server._senders._all)
    assert len([line for line in caplog.records if "disconnected" in line.getMessage()]) == 1


def test_a_frame_that_trickles_has_an_end(run, raw, monkeypatch) -> None:
    """A sender that sends byte after byte of one frame is busy, but not for ever."""
    monkeypatch.setattr(server, "_FRAME_TIMEOUT", 0.05)
    run(MemoryBackend())
    connection = raw(HELLO + struct.pack(">I", 900_000))
    said = b""
    with suppress(ConnectionError):
        while b"has not ended within" not in said:
            if not is_connected(connection):
                said += connection.recv(65_536)
            connection.sendall(b" ")
    with suppress(ConnectionError):
        said += connection.recv(65_536)
    assert b"a frame has not ended within 0.05 s" in said
