"""What a backend may offer so that sums over many records take less time; no backend has to.

A store that is asked in SQL reads each row once for sums and latencies, and answers two threads at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

from .base import Filters, GroupBy, StatsRow

__all__ = ["SupportsJointStats", "SupportsParallelReads"]


@runtime_checkable
class SupportsJointStats(Protocol):
    """A backend that computes sums, latencies and rates of groups in one scan."""

    def stats_with_measures(self, group_by: Sequence[GroupBy], filters: Filters | None = None) -> Sequence[StatsRow]:
        """The rows of ``stats``, each with its measures."""
        ...


@runtime_checkable
class SupportsParallelReads(Protocol):
    """A backend that gains from two reads at the same time, by two threads."""

    reads_in_parallel: ClassVar[bool]
