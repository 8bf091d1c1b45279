"""The one way in which tests wait for what other threads, processes and servers bring about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

#: seconds; a machine with other work to do is slow
PATIENCE: Final = 300.0


def until(holds: Callable[[], object], failure: str | Callable[[], str] = "it did not come to hold") -> None:
    """Look again until ``holds``; fail with ``failure`` when patience ends."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, failure if isinstance(failure, str) else failure()
        time.sleep(0.005)
