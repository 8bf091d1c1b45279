"""Spans beside the records: stored once, read by trace, part of trees, deleted with the last call of their trace."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmspan import Reader
from llmspan.backends.base import Backend, Filters, SupportsSpans, SupportsSpanWrites
from llmspan.span_record import SpanRecord
from llmspan.trace import ProviderTrace
from records import make_trace
from stores import MAKERS, clickhouse

TRACE, OTHER_TRACE = "0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319c"
#: an hour ago: stores keep it, whatever their limits are
NOW = time.time_ns() - 3_600_000_000_000


def span(span_id: int, parent: int | None = None, **overrides: Any) -> SpanRecord:
    values: dict[str, Any] = {
        "trace_id": TRACE, "span_id": f"{span_id:016x}", "parent_span_id": None if parent is None else f"{parent:016x}",
        "name": "invoke_agent", "started_at": NOW + span_id, "duration_ns": 5,
    }  # fmt: skip
    return SpanRecord(**(values | overrides))


def call(span_id: int, parent: int | None = None, **overrides: Any) -> ProviderTrace:
    ids = {"span_id": f"{span_id:016x}", "parent_span_id": None if parent is None else f"{parent:016x}"}
    return make_trace(**({"trace_id": TRACE, "started_at": NOW + span_id, **ids} | overrides))


@pytest.fixture(params=["memory", "sqlite", "clickhouse-chdb", "clickhouse-http", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "clickhouse-chdb":
        backend: Any = clickhouse.embedded(clickhouse_otel_traces=True)
    elif request.param == "clickhouse-http":
        backend = clickhouse.over_http(clickhouse_otel_traces=True)
    else:
        backend = MAKERS[request.param](tmp_path)
    backend.open()
    yield backend
    backend.shutdown()


def test_a_span_comes_back(store: Any) -> None:
    """Every column, from a span in which none has its default, and from one in which all have it."""
    assert isinstance(store, Backend)
    assert isinstance(store, SupportsSpans)
    assert isinstance(store, SupportsSpanWrites)
    assert store.keeps_spans
    whole = span(
        2, 1, name="execute_tool ü", kind="Server", service_name="app", scope_name="scope", scope_version="1",
        trace_state="a=b", resource_attributes={"service.name": "app"},
        attributes={"gen_ai.tool.name": "weather"}, started_at=NOW + 123, duration_ns=456,
        status_code="Error", status_message="no\ttool",
    )  # fmt: skip
    least = span(1, started_at=NOW, duration_ns=0)
    store.write_spans([whole, least])
    assert list(store.spans([TRACE], 10)) == [least, whole]


def test_a_span_is_stored_once(store: Any) -> None:
    """Whatever comes twice, in one batch or in two, is there once; the first stays."""
    store.write_spans([span(1), span(1)])
    store.write_spans([span(1), span(2, 1)])
    assert [found.span_id for found in store.spans([TRACE], 10)] == [span(1).span_id, span(2).span_id]


def test_spans_are_read_by_trace_and_bounded(store: Any) -> None:
    """Those of the traces that were asked for, the earliest first, no more than the limit."""
    store.write_spans([span(3), span(1), span(2), span(9, trace_id=OTHER_TRACE)])
    assert [found.span_id[-1] for found in store.spans([TRACE], 2)] == ["1", "2"]
    assert len(store.spans([TRACE, OTHER_TRACE], 10)) == 4
    assert list(store.spans(["f" * 32], 10)) == []


def test_a_tree_has_the_spans_between_its_calls(store: Any) -> None:
    """Agents and tools stand where they ran; the numbers are those of the calls alone."""
    store.write([call(4, 2, run_id="r"), call(6, 2, run_id="r"), call(8, 7, run_id="other")])
    store.write_spans(
        [span(1, name="POST /", kind="Server"), span(2, 1), span(5, 2, name="execute_tool weather"), span(7, 1)]
    )
    tree = Reader(store).tree(run_id="r")
    assert [(node.depth, node.name) for node in tree.nodes] == [
        (0, "POST /"),
        (1, "invoke_agent"),
        (2, "chat gpt-5"),
        (2, "execute_tool weather"),
        (2, "chat gpt-5"),
    ]
    assert (tree.sums.calls, tree.sums.input_tokens, tree.has_spans) == (2, 20, True)
    assert Reader(store).tree(trace_id=TRACE).sums.calls == 3


def test_spans_go_with_the_last_call_of_their_trace(store: Any) -> None:
    """A trace that keeps a record keeps its spans; those of other traces stay."""
    other = call(3, 1, trace_id=OTHER_TRACE, user_id="ann")
    store.write([call(2, 1, user_id="ann"), call(3, 1, user_id="bob"), other])
    store.write_spans([span(1), span(1, trace_id=OTHER_TRACE), span(1, trace_id="2" * 32)])
    assert store.delete(Filters(user_id="ann")) == 2
    assert len(store.spans([TRACE], 10)) == 1
    assert list(store.spans([OTHER_TRACE], 10)) == []
    store.delete(Filters(user_id="bob"))
    assert list(store.spans([TRACE], 10)) == []
    assert len(store.spans(["2" * 32], 10)) == 1


def test_large_spans_are_cut(store: Any) -> None:
    """A name and attributes of any size are stored, cut to what a record may hold."""
    store.write_spans([span(1, name="n" * 50_000, attributes={"a": "x" * 500_000, "b": "y"})])
    (found,) = store.spans([TRACE], 10)
    assert len(found.name) <= 1024
    assert sum(map(len, found.attributes.values())) <= 65_536
    assert found.attributes["b"] == "y"


def test_odd_texts(store: Any) -> None:
    """NUL and lone surrogates become what a store can hold."""
    store.write_spans([replace(span(1), name="a\0b\ud800", attributes={"k\ud800": "v\ud800"})])
    (found,) = store.spans([TRACE], 10)
    assert found.name == "a\ufffdb\ufffd"
