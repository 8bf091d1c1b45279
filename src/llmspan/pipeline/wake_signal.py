"""How the pipeline's worker waits: until it is woken, or for the time of a linger, so that calls are taken together.

A wake-up costs a program more than a record does: the worker's thread starts with cold caches, and takes the GIL from
the thread that made the call. So a worker that has just worked looks again by itself, after the linger.
"""

from __future__ import annotations

from _queue import Empty, SimpleQueue  # not queue's, which gevent and eventlet replace
from collections.abc import Callable

__all__ = ["WakeSignal"]


class WakeSignal:
    """Any thread wakes, one waits. Neither takes a lock that a greenlet may hold."""

    def __init__(self) -> None:
        self._signals: SimpleQueue[None] = SimpleQueue()
        #: whether the worker looks soon without being woken
        self.lingers = False

    def wake(self) -> None:
        """End the worker's wait, or the next one."""
        if self._signals.empty():  # else the worker has yet to look, and will find this too
            self._signals.put(None)

    def wait(self, seconds: float, has_work: Callable[[], bool]) -> None:
        """Return when woken, or after ``seconds`` if there is work; without work, wait until woken.

        The first call after a pause wakes the worker at once; calls that follow it within ``seconds`` do not.
        """
        if seconds > 0 and self._linger(seconds):
            return
        if not has_work():  # who came while the worker lingered has not woken it
            self._signals.get()

    def _linger(self, seconds: float) -> bool:
        """Whether the worker was woken within ``seconds``."""
        self.lingers = True
        try:
            self._signals.get(timeout=seconds)
        except Empty:
            return False
        finally:
            self.lingers = False
        return True
