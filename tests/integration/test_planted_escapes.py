"""Planted escapes: every text of a record and of those we talk to, in everything that commands print and log."""

from __future__ import annotations

import dataclasses
import json
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llmspan import lifecycle, pipeline
from llmspan.backends.base import GROUPS
from llmspan.backends.memory import MemoryBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main, options, trial
from llmspan.cli.trial_program import Trial
from llmspan.errors import PermanentError, SettingsError
from llmspan.printable import printable
from llmspan.settings import Settings
from llmspan.trace import ProviderTrace
from receiver import Receiver
from records import full_trace, make_trace
from stores.sidecar import RunningSidecar, short_directory

#: a title for the window, a line of its own, another direction, a colour by a C1 control, a line separator
MARK = "\x1b]0;t\x07\r\nforged \u202e\x9b31m\u2028forged"
#: fields of a record whose texts are a closed set, or have a form
_NOT_FREE = {"status", "content", "usage", "trace_id", "span_id", "parent_span_id", "request_json", "response_json"}

Record = Any


def planted(value: Any, name: str) -> Any:
    """``value`` with the mark in each of its texts."""
    if isinstance(value, str):
        return name + MARK
    if isinstance(value, dict):
        return {key + MARK: planted(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(planted(item, name) for item in value)
    return value


def planted_record(**more: Any) -> ProviderTrace:
    record = full_trace(llm_config={"model": "m"}, error_json={"llmspan.caused_by": [{"type": "T", "message": "M"}]})
    values = {
        field.name: planted(getattr(record, field.name), field.name)
        for field in dataclasses.fields(record)
        if field.name not in _NOT_FREE
    }
    values["error_json"] = {"llmspan.caused_by": [{"type": MARK, "message": MARK}]}
    usage = dataclasses.replace(record.usage, details={MARK: 3}, raw={MARK: MARK})
    call = {"id": MARK, "type": "function", "function": {"name": MARK, "arguments": MARK}}
    request = {"messages": [
        {"role": MARK, "content": MARK}, {"role": "tool", "tool_call_id": MARK, "content": MARK},
        {"role": "assistant", "content": [{"type": MARK, "x": MARK}], "tool_calls": [call]},
    ], "tools": [{"type": "function", "function": {"name": MARK}}, {"type": MARK}]}  # fmt: skip
    response = {"choices": [{"message": {"role": MARK, "content": MARK, "reasoning_content": MARK}}]}
    texts = {"request_json": json.dumps(request, ensure_ascii=False), "response_json": json.dumps(response)}
    return dataclasses.replace(record, **(values | texts | {"usage": usage} | more))


def assert_safe(text: str) -> None:
    """Whether the mark is there and nothing of it is obeyed: no control, no line of its own."""
    for line in text.split("\n"):
        assert printable(line) == line
        assert not line.startswith("forged")
    assert "forged" in text


@pytest.fixture(autouse=True)
def _counted(record_property: Record) -> None:
    record_property("planted escapes", 1)


def run(*words: str) -> str:
    result = CliRunner().invoke(main, words, catch_exceptions=False, prog_name="llmspan", color=False)
    return result.output


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(trial, "_run", lambda sdks, environ: {"openai": Trial(error=MARK)})


@pytest.fixture
def path() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "s.sock"


READING = (
    ["show"], ["show", "--full"], ["show", "--json"], ["show", f"id{MARK}"], ["show", "--step-id", f"step_id{MARK}"],
    ["tail", "--once"], ["tail", "--once", "--json"], ["export"],
    ["delete", "--all", "--dry-run"], ["delete", "--all", "--yes"], ["prune", "--older-than", "1s", "--dry-run"],
    *(["stats", *more, "--by", name] for more in ([], ["--json"]) for name in GROUPS if name not in ("status", "day")),
)  # fmt: skip


@pytest.mark.parametrize("words", READING, ids=lambda words: " ".join(words).removesuffix(MARK))
@pytest.mark.parametrize(
    "more", [{}, {"status": "ok", "error_type": None, "error_message": None}], ids=["failed", "ok"]
)
def test_no_command_obeys_a_record(words: list[str], more: dict[str, Any], tmp_path: Path) -> None:
    """Each text of a record, its payloads included, is printed by each reading command as text."""
    backend = SQLiteBackend(tmp_path / "x.db")
    backend.write([planted_record(**more)])
    backend.shutdown()
    assert_safe(run(*words, "--db", str(tmp_path / "x.db")))


class Lying(MemoryBackend):
    """A server that says odd things of itself."""

    name = "memory"
    location = f"db{MARK}"

    def check(self) -> str:
        return f"Server 1.0{MARK}"

    def migrate(self) -> Sequence[str]:
        return [MARK]


class Failing(Lying):
    def check(self) -> str:
        raise PermanentError(MARK)

    def migrate(self) -> Sequence[str]:
        raise PermanentError(MARK)

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        raise PermanentError(f"{traces[0].id}: {MARK}")


@pytest.mark.parametrize("kind", [Lying, Failing])
@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"], ["migrate"], ["migrate", "--json"]])
def test_no_command_obeys_a_server(kind: type[Lying], words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server says of itself, in its answers and its errors, is printed as text."""
    monkeypatch.setattr(options, "load", lambda *_, **__: (Settings.from_env({}), [kind()]))
    for name in ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_EXPORTER", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", f"LLMSPAN_{MARK}"):
        monkeypatch.setenv(name, f"x{MARK}")
    assert_safe(run(*words))


class Greeting(Receiver):
    """Answers with a mark in its name."""

    def say(self, connection: socket.socket, **values: Any) -> None:
        super().say(
            connection, **{key: MARK if isinstance(v, str) and key != "type" else v for key, v in values.items()}
        )


class Refusing(Receiver):
    def converse(self, connection: socket.socket) -> None:
        self.read(connection)
        self.say(connection, type="error", code=MARK, message=MARK)


@pytest.mark.parametrize("kind", [Greeting, Refusing])
def test_doctor_does_not_obey_who_answers(kind: type[Receiver], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The software and the errors of whoever answers at the socket are printed as text."""
    receiver = kind(path)
    monkeypatch.setenv("LLMSPAN_SOCKET", str(path))
    monkeypatch.setattr(trial, "_run", lambda sdks, environ: {})
    try:
        assert_safe(run("doctor", "--backend", "socket"))
    finally:
        receiver.stop()


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest.mark.parametrize(
    "after",
    [
        b"{}",
        json.dumps({"type": MARK}).encode(),
        b"\x1b[2J\nforged",
        json.dumps({"type": "record", "seq": MARK}).encode(),
    ],
)
def test_the_sidecar_logs_what_senders_say_as_text(after: bytes, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A sender's name, its wrong frames and its records that a store refuses forge no line of the sidecar's log."""
    sidecar = RunningSidecar(path, Failing())
    hello = json.dumps({"type": "hello", "version": 4, "max_frame": 65_536, "software": MARK}).encode()
    trace = make_trace(id="id" + MARK)
    body = b'{"type":"record","seq":1,' + trace.to_json().encode()[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sender:
        sender.connect(str(path))
        sender.sendall(frame(hello) + frame(body) + frame(after))
        while sender.recv(65_536):
            pass
    sidecar.stop()
    assert_safe(caplog.text)
    assert "refused record" in caplog.text


def test_the_summary_and_errors_at_the_start_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    """The line at exit names stores, and an error of configuration quotes what is wrong."""
    lifecycle.close(30)
    lifecycle.instrument(backends="memory", summary=True)
    pipeline.shared().add(Lying())
    pipeline.shared().totals.add(make_trace())
    lifecycle._at_exit()
    lifecycle.print_config_error_once(SettingsError(MARK))
    lifecycle.close(30)
    shown = capsys.readouterr().err
    assert shown.count("forged") == 4
    assert_safe(shown)
