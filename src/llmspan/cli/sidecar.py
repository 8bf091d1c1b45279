"""``llmspan sidecar``: the receiving end of the socket backend, in the foreground, until SIGTERM or SIGINT.

Signals are handled before anything slow happens: a sidecar that is stopped while it starts has accepted nothing, so it
ends at once with exit code 0.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import options
from .output import echo

if TYPE_CHECKING:
    from ..backends.base import Backend
    from ..pipeline import BackendStatus
    from ..settings import Settings
    from ..sidecar import RecordStore, Sidecar

__all__ = ["sidecar"]


@click.command()
@click.option("--listen", "path", metavar="PATH", help="The socket to make: LLMSPAN_SOCKET.")
@click.option("--backends", metavar="NAMES", help="Where to write, the primary first: LLMSPAN_BACKENDS.")
@click.option("--db", type=options.SQLitePath(), metavar="PATH", help=options.DB_HELP)
@click.option(
    "--allow-uid", type=int, multiple=True, metavar="UID",
    help="A user who may send, besides root and the one this runs as; may be given several times.",
)  # fmt: skip
@click.option(
    "--max-frame", type=click.IntRange(64 * 1024, 2**31), metavar="BYTES", help="The largest record to accept."
)
@click.option(
    "--max-clients", type=click.IntRange(1), default=1000, show_default=True,
    help="Senders at a time; beyond that, the longest idle one is closed.",
)  # fmt: skip
@click.option(
    "--metrics-port", type=click.IntRange(0, 65_535), metavar="PORT",
    help="Serve /metrics (Prometheus' text) and /healthz there; 0 chooses a free port.",
)  # fmt: skip
@click.option("--metrics-host", default="127.0.0.1", show_default=True, metavar="HOST", help="At this address.")
def sidecar(
    *,
    path: str | None,
    backends: str | None,
    db: str | None,
    allow_uid: Sequence[int],
    max_frame: int | None,
    max_clients: int,
    metrics_port: int | None,
    metrics_host: str,
) -> None:
    """Receive records on a socket and store them.

    A record is acknowledged when the first backend has stored it; the others get it by queues of their own. SIGTERM
    and SIGINT end it when all that was taken is written.
    """
    signals = _StopSignals()
    with signals.exiting():  # imports and connections may take seconds
        from ..backends.socket.backend import DEFAULT_PATH
        from ..backends.socket.protocol import MAX_FRAME
        from ..sidecar import RecordStore, Sidecar, bind_socket

        _set_up_logging()
        settings, stores = _prepare(path, backends, db)
    listener = bind_socket(settings.socket or DEFAULT_PATH)
    try:
        _reject_self_reference(stores, listener.path)
        record_store = RecordStore(stores, settings)
        server = Sidecar(
            listener, record_store, allowed={0, os.getuid(), *allow_uid}, max_frame=max_frame or MAX_FRAME,
            max_clients=max_clients,
        )  # fmt: skip
        signals.call(server.stop)
        where = ", ".join(f"{store.name} ({store.location})" for store in stores)
        observing = _observing(server, record_store, settings, metrics_host, metrics_port)
        with server.stopping_at_signals(), observing as port:
            metrics = "" if port is None else f", metrics at http://{metrics_host}:{port}/metrics"
            echo(f"llmspan: listening at {listener.path}, writing to {where}{metrics}", err=True)
            server.serve()
    finally:
        listener.close()
    is_complete = record_store.close(settings.exit_timeout)
    for status in record_store.status():
        echo(f"llmspan: {_format_status(status)}", err=True)
    if not is_complete and any(status.queued or status.dropped.get("shutdown") for status in record_store.status()):
        raise click.ClickException("LLMSPAN_EXIT_TIMEOUT passed before everything was written")


@contextmanager
def _observing(
    server: Sidecar, record_store: RecordStore, settings: Settings, host: str, port: int | None
) -> Generator[int | None]:
    """Keep the status file, and serve metrics if there is a port for them."""
    from ..pipeline.status_file import ProcessStatus, describe_process, status_directory
    from ..sidecar.metrics_server import publish_file, serve_metrics

    def describe() -> ProcessStatus:
        return describe_process("sidecar", record_store.status(), record_store.sizes(), server.sender_count)

    address = None if port is None else (host, port)
    with publish_file(status_directory(settings.status_dir), describe), serve_metrics(address, describe) as bound:
        yield bound


def _set_up_logging() -> None:
    from .._log import PrintableFilter

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    for handler in logging.getLogger().handlers:  # drivers log too
        handler.addFilter(PrintableFilter())


def _prepare(path: str | None, backends: str | None, db: str | None) -> tuple[Settings, list[Backend]]:
    """The settings, and the backends that they name, opened."""
    from ..backends import open_backends
    from ..content import ContentPolicy
    from ..settings import Settings

    settings = Settings.from_env(socket=path, backends=backends, sqlite_path=db)
    ContentPolicy.from_settings(settings).redact.check()  # a function that is missing would withhold every payload
    return settings, open_backends(settings)


class _StopSignals:
    """SIGTERM and SIGINT from its construction on: an exit inside :meth:`exiting`, else the stop of the server.

    A signal that comes before there is a server stops it as soon as there is one.
    """

    def __init__(self) -> None:
        self._exits = False
        self._is_set = False
        self._stop: Callable[[], None] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    @contextmanager
    def exiting(self) -> Generator[None]:
        """End the process with exit code 0 at a signal."""
        self._exits = True
        try:
            yield
        finally:
            self._exits = False

    def call(self, stop: Callable[[], None]) -> None:
        """Call ``stop`` at a signal, and now if there has been one."""
        self._stop = stop
        if self._is_set:
            stop()

    def _handle(self, number: int, frame: object) -> None:
        del number, frame
        self._is_set = True
        if self._stop is not None:
            self._stop()
        elif self._exits:
            raise SystemExit(0)


def _reject_self_reference(stores: Sequence[Backend], path: Path) -> None:
    from ..errors import SettingsError

    if any(store.name == "socket" and os.path.realpath(store.location) == os.path.realpath(path) for store in stores):
        raise SettingsError(f"the sidecar at {path} would send to itself; name its own stores with --backends")


def _format_status(status: BackendStatus) -> str:
    counts = {
        "stored": status.delivered,
        "kept as dead letters": status.dead_lettered,
        "left in the spool": status.spooled,
    }
    counts |= {f"dropped ({reason})": number for reason, number in status.dropped.items()}
    return f"{status.backend}: {', '.join(f'{n} {what}' for what, n in counts.items() if n or what == 'stored')}"
