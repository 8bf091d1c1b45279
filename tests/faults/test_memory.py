"""Load with every store down, compressed in time: memory stays within the queue's limit and a fixed sum."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from faults.children import PATIENCE, Children
from faults.ledger import HasSpool, enter
from llmspan.errors import RetryableError
from llmspan.pipeline import BackendStatus, Pipeline
from llmspan.settings import Settings
from llmspan.trace import ProviderTrace
from polling import until
from records import make_trace
from scripted import Ready, Scripted, identity_holds

CAP = 32 * 1024 * 1024
SLACK = 64 * 1024 * 1024
#: as many bytes as ten minutes of a busy service, far above the limit
RECORDS, PAYLOAD = 20_000, 30_000
#: records that come at once; the next ones when the spool has taken these, as no disk keeps up with compressed time
BURST = 500
BACKENDS = 3


@dataclass(frozen=True)
class Load:
    """What one process is put through."""

    folder: Path
    fault: str
    spool: HasSpool
    spool_max_bytes: int


def load(plan: Load) -> None:
    """What the child does; it leaves how much its memory has grown, its accounts, and what the stores got."""
    pipeline = Pipeline()
    place = None if plan.spool == "no" else plan.folder / "spool"
    pipeline.configure(Settings(spool_dir=place, queue_max_bytes=CAP, spool_max_bytes=plan.spool_max_bytes))
    stores = [_Down(place=f"{number}") for number in range(BACKENDS)]
    for store in stores:
        pipeline.add(store)
    ids = [_accept(pipeline, "")]
    pipeline.flush(0.2)
    before = _peak()
    for start in range(0, RECORDS, BURST):
        ids += [_accept(pipeline, str(start + number)) for number in range(BURST)]
        assert pipeline.wait_until_spooled(PATIENCE)
    down = pipeline.status()
    for store in stores:
        store.is_up = True
    until(lambda: pipeline.flush(1.0))
    result = {
        "grown": _peak() - before, "ids": ids, "stored": [store.stored for store in stores],
        "statuses": [[asdict(status) for status in statuses] for statuses in (down, pipeline.status())],
    }  # fmt: skip
    (plan.folder / "result.json").write_text(json.dumps(result))
    pipeline.close(PATIENCE)


def _accept(pipeline: Pipeline, salt: str) -> str:
    text = json.dumps("x" * PAYLOAD + salt)
    trace = make_trace(request_json=text)
    pipeline.submit(_Large(trace, size=len(text) + 2048))
    return trace.id


class _Large(Ready):
    """A record that really lets go of its payload."""

    def drop_payload(self) -> None:
        super().drop_payload()
        self.trace = replace(self.trace, request_json=None, response_json=None, content="truncated")


class _Down(Scripted):
    """A store that is down for long, and then notes what it gets."""

    is_up = False

    def __init__(self, place: str) -> None:
        super().__init__(place=place)
        self.stored: list[str] = []

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        if not self.is_up:
            raise RetryableError("connection refused")
        self.stored += [trace.id for trace in traces]


def _peak() -> int:
    """The most that this process has ever held, in bytes."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize(
    ("fault", "spool", "spool_max_bytes"),
    [
        ("load, three stores down", "no", 1),
        ("load, three stores down", "yes", 2**30),
        ("load, three stores down: spool cap reached (policy)", "full", 256 * 1024 * 1024),
    ],
    ids=["no", "yes", "full"],
)
def test_memory_is_bounded(fault: str, spool: HasSpool, spool_max_bytes: int, children: Children) -> None:
    """The peak grows by no more than the limit and 64 MiB; what is not dropped, and counted, is stored in the end."""
    plan = Load(children.folder, fault, spool, spool_max_bytes)
    process = children.context.Process(target=load, args=(plan,), daemon=True)
    process.start()
    process.join(3 * PATIENCE)
    shutil.rmtree(children.folder / "spool", ignore_errors=True)
    assert process.exitcode == 0
    result = json.loads((children.folder / "result.json").read_text())
    down, up = ([BackendStatus(**values) for values in statuses] for statuses in result["statuses"])
    assert all(status.accepted == RECORDS + 1 and identity_holds(status) for status in down)
    for status, stored in zip(up, result["stored"], strict=True):
        enter(plan.fault, result["ids"], stored, [status], spool=spool, counted=sum(status.dropped.values()))
        assert spool == "no" or not status.without_payload
    assert result["grown"] <= CAP + SLACK, f"{result['grown']:,} bytes"
