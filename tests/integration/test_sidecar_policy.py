"""The sidecar's settings hold for what it receives: withheld, redacted and cut before any store and the spool."""

from __future__ import annotations

import json
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmspan import _guard
from llmspan.backends.memory import MemoryBackend
from llmspan.backends.socket import SocketBackend
from llmspan.backends.socket.connection import SOFTWARE
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.errors import PermanentError, RetryableError
from llmspan.settings import Settings
from llmspan.sidecar import RecordStore
from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from polling import until
from records import full_trace, make_trace
from stores import shutting_down
from stores.sidecar import RunningSidecar, SidecarProcess, short_directory

SECRET = "jane@example.org"
PLANTED = f'{{"messages":[{{"role":"user","content":"write to {SECRET}"}}]}}'


class Away(MemoryBackend):
    """A store that is down, so that what is to go there stays in the spool."""

    name = "away"

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        raise RetryableError("connection refused")


class Second(MemoryBackend):
    name = "second"


def planted(**values: Any) -> ProviderTrace:
    """A record that says the secret wherever a program or a provider can."""
    said = {
        "request_json": PLANTED, "response_json": f'{{"text":"{SECRET}"}}', "content": "full", "status": "error",
        "error_type": "bad", "error_message": f"no {SECRET}", "error_json": {"a": [SECRET]},
        "attributes": {"by": SECRET}, "llm_config": {"to": SECRET}, "billing_context": [SECRET],
    }  # fmt: skip
    return make_trace(**{**said, "usage": Usage(input_tokens=10, output_tokens=3, source="provider"), **values})


def stored(records: Sequence[ProviderTrace], **settings: Any) -> list[ProviderTrace]:
    """What the primary has of ``records`` after an archive with these settings has taken them."""
    store = MemoryBackend()
    archive = RecordStore([store], Settings.from_env({}, **settings))
    assert archive.store(records) == {}
    archive.close(5)
    found = [store.get(record.id) for record in records]
    return [record for record in found if record is not None]


@contextmanager
def sending(*backends: MemoryBackend, exit_timeout: float = 30, **settings: Any) -> Iterator[SocketBackend]:
    """A sender to a sidecar with these settings."""
    with short_directory() as directory:
        sidecar = RunningSidecar(directory / "s.sock", *backends, settings=Settings.from_env({}, **settings))
        try:
            with shutting_down(SocketBackend(directory / "s.sock")) as backend:
                yield backend
        finally:
            sidecar.stop(exit_timeout)


# -- what the settings say ------------------------------------------------------------------------------------------


def mask_all(value: Any) -> Any:
    """A redaction function of a user's."""
    return json.loads(json.dumps(value).replace(SECRET, "someone"))


WITHHOLDING = {
    "metadata": {"content": "metadata", "redact_patterns": "email"},
    "patterns": {"redact_patterns": "email"},
    "function": {"redact": mask_all},
    "both": {"redact": mask_all, "redact_patterns": "keys,email,cards"},
}


@pytest.mark.parametrize("name", WITHHOLDING)
def test_no_store_and_no_spool_gets_what_is_withheld(name: str, tmp_path: Path) -> None:
    """Primary, second store and the files of the spool have the record, and the secret nowhere."""
    first, second, away = MemoryBackend(), Second(), Away()
    record = planted()
    settings = {**WITHHOLDING[name], "spool_dir": str(tmp_path / "spool")}
    with sending(first, second, away, exit_timeout=0.1, **settings) as backend:
        backend.write([record])
        until(lambda: second.get(record.id))
        spooled = b"".join(path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file())
    assert record.id.encode() in spooled
    assert SECRET.encode() not in spooled
    for store in (first, second):
        kept = store.get(record.id)
        assert kept is not None
        assert SECRET not in kept.to_json()
        assert (kept.usage, kept.status, kept.error_type) == (record.usage, "error", "bad")
        assert (kept.request_json is None) == (name == "metadata")
        assert kept.content == ("metadata" if name == "metadata" else "full")


