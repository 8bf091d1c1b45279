"""The regression gate: ratios of a run beside those in ``baseline.json``.

Only ratios to the bare SDK of the same run, and bytes, are compared; never seconds. Each is better the smaller it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Row = Mapping[str, Any]
Ratios = dict[str, float]


@dataclass(frozen=True)
class Tolerance:
    """How much worse than the baseline is not worse: a share of it, and what noise there is in any case."""

    share: float
    noise: float

    def limit(self, baseline: float) -> float:
        """The largest value that passes. A baseline below zero is noise around zero."""
        return max(baseline, 0.0) * (1 + self.share) + self.noise


#: by part. Instructions: what is added, as a share of the bare call; the rest is measured by a clock, or rougher
TOLERANCES: Final = {
    "instructions": Tolerance(0.05, 0.005),
    "memory": Tolerance(0.05, 256),
    "overhead": Tolerance(0.5, 0.05),
    "throughput": Tolerance(0.25, 0.1),
    "loop_lag": Tolerance(0.25, 0.25),
    "spool": Tolerance(0.5, 0.5),
}


def _of_instructions(rows: Sequence[Row]) -> Ratios:
    found: Ratios = {}
    for row in rows:
        name = f"instructions, {row['surface']}, {row['way']}"
        if row["bare_per_chunk"] is None:
            found[f"{name}, call"] = row["added_per_call"] / row["bare_per_call"]
            found[f"{name}, worker, call"] = row["worker_per_call"] / row["bare_per_call"]
        else:
            found[f"{name}, 500 chunks"] = row["ratio"] - 1
            found[f"{name}, worker, chunk"] = row["worker_per_chunk"] / row["bare_per_chunk"]
    return found


def _of_memory(rows: Sequence[Row]) -> Ratios:
    found: Ratios = {}
    for row in rows:
        chunks = "" if row["chunks_read"] is None else f", {row['chunks_read']} chunks"
        found[f"memory, {row['what']}, {row['surface']}, {row['way']}{chunks}"] = row["beyond"]
    return found


def _of_overhead(rows: Sequence[Row]) -> Ratios:
    return {f"overhead, {row['surface']}, {row['way']}": row["ratio"] - 1 for row in rows}


def _of_throughput(rows: Sequence[Row]) -> Ratios:
    return {
        f"throughput, {row['surface']}, {row['streams_at_once']} at once, bare over observed": 1 / row["ratio"]
        for row in rows
    }


def _of_loop_lag(result: Row) -> Ratios:
    return {"loop_lag, p99": result["p99_ratio"]}


def _of_spool(rows: Sequence[Row]) -> Ratios:
    return {
        f"spool, {row['sync']}, {row['payload_bytes']} bytes": row["bound_per_s"] / row["records_per_s"] for row in rows
    }


_READ: Final[dict[str, Callable[[Any], Ratios]]] = {
    "instructions": _of_instructions,
    "memory": _of_memory,
    "overhead": _of_overhead,
    "throughput": _of_throughput,
    "loop_lag": _of_loop_lag,
    "spool": _of_spool,
}


def ratios(parts: Mapping[str, Any]) -> Ratios:
    """What can be compared of the figures of a run: name to value; a name begins with its part.

    Args:
        parts: the rows of each part that has run, by its name. Those without ratios are left out.
    """
    found: Ratios = {}
    for part, read in _READ.items():
        if part in parts:
            found |= {name: round(value, 5) for name, value in read(parts[part]).items()}
    return found


@dataclass(frozen=True)
class Worse:
    """A value that has got worse than it may."""

    name: str
    baseline: float
    found: float
    limit: float

    def __str__(self) -> str:
        return f"{self.name}: {self.found:,.4g}, was {self.baseline:,.4g}, may be {self.limit:,.4g}"


@dataclass
class Verdict:
    """What came of a comparison."""

    compared: int = 0
    worse: list[Worse] = field(default_factory=list[Worse])
    #: measured, but not in the baseline
    unknown: list[str] = field(default_factory=list[str])
    #: in the baseline, of a part that has run, but not measured
    gone: list[str] = field(default_factory=list[str])

    @property
    def passes(self) -> bool:
        """Whether nothing is worse, and all of it could be told."""
        return not (self.worse or self.unknown or self.gone)

    def lines(self) -> list[str]:
        """The verdict in words."""
        lines = [f"worse: {one}" for one in self.worse]
        lines += [f"not in the baseline: {name} (--update writes it)" for name in self.unknown]
        lines += [f"in the baseline, not measured: {name} (--update removes it)" for name in self.gone]
        return [*lines, f"{self.compared} values compared with the baseline: {'pass' if self.passes else 'FAIL'}"]


def check(found: Ratios, baseline: Ratios) -> Verdict:
    """Compare a run with the baseline. Parts that did not run are not asked for."""
    verdict = Verdict()
    ran = {_part(name) for name in found}
    for name, value in found.items():
        if name not in baseline:
            verdict.unknown.append(name)
            continue
        verdict.compared += 1
        limit = TOLERANCES[_part(name)].limit(baseline[name])
        if value > limit:
            verdict.worse.append(Worse(name, baseline[name], value, limit))
    verdict.gone = [name for name in baseline if _part(name) in ran and name not in found]
    return verdict


def updated(found: Ratios, baseline: Ratios) -> Ratios:
    """The baseline with the values of the parts that have run in place of its own."""
    ran = {_part(name) for name in found}
    kept = {name: value for name, value in baseline.items() if _part(name) not in ran}
    return dict(sorted((kept | found).items()))


def _part(name: str) -> str:
    return name.partition(",")[0]
