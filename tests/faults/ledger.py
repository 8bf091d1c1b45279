"""The books of the fault tests: one line a fault, printed at the end of the run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

#: how often each fault is tried, each time in another way
SEEDS: Final = int(os.environ.get("LLMSPAN_FAULT_SEEDS", "2"))


@dataclass
class Line:
    """Sums over the runs of one fault."""

    runs: int = 0
    accepted: int = 0
    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    #: what may be lost: told, and counted
    allowed: int = 0


LINES: dict[str, Line] = {}


def enter(fault: str, accepted: Iterable[str], stored: Iterable[str], *, duplicated: int = 0, allowed: int = 0) -> None:
    """Book a run, and fail if more is lost than ``allowed`` (records that were counted as given up), or anything twice.

    ``stored`` is every id as often as the store has it.
    """
    promised, found = set(accepted), list(stored)
    line = LINES.setdefault(fault, Line())
    lost = len(promised - set(found))
    twice = len(found) - len(set(found)) + duplicated
    line.runs += 1
    line.accepted += len(promised)
    line.delivered += len(promised & set(found))
    line.lost += lost
    line.duplicated += twice
    line.allowed += allowed
    assert (lost, twice) == (allowed, 0), fault


def table() -> list[str]:
    """The books as a table."""
    titles = ("fault", "runs", "accepted", "delivered", "lost", "of them told", "duplicated")
    rows = [
        (fault, *(f"{n:,}" for n in (x.runs, x.accepted, x.delivered, x.lost, x.allowed, x.duplicated)))
        for fault, x in LINES.items()
    ]
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]
    return [
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (titles, *rows)
    ]
