"""Load with every store down, compressed in time: memory stays within the queue's limit and a fixed sum."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from faults import program
from faults.children import Children
from faults.ledger import enter
from llmspan.errors import RetryableError
from llmspan.pipeline import Pipeline, Status
from llmspan.settings import Settings
from records import make_trace
from scripted import Ready, Scripted, identity_holds

CAP = 32 * 1024 * 1024
SLACK = 64 * 1024 * 1024
#: as many bytes as ten minutes of a busy service, far above the limit
RECORDS, PAYLOAD = 20_000, 30_000


def load(folder: Path, *, spool: bool) -> None:
    """What the child does; it leaves how much its memory has grown, and its accounts."""
    pipeline = Pipeline()
    place = folder / "spool" if spool else None
    pipeline.configure(Settings(spool_dir=place, queue_max_bytes=CAP, spool_max_bytes=256 * 1024 * 1024))
    for number in range(3):
        pipeline.add(_Down(place=f"{number}"))
    pipeline.accept(Ready(make_trace()))
    pipeline.flush(0.2)
    before = _peak()
    for number in range(RECORDS):
        text = json.dumps("x" * PAYLOAD + str(number))
        pipeline.accept(_Large(make_trace(request_json=text), size=len(text) + 2048))
    pipeline.flush(0.2)
    grown = _peak() - before
    result = {"grown": grown, "statuses": [program._plain(status) for status in pipeline.status()]}
    (folder / "result.json").write_text(json.dumps(result))


class _Large(Ready):
    """A record that really lets go of its payload."""

    def shed(self) -> None:
        super().shed()
        self.trace = replace(self.trace, request_json=None, response_json=None, content="truncated")


class _Down(Scripted):
    def write(self, traces: object) -> None:
        raise RetryableError("connection refused")


def _peak() -> int:
    """The most that this process has ever held, in bytes."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("spool", [False, True])
def test_memory_is_bounded(spool: bool, children: Children) -> None:
    """The peak grows by no more than the limit and 64 MiB, and every record is accounted for."""
    process = children.context.Process(target=load, args=(children.folder,), kwargs={"spool": spool}, daemon=True)
    process.start()
    process.join(300)
    assert process.exitcode == 0
    result = json.loads((children.folder / "result.json").read_text())
    statuses = [Status(**values) for values in result["statuses"]]
    assert all(status.accepted == RECORDS + 1 and identity_holds(status) for status in statuses)
    assert result["grown"] <= CAP + SLACK
    lost = sum(statuses[0].dropped.values())
    waiting = statuses[0].queued + statuses[0].spooled
    ids = [f"{number}" for number in range(RECORDS + 1)]
    enter(f"load, stores down, {'a' if spool else 'no'} spool", ids, ids[:waiting], allowed=lost)
