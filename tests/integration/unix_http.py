"""Asks a server at a Unix socket, which needs no free port, for calls."""

from __future__ import annotations

import http.client
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PATIENCE = 120.0


class Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket: no port to be found free."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


def get(path: Path, step: str) -> bool:
    """Ask for one call; whether it was made."""
    connection = Unix(path)
    try:
        connection.request("GET", f"/{step}")
        return connection.getresponse().read() == b"done"
    except OSError:
        return False
    finally:
        connection.close()


def ask(path: Path, names: list[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda name: get(path, name), names))
