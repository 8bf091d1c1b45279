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


def is_listening(path: Path) -> bool:
    """Whether a server takes connections there: its socket is there a moment before it does."""
    connection = Unix(path)
    try:
        connection.connect()
    except OSError:
        return False
    finally:
        connection.close()
    return True


def get(path: Path, step: str) -> bool:
    """Ask for one call; whether it was made."""
    try:
        return _answer(path, step) == b"done"
    except OSError:
        return False


def ask(path: Path, names: list[str]) -> None:
    """Ask for many calls at once; all have to be made."""
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda name: _answer(path, name), names)) == {b"done"}


def _answer(path: Path, step: str) -> bytes:
    connection = Unix(path)
    try:
        connection.request("GET", f"/{step}")
        return connection.getresponse().read()
    finally:
        connection.close()
