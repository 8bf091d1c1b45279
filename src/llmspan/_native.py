"""Locks, threads and waits that keep working when gevent or eventlet replaces those of the standard library.

A lock made before the replacement belongs to the operating system's threads, one made after it to greenlets, and either
blocks forever when the other kind waits for it. Our workers are threads of the system in any case, and share only
locks of the system with the program. No greenlet switch may happen under such a lock: so nothing under it starts a
thread, waits, logs or does I/O. Whoever ends a call takes none of them, but leaves its work to the thread inside.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from importlib.machinery import BuiltinImporter, PathFinder
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any, Final

__all__ = [
    "Condition",
    "Event",
    "Lock",
    "SerialExecutor",
    "Thread",
    "allocate_lock",
    "cooperative_sleep",
    "get_ident",
    "is_own_thread",
    "local",
    "original_module",
    "spawn",
]


def original_module(name: str) -> Any:
    """A copy of a module that is written in C: what was replaced in the module itself is original in it."""
    spec = BuiltinImporter.find_spec(name) or PathFinder.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"the interpreter has no module {name}", name=name)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_thread: Final = original_module("_thread")
monotonic: Final[Callable[[], float]] = original_module("time").monotonic

#: a lock of the operating system
allocate_lock: Final[Callable[[], Any]] = _thread.allocate_lock
#: the thread of the operating system that runs, also for a greenlet
get_ident: Final[Callable[[], int]] = _thread.get_ident
#: attributes for each thread of the operating system
local: Final[Any] = _thread._local

#: seconds between two looks of a greenlet at what another thread is to finish
_POLL_SECONDS: Final = 0.002


def cooperative_sleep() -> Callable[[float], object] | None:
    """The ``sleep`` that lets other greenlets run, if the program's threads, or its sockets, are greenlets now."""
    monkey: ModuleType | Any = sys.modules.get("gevent.monkey")
    if monkey is not None and any(map(monkey.is_module_patched, ("threading", "socket", "time"))):
        return sys.modules["gevent"].sleep
    patcher: ModuleType | Any = sys.modules.get("eventlet.patcher")
    if patcher is not None and any(map(patcher.is_monkey_patched, ("thread", "socket", "time"))):
        return sys.modules["eventlet"].sleep
    return None


def spawn(function: Callable[[], object]) -> None:
    """Have ``function`` called by a greenlet of its own, later; now, if the program has no greenlets."""
    if cooperative_sleep() is None:
        function()
    elif "gevent.monkey" in sys.modules and sys.modules["gevent"].sleep is cooperative_sleep():
        sys.modules["gevent"].spawn(function)
    else:
        sys.modules["eventlet"].spawn_n(function)


class Condition:
    """``threading.Condition`` for threads of the operating system: its waits are never a greenlet's.

    Whoever calls a method has :attr:`lock`.
    """

    def __init__(self) -> None:
        self.lock = allocate_lock()
        self._waiters: list[Any] = []

    @property
    def is_awaited(self) -> bool:
        """Whether a thread waits."""
        return bool(self._waiters)

    def wait(self, timeout: float | None = None) -> None:
        """Release the lock until :meth:`notify_all`, or for ``timeout`` seconds."""
        waiter = allocate_lock()
        waiter.acquire()
        self._waiters.append(waiter)
        self.lock.release()
        try:
            _acquire(waiter, timeout)
        finally:
            self.lock.acquire()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until ``predicate`` holds, or for ``timeout`` seconds; whether it holds."""
        deadline = None if timeout is None else monotonic() + timeout
        while not predicate():
            remaining = None if deadline is None else deadline - monotonic()
            if remaining is not None and remaining <= 0:
                return False
            self.wait(remaining)
        return True

    def notify_all(self) -> None:
        """Wake all who wait."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.release()


