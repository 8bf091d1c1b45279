"""``llmspan status`` of real processes, forked, killed and ended, and what a sidecar serves."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llmspan.backends.socket import SocketBackend
from llmspan.cli import main
from llmspan.pipeline import status_file
from llmspan.pipeline.prometheus import prometheus_text
from llmspan.pipeline.statistics import BackendStatus
from llmspan.pipeline.status_file import (
    ProcessStatus,
    StatusFile,
    describe_process,
    read_statuses,
    status_directory,
)
from polling import until
from records import make_trace
from stores import shutting_down
from stores.sidecar import SidecarProcess, short_directory

#: records a call, forks a child that records two, and says so; the child ends when its input does
PROGRAM = """
import os, sys, llmspan
def call(number):
    for _ in range(number):
        llmspan.record(provider="openai", operation="chat", request={}, response={})
    assert llmspan.flush(60)
llmspan.instrument(backends="sqlite", sqlite_path=sys.argv[1])
call(1)
if not os.fork():
    call(2)
    os.write(1, b"child\\n")  # at once: both write here
    sys.stdin.read()
    os._exit(0)
call(2)
os.write(1, b"parent\\n")
sys.stdin.read()
llmspan.shutdown(60)
print("ended", flush=True)
sys.stdin.close()
os.wait()
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSPAN_STATUS_DIR", str(tmp_path / "status"))
    return tmp_path / "status"


