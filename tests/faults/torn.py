"""Segments that are damaged: what is in them, and what the spool reads of what is left, in this process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llmspan.pipeline import BackendStatus
from llmspan.pipeline.spool import Spool, SpoolConsumer, entries
from llmspan.pipeline.statistics import DeliveryStats
from llmspan.settings import Settings
from records import make_trace

#: the id of a record, and where its frame begins and ends
Found = tuple[str, int, int]
READER = SpoolConsumer("sqlite", "here", DeliveryStats())


def last_segment(spool: Path) -> Path:
    """The file that was written last."""
    return max(spool.glob("*/seg-*"), key=lambda path: path.name)


def frames_of(segment: Path) -> list[Found]:
    """The records of a segment that is whole."""
    found: list[Found] = []
    begin = len(entries.MARK)
    for frame in entries.read_entries(segment.read_bytes(), int(segment.stem.removeprefix("seg-"), 16)):
        assert isinstance(frame, entries.Entry)
        found.append((json.loads(frame.payload)["id"], begin, frame.end))
        begin = frame.end
    return found


def ids_with(found: Sequence[Found], at: int) -> list[str]:
    """The record that has the byte, if any has."""
    return [id_ for id_, begin, end in found if begin <= at < end]


def left_behind(spool: Path, *, is_begun: bool) -> list[str]:
    """What a killed process leaves: two records in a segment, and two in another; whether the last batch was begun."""
    dead = Spool(spool, Settings(spool_sync="none"))
    dead._segment_bytes = 3000
    backlog = dead.open([READER])[READER]
    traces = [make_trace(request_json=json.dumps("x" * 100)) for _ in range(4)]
    for trace in traces:
        dead.commit([trace.to_json().encode()])
    dead.publish()
    if is_begun:
        assert len(backlog.take()) == 2
        backlog.settle()
        assert len(backlog.take()) == 2
    dead.forget()
    return [trace.id for trace in traces][2 * is_begun :]


def recovered(spool: Path) -> tuple[list[str], BackendStatus]:
    """What a new process reads from ``spool``, and its accounts; then it is done with it."""
    counts = DeliveryStats()
    reader = replace(READER, stats=counts)
    taking = Spool(spool, Settings(spool_sync="none"))
    backlog = taking.open([reader])[reader]
    ids: list[str] = []
    while not backlog.is_empty():
        batch = backlog.take()
        ids += [trace.id for trace in batch]
        counts.delivered(len(batch), "spooled")
        backlog.settle()
    taking.close()
    return ids, counts.snapshot(reader.backend, reader.location)
