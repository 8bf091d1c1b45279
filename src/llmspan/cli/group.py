"""The group of all commands. It has only their names: each is imported when it is called.

``llmspan run`` stands before every start of a program, so nothing heavy is imported here or at the top of a command's
module: rich, OpenTelemetry, SQLite and SDKs come in inside the functions that use them.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Any, Final

import click

from .._version import __version__
from ..errors import BackendError, LlmspanError, SettingsError
from .output import echo, escape_unencodable

__all__ = ["COMMANDS", "main"]

#: where each command is; in the order of ``--help``
COMMANDS: Final = {
    "run": "llmspan.cli.run:run",
    "demo": "llmspan.cli.demo:demo",
    "show": "llmspan.cli.show:show",
    "tail": "llmspan.cli.tail:tail",
    "stats": "llmspan.cli.stats:stats",
    "ui": "llmspan.cli.ui:ui",
    "diff": "llmspan.cli.diff:diff",
    "annotate": "llmspan.cli.annotate:annotate",
    "export": "llmspan.cli.export:export",
    "delete": "llmspan.cli.delete:delete",
    "prune": "llmspan.cli.delete:prune",
    "status": "llmspan.cli.status:status",
    "index": "llmspan.cli.index:index",
    "doctor": "llmspan.cli.doctor:doctor",
    "migrate": "llmspan.cli.migrate:migrate",
    "sidecar": "llmspan.cli.sidecar:sidecar",
    "mcp": "llmspan.cli.mcp:mcp",
    "dashboards": "llmspan.cli.dashboards:dashboards",
    "import-letta": "llmspan.cli.import_letta:import_letta",
}

#: exit codes, the most special error first; 2 is also click's own for wrong usage
_EXIT_CODES: Final[tuple[tuple[type[LlmspanError], int], ...]] = (
    (SettingsError, 2),
    (BackendError, 3),
    (LlmspanError, 1),
)


class _Commands(click.Group):
    """A group that imports a command when it is needed, and says errors of ours in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        return getattr(import_module(module), name)

    def invoke(self, ctx: click.Context) -> Any:
        escape_unencodable()
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except LlmspanError as error:
            echo(f"Error: {error}", err=True)
            ctx.exit(next(code for kind, code in _EXIT_CODES if isinstance(error, kind)))
        except BrokenPipeError:  # the reader of a pipe has seen enough; click knows what to do
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
                raise
            _discard_output()
            echo(f"Error: the output cannot be written: {error.strerror}", err=True)
            ctx.exit(1)


def _discard_output() -> None:
    """Send what is still buffered for standard output nowhere: Python would report its failure again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Record every openai, anthropic and google-genai call: one span, one stored record.

    `llmspan run app.py` starts a program with all of its calls recorded; `llmspan show` shows the last one.

    Exit codes: 1 not found or a problem, 2 wrong usage or settings, 3 a backend cannot be reached.
    """
