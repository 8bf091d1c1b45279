"""The books of the fault tests: one line a fault, and a verdict, printed at the end of the run.

With a spool nothing may be lost. What the fault itself has destroyed (bytes cut off a file) is no longer there to be
delivered, and has a column of its own. Without a spool, or with one that is full, what the policy names may be lost,
if it was counted. Nothing may be there twice, ever.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Final, Literal, get_args

from llmspan.pipeline import BackendStatus
from scripted import identity_holds

#: how often each fault is tried, each time in another way
SEEDS: Final = int(os.environ.get("LLMSPAN_FAULT_SEEDS", "2"))
#: a fault that is tried so often must have struck
_OFTEN: Final = 10

#: whether there is one, and room in it
HasSpool = Literal["yes", "no", "full"]
KINDS: Final[tuple[HasSpool, ...]] = get_args(HasSpool)


@dataclass
class Line:
    """Sums over the runs of one fault."""

    runs: int = 0
    accepted: int = 0
    delivered: int = 0
    destroyed: int = 0
    lost: int = 0
    #: of what is lost: counted as dropped, or as waiting where it cannot stay
    counted: int = 0
    duplicated: int = 0
    #: how often the fault struck; None if that is certain
    struck: int | None = None

    def holds(self, spool: HasSpool) -> bool:
        """Whether the promise is kept."""
        is_lost = self.lost != (0 if spool == "yes" else self.counted)
        return not is_lost and not self.duplicated and not (self.struck == 0 and self.runs >= _OFTEN)


LINES: dict[tuple[str, HasSpool], Line] = {}


def enter(
    fault: str,
    accepted: Iterable[str],
    stored: Iterable[str],
    statuses: Collection[BackendStatus],
    *,
    spool: HasSpool = "yes",
    destroyed: Iterable[str] = (),
    counted: int = 0,
    duplicated: int = 0,
    struck: bool | None = None,
) -> None:
    """Book a run; fail if the accounts do not balance, more is lost than may be, or anything is there twice.

    ``stored`` is every id as often as the store has it, ``counted`` how many records were given up and counted.
    """
    assert statuses, "no accounts"
    assert all(map(identity_holds, statuses)), statuses
    promised, found = set(accepted), list(stored)
    gone = promised & set(destroyed)
    lost = len(promised - set(found) - gone)
    twice = len(found) - len(set(found)) + duplicated
    line = LINES.setdefault((fault, spool), Line())
    line.runs += 1
    line.accepted += len(promised)
    line.delivered += len(promised & set(found))
    line.destroyed += len(gone - set(found))
    line.lost += lost
    line.counted += counted
    line.duplicated += twice
    if struck is not None:
        line.struck = (line.struck or 0) + struck
    assert (lost, twice) == (counted, 0), fault
    assert spool != "yes" or not lost, fault


def dump() -> list[tuple[str, HasSpool, dict[str, int | None]]]:
    """The books, of simple types, for another process."""
    return [(fault, spool, asdict(line)) for (fault, spool), line in LINES.items()]


def add(books: Iterable[tuple[str, HasSpool, dict[str, int | None]]]) -> None:
    """Add another process's books to ours."""
    for fault, spool, columns in books:
        line = LINES.setdefault((fault, spool), Line())
        for name, count in columns.items():
            if count is not None:
                setattr(line, name, (getattr(line, name) or 0) + count)


def table() -> list[str]:
    """The books as a table."""
    titles = ("fault", "spool", "runs", "accepted", "delivered", "destroyed", "lost", "counted", "duplicated")
    rows = [
        (*name, *(f"{n:,}" for n in (x.runs, x.accepted, x.delivered, x.destroyed, x.lost, x.counted, x.duplicated)))
        for name, x in sorted(LINES.items(), key=lambda line: (KINDS.index(line[0][1]), line[0]))
    ]
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (titles, *rows)
    ]


def broken() -> list[str]:
    """The faults after which a promise was not kept."""
    return [f"{fault} (spool: {spool})" for (fault, spool), line in LINES.items() if not line.holds(spool)]


def verdict() -> list[str]:
    """The sums, with and without a spool, and whether all promises are kept; which are not."""
    return [
        *(f"spool {kind}: {_sums([line for (_, spool), line in LINES.items() if spool == kind])}" for kind in KINDS),
        f"{sum(line.runs for line in LINES.values()):,} runs of {len({fault for fault, _ in LINES})} faults: "
        + (f"NOT AS PROMISED: {', '.join(broken())}" if broken() else "as promised"),
    ]


def _sums(lines: Iterable[Line]) -> str:
    names = ("accepted", "lost", "counted", "duplicated")
    return ", ".join(f"{sum(getattr(line, name) for line in lines):,} {name}" for name in names)
