"""Writes docs/cli.md and docs/llmspan.1 from the commands, and deploy/completions from click; ``--check`` compares."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from llmspan.cli import COMMANDS, main

DOCS = Path(__file__).parent
COMPLETIONS = DOCS.parent / "deploy" / "completions"
#: file name, as each shell looks for it, and the class that has its script
SHELLS: dict[str, type[ShellComplete]] = {
    "llmspan.bash": BashComplete,
    "_llmspan": ZshComplete,
    "llmspan.fish": FishComplete,
}
HEAD = """\
# Command line

Generated from the commands by `just docs`; [commands.md](commands.md) introduces them. `man llmspan` shows this page
where the manual pages of the environment are found (`MANPATH=$VIRTUAL_ENV/share/man:`).

Exit codes: 0, 1 (not found, or a problem), 2 (wrong usage or settings), 3 (a backend cannot be reached).
"""


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command with its name and a context for its help."""
    parent = click.Context(main, info_name="llmspan")
    for name in COMMANDS:
        command = main.get_command(parent, name)
        if command is not None:
            yield from _with_subcommands(name, command, parent)


def _with_subcommands(
    name: str, command: click.Command, parent: click.Context
) -> Iterator[tuple[str, click.Command, click.Context]]:
    context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent)
    yield name, command, context
    if isinstance(command, click.Group):
        for sub_name, sub_command in command.commands.items():
            yield from _with_subcommands(f"{name} {sub_name}", sub_command, context)


def usage(command: click.Command, context: click.Context) -> str:
    """The line after ``Usage:``."""
    return f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}"


def options(command: click.Command, context: click.Context) -> list[tuple[str, str]]:
    """Each option as it is written, with its help."""
    chosen = (parameter for parameter in command.get_params(context) if isinstance(parameter, click.Option))
    records = (option.get_help_record(context) for option in chosen)
    return [(name, text) for name, text in filter(None, records) if "--help" not in name]


def paragraphs(command: click.Command) -> list[str]:
    """The help text, a paragraph each."""
    return [" ".join(part.split()) for part in inspect.cleandoc(command.help or "").split("\n\n")]


def examples(command: click.Command) -> list[str]:
    """The examples of the epilogue."""
    return [line for line in (command.epilog or "").splitlines() if line.strip("\b ")]


def page() -> str:
    """docs/cli.md."""
    parts = [HEAD]
    for name, command, context in commands():
        parts.append(f"## `llmspan {name}`\n\n" + "\n\n".join(paragraphs(command)))
        parts.append(f"```text\n{usage(command, context)}\n```\n")
        if rows := options(command, context):
            cells = [(option.replace("|", "\\|"), text.replace("|", "\\|")) for option, text in rows]
            parts.append("| option | |\n| --- | --- |\n" + "".join(f"| `{a}` | {b} |\n" for a, b in cells))
        if lines := examples(command):
            parts.append("```text\n" + "\n".join(lines) + "\n```\n")
    return "\n".join(part if part.endswith("\n") else f"{part}\n" for part in parts)


def manual() -> str:
    """docs/llmspan.1, in the macros of man(7)."""
    lines = [".TH LLMSPAN 1", ".SH NAME", "llmspan \\- record calls of the openai, anthropic and google\\-genai SDKs"]
    lines += [".SH SYNOPSIS", ".B llmspan", ".I COMMAND", "[OPTIONS] [ARGUMENTS]", ".SH DESCRIPTION"]
    lines += _roff_paragraphs(main)
    for name, command, context in commands():
        lines += [
            f".SH {_roff(name.upper())}",
            f".B {_roff(usage(command, context))}",
            ".PP",
            *_roff_paragraphs(command),
        ]
        for option, text in options(command, context):
            lines += [".TP", f".B {_roff(option)}", _roff(text) or "\\&"]
        for example in examples(command):
            lines += [".PP", f".EX\n{_roff(example)}\n.EE"]
    lines += [
        ".SH FILES",
        "The SQLite file is $XDG_DATA_HOME/llmspan/traces.db unless LLMSPAN_SQLITE_PATH names another.",
    ]
    lines += [".SH ENVIRONMENT", "LLMSPAN_* and OTEL_*; docs/settings.md lists them."]
    return "\n".join(lines) + "\n"


def _roff_paragraphs(command: click.Command) -> list[str]:
    return [line for paragraph in paragraphs(command) for line in (_roff(paragraph), ".PP")][:-1]


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def completion(shell: type[ShellComplete]) -> str:
    """The script that makes one shell ask ``llmspan`` for completions."""
    script = shell(main, {}, "llmspan", "_LLMSPAN_COMPLETE")
    return script.source_template % script.source_vars()


def files() -> dict[Path, str]:
    """Every file with what belongs into it."""
    scripts = {COMPLETIONS / name: completion(shell) for name, shell in SHELLS.items()}
    return {DOCS / "cli.md": page(), DOCS / "llmspan.1": manual(), **scripts}


if __name__ == "__main__":
    if "--check" in sys.argv:
        old = [path.name for path, text in files().items() if not path.exists() or path.read_text() != text]
        sys.exit(f"{', '.join(old)}: out of date: run `just docs`" if old else 0)
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
