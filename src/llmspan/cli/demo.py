"""``llmspan demo``: real SDK calls to a local server, recorded and shown. No key, no network, nothing left behind.

It is what a first minute with llmspan looks like, and a check that the installed SDKs are recorded as they should be.
With a command, that command's calls go to the local server, and its records where they always go.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from . import options
from .output import echo
from .ui import open_viewer, require_extra

if TYPE_CHECKING:
    import subprocess

    from ..demo.server import DemoServer
    from ..trace import ProviderTrace

__all__ = ["demo"]

_PACE: Final = 0.004
#: the call that is shown whole, if it was made
_SHOWN: Final = ("demo-thinking", "demo-response")


#: \b keeps click from filling the lines
_EXAMPLES: Final = """\b
llmspan demo
llmspan demo --ui
llmspan demo llmspan run app.py
llmspan demo python app.py"""


@click.command(context_settings={"allow_interspersed_args": False}, epilog=_EXAMPLES)
@click.option("--keep", is_flag=True, help="Keep the SQLite file and say where it is.")
@click.option("--ui", "opens_viewer", is_flag=True, help="Show the calls, and a run of an agent, in the viewer.")
@click.option("--serve", is_flag=True, help="Leave the local server running, for a program of yours.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the server of --serve; 0: a free one.")
@options.as_json
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def demo(
    ctx: click.Context,
    *,
    keep: bool,
    opens_viewer: bool,
    serve: bool,
    port: int,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Record calls to a local server and show them.

    With COMMAND, start that instead, with the local server as OpenAI, Anthropic and Gemini: a program can be tried
    without a key. The exit code is the command's.
    """
    if command:
        if keep or as_json or opens_viewer or serve:
            raise click.UsageError("--keep, --ui, --serve and --json are for the demo's own calls, not for a command's")
        ctx.exit(_run(command))
    if as_json and (opens_viewer or serve):
        raise click.UsageError("--json excludes --ui and --serve")
    if opens_viewer:
        require_extra()
    if opens_viewer or serve:
        _end_in_order()
    if serve and not opens_viewer:
        _serve(port)
        return
    with _folder(keep=keep) as folder:
        database = folder / "traces.db"
        if opens_viewer:
            _view(database, port, serve=serve)
            return
        traces = _record(_installed_sdks(), database)
    if as_json:
        for record in traces:
            echo(record.to_json_line())
        return
    _print(traces, database if keep else None)