class Event:
    """Set by one of our threads, awaited by the program: a greenlet that waits lets the others run."""

    def __init__(self) -> None:
        self._is_set = False
        self._changed = Condition()

    def is_set(self) -> bool:
        """Whether :meth:`set` was called."""
        return self._is_set

    def set(self) -> None:
        """Wake all who wait, now and later."""
        with self._changed.lock:
            self._is_set = True
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for ``timeout`` seconds; whether it is set."""
        sleep = None if is_own_thread() else cooperative_sleep()
        if sleep is None:
            with self._changed.lock:
                return self._changed.wait_for(self.is_set, timeout)
        deadline = None if timeout is None else monotonic() + timeout
        while not self._is_set and (deadline is None or monotonic() < deadline):
            sleep(_POLL_SECONDS)
        return self._is_set


class Lock:
    """A lock for the program: a greenlet that waits for it lets others run, so it may be held across their switches."""

    def __init__(self) -> None:
        self._lock = allocate_lock()

    def acquire(self, timeout: float | None = None) -> bool:
        """Take it, waiting up to ``timeout`` seconds; whether it was taken."""
        if self._lock.acquire(blocking=False):
            return True
        sleep = None if is_own_thread() else cooperative_sleep()
        if sleep is None:
            return _acquire(self._lock, timeout)
        deadline = None if timeout is None else monotonic() + timeout
        while not self._lock.acquire(blocking=False):
            if deadline is not None and monotonic() > deadline:
                return False
            sleep(_POLL_SECONDS)
        return True

    def release(self) -> None:
        """Release it."""
        self._lock.release()

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._lock.locked()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class SerialExecutor:
    """Runs functions one at a time, in their order; a caller that finds a thread inside leaves its function to it.

    So it can be called by a greenlet, a signal handler or a finaliser, also while the same thread is inside. The
    functions are a few lines that raise nothing.
    """

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._functions: deque[Callable[[], object]] = deque()

    def execute(self, function: Callable[[], object]) -> None:
        """Have ``function`` called, by this thread or by the one that is inside."""
        self._functions.append(function)
        self._run_while_free()

    def __enter__(self) -> None:
        """Wait for the thread that is inside, and keep others out. Not for whoever ends a call."""
        self._lock.acquire()
        while self._functions:
            self._functions.popleft()()

    def __exit__(self, *_: object) -> None:
        """Leave, and run the functions that were left to this thread."""
        self._lock.release()
        if self._functions:
            self._run_while_free()

    def _run_while_free(self) -> None:
        # The second look comes after the lock is free: a function that came before it would not run.
        functions, lock = self._functions, self._lock
        while functions and lock.acquire(False):
            try:
                while functions:
                    functions.popleft()()
            finally:
                lock.release()


class Thread:
    """A thread of the operating system that runs ``function``, started at once. It does not keep the program alive."""

    def __init__(self, function: Callable[[], None], name: str) -> None:
        self._function = function
        self._ended = Event()
        self._thread: threading.Thread | None = None
        if cooperative_sleep() is None:
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()
        else:  # its start() would switch to other greenlets, and make another greenlet
            _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        _own.is_own = True
        try:
            self._function()
        finally:
            self._ended.set()
        if self._thread is not None and cooperative_sleep() is not None:
            # threading's own books are kept by greenlets since this thread began, and its last lines there would fail
            forever = allocate_lock()
            forever.acquire()
            forever.acquire()

    def join(self, timeout: float) -> bool:
        """Wait for its end; whether it has ended."""
        deadline = monotonic() + timeout
        if self._ended.wait(timeout) and self._thread is not None and cooperative_sleep() is None:
            self._thread.join(max(0.0, deadline - monotonic()))
        return self._ended.is_set()


class _Own(local):
    is_own = False


_own: Final = _Own()


def is_own_thread() -> bool:
    """Whether this code runs on a :class:`Thread`."""
    return _own.is_own


def _acquire(lock: Any, timeout: float | None) -> bool:
    if timeout is None:
        return lock.acquire()
    return lock.acquire(True, min(max(0.0, timeout), _thread.TIMEOUT_MAX))
