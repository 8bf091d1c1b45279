"""The trial calls of ``llmspan doctor``: what is made of a call beside the installed instrumentations is tried out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llmspan.cli import main, trial
from llmspan.cli.doctor_checks import Finding
from llmspan.cli.trial_program import Trial
from llmspan.settings import Settings

DISABLED = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
SDKS = ["openai", "anthropic"]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A user's variables, without a key; what would leave the machine finds nothing."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LLMSPAN_", "OTEL_", "OPENAI_", "ANTHROPIC_"))
    }
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    return {**kept, **nowhere, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}


def findings(environ: dict[str, str], sdks: list[str] = SDKS, **settings: Any) -> list[Finding]:
    return list(trial.trial_calls(Settings.from_env({}, **settings), sdks, environ))


def test_nobody_else_is_active(environ: dict[str, str]) -> None:
    """Alone, each call has one record and one span, ours."""
    assert findings({**environ, DISABLED: "openai,anthropic"}) == [
        Finding("calls", "ok", f"a trial call by {sdk} made 1 record and 1 span with usage: llmspan") for sdk in SDKS
    ]


def test_other_instrumentations_are_active(environ: dict[str, str]) -> None:
    """Beside the official instrumentations, which are installed here, the one span is theirs."""
    theirs = "opentelemetry.instrumentation.genai."
    assert findings(environ) == [
        Finding("calls", "ok", f"a trial call by {sdk} made 1 record and 1 span with usage: {theirs}{sdk}")
        for sdk in SDKS
    ]


def test_what_is_switched_off_is_not_recorded(environ: dict[str, str]) -> None:
    """An SDK whose instrumentation is disabled has no record, and that is a problem; the other one is well."""
    off, on = findings({**environ, DISABLED: "openai,anthropic,llmspan_openai"})
    assert (off.level, on.level) == ("problem", "ok")
    assert off.message.startswith("a trial call by openai made 0 records and 0 spans with usage: ")


def test_both_spans_of_anthropic_are_found(environ: dict[str, str]) -> None:
    """``LLMSPAN_ANTHROPIC_NATIVE_SPANS`` is obeyed: two spans that were asked for are a note."""
    both = {**environ, DISABLED: "openai,anthropic", "LLMSPAN_ANTHROPIC_NATIVE_SPANS": "both"}
    (found,) = findings(both, ["anthropic"], anthropic_native_spans="both")
    assert found.level == "note"
    assert "2 spans with usage" in found.message
    assert "com.anthropic.sdk.python" in found.message


def test_the_users_stores_are_left_alone(environ: dict[str, str], tmp_path: Path) -> None:
    """Neither stores nor exporters nor the spool of the user see the calls; samplers do not hide them."""
    stores = {
        "LLMSPAN_BACKENDS": "sqlite,socket", "LLMSPAN_SQLITE_PATH": str(tmp_path / "records.db"),
        "LLMSPAN_SPOOL_DIR": str(tmp_path / "spool"), "OTEL_TRACES_EXPORTER": "llmspan_sqlite",
        "OTEL_TRACES_SAMPLER": "always_off", "OTEL_SDK_DISABLED": "true", DISABLED: "openai,anthropic",
    }  # fmt: skip
    (found,) = findings({**environ, **stores}, ["openai"])
    assert (found.level, list(tmp_path.iterdir())) == ("ok", [])


def test_a_program_that_hangs_is_ended(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls have a limited time; that it was not enough is said."""
    monkeypatch.setattr(trial, "_TIMEOUT", 0.001)
    (found,) = findings(environ)
    assert found == Finding("calls", "problem", "the trial calls were not made: their process did not end within 0"
                            " seconds", "the-trial-calls-were-not-made")  # fmt: skip


def test_a_program_that_fails_says_why(environ: dict[str, str]) -> None:
    """The last line of what it printed is in the report."""
    (found,) = findings(environ, ["unheard-of"])
    assert found.level == "problem"
    assert found.message.endswith("exit code 1: KeyError: 'unheard-of'")


def test_no_sdk_no_call() -> None:
    """Without an SDK nothing is started."""
    assert findings({}, []) == []


@pytest.mark.parametrize(
    ("made", "level", "told"),
    [
        (Trial(1, ["llmspan"]), "ok", "1 record and 1 span with usage: llmspan"),
        (Trial(1, ["llmspan", "peer"]), "problem", "2 spans with usage: llmspan, peer: a sum over spans counts it 2"),
        (Trial(1, ["peer", "peer"]), "problem", "2 spans with usage: peer (2): a sum"),
        (Trial(1, []), "note", "0 spans with usage: its usage is in the record only"),
        (Trial(0, ["peer"]), "problem", "0 records and 1 span with usage: peer: another instrumentation interferes"),
        (Trial(0, ["peer"], suppressed=1), "problem", "suppresses instrumentation"),
        (Trial(2, ["llmspan"]), "problem", "2 records"),
        (Trial(error="ValueError: no"), "problem", "a trial call by openai failed: ValueError: no"),
    ],
)
def test_what_is_said_of_a_trial(made: Trial, level: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call without a record, or with more than one span, is a problem, and whose spans they are is said."""
    monkeypatch.setattr(trial, "_run", lambda sdks, environ: {"openai": made})
    (found,) = findings({}, ["openai"])
    assert found.level == level
    assert told in found.message


def test_json_says_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``doctor --json`` has the trial calls among its findings, and its exit code counts their problems."""
    made = {"openai": Trial(1, ["llmspan"]), "anthropic": Trial(0, [])}
    monkeypatch.setattr(trial, "_run", lambda sdks, environ: made)
    result = CliRunner().invoke(main, ["doctor", "--json", "--db", str(tmp_path / "x.db")], prog_name="llmspan")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["level"] for one in found if one["check"] == "calls"] == ["ok", "problem"]
    assert result.exit_code == 1


SUPPRESSING = """
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation

class Suppressing(BaseInstrumentor):
    def instrumentation_dependencies(self):
        return ()

    def _instrument(self, **kwargs):
        from openai.resources.chat import Completions
        create = Completions.create

        def suppressed(*args, **kwargs):
            with suppress_instrumentation():
                return create(*args, **kwargs)

        Completions.create = suppressed

    def _uninstrument(self, **kwargs):
        pass
"""


def test_another_instrumentation_suppresses(environ: dict[str, str], tmp_path: Path) -> None:
    """A call that is left out since somebody suppresses instrumentation around it is a problem, with its cause."""
    package = tmp_path / "suppressing-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: suppressing\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[opentelemetry_instrumentor]\nother = suppressing:Suppressing\n")
    (tmp_path / "suppressing.py").write_text(SUPPRESSING)
    (found,) = findings({**environ, DISABLED: "openai,anthropic", "PYTHONPATH": str(tmp_path)}, ["openai"])
    assert found == Finding("calls", "problem", "a trial call by openai made 0 records and 0 spans with usage: another"
                            " instrumentation suppresses instrumentation during it",
                            "instrumentation-is-suppressed")  # fmt: skip
