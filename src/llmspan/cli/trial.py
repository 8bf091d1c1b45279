"""The trial calls of ``llmspan doctor``: what the instrumentations of this environment make of a call, tried out.

The calls are made by a process of their own, started as ``llmspan run`` starts programs, to a server in that process.
It needs no key and no network, writes to no store, sends nothing, and has a limited time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from ..settings import TABLE, Settings
from .doctor_checks import Finding
from .run import _python_path
from .trial_program import Trial

__all__ = ["recorded_sdks", "trial_calls", "trial_environ"]

#: seconds for all calls, imports of instrumentations included
_TIMEOUT: Final = 60.0
#: settings that say what is made of a call; all others (stores, content, spool, ...) do not reach the process
_OBEYED: Final = ("anthropic_native_spans", "semconv_compat")
#: how spans are sampled and sent, which has checks of its own; without them every span is seen here, and none is sent
_DROPPED: Final = (
    "OTEL_BSP_", "OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE", "OTEL_EXPORTER_", "OTEL_SDK_DISABLED",
    "OTEL_TRACES_SAMPLER",
)  # fmt: skip


def trial_calls(settings: Settings, sdks: Sequence[str], environ: Mapping[str, str]) -> Iterator[Finding]:
    """Make one call by each of ``sdks`` and say how many records and spans with usage there are."""
    trials = _run(sdks, environ) if sdks else {}
    if isinstance(trials, str):
        message = f"the trial calls were not made: {trials}"
        yield Finding("calls", "problem", message, "the-trial-calls-were-not-made")
        return
    for sdk, trial in trials.items():
        yield _judge(sdk, trial, settings)


def recorded_sdks(sdks: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Those of ``sdks`` of which a trial call is recorded."""
    trials = _run(sdks, environ) if sdks else {}
    return [] if isinstance(trials, str) else [sdk for sdk, trial in trials.items() if trial.records]


def trial_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the process: those of ``environ`` that say which instrumentations are loaded, and how."""
    own_variables = {name for setting in TABLE if setting.name not in _OBEYED for name in setting.variables}
    environment = {
        name: value for name, value in environ.items() if name not in own_variables and not name.startswith(_DROPPED)
    }
    return {
        **environment,
        "LLMSPAN_BACKENDS": "memory",
        "LLMSPAN_SUMMARY": "0",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "PYTHONPATH": _python_path(environ.get("PYTHONPATH", "")),
    }


def _run(sdks: Sequence[str], environ: Mapping[str, str]) -> dict[str, Trial] | str:
    """The trials by SDK; a sentence where there are none."""
    with tempfile.TemporaryDirectory(prefix="llmspan-doctor-") as folder:
        output = Path(folder) / "trials.json"
        command = [sys.executable, "-m", "llmspan.cli.trial_program", str(output), *sdks]
        try:
            completed = subprocess.run(
                command, env=trial_environ(environ), check=False, timeout=_TIMEOUT,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"their process did not end within {_TIMEOUT:.0f} seconds"
        if not output.exists():
            last = completed.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            return f"their process ended with exit code {completed.returncode}: {last[0]}"
        return {name: Trial(**trial) for name, trial in json.loads(output.read_text()).items()}


def _judge(sdk: str, trial: Trial, settings: Settings) -> Finding:
    counts = f"a trial call by {sdk} made {_count(trial.records, 'record')} and {_spans(trial.spans)}"
    if trial.error is not None:
        return Finding("calls", "problem", f"a trial call by {sdk} failed: {trial.error}", "a-trial-call-failed")
    if trial.suppressed and not trial.records:
        message = f"{counts}: another instrumentation suppresses instrumentation during it"
        return Finding("calls", "problem", message, "instrumentation-is-suppressed")
    if trial.records != 1:
        return Finding("calls", "problem", f"{counts}: another instrumentation interferes, or llmspan's is switched"
                       " off (docs/one-span.md)", "calls-are-not-recorded-once")  # fmt: skip
    if len(trial.spans) == 1:
        return Finding("calls", "ok", counts)
    if not trial.spans:
        return Finding("calls", "note", f"{counts}: its usage is in the record only", "no-span-has-the-usage")
    is_asked_for = sdk == "anthropic" and settings.anthropic_native_spans == "both"
    return Finding("calls", "note" if is_asked_for else "problem", f"{counts}: a sum over spans counts it"
                   f" {len(trial.spans)} times (docs/one-span.md)", "several-spans-have-the-usage")  # fmt: skip


def _spans(scopes: Sequence[str]) -> str:
    names = [f"{name} ({number})" if number > 1 else name for name, number in Counter(scopes).items()]
    return _count(len(scopes), "span") + " with usage" + (f": {', '.join(names)}" if scopes else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
