"""The status of this process as a file, for ``llmspan status``: what was accepted and delivered, and what waits.

A file, and no socket: it takes no thread, crosses forks, and says of a process that hangs what was last known. It is
written by threads that write records anyway, when something has changed, and not more than once a second.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Literal

from .. import _json
from .._clock import monotonic, time_ns
from .._directories import make_private_directory
from .._guard import exception_of
from .._native import allocate_lock
from .._version import __version__
from .dead_letters import default_directory
from .statistics import BackendStatus

__all__ = ["ProcessStatus", "StatusFile", "describe_process", "read_statuses", "status_directory"]

Role = Literal["program", "sidecar"]

#: seconds between two writes
_INTERVAL: Final = 1.0
_SUFFIX: Final = ".json"
#: errors that end by themselves
_PASSING: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EINTR})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """What a process has said of itself. ``written_at`` is nanoseconds since the epoch; sizes are bytes."""

    pid: int
    #: the moment at which the process began, as its system tells it; empty where that does not
    started: str
    #: the machine, and its namespace of process ids
    machine: str
    role: Role
    #: the name of the program, without its arguments
    program: str
    version: str
    written_at: int
    backends: Sequence[BackendStatus]
    waiting_bytes: Mapping[str, int]
    #: senders that are connected to a sidecar
    senders: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The status with plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProcessStatus:
        """The inverse of :meth:`to_dict`; raises :class:`TypeError` or :class:`KeyError` for anything else."""
        if type(values["pid"]) is not int or values["pid"] < 1 or type(values["written_at"]) is not int:
            raise TypeError("pid and written_at are whole numbers")
        members: dict[str, Any] = {**values, "backends": [_backend_status(one) for one in values["backends"]]}
        return cls(**members)


def _backend_status(values: Mapping[str, Any]) -> BackendStatus:
    """The status of a backend; a newer version may say more of it."""
    known_names = {field.name for field in fields(BackendStatus)}
    return BackendStatus(**{name: value for name, value in values.items() if name in known_names})


def status_directory(directory: Path | Literal["off"] | None) -> Path | None:
    """Where status files are, for a value of the setting ``status_dir``; None for none."""
    if directory == "off":
        return None
    chosen = default_directory().with_name("status") if directory is None else directory
    try:
        return chosen.expanduser().absolute()  # the program may go to another directory
    except (RuntimeError, OSError):
        return None


def describe_process(
    role: Role, backends: Sequence[BackendStatus], sizes: Mapping[str, int], senders: int | None = None
) -> ProcessStatus:
    """The status of this process."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    program = spec.name if spec is not None else Path(sys.argv[0] if sys.argv else "").name
    return ProcessStatus(
        pid=os.getpid(), started=_start_of(os.getpid()), machine=_machine(), role=role, program=program[:200],
        version=__version__, written_at=time_ns(), backends=backends, waiting_bytes=sizes, senders=senders,
    )  # fmt: skip


class StatusFile:
    """The file of this process; there is none without a directory. Any thread may call, and none waits for another."""

    def __init__(self, describe: Callable[[], ProcessStatus] | None, directory: Path | None = None) -> None:
        self._describe = describe
        self._directory: Path | None = None
        self.forget()
        self.set_directory(directory)

    def set_directory(self, directory: Path | None) -> None:
        """Have the file there from now on."""
        self._directory = directory
        self._is_broken = directory is None

    def forget(self) -> None:
        """In a forked child: the parent's file stays the parent's."""
        self._lock = allocate_lock()
        self._written_at = -_INTERVAL
        self._is_pending = False

    def update(self) -> None:
        """Something has changed: write it, now or, if a write was less than a second ago, when that is over."""
        self._is_pending = not self._is_broken
        if self._is_pending:
            self.write_pending()

    def write_pending(self) -> None:
        """Write what has changed, if it is time to."""
        is_due = self._is_pending and monotonic() >= self._written_at + _INTERVAL
        if is_due and self._lock.acquire(blocking=False):
            try:
                self._is_pending = False
                self._written_at = monotonic()
                # A place that cannot be written is given up: nobody needs the file to record calls. A disk that is
                # full may have room again.
                error = exception_of(self._write)
                if error is not None and self._directory is not None:
                    exception_of(_temporary(self._directory).unlink)
                self._is_broken = error is not None and getattr(error, "errno", None) not in _PASSING
            finally:
                self._lock.release()

    def delay(self) -> float | None:
        """The seconds after which :meth:`write_pending` has something to do; None if it has not."""
        return max(0.0, self._written_at + _INTERVAL - monotonic()) if self._is_pending else None

    def remove(self) -> None:
        """The process has nothing more to say."""
        directory, self._directory = self._directory, None
        self._is_pending, self._is_broken = False, True
        if directory is not None:
            for path in (_path(directory), _temporary(directory)):
                exception_of(path.unlink)

    def _write(self) -> None:
        directory, describe = self._directory, self._describe
        if directory is None or describe is None:
            return
        make_private_directory(directory)
        temporary = _temporary(directory)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_json.dumps(describe().to_dict()).encode())
        temporary.replace(_path(directory))


def _path(directory: Path) -> Path:
    """The file of this process; containers that share the directory have the same process ids."""
    machine = blake2b(_machine().encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    return directory / f"{os.getpid()}-{machine}{_SUFFIX}"


def _temporary(directory: Path) -> Path:
    return _path(directory).with_suffix(".tmp")


def read_statuses(directory: Path) -> list[ProcessStatus]:
    """The statuses of processes that run on this machine, by process id; files of those that do not are removed.

    Files of other machines, which may share the directory, are left alone.
    """
    statuses = [status for path in sorted(directory.glob(f"*{_SUFFIX}")) for status in _read(path)]
    return sorted(statuses, key=lambda status: status.pid)


def _read(path: Path) -> Iterator[ProcessStatus]:
    try:
        status = ProcessStatus.from_dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return  # it has gone, or another version has written it
    if status.machine != _machine():
        return
    if _is_running(status.pid) and _start_of(status.pid) == status.started:
        yield status
    else:
        for leftover in (path, path.with_suffix(".tmp")):
            exception_of(leftover.unlink)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _start_of(pid: int) -> str:
    """Ticks of the system's clock, which no later process with the same id can have."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # the name of the program, in brackets, may have anything in it


def _machine() -> str:
    try:
        return f"{os.uname().nodename} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return os.uname().nodename
