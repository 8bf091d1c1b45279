"""``llmspan sidecar``: the receiving end of the socket backend, in the foreground, until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import options
from .output import echo

if TYPE_CHECKING:
    from ..backends.base import Backend
    from ..pipeline import BackendStatus
    from ..sidecar import Sidecar

__all__ = ["sidecar"]


@click.command()
@click.option("--listen", "path", metavar="PATH", help="The socket to make: LLMSPAN_SOCKET.")
@click.option("--backends", metavar="NAMES", help="Where to write, the primary first: LLMSPAN_BACKENDS.")
@click.option("--db", type=options.SQLitePath(), metavar="PATH", help=options.DB_HELP)
@click.option(
    "--allow-uid", type=int, multiple=True, metavar="UID",
    help="A user who may send, besides root and the one this runs as; may be given several times.",
)  # fmt: skip
@click.option("--max-frame", type=click.IntRange(64 * 1024, 2**31), metavar="BYTES", help="The largest record to take.")
@click.option(
    "--max-clients", type=click.IntRange(1), default=1000, show_default=True,
    help="Senders at a time; beyond, the one that has been idle for longest is closed for the new one.",
)  # fmt: skip
def sidecar(
    *,
    path: str | None,
    backends: str | None,
    db: str | None,
    allow_uid: Sequence[int],
    max_frame: int | None,
    max_clients: int,
) -> None:
    """Take records from a socket and store them.

    A record is acknowledged when the first backend has stored it; the others get it by queues of their own. SIGTERM
    and SIGINT end it when all that was taken is written.
    """
    from .._log import PrintableFilter
    from ..backends import open_backends
    from ..backends.socket import DEFAULT_PATH
    from ..backends.socket_protocol import MAX_FRAME
    from ..content import Policy
    from ..settings import Settings
    from ..sidecar import Archive, Sidecar, listen

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    for handler in logging.getLogger().handlers:  # drivers log too
        handler.addFilter(PrintableFilter())
    settings = Settings.from_env(socket=path, backends=backends, sqlite_path=db)
    Policy.from_settings(settings).redact.check()  # a function that is missing would withhold every payload
    stores = open_backends(settings)
    listener = listen(settings.socket or DEFAULT_PATH)
    try:
        _no_circle(stores, listener.path)
        archive = Archive(stores, settings)
        server = Sidecar(
            listener, archive, allowed={0, os.getuid(), *allow_uid}, max_frame=max_frame or MAX_FRAME,
            max_clients=max_clients,
        )  # fmt: skip
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stopping(server))
        where = ", ".join(f"{store.name} ({store.location})" for store in stores)
        echo(f"llmspan: listening at {listener.path}, writing to {where}", err=True)
        server.serve()
    finally:
        listener.close()
    done = archive.close(settings.exit_timeout)
    for status in archive.status():
        echo(f"llmspan: {_told(status)}", err=True)
    if not done and any(status.queued or status.dropped.get("shutdown") for status in archive.status()):
        raise click.ClickException("not everything was written before LLMSPAN_EXIT_TIMEOUT was over")


def _stopping(server: Sidecar) -> Callable[[int, object], None]:
    def stop(number: int, frame: object) -> None:
        del number, frame
        server.stop()

    return stop


def _no_circle(stores: Sequence[Backend], path: Path) -> None:
    from ..errors import SettingsError

    if any(store.name == "socket" and os.path.realpath(store.location) == os.path.realpath(path) for store in stores):
        raise SettingsError(f"the sidecar at {path} would send to itself; name its own stores with --backends")


def _told(status: BackendStatus) -> str:
    counts = {
        "stored": status.delivered,
        "kept as dead letters": status.dead_lettered,
        "left in the spool": status.spooled,
    }
    counts |= {f"dropped ({reason})": number for reason, number in status.dropped.items()}
    return f"{status.backend}: {', '.join(f'{n} {what}' for what, n in counts.items() if n or what == 'stored')}"
