"""``llmspan doctor`` and ``llmspan migrate``: what is wrong is named, what is right is said in words."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llmspan.backends.memory import MemoryBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import doctor_checks, main, trial
from llmspan.cli.doctor_checks import Finding
from llmspan.errors import RetryableError
from llmspan.pipeline.statistics import BackendStatus
from llmspan.pipeline.status_file import StatusFile, describe_process
from llmspan.settings import Settings
from llmspan.trace import ProviderTrace
from stores import shutting_down

DISABLED = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("LLMSPAN_", "OTEL_", "LETTA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(trial, "_run", lambda sdks, environ: {})  # test_trial_calls.py makes the calls


def call(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False, prog_name="llmspan")


def findings(environ: dict[str, str] | None = None, *backends: Any, **settings: Any) -> list[Finding]:
    return list(doctor_checks.run_checks(Settings.from_env({}, **settings), backends, environ or {}))


def said(found: Sequence[Finding], check: str, level: str) -> str:
    return "\n".join(one.message for one in found if one.check == check and one.level == level)


class Broken(MemoryBackend):
    """A store that fails in the way it is told."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self._error = error

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        if self._error is not None:
            raise self._error


class Keeping(MemoryBackend):
    """A store out of which nothing can be taken."""

    remove = None  # type: ignore[assignment]


# -- doctor ---------------------------------------------------------------------------------------------------------


def test_a_sound_setup_is_well(tmp_path: Path) -> None:
    """Without a problem the exit code is 0, and the store is as empty as before."""
    result = call("doctor", "--db", str(tmp_path / "new.db"))
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "all is well")
    assert "✓ backend sqlite: SQLite " in result.stdout
    assert "wrote a record and read it back" in result.stdout
    with shutting_down(SQLiteBackend(tmp_path / "new.db")) as backend:
        assert backend.stats([])[0].calls == 0


def test_a_problem_is_exit_code_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any problem makes it 1; in JSON each finding is an object with its check, level, message and help."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert call("doctor").exit_code == 1
    result = call("doctor", "--json")
    assert result.exit_code == 1
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert {key for one in found for key in one} == {"check", "level", "message", "section", "help_url"}
    assert [one["check"] for one in found if one["level"] == "problem"] == ["spans"]


@pytest.mark.parametrize(
    ("backends", "told"),
    [
        ("click-house", "unknown backend 'click-house'; available:"),
        ("sqlite,nothing", "unknown backend 'nothing'"),
    ],
)
def test_wrong_settings_are_exit_code_two(monkeypatch: pytest.MonkeyPatch, backends: str, told: str) -> None:
    """What a program would not start with is the same clear error here."""
    monkeypatch.setenv("LLMSPAN_BACKENDS", backends)
    result = call("doctor")
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize(
    ("environ", "check", "level", "told"),
    [
        ({"LLMSPAN_BACKEND": "x"}, "settings", "problem", "LLMSPAN_BACKEND; did you mean LLMSPAN_BACKENDS?"),
        ({"OTEL_SDK_DISABLED": "TRUE"}, "spans", "problem", "no spans are made; records are written all the same"),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "spans", "note", "OTEL_TRACES_SAMPLER=always_off leaves spans out"),
        ({"OTEL_TRACES_EXPORTER": "otpl"}, "spans", "problem", "OTEL_TRACES_EXPORTER=otpl: unknown exporter"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "spans", "ok", "spans go to console"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "spans", "ok", "spans go to otlp (http://c:4318)"),
        ({}, "spans", "ok", "spans go nowhere by themselves"),
        ({DISABLED: "redis, llmspan_openai"}, "instrumentors", "problem", "llmspan_openai"),
        ({DISABLED: "*"}, "instrumentors", "problem", "llmspan_anthropic"),
        ({}, "instrumentors", "note", "openai is also instrumented by opentelemetry-instrumentation-genai-openai"),
        ({"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "100"}, "limits", "note", "records are not cut"),
        ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "8"}, "limits", "problem", "a span may lose attributes"),
        ({CAPTURE: "true"}, "content", "note", "asks for them on spans too"),
    ],
)  # fmt: skip
def test_the_usual_reasons(environ: dict[str, str], check: str, level: str, told: str) -> None:
    """Each usual reason for missing calls or spans is found and said."""
    assert told in said(findings(environ), check, level)


