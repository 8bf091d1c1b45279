"""Process shutdown hooks: one function that is called at each end of a process that Python reports.

No signal handler: signals are the program's. What ends on SIGTERM in an orderly way (gunicorn, Celery, uvicorn) comes
by here; what is killed does not, and for that there is the spool. Why: docs/decisions/0008-no-signal-handlers.md.
"""

from __future__ import annotations

import atexit
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from weakref import WeakSet

import wrapt

from .._guard import exception_of, guarded

__all__ = ["register_exit_hook"]


def register_exit_hook(function: Callable[[], None], flush: Callable[[], object]) -> None:
    """Have ``function`` called before this process ends, and before any that is forked from it does.

    ``flush`` is called where the process probably ends: it may be called several times, and the program may go on.
    """
    atexit.register(function)
    ends = _ExitHooks(function, flush)
    wrapt.register_post_import_hook(ends.watch_multiprocessing, "multiprocessing.util")
    wrapt.register_post_import_hook(ends.watch_celery, "celery.signals")
    wrapt.register_post_import_hook(ends.watch_uvicorn, "uvicorn.server")


class _ExitHooks:
    """Children that leave by ``os._exit``, past ``atexit``, once their own framework has told its listeners."""

    def __init__(self, function: Callable[[], None], flush: Callable[[], object]) -> None:
        self._function = function
        self._flush = flush
        #: uvicorn's servers that have entered our ``capture_signals``
        self._servers: WeakSet[Any] = WeakSet()

    def watch_multiprocessing(self, module: Any) -> None:
        """A forked child forgets its parent's finalizers before it runs: register ours after that."""

        def register(ends: _ExitHooks) -> None:
            module.Finalize(None, _call_after_threads, args=(ends._function,), exitpriority=0)

        module.register_after_fork(self, register)
        from multiprocessing.process import parent_process  # it is there: ``module`` imports it

        if parent_process() is not None:  # set up in a child, by its function or by the initializer of a pool
            register(self)

    def watch_celery(self, module: Any) -> None:
        """A pool process of Celery (prefork) is about to go."""
        module.worker_process_shutdown.connect(self._on_celery, weak=False)

    def _on_celery(self, **_: Any) -> None:
        self._function()

    def watch_uvicorn(self, module: Any) -> None:
        """Its server, when it has shut down, raises the signal that it got again, which ends the process at once."""
        capture_signals = getattr(module.Server, "capture_signals", None)
        if capture_signals is None:  # before 0.29 it returned, and the process came to its end
            return

        @contextmanager
        def capture_and_end(server: Any) -> Generator[None]:
            self._servers.add(server)
            before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
            with capture_signals(server):
                yield
                if any(before.get(number) is signal.SIG_DFL for number in getattr(server, "_captured_signals", ())):
                    guarded("pipeline.exit", self._function)

        module.Server.capture_signals = wraps(capture_signals)(capture_and_end)
        self._watch_shutdown(module.Server)

    def _watch_shutdown(self, server_class: Any) -> None:
        shutdown = getattr(server_class, "shutdown", None)
        if shutdown is None:
            return

        # The server imports the application inside of ``capture_signals``: where that sets us up, the wrapper above
        # comes too late for it. Which handlers it will restore is not known then, so the program may go on.
        async def shut_down_and_flush(server: Any, *args: Any, **kwargs: Any) -> None:
            await shutdown(server, *args, **kwargs)
            if server not in self._servers and getattr(server, "_captured_signals", ()):
                guarded("pipeline.exit", self._flush)

        server_class.shutdown = wraps(shutdown)(shut_down_and_flush)


def _call_after_threads(function: Callable[[], None]) -> None:
    """Call ``function`` now or, if threads still run, after them: a child's finalizers come before the wait for those.

    That wait is then for the thread, too, which does so.
    """
    if not _other_threads():
        function()
        return

    def wait() -> None:
        while threads := _other_threads():
            threads[0].join()
        function()

    if exception_of(threading.Thread(target=wait, name="llmspan-exit", daemon=False).start) is not None:
        function()  # the system is out of threads: better early than never


def _other_threads() -> list[threading.Thread]:
    """The threads that Python waits for, other than this one."""
    excluded = (threading.main_thread(), threading.current_thread())
    return [thread for thread in threading.enumerate() if not thread.daemon and thread not in excluded]
