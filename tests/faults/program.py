"""The program that is killed: it takes records in, and says which of them the spool has, until it is stopped.

Killing goes through the one place where the spool calls the system (``disk``) and through the store: ``Plan.point``
names a call, ``Plan.count`` which one of them it is.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.errors import PermanentError, RetryableError
from llmspan.pipeline import Pipeline, dead_letters
from llmspan.pipeline.spool import Spool, disk
from llmspan.pipeline.spool import spool as spool_module
from llmspan.settings import Settings, SpoolFullPolicy
from llmspan.trace import ProviderTrace
from polling import until
from records import make_trace
from scripted import Ready

#: where the program can be killed: ``<what>:<when>``
POINTS = (
    "make_directory:after",
    "make_file:before",
    "make_file:after",
    "append:before",
    "append:half",
    "append:after",
    "sync:before",
    "sync:after",
    "sync_directory:before",
    "rename:before",
    "rename:after",
    "remove:before",
    "remove:after",
    "publish:before",
    "publish:after",
    "write:before",
    "write:after",
)
#: where it can be killed while a batch that the store refuses is halved
BISECTING = ("write:before", "write:after", "keep:before", "keep:half", "keep:after", "rename:before", "rename:after")
REFUSED_MODEL = "refused"


@dataclass(frozen=True)
class Plan:
    """What one process does."""

    folder: Path
    seed: int
    records: int = 0
    point: str | None = None
    count: int = 1
    #: part of the writes that the store refuses for now
    refusals: float = 0.0
    #: part of the records that the store can never hold
    refused: float = 0.0
    #: sizes of the payloads, in bytes
    sizes: tuple[int, ...] = (10, 100, 1000, 9000)
    #: the store is away for the whole life of the process
    is_away: bool = False
    #: the store goes away for good after so many writes
    away_after: int | None = None
    spool_max_bytes: int = 1 << 30
    spool_full_policy: SpoolFullPolicy = "drop_oldest"
    file_limit: int | None = None
    user: int | None = None
    clock_jumps: bool = False
    spool: bool = True
    is_last: bool = False
    deadline: float = 120.0


def run(plan: Plan) -> None:
    """Do what the plan says; the last line of ``accepted.txt`` may be cut off, as the process is."""
    if plan.user is not None:
        SQLiteBackend(plan.folder / "imports.db").open()  # what it imports, this user may not be able to
        os.setgid(plan.user)
        os.setuid(plan.user)
    if plan.clock_jumps:
        _shake_the_clock(random.Random(plan.seed))
    spool_module._SEGMENT_BYTES = 20_000  # type: ignore[attr-defined]
    spool_module._SMALLEST_SEGMENT = 20_000  # type: ignore[attr-defined]
    _note_accepted(plan.folder / "accepted.txt")
    if plan.point is not None:
        _arm(plan.point, plan.count)
    if plan.file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (plan.file_limit, resource.RLIM_INFINITY))
    pipeline = Pipeline()
    place = plan.folder / "spool" if plan.spool else None
    pipeline.configure(Settings(
        spool_dir=place, spool_max_bytes=plan.spool_max_bytes, spool_full_policy=plan.spool_full_policy,
        queue_max_items=100_000,
        dead_letter_dir=plan.folder / "dead",
    ))  # fmt: skip
    pipeline.add(_Store(plan))
    _work(pipeline, plan)
    if plan.file_limit is not None:  # somebody has made room
        until(lambda: not pipeline._inbox and all(s.failed_writes for s in pipeline.status()))
        (plan.folder / "waiting.txt").write_text(repr([s.queued for s in pipeline.status()]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        _has_room.append(True)
    if plan.is_last:
        pipeline.flush(plan.deadline)
    pipeline.close(plan.deadline if plan.spool or not plan.is_away else 0.5)
    (plan.folder / "status.json").write_text(json.dumps([_plain(status) for status in pipeline.status()]))


def _work(pipeline: Pipeline, plan: Plan) -> None:
    draw = random.Random(plan.seed)
    noted = os.open(plan.folder / "taken.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for _ in range(plan.records):
        model = REFUSED_MODEL if draw.random() < plan.refused else "gpt-5"
        trace = make_trace(request_model=model, request_json=json.dumps("x" * draw.choice(plan.sizes)))
        pipeline.submit(Ready(trace))
        os.write(noted, f"{trace.id}\n".encode())
        if draw.random() < 0.1:
            pipeline.flush(0.02)
    os.close(noted)


class _Store(SQLiteBackend):
    """The store, which notes which batches it was asked to take."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.folder / "traces.db")
        self._plan = plan
        self._draw = random.Random(plan.seed)
        self._writes = 0
        self._batches = os.open(plan.folder / "batches.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        if self._plan.file_limit is None:
            os.write(self._batches, (" ".join(trace.id for trace in traces) + "\n").encode())
        if self._plan.file_limit is not None and not _has_room:
            raise RetryableError("no space left on device")
        self._writes += 1
        is_away = self._plan.away_after is not None and self._writes > self._plan.away_after
        if self._plan.is_away or is_away or self._draw.random() < self._plan.refusals:
            raise RetryableError("not now")
        if any(trace.request_model == REFUSED_MODEL for trace in traces):
            raise PermanentError("cannot hold this")
        _reached("write:before")
        super().write(traces)
        _reached("write:after")


_has_room: list[bool] = []
_wanted: list[tuple[str, int]] = []
_seen: dict[str, int] = {}


def _arm(point: str, count: int) -> None:
    _wanted.append((point, count))
    for name in ("make_directory", "make_file", "append", "sync", "sync_directory", "rename", "remove"):
        setattr(disk, name, _watched(name, getattr(disk, name)))
    Spool.publish = _watched("publish", Spool.publish)  # type: ignore[method-assign]
    dead_letters._write = _watched("keep", dead_letters._write)


def _watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def watched(*arguments: Any, **options: Any) -> Any:
        _reached(f"{name}:before")
        if name in ("append", "keep") and _is_next(f"{name}:half"):
            whole = arguments[1] if isinstance(arguments[1], bytes) else b"".join(arguments[1])
            os.write(arguments[0], whole[: len(whole) // 2])
        _reached(f"{name}:half")
        done = function(*arguments, **options)
        _reached(f"{name}:after")
        return done

    return watched


def _is_next(point: str) -> bool:
    return bool(_wanted) and _wanted[0] == (point, _seen.get(point, 0) + 1)


def _reached(point: str) -> None:
    if _is_next(point):
        os.kill(os.getpid(), signal.SIGKILL)
    _seen[point] = _seen.get(point, 0) + 1


def _note_accepted(path: Path) -> None:
    """Write down what the spool has as soon as it has it, and before anything else happens."""
    noted = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    commit = Spool.commit

    def noting_commit(self: Spool, payloads: Sequence[bytes]) -> None:
        commit(self, payloads)
        os.write(noted, b"".join(json.loads(payload)["id"].encode() + b"\n" for payload in payloads))

    Spool.commit = noting_commit  # type: ignore[method-assign]


def _shake_the_clock(draw: random.Random) -> None:
    now, now_ns, back = time.time, time.time_ns, [0.0]

    def jumped() -> float:
        back[0] += draw.choice((0.0, 0.0, 3600.0))
        return back[0]

    time.time = lambda: now() - jumped()
    time.time_ns = lambda: now_ns() - int(jumped() * 1e9)
    for name, module in list(sys.modules.items()):
        if name.startswith("llmspan") and hasattr(module, "time_ns"):
            vars(module)["time_ns"] = time.time_ns


def _plain(status: Any) -> dict[str, Any]:
    return {name: getattr(status, name) for name in status.__slots__}


if __name__ == "__main__":
    sys.exit("started by the tests")
