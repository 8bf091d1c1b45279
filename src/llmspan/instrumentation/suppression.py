"""Calls that are not recorded because the program, or a library in it, has suppressed instrumentation around them.

Suppression may be unintended: a library may suppress instrumentation around code of the program. So the first such call
is logged, and all are counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from .._guard import logger

_suppressed: Final[Counter[str]] = Counter()


def count_suppressed_call(provider: str, operation: str) -> None:
    """Count a call that is not recorded; log the first one."""
    _suppressed[provider] += 1
    if _suppressed.total() == 1:
        logger.warning(
            "llmspan: a call to %s (%s) is not recorded because instrumentation is suppressed"
            " (suppress_instrumentation()) and no span of the call is open. Further ones are only counted.",
            provider,
            operation,
        )


def suppressed_calls() -> dict[str, int]:
    """The number of suppressed calls since the process started, by provider."""
    return dict(_suppressed)


def reset_suppressed_calls() -> None:
    """Reset the counts, and log the next suppressed call. For tests."""
    _suppressed.clear()
