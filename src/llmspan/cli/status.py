"""``llmspan status``: what the processes of this machine have recorded, delivered and lost, and what waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .._clock import SECOND, time_ns
from .output import echo

if TYPE_CHECKING:
    from ..pipeline.status_file import ProcessStatus

__all__ = ["status"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one process per line.")
@click.option("--prometheus", is_flag=True, help="Print Prometheus' text format, as for its textfile collector.")
def status(*, as_json: bool, prometheus: bool) -> None:
    """Show the processes that record calls now.

    They are those of this user, and the sidecar. A process is here from its first call until it ends. Its numbers are a
    second old at most while calls are recorded.
    """
    from .. import _json
    from ..pipeline.prometheus import prometheus_text
    from ..pipeline.status_file import read_statuses, status_directory
    from ..settings import Settings

    if as_json and prometheus:
        raise click.UsageError("give --json or --prometheus")
    directory = status_directory(Settings.from_env().status_dir)
    if directory is None:
        raise click.ClickException("LLMSPAN_STATUS_DIR=off: no process says how it is")
    if directory.exists() and not directory.is_dir():
        raise click.ClickException(f"LLMSPAN_STATUS_DIR={directory}: that is no directory; set it to one, or to off")
    statuses = read_statuses(directory)
    if prometheus:
        for line in prometheus_text(statuses).removesuffix("\n").split("\n"):
            echo(line)
    elif as_json:
        for process in statuses:
            echo(_json.dumps(process.to_dict()))
    elif statuses:
        _print(statuses)
    else:
        echo(f"no process records calls now (none has a status in {directory})", err=True)


def _print(statuses: Sequence[ProcessStatus]) -> None:
    for process in statuses:
        age = max(0, time_ns() - process.written_at) // SECOND
        senders = "" if process.senders is None else f", {process.senders} senders"
        name = f"{process.role} {process.program}".rstrip()
        echo(f"{process.pid} {name}, llmspan {process.version}{senders}, {age} s ago")
        for backend in process.backends:
            counts = {
                "accepted": backend.accepted, "delivered": backend.delivered, "queued": backend.queued,
                "spooled": backend.spooled, "dead-lettered": backend.dead_lettered,
            }  # fmt: skip
            counts |= {f"dropped ({reason})": number for reason, number in backend.dropped.items()}
            shown = ", ".join(f"{number} {name}" for name, number in counts.items() if number or name == "delivered")
            echo(f"  {backend.backend} ({backend.location}): {shown}")
            if backend.breaker != "closed":
                echo(f"    {backend.breaker.replace('_', ' ')}: {backend.last_error or 'no reason is known'}")
