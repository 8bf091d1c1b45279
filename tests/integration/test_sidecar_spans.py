"""Spans over the socket: stored by the sidecar, counted at both ends, and not sent to one that takes none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmspan.backends.memory import MemoryBackend
from llmspan.backends.socket import SocketBackend
from llmspan.backends.socket.records import decode_item, encode_span
from llmspan.errors import RecordError
from llmspan.span_record import SpanRecord
from scripted import identity_holds, pipeline_to, submit
from stores.sidecar import RunningSidecar, short_directory

TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRET = "sk-proj-" + "a1B2c3D4" * 6


def span(number: int, **attributes: str) -> SpanRecord:
    return SpanRecord(
        trace_id=TRACE,
        span_id=f"{number:016x}",
        name="agent ü",
        started_at=number,
        duration_ns=1,
        attributes=attributes,
    )


class WithoutSpans(MemoryBackend):
    """A store that keeps none, as one of another package."""

    @property
    def keeps_spans(self) -> bool:
        return False


@pytest.fixture
def path() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "s.sock"


@pytest.mark.parametrize("spooled", [False, True])
def test_spans_arrive_behind_the_records(path: Path, tmp_path: Path, *, spooled: bool) -> None:
    """In each of the sidecar's stores, once, cleaned by the sidecar's rules, and in the counts of both ends."""
    stores = MemoryBackend(), MemoryBackend()
    sidecar = RunningSidecar(path, *stores)
    pipeline = pipeline_to(SocketBackend(path), spool_dir=tmp_path if spooled else None)
    submit(pipeline, 3)
    for item in (span(1), span(2, key=SECRET), span(2, key=SECRET)):
        pipeline.submit_span(item)
    assert pipeline.flush(30)
    (status,) = pipeline.status()
    assert identity_holds(status)
    assert (status.accepted, status.delivered, status.dropped) == (6, 6, {})
    assert pipeline.close(30)
    assert sidecar.stop()
    for store in stores:
        assert [found.id for found in store.spans([TRACE], 10)] == [span(1).id, span(2).id]
        assert SECRET not in str(store.spans([TRACE], 10))
        assert len(store.list().traces) == 3
    assert [counts.delivered for counts in sidecar.record_store.status()] == [5, 5]


def test_one_that_takes_none_gets_the_records(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An older sidecar says nothing of spans in its greeting: records go on, and one line of the log says it."""
    store = WithoutSpans()
    sidecar = RunningSidecar(path, store)
    pipeline = pipeline_to(SocketBackend(path))
    with caplog.at_level(logging.WARNING):
        for number in range(1, 4):
            submit(pipeline, 1)
            pipeline.submit_span(span(number))
            assert pipeline.flush(30)
    (status,) = pipeline.status()
    assert (status.accepted, status.delivered, status.dropped, status.dead_lettered) == (3, 3, {}, 0)
    assert pipeline.close(30)
    assert sidecar.stop()
    assert len(store.list().traces) == 3
    assert sum("takes no spans" in line for line in caplog.messages) == 1


def test_what_is_no_span_is_named() -> None:
    """A frame that says it is a span, and is none, is rejected like a record that is none."""
    head = b'{"type":"record","seq":1,'
    assert decode_item(head + encode_span(span(1, a="b"))) == span(1, a="b")
    with pytest.raises(RecordError, match="not a span: duration_ns is 'long'"):
        decode_item(head + encode_span(span(1)).replace(b'"duration_ns":1', b'"duration_ns":"long"'))
