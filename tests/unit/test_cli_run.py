"""``llmspan run``: the program that it becomes, and the environment that it starts it in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llmspan.cli import main, run
from llmspan.cli.run import command_line, prepare, service_name
from llmspan.errors import SettingsError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("LLMSPAN_", "OTEL_", "LETTA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def call(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False, prog_name="llmspan")


def test_a_command_line_is_a_script_a_module_or_a_program(tmp_path: Path) -> None:
    """Scripts and modules run on this Python, all else is looked for on the PATH."""
    script = tmp_path / "app.py"
    script.touch()
    assert command_line(str(script), ["-x"]) == [sys.executable, str(script), "-x"]
    assert command_line("pkg", ["-x"], as_module=True) == [sys.executable, "-m", "pkg", "-x"]
    assert command_line("true", []) == [subprocess.check_output(["which", "true"], text=True).strip()]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/bin/python3 -u bots/helper.py --m -m x", "helper"),
        ("/usr/bin/python3.11 -m pkg.mod a.py", "pkg.mod"),
        ("/bin/gunicorn -m app:app", "gunicorn"),
        ("/bin/uv run app.py", "app"),
        ("/usr/bin/python3", "python3"),
    ],
)
def test_a_service_is_named_after_what_is_started(command: str, name: str) -> None:
    """The script, else the module, else the program."""
    assert service_name(command.split()) == name


def test_run_sets_only_what_is_not_set() -> None:
    """Exporters are off without an endpoint, and what the user set stays."""
    environ = {"OTEL_METRICS_EXPORTER": "console", "PYTHONPATH": "/mine"}
    assert prepare(environ, ["app.py"]) == []
    first, here, mine = environ.pop("PYTHONPATH").split(os.pathsep)
    assert Path(first, "sitecustomize.py").is_file()
    assert (here, mine) == (str(Path.cwd()), "/mine")
    assert environ == {
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "console",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_SERVICE_NAME": "app.py",
        "LLMSPAN_SUMMARY": "1",
    }
    named = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=mine", "LLMSPAN_SUMMARY": "0"}
    prepare(named, ["app.py"])
    assert "OTEL_SERVICE_NAME" not in named
    assert named["LLMSPAN_SUMMARY"] == "0"


def test_run_twice_puts_one_path_in_front() -> None:
    """A program that is started by another one under `run` gets the same PYTHONPATH."""
    environ: dict[str, str] = {}
    prepare(environ, ["a"])
    once = dict(environ)
    prepare(environ, ["a"])
    assert environ == once


GRPC, HTTP = "otlp_proto_grpc", "otlp_proto_http"


@pytest.mark.parametrize(
    ("installed", "given", "exporter", "protocol"),
    [
        ({HTTP}, None, "otlp", "http/protobuf"),
        ({GRPC, HTTP}, None, "otlp", None),
        ({GRPC}, None, "otlp", None),
        ({HTTP}, "http/protobuf", "otlp", None),
        ({HTTP}, "grpc", "none", None),
        (set[str](), None, "none", None),
    ],
)
def test_otlp_goes_by_what_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: set[str], given: str | None, exporter: str, protocol: str | None
) -> None:
    """With an endpoint OTLP is used if an exporter for the protocol is there; if not, the user is told."""
    monkeypatch.setattr(run, "_installed", lambda group: installed if group.endswith("exporter") else {"configurator"})
    environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318"}
    if given:
        environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = given
    notices = prepare(environ, ["app.py"])
    assert environ["OTEL_TRACES_EXPORTER"] == exporter
    assert environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") == protocol
    assert environ["OTEL_METRICS_EXPORTER"] == "none"
    assert ["no traces to http://collector:4318" in notice for notice in notices] == [True] * (exporter == "none")


def test_otlp_needs_the_distro(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a configurator nothing would export: one notice for all signals says so."""
    monkeypatch.setattr(run, "_installed", lambda group: {HTTP} if group.endswith("exporter") else set[str]())
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    (notice,) = prepare(environ, ["app.py"])
    assert "no traces, metrics, logs" in notice
    assert "opentelemetry-distro is not installed" in notice


def test_run_checks_the_settings_first() -> None:
    """A program whose settings are wrong is not started."""
    with pytest.raises(SettingsError, match="LLMSPAN_CAPTURE_PAYLOADS=all"):
        prepare({"LLMSPAN_CAPTURE_PAYLOADS": "all"}, ["app.py"])
    result = call("run", "--backends", "nope", "python", "-c", "print('started')")
    assert (result.exit_code, result.stdout) == (2, "")
    assert call("run", "no-such-program-anywhere").exit_code == 127
    assert call("run", "no_such_script.py").exit_code == 127


def test_run_options_are_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The options win over the environment; the program's own options are not ours."""
    started: list[Any] = []
    monkeypatch.setattr(run, "_exec", lambda command, environ: started.append((command, environ)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMSPAN_CAPTURE_PAYLOADS", "full")
    monkeypatch.setenv("LLMSPAN_CONTENT", "full")  # its older name, which would only cause a notice
    words = ["--backends", "sqlite,memory", "--db", "x.db", "--content", "metadata", "--no-summary"]
    result = call("run", *words, "-m", "pkg", "--db", "mine", "--", "-x")
    assert result.exit_code == 0
    ((command, environ),) = started
    assert command == [sys.executable, "-m", "pkg", "--db", "mine", "--", "-x"]
    assert {name: environ[name] for name in environ if name.startswith("LLMSPAN_")} == {
        "LLMSPAN_BACKENDS": "sqlite,memory",
        "LLMSPAN_SQLITE_PATH": "x.db",
        "LLMSPAN_CAPTURE_PAYLOADS": "metadata",
        "LLMSPAN_SUMMARY": "0",
    }


def test_the_program_takes_our_place() -> None:
    """Exit codes and signals are the program's own, and SIGPIPE is as a shell would leave it."""
    script = "import os, signal, sys; os.write(1, b'%d' % os.getpid()); {}"

    def status(action: str) -> tuple[int, int, int]:
        command = [sys.executable, "-m", "llmspan.cli", "run", "--", sys.executable, "-c", script.format(action)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        output, _ = process.communicate()
        return process.pid, int(output), process.returncode

    pid, told, code = status("sys.exit(7)")
    assert (pid, code) == (told, 7)
    assert status("os.kill(os.getpid(), signal.SIGTERM)")[2] == -signal.SIGTERM
    piped = [sys.executable, "-m", "llmspan.cli", "run", "sh", "-c", "kill -PIPE $$"]
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPIPE})  # ClickHouse's engine blocks it in our thread
    try:
        assert subprocess.run(piped, check=False, capture_output=True).returncode == -signal.SIGPIPE
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