def statuses() -> list[dict[str, Any]]:
    result = CliRunner().invoke(main, ["status", "--json"], catch_exceptions=False)
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def program(directory: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", PROGRAM, str(tmp_path / "traces.db")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_processes_say_how_they_are(program: subprocess.Popen[str], directory: Path) -> None:
    """Parent and child each have a private file with the numbers of their own; who has died is not shown."""
    assert program.stdin is not None
    assert program.stdout is not None
    assert {program.stdout.readline(), program.stdout.readline()} == {"parent\n", "child\n"}
    # a file is a second old at most, and may be from between accepting and writing
    until(lambda: sorted(one["backends"][0]["delivered"] for one in statuses()) == [2, 3])
    accepted = {one["pid"]: one["backends"][0]["accepted"] for one in statuses()}
    (child,) = accepted.keys() - {program.pid}
    assert (accepted[program.pid], accepted[child]) == (3, 2)
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    assert directory.stat().st_mode & 0o777 == 0o700
    shown = CliRunner().invoke(main, ["status"]).stdout
    assert f"{program.pid} program" in shown
    assert "3 accepted, 3 delivered" in shown
    os.kill(child, signal.SIGKILL)
    program.stdin.close()
    assert program.stdout.readline() == "ended\n"
    program.wait(60)
    assert statuses() == []
    assert list(directory.glob("*.json")) == []


def test_a_sidecar_serves_metrics(directory: Path, tmp_path: Path) -> None:
    """`/metrics` and `llmspan status --prometheus` have the same numbers; `/healthz` says whether it can store."""
    with short_directory() as short:
        options = "--metrics-port", "0"
        env = {"LLMSPAN_STATUS_DIR": str(directory)}
        sidecar = SidecarProcess(short / "s.sock", tmp_path / "t.db", *options, env=env)
        try:
            address = sidecar.told[-1].split("metrics at ")[1].strip().removesuffix("/metrics")
            assert address.startswith("http://127.0.0.1:")
            with shutting_down(SocketBackend(sidecar.path)) as backend:
                backend.write([make_trace(), make_trace()])
                text = urllib.request.urlopen(f"{address}/metrics").read().decode()
            assert f'llmspan_records_delivered_total{{pid="{sidecar.process.pid}",role="sidecar"' in text
            (line,) = (line for line in text.splitlines() if line.startswith("llmspan_records_delivered_total{"))
            assert line.endswith(" 2")
            assert json.loads(urllib.request.urlopen(f"{address}/healthz").read()) == {"status": "ok", "failing": {}}
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{address}/secrets")
            while line not in CliRunner().invoke(main, ["status", "--prometheus"]).stdout:
                pass  # a file is a second old at most
            assert sidecar.end() == 0
            assert statuses() == []
        finally:
            sidecar.remove()


def test_files_of_others(directory: Path) -> None:
    """A process id that another process has now, another machine's file, and what is no status at all."""
    StatusFile(lambda: describe_process("program", [], {}), directory).update()
    (own,) = directory.glob("*.json")
    values = json.loads(own.read_text())
    (directory / "1.json").write_text(json.dumps({**values, "pid": os.getpid(), "started": "1"}))
    (directory / "2.json").write_text(json.dumps({**values, "machine": "another"}))
    (directory / "3.json").write_text('{"pid": []}')
    assert [status.pid for status in read_statuses(directory)] == [os.getpid()]
    assert sorted(path.name for path in directory.glob("*.json")) == sorted([own.name, "2.json", "3.json"])


def test_foreign_text_in_labels() -> None:
    """Quotes, backslashes and line breaks of a location cannot end a label."""
    status = describe_process("program", [BackendStatus("sqlite", 'a"b\\c\nd', dropped={"queue_full": 3})], {})
    text = prometheus_text([status])
    assert 'llmspan_backend_location="a\\"b\\\\c\\nd",llmspan_drop_reason="queue_full"} 3\n' in text
    assert all(line.startswith(("#", "llmspan_")) for line in text.splitlines())
    odd = describe_process("program", [BackendStatus("sqlite", "caf\udce9 \x1b[31m \u2028 x")], {})
    assert 'llmspan_backend_location="caf\ufffd \ufffd[31m \ufffd x"' in prometheus_text([odd])


def test_alerts_hold_for_a_sidecar_as_well() -> None:
    """What the alerts ask for, names and labels, is served: but for errors of llmspan's, which only OTLP has."""
    status = describe_process("sidecar", [BackendStatus("sqlite", "x", dropped={"queue_full": 3})], {"queue": 1})
    text = prometheus_text([status])
    alerts = (Path(__file__).parents[2] / "deploy" / "prometheus-alerts.yaml").read_text("utf-8")
    asked_for = {
        name
        for name in re.findall(r"\bllmspan_[a-z_]+", alerts)
        if name not in ("llmspan_internal_errors_total", "llmspan_place")
    }
    assert asked_for, "no metric is asked for"
    assert asked_for - set(re.findall(r"llmspan_[a-z_]+", text)) == set()


def test_a_place_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    """It is tried once, and then given up."""
    (tmp_path / "file").write_text("")
    described: list[int] = []

    def describe() -> Any:
        described.append(1)
        return describe_process("program", [], {})

    file = StatusFile(describe, tmp_path / "file" / "status")
    file.update()
    file.update()
    assert (described, file.delay()) == ([], None)


def test_the_directory_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative one is that of the moment at which it was named; what is no directory is named."""
    monkeypatch.chdir(tmp_path)
    directory = status_directory(Path("relative"))
    monkeypatch.chdir("/")
    assert directory == tmp_path / "relative"
    monkeypatch.setenv("LLMSPAN_STATUS_DIR", "/etc/passwd")
    result = CliRunner().invoke(main, ["status"])
    assert (result.exit_code, "LLMSPAN_STATUS_DIR=/etc/passwd: that is no directory" in result.output) == (1, True)


def test_a_disk_that_was_full_for_a_while(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is written again when there is room, and nothing else is left behind."""
    now = iter(range(0, 1_000, 10))
    monkeypatch.setattr(status_file, "monotonic", lambda: next(now))
    failures = [OSError(errno.ENOSPC, "no space"), OSError(errno.ENOSPC, "no space")]

    def describe() -> ProcessStatus:
        if failures:
            raise failures.pop()
        return describe_process("program", [], {})

    file = StatusFile(describe, directory)
    for left_behind in (0, 0, 1):
        file.update()
        assert len(list(directory.iterdir())) == left_behind
    file.remove()
    assert list(directory.iterdir()) == []


def test_containers_that_share_a_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same process id on another machine has a file of its own, which stays when this one goes."""
    own, other = (StatusFile(lambda: describe_process("program", [], {}), directory) for _ in range(2))
    own.update()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(status_file, "_machine", lambda: "another")
        other.update()
    assert len(list(directory.iterdir())) == 2
    assert len(read_statuses(directory)) == 1
    own.remove()
    assert len(list(directory.iterdir())) == 1


@pytest.mark.parametrize("changes", [{"pid": "abc"}, {"pid": 0}, {"pid": True}, {"written_at": None}])
def test_files_that_are_no_status(directory: Path, changes: dict[str, Any]) -> None:
    """They are left alone, and say nothing."""
    directory.mkdir()
    values = describe_process("program", [], {}).to_dict() | changes
    (directory / "1.json").write_text(json.dumps(values))
    assert read_statuses(directory) == []
    assert (directory / "1.json").exists()