@pytest.mark.parametrize("limit", [300, 5_000, 100_000])
def test_a_payload_above_the_sidecars_limit_is_cut(limit: int) -> None:
    """It stays JSON and says so; what fits is as it was sent, to the byte."""
    long = json.dumps({"messages": [{"content": "y" * 90_000}, {"content": "ü" * 90_000}]})
    short = '{ "a" : 1.50 }'
    store = MemoryBackend()
    with sending(store, max_payload_bytes=str(limit)) as backend:
        backend.write([make_trace(id="a", request_json=long, response_json=short, content="full")])
    kept = store.get("a")
    assert kept is not None
    assert len((kept.request_json or "").encode()) <= limit
    json.loads(kept.request_json or "")
    assert (kept.response_json, kept.content) == (short, "truncated")


def test_media_above_the_sidecars_limit_is_described() -> None:
    """``LLMSPAN_MAX_MEDIA_BYTES`` holds as well."""
    part = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO" * 5000}}
    (kept,) = stored(
        [make_trace(request_json=json.dumps({"messages": [part]}), content="full")], max_media_bytes="1024"
    )
    assert json.loads(kept.request_json or "")["messages"][0]["source"]["data"]["bytes"] == 15_000
    assert kept.content == "truncated"


@pytest.mark.parametrize("settings", [{}, {"redact_patterns": "email"}, {"redact": mask_all}])
@pytest.mark.parametrize(
    ("values", "content"),
    [
        ({"request_json": None, "response_json": None, "content": "metadata"}, "metadata"),
        ({"request_json": None, "response_json": None, "content": "truncated"}, "truncated"),
        ({"request_json": '{"a":"cut"}', "response_json": None, "content": "truncated"}, "truncated"),
        ({"request_json": '{"a":"cut"}', "response_json": '{"b":1}', "content": "truncated"}, "truncated"),
        ({"request_json": '{"a":"x"}', "response_json": '{"b":1}', "content": "full"}, "full"),
        ({"request_json": "null", "response_json": '"text"', "content": "full"}, "full"),
    ],
)
def test_what_was_withheld_or_cut_stays_so(settings: dict[str, Any], values: dict[str, Any], content: str) -> None:
    """A sidecar that would have kept more cannot, and does not say that it has."""
    store = MemoryBackend()
    archive = RecordStore([store], Settings.from_env({}, **settings))
    assert archive.store([make_trace(id="a", **values)]) == {}
    kept = store.get("a")
    assert kept is not None
    assert (kept.request_json, kept.response_json, kept.content) == (
        values["request_json"], values["response_json"], content,
    )  # fmt: skip


def test_by_default_a_record_is_stored_as_it_came() -> None:
    """Without settings nothing is changed that llmspan has sent: every key, payloads to the byte."""
    record = full_trace(request_json='{ "a" : 1.50,\n"a":2}', response_json='"\\u0000ü"', content="full")
    store = MemoryBackend()
    with sending(store) as backend:
        backend.write([record])
    assert store.get(record.id) == record


# -- functions that fail --------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[[Any], Any]:
    def function(value: Any) -> Any:
        raise error

    return function


FAILING: dict[str, Any] = {
    "ValueError": raising(ValueError(SECRET)),
    "SystemExit": raising(SystemExit(1)),
    "KeyboardInterrupt": raising(KeyboardInterrupt()),
    "GeneratorExit": raising(GeneratorExit()),
    "MemoryError": raising(MemoryError()),
    "recursion": lambda value: FAILING["recursion"](value),
    "nothing": lambda value: None,
    "missing module": "no_such_module_anywhere:function",
    "missing function": "json:no_such_function",
    "wrong arguments": lambda: None,
}


