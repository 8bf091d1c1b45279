"""Calls that are left out because the program, or a library in it, has suppressed instrumentation around them.

Suppression is obeyed, but it is easily unintended: a library may suppress around code of the program's. So the first
call that is left out is logged, and all are counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from .._guard import logger

_left_out: Final[Counter[str]] = Counter()


def leave_out(provider: str, operation: str) -> None:
    """Count a call that is not recorded; log the first one."""
    _left_out[provider] += 1
    if _left_out.total() == 1:
        logger.warning(
            "llmspan: a call to %s (%s) is not recorded, as instrumentation is suppressed around it"
            " (suppress_instrumentation()) and no span of the call is open. Further ones are only counted.",
            provider,
            operation,
        )


def suppressed_calls() -> dict[str, int]:
    """How many calls were left out since the process started, by provider."""
    return dict(_left_out)


def forget_suppressed_calls() -> None:
    """Start counting, and logging, anew. For tests."""
    _left_out.clear()