def test_instrumentations_that_are_off_are_not_mentioned() -> None:
    """Who was disabled does not claim anything."""
    found = findings({DISABLED: "openai,anthropic"})
    assert said(found, "instrumentors", "note") == ""


def test_content_in_words() -> None:
    """Whether prompts are stored, and where, is said so that nobody has to know the settings."""
    store = MemoryBackend()
    assert said(findings({}, store), "content", "ok").startswith("requests and responses ARE stored in memory")
    assert "are NOT stored" in said(findings({}, store, capture_payloads="metadata"), "content", "ok")
    partly = said(findings({}, store, postgres_payload="metadata"), "content", "ok")
    assert "not in postgres" in partly


@pytest.mark.parametrize(
    ("versions", "level", "told"),
    [
        ({}, "problem", "none of openai, anthropic and google-genai is installed"),
        ({"openai": "1.49.0"}, "problem", "openai 1.49.0 is too old"),
        ({"openai": "1.50.0"}, "ok", "openai 1.50.0"),
        ({"anthropic": "1.14.0"}, "ok", "makes spans of its own; they are suppressed"),
    ],
)
def test_sdk_versions(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], level: str, told: str) -> None:
    """What is installed is compared with what the hooks fit."""
    monkeypatch.setattr(doctor_checks, "_version_of", versions.get)
    assert told in said(findings(), "sdks", level)


@pytest.mark.parametrize(
    ("recorded", "level", "told"),
    [(["openai"], "note", "a trial call is recorded"), ([], "problem", "is too old, its calls are not recorded")],
)
def test_an_old_sdk_is_judged_by_a_trial_call(
    monkeypatch: pytest.MonkeyPatch, recorded: list[str], level: str, told: str
) -> None:
    """A version that is older than what is tested is a problem only if its calls are not recorded."""
    monkeypatch.setattr(doctor_checks, "_version_of", {"openai": "1.40.0", "anthropic": "2.0.0"}.get)
    assert (doctor_checks.old_sdks(), doctor_checks.recordable_sdks()) == (["openai"], ["anthropic"])
    found = list(doctor_checks.run_checks(Settings.from_env({}), (), {}, recorded))
    assert told in said(found, "sdks", level)


def test_doubled_native_spans_are_noted() -> None:
    """Keeping the SDK's own spans beside ours doubles every sum, and is said to."""
    assert "counts those calls twice" in said(findings(anthropic_native_spans="both"), "sdks", "note")


