"""Drivers' own log lines, left out while they work for us: what went wrong is logged once, by us, with the remedy.

Only lines of our threads are left out, and only inside :func:`quiet`; a program's own use of a driver logs as ever. A
driver's lines, at DEBUG in particular, quote what servers say, which may repeat a password.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

__all__ = ["quiet"]

#: a filter holds for the very logger that a line comes from: these log connections, and what servers answer
_LOGGERS: Final = (
    "urllib3.connectionpool",
    "urllib3.util.retry",
    "clickhouse_connect.driver.client",
    "clickhouse_connect.driver.httpclient",
    "clickhouse_connect.driver._backend.http_sync",
    "clickhouse_connect.driver._backend.httpcommon",
    "clickhouse_connect.driver._backend.orchestration",
    "psycopg",
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
    """No line of a driver inside the block, from this thread."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_filter)  # one that is there already is not added again
    before = getattr(_filter.depth, "value", 0)
    _filter.depth.value = before + 1
    try:
        yield
    finally:
        _filter.depth.value = before
