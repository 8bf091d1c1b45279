"""The socket file: made private, taken over only from the dead, and removed at the end.

A lock file beside it, held for life, decides which sidecar may: two that start at the same time cannot both conclude
that the socket of a third is stale. systemd can hand over a socket instead (``LISTEN_FDS``); then it owns the file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from .._directories import make_private_directory
from .._guard import logger
from ..errors import SettingsError

__all__ = ["Listener", "bind_socket"]

_SOCKET_MODE: Final = 0o660
_DIRECTORY_MODE: Final = 0o750
#: who connects while others are being accepted waits here: all workers of a host may start at once
_BACKLOG: Final = 1024
_FIRST_PASSED: Final = 3


class Listener:
    """A listening socket at ``path``."""

    def __init__(self, path: Path, opened: socket.socket, lock: int | None) -> None:
        self.path = path
        self.socket = opened
        self._lock = lock
        self._identity = _identity(path)

    def close(self) -> None:
        """Stop listening; the file goes too, if it is still ours."""
        self.socket.close()
        if self._lock is None:
            return
        if self._identity is not None and _identity(self.path) == self._identity:
            with suppress(OSError):
                self.path.unlink()
        with suppress(OSError):
            _lock_file(self.path).unlink()
        os.close(self._lock)
        self._lock = None


def bind_socket(path: Path, environ: MutableMapping[str, str] = os.environ) -> Listener:
    """Listen at ``path``, or on the socket that systemd has opened.

    Raises:
        SettingsError: a process listens there already, or no socket can be made there.
    """
    passed_socket = _passed(environ)
    if passed_socket is not None:
        return Listener(Path(passed_socket.getsockname()), passed_socket, lock=None)
    path = path.absolute()
    if len(os.fsencode(path)) > 107:
        raise _wrong(path, f"the path has {len(os.fsencode(path))} bytes, and the system takes 107")
    try:
        _make_directory(path.parent)
        lock = _locked(path)
        try:
            _make_room(path)
            return Listener(path, _bound(path), lock)
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        raise _wrong(path, f"{error.strerror or error}") from error


def _passed(environ: MutableMapping[str, str]) -> socket.socket | None:
    """The socket of systemd's protocol, whose variables are not settings of ours, and not for our children."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = environ.pop("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    if count != "1":
        raise SettingsError(f"LISTEN_FDS={count}: expected one socket from systemd; give the unit one ListenStream=")
    passed_socket = socket.socket(fileno=_FIRST_PASSED)
    if passed_socket.family != socket.AF_UNIX or passed_socket.type != socket.SOCK_STREAM:
        raise SettingsError("LISTEN_FDS: the socket from systemd is no Unix stream socket; ListenStream= takes a path")
    os.set_inheritable(_FIRST_PASSED, False)
    return passed_socket


def _make_directory(directory: Path) -> None:
    make_private_directory(directory, _DIRECTORY_MODE)
    if directory.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
        logger.warning(
            "llmspan: every user may write to %s and replace the socket there; remove that permission (chmod o-w)",
            directory,
        )


def _locked(path: Path) -> int:
    """The descriptor of the lock file, locked. Who held it before may remove it between our steps: look again."""
    name = _lock_file(path)
    while True:
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _identity(name) == _identity_of(os.fstat(lock)):
                return lock
        except BlockingIOError:
            os.close(lock)
            raise _wrong(path, "another sidecar listens there; stop it, or give this one another path") from None
        os.close(lock)


def _make_room(path: Path) -> None:
    """Remove a socket that no process listens on any more; leave all else as it is."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise _wrong(path, "there is a file that is no socket; it is left as it is")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(str(path))
    if code != errno.ECONNREFUSED:
        raise _wrong(path, "another program listens there; stop it, or give the sidecar another path")
    path.unlink()


def _bound(path: Path) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~_SOCKET_MODE)
    try:
        opened.bind(str(path))
        opened.listen(_BACKLOG)
    except BaseException:
        opened.close()
        raise
    finally:
        os.umask(before)
    return opened


def _lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        return _identity_of(path.lstat())
    except OSError:
        return None


def _identity_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _wrong(path: Path, reason: str) -> SettingsError:
    return SettingsError(f"cannot listen at {path}: {reason}")