def test_a_package_that_is_not_installed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our entry points nothing is recorded under opentelemetry-instrument."""
    monkeypatch.setattr(
        doctor_checks, "entry_points", lambda **_: [EntryPoint("redis", "x:Y", "opentelemetry_instrumentor")]
    )
    assert "not installed as a package" in said(findings(), "instrumentors", "problem")
    assert importlib.metadata.entry_points(group="opentelemetry_instrumentor")


@pytest.mark.parametrize(
    ("backend", "told"),
    [
        (Broken(RetryableError("the disk\n is full")), "the disk is full"),
        (Broken(), "written without an error, but is not there"),
        (SQLiteBackend("/proc/nowhere/x.db"), "LLMSPAN_SQLITE_PATH=/proc/nowhere/x.db"),
    ],
)
def test_a_backend_that_does_not_store_is_a_problem(backend: Any, told: str) -> None:
    """A store is well only if a record goes in and comes out; the reason is one line."""
    message = said(findings({}, backend), f"backend {backend.name}", "problem")
    assert told in message
    assert "\n" not in message


def test_a_probe_that_cannot_be_taken_out_is_one_a_day() -> None:
    """A store that keeps what it has is given the same marked record all day, and the report names it."""
    store = Keeping()
    first, second = (said(findings({}, store), "backend memory", "ok") for _ in range(2))
    (probe,) = store.list().traces
    assert f"(it stays: {probe.id}, provider llmspan, operation probe)" in first
    assert probe.id in second
    assert (probe.provider, probe.operation, probe.started_at % 86_400_000_000_000) == ("llmspan", "probe", 0)


def test_one_bad_backend_does_not_hide_the_others() -> None:
    """Each backend has its own line."""
    found = findings({}, Broken(OSError("gone")), MemoryBackend())
    assert [one.level for one in found if one.check == "backend memory"] == ["problem", "ok"]


def test_a_socket_is_only_asked_who_it_is(tmp_path: Path) -> None:
    """A backend that only takes records gets none for a probe; that nobody listens is a problem."""
    result = call("doctor", "--backend", "socket")
    assert result.exit_code == 1
    assert "✗ backend socket: /run/llmspan/llmspan.sock: No such file or directory; no process listens" in result.stdout


# -- migrate --------------------------------------------------------------------------------------------------------


def test_migrate_says_what_was_applied(tmp_path: Path) -> None:
    """The first time the files that were applied, the second time that there was nothing to do."""
    path = str(tmp_path / "m.db")
    first, second = call("migrate", "--db", path), call("migrate", "--db", path)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout == (
        f"sqlite ({path}): 0001_provider_traces.sql, 0002_spans.sql, 0003_annotations.sql, 0004_price_columns.sql\n"
    )
    assert second.stdout == f"sqlite ({path}): up to date\n"
    (line,) = call("migrate", "--db", path, "--json").stdout.splitlines()
    assert json.loads(line) == {"backend": "sqlite", "location": path, "applied": []}


def test_migrate_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One store that cannot be migrated is told, with its exit code, after the others are."""
    bad = tmp_path / "bad.db"
    bad.write_text("no database, but long enough to be looked at")
    monkeypatch.setenv("LLMSPAN_SQLITE_PATH", str(bad))
    monkeypatch.setenv("LLMSPAN_BACKENDS", "sqlite,memory,socket")
    result = call("migrate")
    assert result.exit_code == 3
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["memory", "socket"]
    assert "not a file of llmspan" in result.stderr
    assert call("migrate", "--backend", "memory").exit_code == 0


@pytest.mark.parametrize(
    ("backend", "level", "words", "section"),
    [
        (BackendStatus("sqlite", "f.db", accepted=9, delivered=7, queued=2), "ok", "7 of 9 stored, 2 in the queue", ""),
        (
            BackendStatus("sqlite", "f.db", accepted=9, delivered=8, dropped={"queue_full": 1}, last_error="disk full"),
            "problem", "8 of 9 stored, 1 dropped (queue_full); disk full", "records-are-dropped",
        ),
        (
            BackendStatus("sqlite", "f.db", accepted=9, spooled=9, breaker="open", last_error="no route"),
            "note", "0 of 9 stored, 9 in the spool; the backend fails: no route", "a-backend-fails",
        ),
    ],
)  # fmt: skip
def test_processes_that_run(
    backend: BackendStatus, level: str, words: str, section: str | None, tmp_path: Path
) -> None:
    """What a running program has lost, what waits, and why, is found without looking into its log."""
    file = StatusFile(lambda: describe_process("program", [backend], {}), tmp_path)
    file.update()
    check = f"process {os.getpid()}"
    (found,) = [one for one in findings(status_dir=tmp_path) if one.check == check]
    assert (found.level, found.section or "", found.message.endswith(words)) == (level, section, True)
    file.remove()
    assert said(findings(status_dir=tmp_path), check, level) == ""