@pytest.mark.parametrize("name", FAILING)
def test_a_function_that_fails_withholds_and_loses_nothing(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The record, its numbers and its outcome are stored, what might hold the secret is not; the log says so once."""
    _guard.reset_error_counts()
    records = [planted(id="a"), planted(id="b", error_message=None, error_json=None)]
    kept = stored(records, redact=FAILING[name])
    assert [record.id for record in kept] == ["a", "b"]
    for record, sent in zip(kept, records, strict=True):
        assert SECRET not in record.to_json()
        assert (record.request_json, record.response_json, record.content) == (None, None, "metadata")
        assert (record.attributes, record.llm_config, record.error_json) == ({}, None, None)
        assert (record.usage, record.status, record.duration_ns) == (sent.usage, "error", sent.duration_ns)
    assert SECRET not in caplog.text
    assert len([line for line in caplog.records if "content.redact" in line.getMessage()]) == 1


@pytest.mark.parametrize("answer", [object(), {1, 2}, b"\xff", float("nan"), [1], "text", 5, {"a": object()}])
def test_a_function_that_returns_odd_values_loses_nothing(answer: Any) -> None:
    """Whatever comes back, the record is stored, can be read again, and holds nothing of the values."""
    kept = stored([planted(id="a")], redact=lambda value: answer)
    assert [record.id for record in kept] == ["a"]
    assert SECRET not in kept[0].to_json()
    assert isinstance(kept[0].attributes, dict)
    assert ProviderTrace.from_json(kept[0].to_json()).id == "a"


def test_one_payload_that_cannot_be_redacted_costs_that_payload() -> None:
    """What can be redacted stays; the record says that it is not whole."""

    def picky(value: Any) -> Any:
        if isinstance(value, dict) and "messages" in value:
            raise LookupError
        return mask_all(value)

    (kept,) = stored([planted(id="a")], redact=picky)
    assert (kept.request_json, kept.response_json) == (None, '{"text":"someone"}')
    assert (kept.content, kept.error_message) == ("truncated", "no someone")


# -- as a process ---------------------------------------------------------------------------------------------------

MODULE = f"""
def mask(value):
    if isinstance(value, dict) and "fail" in value:
        raise SystemExit("{SECRET}")
    if isinstance(value, dict):
        return {{key: "masked" for key in value}}
    return "masked"
"""


def test_the_environment_of_the_sidecar_is_obeyed(tmp_path: Path) -> None:
    """``llmspan sidecar`` with the variables set: the store has what they allow, whatever the sender would keep."""
    (tmp_path / "masks.py").write_text(MODULE)
    environment = {"LLMSPAN_REDACT": "masks:mask", "PYTHONPATH": str(tmp_path), "LLMSPAN_MAX_PAYLOAD_BYTES": "1KiB"}
    failing = json.dumps({"fail": SECRET})
    with short_directory() as directory:
        sidecar = SidecarProcess(directory / "s.sock", tmp_path / "t.db", env=environment)
        try:
            with shutting_down(SocketBackend(directory / "s.sock")) as backend:
                backend.write([planted(id="a"), planted(id="b", request_json=failing)])
            assert sidecar.end() == 0
        finally:
            sidecar.remove()
    with shutting_down(SQLiteBackend(tmp_path / "t.db")) as store:
        kept = [store.get("a"), store.get("b")]
    assert [record and record.request_json for record in kept] == ['{"messages":"masked"}', None]
    assert SECRET not in "".join(record.to_json() for record in kept if record is not None)
    assert SECRET.encode() not in (tmp_path / "t.db").read_bytes()
    assert SECRET not in "".join(sidecar.told)


@pytest.mark.parametrize("name", ["no_such_module_anywhere:function", "json:no_such_function", "json:__name__"])
def test_a_sidecar_whose_function_is_missing_does_not_start(name: str, tmp_path: Path) -> None:
    """It would withhold every payload: an error with exit code 2 names the setting. Records wait at their senders."""
    with short_directory() as directory:
        environment = {"LLMSPAN_REDACT": name}
        sidecar = SidecarProcess(directory / "s.sock", tmp_path / "t.db", wait=False, env=environment)
        assert sidecar.wait() == 2
        assert f"LLMSPAN_REDACT={name}: " in sidecar.told[-1]
        assert not (directory / "s.sock").exists()


# -- senders that mask nothing --------------------------------------------------------------------------------------


def send_by_hand(path: Path, software: str, record: ProviderTrace) -> None:
    body = b'{"type":"record","seq":1,' + record.to_json().encode()[1:]
    hello = json.dumps({"type": "hello", "version": 4, "max_frame": 1_000_000, "software": software}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b"".join(struct.pack(">I", len(part)) + part for part in (hello, body)))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass


KEY = "sk-proj-" + "a1B2" * 10
#: values of a record that hold a key, one place each
UNMASKED: dict[str, dict[str, Any]] = {
    "a member of the request": {"request_json": f'{{"api_key":"{KEY}"}}', "response_json": f'"not {KEY}"'},
    "a member of the response": {"response_json": f'{{"a":[{{"x-api-key" : ["{KEY}"]}}]}}'},
    "a name with escapes": {"request_json": f'{{"\\u0061pi_key":"{KEY}"}}'},
    "JSON text in the request": {"request_json": json.dumps({"config": json.dumps({"token": KEY}, indent=1)})},
    "a URL": {"request_json": f'{{"server_url":"https:\\/\\/x.example/?token={KEY}"}}'},
    "a request that is no JSON": {"request_json": f'"key={KEY}"'},
    "a failed response": {"response_json": f'"bad {KEY}"', "status": "error"},
    "an error's message": {"error_message": f"bad {KEY}", "status": "error"},
    "an error of a cancelled call": {"error_message": f"bad {KEY}", "status": "cancelled"},
    "an error's body": {"error_json": {"a": [KEY]}, "status": "error"},
    "attributes": {"attributes": {"api_key": KEY}},
    "llm_config": {"llm_config": {"headers": {"x": KEY}}},
    "billing_context": {"billing_context": [f"used {KEY}"]},
    "an id": {"user_id": KEY},
    "a tag": {"agent_tags": ("a", KEY)},
}


@pytest.mark.parametrize("software", ["mine/1", "", SOFTWARE])
@pytest.mark.parametrize("place", UNMASKED)
def test_credentials_of_any_sender_are_masked(place: str, software: str) -> None:
    """llmspan masks before it sends. Who does not, whatever it calls itself, has its keys masked by the sidecar."""
    record = make_trace(
        **{"id": "a", "request_json": "{}", "response_json": "{}", "content": "full", **UNMASKED[place]}
    )
    store = MemoryBackend()
    with sending(store) as backend:
        send_by_hand(Path(backend.location), software, record)
    kept = store.get("a")
    assert kept is not None
    assert KEY not in kept.to_json()
    assert kept.content == "full"


# -- ids ------------------------------------------------------------------------------------------------------------


def test_ids_of_any_length_are_known_again_and_cost_little() -> None:
    """What comes twice is stored once, however long its id; what is remembered of it is short."""
    store = MemoryBackend()
    archive = RecordStore([store], Settings())
    common = "x" * 200_000
    ids = [f"{common}{at}" for at in range(40)] + [f"{at}{common}" for at in range(40)] + ["short", "\ud800" * 500]
    for _ in range(2):
        assert archive.store([make_trace(id=name) for name in ids]) == {}
    assert [status.accepted for status in archive.status()] == [len(ids)]
    assert len(store.ids_with_prefix("", 1000)) == len(ids)
    assert sum(map(sys.getsizeof, archive._stored)) < 200 * len(ids)


def test_a_long_id_that_is_refused_is_its_senders(tmp_path: Path) -> None:
    """A record that the store refuses is named to its sender by the number that it came under, whatever its id is."""

    class Picky(MemoryBackend):
        def write(self, traces: Sequence[ProviderTrace]) -> None:
            if any(trace.id.startswith("bad") for trace in traces):
                raise PermanentError("no bad ones")
            super().write(traces)

    store = Picky()
    with sending(store) as backend:
        long = "y" * 50_000
        with pytest.raises(PermanentError, match="record bad-y"):
            backend.write([make_trace(id=f"good-{long}"), make_trace(id=f"bad-{long}"), make_trace(id=f"fine-{long}")])
    assert sorted(name[:4] for name in store.ids_with_prefix("", 9)) == ["fine", "good"]
    assert all(len(name) <= 1024 for name in store.ids_with_prefix("", 9))
