"""``llmspan doctor``: why is nothing recorded, or not where I look? Every usual reason, checked."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from itertools import chain
from typing import Final

import click

from . import options
from .output import echo, symbol

__all__ = ["doctor"]

#: mark, mark in ASCII, colour
_MARKS: Final = {"ok": ("✓", "+", "green"), "note": ("!", "!", "yellow"), "problem": ("✗", "x", "red")}


@click.command()
@options.chosen_backends
@options.as_json
@click.pass_context
def doctor(ctx: click.Context, *, backend: str | None, db: str | None, as_json: bool) -> None:
    """Check the set-up and the backends.

    A record is written to each backend and read back. A call by each SDK is made to a local server, without a key or
    network, to see what the installed instrumentations make of it. The exit code is 1 if there is a problem.
    """
    from .doctor_checks import old_sdks, recordable_sdks, run_checks
    from .trial import recorded_sdks, trial_calls

    settings, backends = options.load(backend, db)
    problems = 0
    recorded = recorded_sdks(old_sdks(), os.environ)
    trials = trial_calls(settings, [*recordable_sdks(), *recorded], os.environ)
    for finding in chain(run_checks(settings, backends, os.environ, recorded), trials):
        problems += finding.level == "problem"
        if as_json:
            echo(json.dumps({**asdict(finding), "help_url": finding.help_url}))
        else:
            *marks, colour = _MARKS[finding.level]
            echo(f"{finding.check}: {finding.message}", mark=f"{click.style(symbol(*marks), fg=colour)} ")
            if finding.help_url:
                echo(f"  {finding.help_url}")
    if not as_json:
        echo(f"{problems} problem{'' if problems == 1 else 's'}" if problems else "all is well")
    ctx.exit(1 if problems else 0)
