"""Spans on their way to backends: the queue, the spool, dead letters and the counts that records have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan.backends.memory import MemoryBackend
from llmspan.errors import LlmspanError, PermanentError, RecordError, RefusedError, SchemaError, SettingsError
from llmspan.pipeline import Pipeline
from llmspan.span_record import SpanRecord, item_from_json
from llmspan.trace import ProviderTrace
from records import full_trace, patient
from scripted import Scripted, identity_holds, ids_in, pipeline_to, submit

TRACE = "0af7651916cd43dd8448eb211c80319c"


def span(number: int, **overrides: Any) -> SpanRecord:
    values: dict[str, Any] = {"name": "agent", "started_at": number, "duration_ns": 1}
    return SpanRecord(trace_id=TRACE, span_id=f"{number:016x}", **(values | overrides))


class KeepsNone(Scripted):
    """A store that finds out that it keeps no spans when it is opened."""

    def __init__(self) -> None:
        super().__init__(place="none")
        self._knows = False

    def open(self) -> None:
        self._knows = True

    @property
    def keeps_spans(self) -> bool:
        return not self._knows


def numbers(pipeline: Pipeline) -> list[tuple[int, int, dict[str, int]]]:
    assert all(identity_holds(status) for status in pipeline.status())
    return [(status.accepted, status.delivered, status.dropped) for status in pipeline.status()]


@pytest.mark.parametrize("spooled", [False, True])
def test_spans_are_delivered_and_counted(tmp_path: Path, *, spooled: bool) -> None:
    """To the backends that keep spans, through the spool if there is one; others never accepted them."""
    kept, none = Scripted(), KeepsNone()
    pipeline = pipeline_to(kept, none, spool_dir=tmp_path if spooled else None)
    submit(pipeline, 3)
    pipeline.submit_span(span(1))
    pipeline.submit_span(span(2))
    assert pipeline.flush(30)
    assert numbers(pipeline) == [(5, 5, {}), (3, 3, {})]
    assert [found.span_id for found in kept.spans([TRACE], 10)] == [span(1).span_id, span(2).span_id]
    assert none._spans == {}
    pipeline.close(30)


def test_what_a_dead_process_left_in_the_spool_comes_with_its_spans(tmp_path: Path) -> None:
    """A pipeline that opens the spool later delivers records and spans of the one before."""
    first = pipeline_to(Scripted(lambda _: (_ for _ in ()).throw(PermanentError("x"))), spool_dir=tmp_path)
    first._spool_writer.store(  # type: ignore[union-attr]
        [(full_trace(id="r"), first._workers), (span(1), first._workers)], first._workers
    )
    first._spool_writer.close()  # type: ignore[union-attr]
    second = pipeline_to(store := Scripted(), spool_dir=tmp_path)
    second.ensure_started()
    assert second.flush(30)
    assert ids_in(store) == {"r"}
    assert len(store.spans([TRACE], 10)) == 1
    second.close(30)


def test_a_span_that_is_refused_is_a_dead_letter(tmp_path: Path) -> None:
    """It alone is set aside, with all that it has; what is beside it is written."""

    class Picky(Scripted):
        def write_spans(self, spans: Sequence[SpanRecord]) -> None:
            if any(item.name == "bad" for item in spans):
                raise PermanentError("no such name")
            super().write_spans(spans)

    pipeline = pipeline_to(store := Picky(), dead_letter_dir=tmp_path)
    submit(pipeline, 2)
    for item in (span(1), span(2, name="bad", attributes={"a": "b"}), span(3)):
        pipeline.submit_span(item)
    assert pipeline.flush(30)
    (status,) = pipeline.status()
    assert (status.accepted, status.delivered, status.dead_lettered) == (5, 4, 1)
    (line,) = (tmp_path / "memory.jsonl").read_text().splitlines()
    letter = json.loads(line)
    assert item_from_json(json.dumps(letter["record"], separators=(",", ":")).encode()) == span(
        2, name="bad", attributes={"a": "b"}
    )
    assert len(store.spans([TRACE], 10)) == 2
    pipeline.close(30)


def test_spans_lose_their_attributes_before_records_are_lost() -> None:
    """Out of bytes, a span keeps its place in the tree and gives up the rest."""
    store = MemoryBackend()
    pipeline = pipeline_to(store, queue_max_bytes=10_000)
    pipeline._workers[0].put([span(1, attributes={"a": "x" * 20_000})])
    assert [item.attributes for item in pipeline._workers[0]._queue.take()] == [{}]  # type: ignore[union-attr]


_texts = st.text(max_size=20)
_maps = st.dictionaries(_texts, _texts, max_size=3)
_spans = st.builds(
    SpanRecord,
    trace_id=st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    span_id=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    parent_span_id=st.none() | st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    name=_texts,
    attributes=_maps,
    resource_attributes=_maps,
    started_at=st.integers(-(2**63), 2**63 - 1),
    duration_ns=st.integers(0, 2**63 - 1),
    status_code=st.sampled_from(["Unset", "Ok", "Error"]),
    status_message=_texts,
)


@patient
@given(item=_spans)
def test_the_form_in_the_spool(item: SpanRecord) -> None:
    """What ``to_json`` writes is read back equal, and is told from a record."""
    assert item_from_json(item.to_json().encode()) == item
    assert item_from_json(item.to_json_line().encode()) == item
    assert isinstance(item_from_json(full_trace().to_json().encode()), ProviderTrace)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"trace_id": "x"}, "trace_id is 'x'"),
        ({"started_at": "now"}, "started_at is 'now'"),
        ({"attributes": {"a": 1}}, "attributes is"),
        ({"name": None}, "no value for name"),
        ({"status_code": "Bad"}, "status_code is 'Bad'"),
    ],
)
def test_what_is_no_span(values: dict[str, Any], reason: str) -> None:
    """A value that a span cannot have is refused by name."""
    with pytest.raises(RecordError, match=reason):
        SpanRecord.from_dict(span(1).to_dict() | values)


@pytest.mark.parametrize("error", [RefusedError("no right"), SchemaError("no such table"), SettingsError("gone")])
@pytest.mark.parametrize("spooled", [False, True])
def test_spans_that_are_refused_hold_up_no_record(tmp_path: Path, error: LlmspanError, *, spooled: bool) -> None:
    """A right that is missing on the table of spans costs the spans, which are counted; all records are written."""

    class Refusing(Scripted):
        def write_spans(self, spans: Sequence[SpanRecord]) -> None:
            raise error

    pipeline = pipeline_to(store := Refusing(), spool_dir=tmp_path if spooled else None)
    for number in range(1, 4):
        submit(pipeline, 1)
        pipeline.submit_span(span(number))
    assert pipeline.flush(30)
    assert numbers(pipeline) == [(6, 3, {"rejected": 3})]
    assert len(ids_in(store)) == 3
    pipeline.close(30)


def test_spans_wait_where_the_whole_store_refuses() -> None:
    """A password that has changed is no matter of the spans: they are written once the store can be used again."""

    class Locked(Scripted):
        refusals = 2

        def write_spans(self, spans: Sequence[SpanRecord]) -> None:
            if self.refusals:
                raise RefusedError("password authentication failed")
            super().write_spans(spans)

        def check(self) -> str:
            self.refusals -= 1
            if self.refusals >= 0:
                raise RefusedError("password authentication failed")
            return "well"

    pipeline = pipeline_to(store := Locked())
    submit(pipeline, 1)
    pipeline.submit_span(span(1))
    assert pipeline.flush(60)
    assert numbers(pipeline) == [(2, 2, {})]
    assert len(store.spans([TRACE], 10)) == 1
    pipeline.close(30)