@contextmanager
def _folder(*, keep: bool) -> Generator[Path]:
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="llmspan-demo-"))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _end_in_order() -> None:
    """SIGTERM ends the program as Ctrl-C does, so that nothing is left behind."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _serve(port: int) -> None:
    """Leave the local server running until Ctrl-C."""
    with _server(port) as server:
        _print_addresses(server)
        echo("Then: llmspan run app.py  (Ctrl-C ends the server)")
        with suppress(KeyboardInterrupt):
            server.wait()


def _view(database: Path, port: int, *, serve: bool) -> None:
    """Show calls and a run of an agent in the viewer until Ctrl-C, with the local server beside it if ``serve``."""
    _record(_installed_sdks(), database, with_agent=True)
    with _server(port) if serve else nullcontext() as server:
        if server is not None:
            _print_addresses(server)
            echo(f"Then: llmspan run --db {database} app.py, whose calls appear in the viewer")
        open_viewer(str(database))


def _server(port: int) -> DemoServer:
    from ..demo.server import DemoServer

    try:
        return DemoServer(port, pace=_PACE)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on port {port}: {error.strerror}; --port 0 takes a free one"
        ) from None


def _print_addresses(server: DemoServer) -> None:
    """What points a program at the server; the SDKs want a key, and any does."""
    echo(f"export OPENAI_BASE_URL={server.openai_base_url} OPENAI_API_KEY=demo")
    echo(f"export ANTHROPIC_BASE_URL={server.anthropic_base_url} ANTHROPIC_API_KEY=demo")
    echo(f"export GOOGLE_GEMINI_BASE_URL={server.anthropic_base_url} GEMINI_API_KEY=demo")


def _run(command: Sequence[str]) -> int:
    """Run ``command`` with the local server as all providers, and return its exit code."""
    import os
    import subprocess

    from ..demo.server import DemoServer

    with DemoServer(pace=_PACE) as server:
        # a proxy of the environment would be asked for 127.0.0.1, and would not find the server there
        hosts = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
        hosts = f"{hosts},127.0.0.1,localhost".lstrip(",")
        environ = {
            **os.environ,
            "NO_PROXY": hosts,
            "no_proxy": hosts,
            "OPENAI_BASE_URL": server.openai_base_url,
            "ANTHROPIC_BASE_URL": server.anthropic_base_url,
            "GOOGLE_GEMINI_BASE_URL": server.anthropic_base_url,
            "OPENAI_API_KEY": "demo",
            "ANTHROPIC_API_KEY": "demo",
            "GEMINI_API_KEY": "demo",
        }
        try:
            process = subprocess.Popen(command, env=environ)
        except OSError as error:
            raise click.ClickException(f"{command[0]} cannot be started: {error.strerror}") from None
        signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
        code = _wait_for(process)
    return 128 - code if code < 0 else code


def _wait_for(process: subprocess.Popen[bytes]) -> int:
    """The exit code; Ctrl-C goes to the program as well, which may need a while to end."""
    while True:
        with suppress(KeyboardInterrupt):
            return process.wait()


def _installed_sdks() -> dict[str, Any]:
    from ..demo.calls import CALLS

    sdks: dict[str, Any] = {}
    for name in CALLS:
        try:
            sdks[name] = import_module(name)
        except ImportError:
            echo(f'{name} is not installed; pip install "llmspan[{name}]"', err=True)
    if not sdks:
        raise click.ClickException("there is no SDK to record")
    return sdks


def _record(sdks: Mapping[str, Any], path: Path, *, with_agent: bool = False) -> Sequence[ProviderTrace]:
    from opentelemetry.sdk.trace import TracerProvider

    from .. import lifecycle
    from ..demo.server import DemoServer

    provider = TracerProvider() if with_agent else None
    lifecycle.shutdown()  # opentelemetry-instrument and `llmspan run` have set llmspan up before, with other settings
    lifecycle.instrument(
        tracer_provider=provider, spans="parents" if with_agent else "off",
        backends="sqlite", sqlite_path=path, capture_payloads="full", summary=False,
    )  # fmt: skip
    try:
        with DemoServer(pace=_PACE) as server:
            _make_calls(sdks, server.anthropic_base_url)
            if provider is not None:
                _run_agent(sdks, server.anthropic_base_url, provider.get_tracer("llmspan-demo"))
        if not lifecycle.flush():
            raise click.ClickException("the records could not be written in time")
    finally:
        lifecycle.shutdown()
    return _stored(path)


def _make_calls(sdks: Mapping[str, Any], base_url: str) -> None:
    from ..call_context import context
    from ..demo.calls import CALLS

    with context(run_id="demo", agent_id="llmspan-demo"):
        for name, sdk in sdks.items():
            for step, call in CALLS[name].items():
                with context(step_id=step):
                    call(sdk, base_url)


def _run_agent(sdks: Mapping[str, Any], base_url: str, tracer: Any) -> None:
    from ..call_context import context
    from ..demo.agent import run_agent

    with context(run_id="demo-agent", agent_id="planner", user_id="ada", conversation_id="packing"):
        run_agent(sdks, base_url, tracer)


def _stored(path: Path) -> Sequence[ProviderTrace]:
    """The records, the oldest first, with payloads."""
    from ..reader import Reader

    with Reader.from_env(backends="sqlite", sqlite_path=path) as reader:
        listed = list(reader.iterate())[::-1]
        return [record for item in listed if (record := reader.get(item.id)) is not None]


def _print(traces: Sequence[ProviderTrace], database: Path | None) -> None:
    from .listing import Listing
    from .render import call, terminal

    console = terminal()
    Listing(console).print_all(traces)
    console.print()
    by_step = {record.step_id: record for record in traces}
    example = next((by_step[step] for step in _SHOWN if step in by_step), traces[-1] if traces else None)
    if example is not None:
        console.print(call(example))
        console.print()
    for hint in _hints(database):
        echo(hint)


def _hints(database: Path | None) -> list[str]:
    if database is not None:
        return [
            f"Kept in {database}; look further:",
            f"  llmspan show --db {database}",
            f"  llmspan stats --db {database}",
        ]
    return [
        "These records are deleted (--keep keeps them). Your own program, without a key:",
        "  llmspan demo llmspan run app.py",
        "and with one:",
        "  llmspan run app.py",
        "  llmspan show --last",
    ]
