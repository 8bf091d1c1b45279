"""``llmspan sidecar --metrics-port``: Prometheus' text and a health check over HTTP, and the sidecar's status file.

Both say what :meth:`RecordStore.status` says. The server answers GET of two paths and nothing else; it listens on the
loopback address unless told otherwise, as it asks nobody for a password.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from .._log import logger
from ..errors import SettingsError
from ..pipeline.prometheus import CONTENT_TYPE, prometheus_text
from ..pipeline.status_file import ProcessStatus, StatusFile

__all__ = ["publish_file", "serve_metrics"]

_SECONDS_BETWEEN_FILES: Final = 1.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - socketserver's
        """A client has hung up, or was not understood: no news for the log of a sidecar."""
        logger.debug("a request for metrics of %s failed", client_address, exc_info=True)


@contextmanager
def serve_metrics(address: tuple[str, int] | None, describe: Callable[[], ProcessStatus]) -> Generator[int | None]:
    """Serve ``/metrics`` and ``/healthz`` at ``address`` during the block; gives the port, None without an address.

    Raises:
        SettingsError: nothing can be served there.
    """
    if address is None:
        yield None
        return
    try:
        server = _Server(address, _handler(describe))
    except (OSError, OverflowError) as error:
        raise SettingsError(f"--metrics-port {address[1]}: {error}; choose another port or --metrics-host") from error
    threading.Thread(target=server.serve_forever, name="llmspan-metrics", daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def publish_file(directory: Path | None, describe: Callable[[], ProcessStatus]) -> Generator[None]:
    """Keep the status file of this process up to date during the block, and remove it at its end."""
    if directory is None:
        yield
        return
    file, stopped = StatusFile(describe, directory), threading.Event()

    def run() -> None:
        while True:
            file.update()
            if stopped.wait(_SECONDS_BETWEEN_FILES):
                return

    thread = threading.Thread(target=run, name="llmspan-status", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        file.remove()


def _handler(describe: Callable[[], ProcessStatus]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, CONTENT_TYPE, prometheus_text([describe()]))
            elif path == "/healthz":
                failing = {one.backend: one.last_error for one in describe().backends if one.breaker == "open"}
                text = json.dumps({"status": "failing" if failing else "ok", "failing": failing}) + "\n"
                self._answer(503 if failing else 200, "application/json", text)
            else:
                self._answer(404, "text/plain; charset=utf-8", "there are /metrics and /healthz\n")

        def _answer(self, code: int, kind: str, text: str) -> None:
            body = text.encode("utf-8", "replace")
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of http.server
            """Nothing: a scrape every few seconds is no news."""

    return Handler
