"""``llmspan demo``: real SDK calls to a local server, recorded and shown. No key, no network, nothing left behind.

It is what a first minute with llmspan looks like, and a check that the installed SDKs are recorded as they should be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from . import options
from .output import echo

if TYPE_CHECKING:
    from ..trace import ProviderTrace

__all__ = ["demo"]

_PACE: Final = 0.004
#: the call that is shown whole, if it was made
_SHOWN: Final = ("demo-thinking", "demo-response")


@click.command()
@click.option("--keep", is_flag=True, help="Keep the SQLite file and say where it is.")
@options.as_json
def demo(*, keep: bool, as_json: bool) -> None:
    """Record calls to a local server and show them."""
    import shutil
    import tempfile

    sdks = _installed_sdks()
    folder = Path(tempfile.mkdtemp(prefix="llmspan-demo-"))
    try:
        traces = _record(sdks, folder / "traces.db")
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        for trace in traces:
            echo(trace.to_json_line())
        return
    _print(traces, folder / "traces.db" if keep else None)


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


def _record(sdks: Mapping[str, Any], path: Path) -> Sequence[ProviderTrace]:
    from .. import wiring
    from ..demo.server import DemoServer

    wiring.shutdown()  # opentelemetry-instrument and `llmspan run` have set llmspan up before, with other settings
    wiring.instrument(backends="sqlite", sqlite_path=path, content="full", summary=False)
    try:
        with DemoServer(pace=_PACE) as server:
            _make_calls(sdks, server.anthropic_base_url)
        if not wiring.flush():
            raise click.ClickException("the records could not be written in time")
    finally:
        wiring.shutdown()
    return _stored(path)


def _make_calls(sdks: Mapping[str, Any], base_url: str) -> None:
    from ..demo.calls import CALLS
    from ..scope import context

    with context(run_id="demo", agent_id="llmspan-demo"):
        for name, sdk in sdks.items():
            for step, call in CALLS[name].items():
                with context(step_id=step):
                    call(sdk, base_url)


def _stored(path: Path) -> Sequence[ProviderTrace]:
    """The records, the oldest first, with payloads."""
    from ..reader import Reader

    with Reader.from_env(backends="sqlite", sqlite_path=path) as reader:
        listed = list(reader.iterate())[::-1]
        return [trace for record in listed if (trace := reader.get(record.id)) is not None]


def _print(traces: Sequence[ProviderTrace], database: Path | None) -> None:
    from .listing import Listing
    from .render import call, terminal

    console = terminal()
    Listing(console).print_all(traces)
    console.print()
    by_step = {trace.step_id: trace for trace in traces}
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
        "These records are gone again (--keep keeps them). Your own program:",
        "  llmspan run app.py",
        "  llmspan show --last",
    ]
