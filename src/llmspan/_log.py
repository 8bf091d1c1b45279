"""llmspan's logger. Where the program's threads are greenlets, a line of our own threads is written by a greenlet.

Log handlers have a lock of the program's kind, and gevent's and eventlet's locks are made for one thread of the system:
with a second one, both wait forever or the lock breaks. So the line waits for the next call or the end of the program.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from typing import Final

from ._native import cooperative_sleep, is_own_thread, spawn
from .printable import printable, printable_traceback

__all__ = ["PrintableFilter", "WarningsOnce", "emit_held", "emit_soon", "held_records", "logger"]

#: older lines go first
_MOST_HELD: Final = 1000
#: lines of our own threads that wait for a greenlet to write them
held_records: Final[deque[logging.LogRecord]] = deque(maxlen=_MOST_HELD)


class PrintableFilter(logging.Filter):
    """Makes the arguments and the traceback of a log record printable: they quote providers, servers and programs."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change ``record`` where it has to be, and let it pass."""
        with suppress(Exception):  # from the __str__ of an argument; the handler meets it again and reports it
            if isinstance(record.args, tuple):
                record.args = tuple(map(_printable_argument, record.args))
            error = record.exc_info[1] if record.exc_info else None
            if error is not None:
                record.exc_text = printable_traceback(error)  # formatters take it instead of making their own
        return True


def _printable_argument(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    safe = printable(text)
    return value if safe == text else safe


class _Holding(logging.Filter):
    """Holds the log records of our own threads until a greenlet can write them."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not is_own_thread() or cooperative_sleep() is None:
            return True
        held_records.append(record)
        return False


logger: Final = logging.getLogger("llmspan")
logger.addFilter(PrintableFilter())
logger.addFilter(_Holding())


class WarningsOnce:
    """Warnings of which each is given once, by its owner: a store, or a module."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def warn(self, message: str, *arguments: object, key: str | None = None) -> None:
        """Log ``message``, unless it was logged before, with whatever arguments, or the other that has this ``key``."""
        if (key or message) not in self._given:
            self._given.add(key or message)
            logger.warning(message, *arguments)

    def reset(self) -> None:
        """Give each once more."""
        self._given.clear()


def emit_held() -> None:
    """Write the lines that wait. Takes the locks of the program's handlers: not for whoever ends a call."""
    while held_records:
        with suppress(IndexError):  # another greenlet was faster
            logger.handle(held_records.popleft())


def emit_soon() -> None:
    """Have a greenlet write the lines that wait; returns at once."""
    if held_records and not is_own_thread():
        spawn(emit_held)
