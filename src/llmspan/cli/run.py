"""``llmspan run``: start a program with llmspan in it, by environment variables alone, and become it.

The program replaces this process, so its exit code, signals and terminal are its own. Only variables that are not set
are given a value: what the user says by the standard ``OTEL_*`` variables is obeyed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NoReturn

import click

from ..errors import LlmspanError
from . import options
from .output import echo

__all__ = ["command_line", "prepare", "run", "service_name"]

Environ = MutableMapping[str, str]

_INSTRUMENTATION: Final = "opentelemetry.instrumentation.auto_instrumentation"
_SCRIPTS: Final = (".py", ".pyw", ".pyz")
_SIGNALS: Final = ("TRACES", "METRICS", "LOGS")
#: what a value of OTEL_EXPORTER_OTLP_PROTOCOL needs as entry point; the SDK turns the exporter name `otlp` into it
_EXPORTERS: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
#: \b keeps click from filling the lines
_EXAMPLES: Final = """\b
llmspan run app.py --its-option
llmspan run -m package
llmspan run -- gunicorn app:app"""


@click.command(context_settings={"allow_interspersed_args": False}, options_metavar="[OPTIONS] [--]", epilog=_EXAMPLES)
@click.option("-m", "as_module", is_flag=True, help="The program is a Python module, as in `python -m`.")
@click.option("--backends", metavar="NAMES", help="Where to write: LLMSPAN_BACKENDS.")
@click.option("--db", type=options.SQLitePath(), metavar="PATH", help=options.DB_HELP)
@click.option(
    "--content", metavar="full|metadata", help="Store requests and responses or not: LLMSPAN_CAPTURE_PAYLOADS."
)
@click.option("--no-summary", is_flag=True, help="No line at exit: LLMSPAN_SUMMARY=0.")
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    *,
    as_module: bool,
    backends: str | None,
    db: str | None,
    content: str | None,
    no_summary: bool,
    program: str,
    arguments: tuple[str, ...],
) -> None:
    """Start a program and record its calls."""
    own_options = {
        "LLMSPAN_BACKENDS": backends,
        "LLMSPAN_SQLITE_PATH": db,
        "LLMSPAN_CAPTURE_PAYLOADS": content,
        "LLMSPAN_SUMMARY": "0" if no_summary else None,
    }
    environ = _with_options(os.environ, own_options)
    command = command_line(program, arguments, as_module=as_module)
    for notice in prepare(environ, command):
        echo(f"llmspan: {notice}", err=True)
    _exec(command, environ)


def command_line(program: str, arguments: Sequence[str], *, as_module: bool = False) -> list[str]:
    """What to execute: a program on the PATH; for a script or a module, this Python."""
    if as_module:
        return [sys.executable, "-m", program, *arguments]
    if program.endswith(_SCRIPTS) or Path(program, "__main__.py").is_file():
        if not Path(program).exists():
            raise _MissingProgramError(f"there is no file {program}")
        return [sys.executable, program, *arguments]
    path = shutil.which(program)
    if path is None:
        raise _MissingProgramError(f"there is no program {program} on the PATH")
    return [path, *arguments]


def prepare(environ: Environ, command: Sequence[str]) -> list[str]:
    """Check the settings and complete ``environ``; returns the notices for the user.

    Raises:
        SettingsError: a setting is wrong.
    """
    _check(environ)
    notices = _choose_exporters(environ)
    if "service.name=" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        environ.setdefault("OTEL_SERVICE_NAME", service_name(command))
    environ.setdefault("LLMSPAN_SUMMARY", "1")
    environ["PYTHONPATH"] = _python_path(environ.get("PYTHONPATH", ""))
    return notices


def _with_options(environ: Mapping[str, str], own_options: Mapping[str, str | None]) -> dict[str, str]:
    """``environ`` with the options that are given, and without older names of the same settings."""
    from ..settings import TABLE

    chosen = {name: value for name, value in own_options.items() if value is not None}
    replaced = {alias for setting in TABLE if setting.env in chosen for alias in setting.aliases}
    return {name: value for name, value in environ.items() if name not in replaced} | chosen


def service_name(command: Sequence[str]) -> str:
    """The script, module or program that a command line starts.

    >>> service_name(["/usr/bin/python3", "-u", "bots/helper.py", "--loud"])
    'helper'
    """
    program = Path(command[0]).name
    for word, after in pairwise([*command[1:], ""]):
        if word.endswith(_SCRIPTS):
            return Path(word).stem
        if program.startswith("python") and word == "-m":
            return after
    return program


class _MissingProgramError(click.ClickException):
    exit_code = 127


def _check(environ: Mapping[str, str]) -> None:
    """Raise what the program would run into: it would go on, but without llmspan.

    A store that cannot be reached now is no such error: the program logs it, and tries again.
    """
    from ..backends import load_backends, open_backend
    from ..settings import Settings

    for backend in load_backends(Settings.from_env(environ)):
        open_backend(backend)
        backend.shutdown()


def _choose_exporters(environ: Environ) -> list[str]:
    """Set each ``OTEL_*_EXPORTER``: to OTLP if there is an endpoint and a way to it, else to none."""
    from ..redaction import display_url

    unsent: dict[str, list[str]] = {}
    for name in _SIGNALS:
        variable = f"OTEL_{name}_EXPORTER"
        endpoint = environ.get(f"OTEL_EXPORTER_OTLP_{name}_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        if variable in environ or not endpoint:
            environ.setdefault(variable, "none")
            continue
        missing = _choose_protocol(environ, name)
        environ[variable] = "none" if missing else "otlp"
        if missing:
            unsent.setdefault(f"{display_url(endpoint)}: {missing}", []).append(name.lower())
    return [f'no {", ".join(names)} to {why}; pip install "llmspan[otlp]"' for why, names in unsent.items()]


def _choose_protocol(environ: Environ, name: str) -> str | None:
    """What is missing to export by OTLP; if nothing is, the protocol variable is made to fit what is there."""
    variable = f"OTEL_EXPORTER_OTLP_{name}_PROTOCOL"
    requested = (environ.get(variable) or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "").strip()
    installed = _installed(f"opentelemetry_{name.lower()}_exporter")
    usable = [protocol for protocol, exporter in _EXPORTERS.items() if exporter in installed]
    if not _installed("opentelemetry_configurator"):
        return "opentelemetry-distro is not installed"
    if not usable or requested not in ("", *usable):
        return f"no OTLP exporter {f'for {requested} ' if requested else ''}is installed"
    if not requested and "grpc" not in usable:  # left alone, the SDK would look for grpc
        environ[variable] = usable[0]
    return None


def _installed(group: str) -> set[str]:
    from importlib.metadata import entry_points

    return {entry.name for entry in entry_points(group=group)}


def _python_path(old: str) -> str:
    """As ``opentelemetry-instrument`` does: its ``sitecustomize`` first, then the current directory."""
    from importlib.util import find_spec

    spec = find_spec(_INSTRUMENTATION)
    if spec is None or spec.origin is None:
        raise LlmspanError("opentelemetry-instrumentation is not installed; pip install opentelemetry-instrumentation")
    first = str(Path(spec.origin).parent)
    other_paths = [path for path in old.split(os.pathsep) if path not in ("", first)]
    here = str(Path.cwd())
    return os.pathsep.join([first, *([] if here in other_paths else [here]), *other_paths])


def _exec(command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and what is ignored stays so in the next program
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), environ)  # noqa: S606 - to start what the user names is the job
    except OSError as error:
        raise _MissingProgramError(f"cannot start {command[0]}: {error.strerror}") from error
