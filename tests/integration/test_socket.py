"""The socket backend against receivers of every kind: a good one from the specification, and bad ones."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llmspan.backends import load_backends
from llmspan.backends.socket import SocketBackend
from llmspan.backends.socket.records import v3_line
from llmspan.cli import main
from llmspan.errors import (
    BackendError,
    PermanentError,
    RetryableError,
    SchemaError,
    SettingsError,
    ThrottledError,
)
from llmspan.settings import Settings
from llmspan.trace import KEYS, ProviderTrace
from receiver import Receiver
from records import full_trace, make_trace
from stores.sidecar import short_directory

SPECIFICATION = Path(__file__).parents[2] / "docs" / "socket-protocol.md"


@pytest.fixture
def path() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "s.sock"


@pytest.fixture
def run(path: Path) -> Iterator[Callable[[type[Receiver]], Any]]:
    """Start a receiver at ``path``. It is stopped in the end, after the backend, and must have found no fault."""
    started: list[Receiver] = []

    def start(kind: type[Receiver]) -> Receiver:
        started.append(kind(path))
        return started[-1]

    yield start
    for receiver in started:
        receiver.stop()


@pytest.fixture
def backend(path: Path, run: object) -> Iterator[SocketBackend]:
    made = SocketBackend(path)
    yield made
    made.shutdown()


def numbered(count: int, **values: Any) -> list[ProviderTrace]:
    return [make_trace(id=f"id-{at}", **values) for at in range(count)]


# -- a receiver that follows the specification ----------------------------------------------------------------------


def test_a_receiver_made_from_the_specification_gets_whole_records(backend, run) -> None:
    """Every key of a record arrives under its name, payloads to the character."""
    receiver = run(Receiver)
    trace = full_trace(request_json='{ "a" : 1.50,\n"a":2}', response_json='"\\u0000ü"')
    backend.write([trace])
    record = receiver.records[trace.id]
    assert set(record) == set(KEYS)
    assert (record["agent_tags"], record["http_status"], record["usage_raw"]) == (["a", "", "ü"], 429, trace.usage.raw)
    assert '"request_json":{ "a" : 1.50,\n"a":2},' in receiver.frames[trace.id]


def test_the_specification_shows_what_is_sent(backend, run) -> None:
    """The greeting in the document is the one on the wire, with its length."""
    shown = re.search(r"sender +(\S\S) (\S\S) (\S\S) (\S\S) (\{.*\})", SPECIFICATION.read_text())
    assert shown is not None
    body = shown[5]
    assert int("".join(shown[at] for at in range(1, 5)), 16) == len(body)

    class Recording(Receiver):
        def read(self, connection: socket.socket) -> bytes:
            self.last = super().read(connection)
            return self.last

    receiver = run(Recording)
    backend.open()
    assert json.loads(receiver.last).keys() == json.loads(body).keys()
    assert json.loads(receiver.last)["version"] == json.loads(body)["version"] == 4


def test_thousands_of_records_pass_the_window(backend, run) -> None:
    """A batch of more records than may be under way is sent to its end, in order, each once."""
    receiver = run(Receiver)
    traces = numbered(3000)
    backend.write(traces)
    assert receiver.seen == [[trace.id for trace in traces]]


def test_what_arrived_but_was_not_acknowledged_is_not_delivered(backend, run) -> None:
    """A receiver that has read everything, and goes away before its last acknowledgement, may not have stored it."""

    class Forgetful(Receiver):
        def answer(self, connection: socket.socket, record: dict[str, Any]) -> None:
            if record["id"] == "id-4" and len(self.seen) == 1:
                raise EOFError
            super().answer(connection, record)

    receiver = run(Forgetful)
    traces = numbered(5)
    with pytest.raises(RetryableError):
        backend.write(traces)
    backend.write(traces)
    assert receiver.seen == [[f"id-{at}" for at in range(5)], ["id-4"]]


def test_a_receiver_that_reads_slowly_gets_everything(backend, run) -> None:
    """A reader that takes small pieces slows the sender down and loses nothing."""

    class Sipping(Receiver):
        def exactly(self, connection: socket.socket, size: int) -> bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            pieces = [super(Sipping, self).exactly(connection, min(777, size - at)) for at in range(0, size, 777)]
            return b"".join(pieces)

    receiver = run(Sipping)
    backend.write(numbered(40, request_json='"' + "x" * 100_000 + '"'))
    assert len(receiver.records) == 40
    assert {len(record["request_json"]) for record in receiver.records.values()} == {100_000}


# -- connections that break -----------------------------------------------------------------------------------------


def test_only_what_was_not_acknowledged_is_sent_again(backend, run) -> None:
    """After a lost connection the same batch goes on where the acknowledgements ended."""

    class Leaving(Receiver):
        def answer(self, connection: socket.socket, record: dict[str, Any]) -> None:
            super().answer(connection, record)
            if record["id"] == "id-3" and len(self.seen) == 1:
                raise EOFError

    receiver = run(Leaving)
    traces = numbered(10)
    with pytest.raises(RetryableError, match=r"closed the connection|reset|pipe"):
        backend.write(traces)
    backend.write(traces)
    assert receiver.seen[1] == [f"id-{at}" for at in range(4, 10)]
    assert len(receiver.records) == 10


def test_a_connection_that_took_too_long_is_given_up(path, run) -> None:
    """Without an answer in time the write can be retried, on a new connection: the old one may hold half a frame."""

    class Silent(Receiver):
        def answer(self, connection: socket.socket, record: dict[str, Any]) -> None:
            if len(self.seen) > 1:
                super().answer(connection, record)

    receiver = run(Silent)
    backend = SocketBackend(path, write_timeout=0.2)
    traces = numbered(2)
    with pytest.raises(RetryableError, match=r"not all was acknowledged within 0\.2 s"):
        backend.write(traces)
    assert receiver.hung_up.acquire(timeout=60)
    patient = SocketBackend(path)
    patient.write(traces)
    patient.shutdown()
    assert receiver.seen == [["id-0", "id-1"]] * 2


def test_a_connection_that_was_closed_in_between_is_replaced(backend, run) -> None:
    """A receiver that went away after a write, and is back before the next, costs no failure."""

    class Closing(Receiver):
        def answer(self, connection: socket.socket, record: dict[str, Any]) -> None:
            super().answer(connection, record)
            raise EOFError

    receiver = run(Closing)
    backend.write(numbered(1))
    assert receiver.hung_up.acquire(timeout=60)
    backend.write([make_trace(id="later")])
    assert receiver.seen == [["id-0"], ["later"]]


@pytest.mark.parametrize("stale", [False, True])
def test_nobody_there_is_worth_another_try(path, stale) -> None:
    """A socket that is not there yet, or whose owner died, may be there later; the message says what to start."""
    if stale:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    with pytest.raises(RetryableError, match="no process listens there; start `llmspan sidecar`"):
        SocketBackend(path).open()


def test_a_place_that_cannot_be_a_socket_is_a_wrong_setting(path, tmp_path) -> None:
    """A file, a directory under a file, a path that is too long: clear errors that name the setting."""
    path.write_text("")
    with pytest.raises(RetryableError, match="no process listens there"):  # to the system a plain file is a dead socket
        SocketBackend(path).open()
    with pytest.raises(SettingsError, match=r"LLMSPAN_SOCKET=.*Not a directory"):
        SocketBackend(path / "x").open()
    with pytest.raises(SettingsError, match=r"LLMSPAN_SOCKET=.*the path has 1\d\d bytes, and the system takes 107"):
        SocketBackend(Path("/", "x" * 150)).open()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_makes_its_own_connection(path, run) -> None:
    """Parent and child write by connections of their own, and neither disturbs the other."""
    receiver = run(Receiver)
    backend = SocketBackend(path)
    backend.write(numbered(1))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            backend.write([make_trace(id="child")])
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    backend.write([make_trace(id="parent")])
    backend.shutdown()
    assert receiver.seen == [["id-0", "parent"], ["child"]]


# -- receivers that refuse ------------------------------------------------------------------------------------------


def test_a_rejected_record_is_named_and_the_others_are_stored(backend, run) -> None:
    """A record that the receiver will never take is a permanent failure; the rest is not sent a second time."""

    class Picky(Receiver):
        def answer(self, connection: socket.socket, record: dict[str, Any]) -> None:
            if record["id"] == "id-1":
                del self.records["id-1"]
                self.say(connection, type="reject", seq=record["seq"], message="not this one")
            super().answer(connection, record)

    receiver = run(Picky)
    traces = numbered(4)
    with pytest.raises(PermanentError, match=r"record id-1: refused at .*: not this one"):
        backend.write(traces)
    backend.write(traces[:1])
    with pytest.raises(PermanentError, match="record id-1"):
        backend.write(traces[1:2])
    backend.write(traces[2:])
    assert receiver.seen == [["id-0", "id-1", "id-2", "id-3", "id-1"]]
    assert set(receiver.records) == {"id-0", "id-2", "id-3"}


def test_a_payload_that_is_no_json_fails_alone(backend, run) -> None:
    """A record that breaks its frame ends the connection, is named, and is the only one that is lost."""
    receiver = run(Receiver)
    good, bad = numbered(3), make_trace(id="bad", request_json='{"broken')
    with pytest.raises(PermanentError, match="record bad: refused at"):
        backend.write([good[0], bad, *good[1:]])
    backend.write(good)
    assert set(receiver.records) == {"id-0", "id-1", "id-2"}


def test_a_receiver_may_ask_for_a_pause(backend, run) -> None:
    """``unavailable`` is worth another try, after as long as the receiver says."""

    class Away(Receiver):
        def answer(self, connection: socket.socket, record: dict[str, Any]) -> None:
            pause = {"retry_after": 1.5} if record["id"] == "id-0" else {}
            self.say(connection, type="error", code="unavailable", message="the store is away", **pause)
            raise EOFError

    run(Away)
    with pytest.raises(ThrottledError, match="the store is away") as caught:
        backend.write(numbered(1))
    assert caught.value.delay == 1.5
    with pytest.raises(RetryableError, match="the store is away") as later:
        backend.write([make_trace()])
    assert not isinstance(later.value, ThrottledError)


def test_the_reason_is_heard_while_still_sending(backend, run) -> None:
    """A receiver that gives up in the middle of a large batch is heard: its reason is the error, not a broken pipe."""

    class Full(Receiver):
        def answer(self, connection: socket.socket, record: dict[str, Any]) -> None:
            self.say(connection, type="error", code="unavailable", message="no room any more")
            raise EOFError

    run(Full)
    with pytest.raises(RetryableError, match="no room any more"):
        backend.write(numbered(100, request_json='"' + "x" * 100_000 + '"'))


def test_other_versions_are_told(backend, run) -> None:
    """A receiver of another version is an error that says which, whoever of the two notices."""

    class Newer(Receiver):
        def converse(self, connection: socket.socket) -> None:
            self.read(connection)
            self.seen.append([])
            if len(self.seen) == 1:
                self.say(connection, type="error", code="unsupported_version", message="only 5", versions=[5])
            else:
                self.say(connection, type="hello", version=5, max_frame=99_999)

    run(Newer)
    with pytest.raises(SchemaError, match="only 5; upgrade llmspan at the older end"):
        backend.open()
    with pytest.raises(SchemaError, match="names version 5"):
        backend.open()


def test_who_is_no_receiver_at_all(backend, run) -> None:
    """Something else that listens there is a wrong setting."""

    class Web(Receiver):
        def converse(self, connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    run(Web)
    with pytest.raises(SettingsError, match="the process that listens there does not use protocol v4"):
        backend.open()


def test_a_receiver_that_does_not_greet_is_told_apart(path, run) -> None:
    """A receiver of v3 stays silent; the message says which setting that would be."""

    class Mute(Receiver):
        def converse(self, connection: socket.socket) -> None:
            self.read(connection)
            self.read(connection)

    run(Mute)
    backend = SocketBackend(path, write_timeout=0.1)
    with pytest.raises(RetryableError, match=r"no answer to the greeting within 0\.1 s; if the receiver uses v3, set"):
        backend.open()


# -- records that are too large -------------------------------------------------------------------------------------


def test_a_record_above_the_limit_goes_without_its_payload(backend, run, caplog) -> None:
    """What the receiver takes at most decides; the record and its usage arrive, the loss is counted and logged."""

    class Small(Receiver):
        max_frame = 65_536

    receiver = run(Small)
    large = make_trace(id="large", request_json='"' + "ü" * 50_000 + '"')
    with caplog.at_level(logging.WARNING, "llmspan"):
        backend.write([make_trace(id="small"), large])
    record = receiver.records["large"]
    assert "request_json" not in record
    assert (record["content"], record["request_bytes"], record["input_tokens"]) == ("truncated", 100_002, 10)
    assert "request_json" in receiver.records["small"]
    assert backend.cut == 1
    assert "record large goes to" in caplog.text
    with pytest.raises(PermanentError, match=r"record huge: \d+ bytes without its payloads"):
        backend.write([make_trace(id="huge", llm_config="x" * 70_000)])


# -- v3 -------------------------------------------------------------------------------------------------------------


class Lines(Receiver):
    """What receivers of v3 do: a connection, a line, the end."""

    def converse(self, connection: socket.socket) -> None:
        data = b""
        while piece := connection.recv(65_536):
            data += piece
        self.seen.append([data.decode()])


def test_v3_is_one_line_on_one_connection(path, run) -> None:
    """Each record comes by itself, as the line of the golden file; its end is the end of the connection."""
    receiver = run(Lines)
    backend = SocketBackend(path, framing="v3")
    backend.open()
    traces = [full_trace(), make_trace()]
    backend.write(traces)
    for _ in traces:
        assert receiver.hung_up.acquire(timeout=60)
    assert sorted(receiver.seen) == sorted([v3_line(trace).decode()] for trace in traces)
    assert "v3" in backend.check()


def test_v3_sends_the_rest_when_nobody_listened(path, run) -> None:
    """What was handed over before the receiver went away is not sent again."""
    backend = SocketBackend(path, framing="v3")
    with pytest.raises(RetryableError, match="no process listens"):
        backend.write(numbered(1))
    receiver = run(Lines)
    backend.write(numbered(1))
    assert receiver.hung_up.acquire(timeout=60)
    assert len(receiver.seen) == 1


# -- it only takes records ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("get", ["x"]), ("get_by_step_id", ["x"]), ("list_by_step_id", ["x"]), ("list", []), ("stats", [[]]),
     ("ids_with_prefix", ["x", 1])],
)  # fmt: skip
def test_reading_is_refused(path, name, arguments) -> None:
    """Every way to read says that a socket only takes records."""
    with pytest.raises(BackendError, match="only takes records; read them from the store"):
        getattr(SocketBackend(path), name)(*arguments)


@pytest.mark.parametrize("names", ["socket", "socket,memory", "memory,socket"])
def test_it_may_stand_anywhere(names: str) -> None:
    """Alone, first or last, it is taken, with its settings."""
    environ = {"LLMSPAN_BACKENDS": names, "LLMSPAN_SOCKET": "/run/some.sock"}
    found = {backend.name: backend.location for backend in load_backends(Settings.from_env(environ))}
    assert found["socket"] == "/run/some.sock"
    assert list(found) == names.split(",")


@pytest.mark.parametrize("command", ["show", "tail", "stats", "export"])
def test_commands_that_read_say_where_to_read(command: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a sidecar, reading commands name the socket, and the options that read the sidecar's store."""
    monkeypatch.setenv("LLMSPAN_BACKENDS", "socket")
    monkeypatch.setenv("LLMSPAN_SOCKET", str(path))
    told = CliRunner().invoke(main, [command], prog_name="llmspan")
    assert told.exit_code == 2
    assert f"LLMSPAN_BACKENDS=socket: 'socket' ({path}) only takes records" in told.output
    assert "--db PATH" in told.output
    assert "--backend NAME" in told.output


def test_check_says_who_answers(backend, run) -> None:
    """One line: the software at the other end, the protocol, the limit."""
    run(Receiver)
    assert backend.check() == f"tiny/1, protocol 4, frames of up to 16,777,216 bytes, {backend.location}"
    assert backend.migrate() == []
    assert backend.force_flush(1)
