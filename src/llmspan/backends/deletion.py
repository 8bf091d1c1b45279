"""Deleting many records in steps, the oldest first, so that no step holds up those who write.

A step deletes some of what the filters mean and says how far it has got; the next one begins there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from .base import Filters

__all__ = ["Step", "delete_in_steps"]


class Step(NamedTuple):
    """What a step has done."""

    #: the records that it chose; none: there are no more
    chosen: int
    #: those of them that were still there
    deleted: int
    #: when the newest of them began
    until: int


def delete_in_steps(
    filters: Filters, step: Callable[[Filters], Step], progress: Callable[[int], object] | None = None
) -> int:
    """Call ``step`` until it finds no more; how many records were deleted."""
    total = 0
    while True:
        deleted = step(filters)
        if not deleted.chosen:
            return total
        total += deleted.deleted
        if progress is not None:
            progress(deleted.deleted)
        filters = replace(filters, since=deleted.until)
