"""Trees of calls from every store: of a trace, of a run and of a conversation, bounded."""

from __future__ import annotations

import asyncio

import pytest

from llmspan import AsyncReader, Reader
from llmspan.backends.base import Backend
from llmspan.errors import SettingsError
from records import NOON, make_trace
from unit.test_tree import OTHER_TRACE, TRACE, call, shape


def test_a_trace_of_several_processes_and_runs(backend: Backend) -> None:
    """Calls of two programs in one trace are one tree; calls of other traces are not in it."""
    backend.write(
        [
            call("agent", run_id="r1", source="front"),
            call("a", "agent", at=1, run_id="r1", source="front"),
            call("b", "a", at=2, run_id="r2", source="back"),
            call("c", "lost", at=3, run_id="r2", source="back"),
            call("d", trace_id=OTHER_TRACE, run_id="r1", at=4),
        ]
    )
    tree = Reader(backend).tree(trace_id=TRACE)
    assert shape(tree) == [(0, "agent"), (1, "a"), (2, "b"), (0, "c")]
    assert [node.missing_parent for node in tree.roots] == [None, "lost"]
    assert (tree.sums.calls, tree.sums.input_tokens) == (4, 40)


def test_a_run_over_several_traces(backend: Backend) -> None:
    """The calls of a run in all its traces; those of another run in the same trace are not in it."""
    backend.write(
        [
            call("a", run_id="r1", conversation_id="k"),
            call("b", "a", at=1, run_id="r1"),
            call("c", "a", at=2, run_id="r2", conversation_id="k"),
            call("a", at=3, run_id="r1", trace_id=OTHER_TRACE),
            make_trace(run_id="r1", started_at=NOON + 4),
        ]
    )
    assert shape(Reader(backend).tree(run_id="r1")) == [(0, "a"), (1, "b"), (0, "a"), (0, None)]
    assert shape(Reader(backend).tree(conversation_id="k")) == [(0, "a"), (1, "c")]
    assert Reader(backend).tree(run_id="r3").nodes == []


def test_deep_and_wide_trees(backend: Backend) -> None:
    """Several pages of calls, some far below each other, some side by side."""
    deep = [call(f"{at}", f"{at - 1}" if at else None, at=at) for at in range(600)]
    wide = [call(f"w{at}", "0", at=1_000 + at) for at in range(300)]
    backend.write([*deep, *wide])
    tree = Reader(backend).tree(trace_id=TRACE)
    assert (tree.sums.calls, tree.omitted) == (900, 0)
    assert max(node.depth for node in tree.nodes) == 599
    assert len(tree.roots[0].children) == 301


def test_a_tree_is_bounded_and_says_so(backend: Backend) -> None:
    """The newest calls, and how many are left out."""
    backend.write([call(f"{at}", "0" if at else None, at=at) for at in range(10)])
    tree = Reader(backend).tree(trace_id=TRACE, limit=3)
    assert [node.span_id for node in tree.nodes] == ["7", "8", "9"]
    assert tree.omitted == 7
    assert Reader(backend).tree(trace_id=TRACE, limit=10).omitted == 0


def test_payloads_are_not_read(backend: Backend) -> None:
    """A tree holds no requests and no responses."""
    backend.write([call("a")])
    (record,) = Reader(backend).tree(trace_id=TRACE).calls
    assert (record.request_json, record.response_json) == (None, None)


@pytest.mark.parametrize("ids", [{}, {"run_id": "a", "trace_id": "b"}])
def test_exactly_one_id_is_given(backend: Backend, ids: dict[str, str]) -> None:
    """The error names what there is to choose from."""
    with pytest.raises(SettingsError, match="one trace_id, run_id or conversation_id"):
        Reader(backend).tree(**ids)
    with pytest.raises(SettingsError, match="limit 0"):
        Reader(backend).tree(run_id="a", limit=0)


def test_the_asynchronous_reader_gives_the_same(backend: Backend) -> None:
    """Its tree is that of the other reader."""
    backend.write([call("a"), call("b", "a", at=1)])
    assert shape(asyncio.run(AsyncReader(backend).tree(trace_id=TRACE))) == [(0, "a"), (1, "b")]
