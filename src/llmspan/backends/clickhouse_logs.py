"""The driver's own log lines, left out while it talks for us: what went wrong is told once, by us, with the remedy.

Only lines of our threads are left out, and only inside :func:`quiet`; a program's own use of the driver logs as ever.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

__all__ = ["quiet"]

#: a filter holds for the very logger that a line comes from: these warn of each connection that fails
_LOGGERS: Final = (
    "urllib3.connectionpool",
    "clickhouse_connect.driver.httpclient",
    "clickhouse_connect.driver._backend.http_sync",
)


class _Quiet(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.depth = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - logging's signature
        return not getattr(self.depth, "value", 0)


_filter: Final = _Quiet()


@contextmanager
def quiet() -> Generator[None]:
    """No line of the driver inside the block, from this thread."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_filter)  # one that is there already is not added again
    before = getattr(_filter.depth, "value", 0)
    _filter.depth.value = before + 1
    try:
        yield
    finally:
        _filter.depth.value = before
