"""llmspan's logger. Where the program's threads are greenlets, a line of our own threads is written by a greenlet.

Log handlers have a lock of the program's kind, and gevent's and eventlet's locks are made for one thread of the system:
with a second one, both wait for ever or the lock breaks. So the line waits for the next call or the end of the program.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from typing import Final

from ._native import cooperative_sleep, is_own_thread, spawn

__all__ = ["emit_held", "emit_soon", "logger"]

#: older lines go first
_MOST_HELD: Final = 1000


class _Holding(logging.Filter):
    """Keeps back what a thread of ours logs, until a greenlet can write it."""

    def __init__(self) -> None:
        super().__init__()
        self.held: deque[logging.LogRecord] = deque(maxlen=_MOST_HELD)

    def filter(self, record: logging.LogRecord) -> bool:
        if not is_own_thread() or cooperative_sleep() is None:
            return True
        self.held.append(record)
        return False


_holding: Final = _Holding()
logger: Final = logging.getLogger("llmspan")
logger.addFilter(_holding)


def emit_held() -> None:
    """Write the lines that wait. Takes the locks of the program's handlers: not for whoever ends a call."""
    while _holding.held:
        with suppress(IndexError):  # another greenlet was faster
            logger.handle(_holding.held.popleft())


def emit_soon() -> None:
    """Have a greenlet write the lines that wait; returns at once."""
    if _holding.held and not is_own_thread():
        spawn(emit_held)
