"""Trees of calls: whatever ids programs report, each call is there once, below its parent, and every sum is right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan.query.tree import TOKENS, Node, Tree, build_tree
from llmspan.span_record import SpanRecord
from llmspan.trace import FAILED, ProviderTrace
from llmspan.usage import Usage
from records import NOON, make_trace, patient

TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER_TRACE = "1bf7651916cd43dd8448eb211c80319c"


def call(span_id: str | None, parent: str | None = None, at: int = 0, **overrides: Any) -> ProviderTrace:
    values = {"trace_id": TRACE, "span_id": span_id, "parent_span_id": parent, "started_at": NOON + at, **overrides}
    return make_trace(**values)


def span(span_id: str, parent: str | None = None, at: int = 0, **overrides: Any) -> SpanRecord:
    values: dict[str, Any] = {"name": span_id, "trace_id": TRACE, "started_at": NOON + at, "duration_ns": 10}
    return SpanRecord(span_id=span_id, parent_span_id=parent, **(values | overrides))


def shape(tree: Tree) -> list[tuple[int, str | None]]:
    return [(node.depth, node.span_id) for node in tree.nodes]


def test_calls_stand_below_their_parents_in_the_order_of_time() -> None:
    """Whatever the order in which records come."""
    calls = [
        call("c2", "a", at=3),
        call("b", "root", at=4),
        call("c1", "a", at=2),
        call("root"),
        call("a", "root", at=1),
    ]
    assert shape(build_tree(calls)) == [(0, "root"), (1, "a"), (2, "c1"), (2, "c2"), (1, "b")]


def test_spans_stand_between_calls() -> None:
    """A span gives calls their place and counts as no call; a span of a call is no second node."""
    tree = build_tree(
        [call("c", "agent", at=2, duration_ns=5)],
        [
            span("server", duration_ns=100),
            span("agent", "server", at=1),
            span("tool", "agent", at=9),
            span("c", "agent"),
        ],
    )
    assert shape(tree) == [(0, "server"), (1, "agent"), (2, "c"), (2, "tool")]
    assert [node.sums.calls for node in tree.nodes] == [1, 1, 1, 0]
    assert tree.nodes[2].span is not None
    assert (tree.started_at, tree.ended_at) == (NOON, NOON + 100)


def test_a_parent_that_is_missing_leaves_a_root_with_a_mark() -> None:
    """The mark is the id of the parent; a call without a parent has none."""
    first, second = build_tree([call("a"), call("b", "gone", at=1)]).roots
    assert (first.missing_parent, second.missing_parent) == (None, "gone")


def test_calls_without_ids_are_roots() -> None:
    """Each is a node of its own, and none is the parent of another."""
    tree = build_tree([call(None), call(None, at=1), call(None, trace_id=None), call("a", trace_id=None, at=2)])
    assert len(tree.roots) == len(tree.nodes) == 4


def test_the_same_span_id_in_two_traces_is_two_spans() -> None:
    """A parent is looked for in its own trace only."""
    tree = build_tree([call("a"), call("b", "a", at=1, trace_id=OTHER_TRACE), call("a", at=2, trace_id=OTHER_TRACE)])
    assert [(node.depth, node.span_id, node.trace_id) for node in tree.nodes] == [
        (0, "a", TRACE),
        (0, "a", OTHER_TRACE),
        (1, "b", OTHER_TRACE),
    ]


def test_calls_that_share_a_span_are_siblings() -> None:
    """Several records of one span are several calls; what is below stands below the earliest."""
    tree = build_tree([call("a"), call("b", "a", at=1), call("b", "a", at=2), call("c", "b", at=3)])
    assert shape(tree) == [(0, "a"), (1, "b"), (2, "c"), (1, "b")]
    assert tree.sums.calls == 4


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_a_cycle_ends_at_its_earliest_node(length: int) -> None:
    """Its calls are there once each, and the root is marked."""
    calls = [call(f"{at}", f"{(at - 1) % length}", at=at) for at in range(length)]
    tree = build_tree([*calls, call("below", "0", at=99)])
    (root,) = tree.roots
    assert (root.span_id, root.is_cycle, root.missing_parent) == ("0", True, None)
    assert tree.sums.calls == length + 1


def test_a_deep_tree_needs_no_recursion() -> None:
    """Twenty thousand levels have sums and JSON as one level has."""
    depth = 20_000
    tree = build_tree([call(f"{at}", f"{at - 1}" if at else None, at=at) for at in range(depth)])
    assert tree.nodes[-1].depth == depth - 1
    assert tree.nodes[0].sums.input_tokens == depth * 10
    assert len(json.loads(tree.to_json())["nodes"]) == depth


def test_a_wide_tree_keeps_its_order() -> None:
    """Twenty thousand children of one root."""
    tree = build_tree([call("root"), *(call(f"{at}", "root", at=at) for at in range(20_000, 0, -1))])
    assert [node.span_id for node in tree.children(tree.roots[0])] == [f"{at}" for at in range(1, 20_001)]


def test_spans_of_other_runs_in_the_same_trace_are_left_out() -> None:
    """An agent whose calls are another run's is not in the tree, nor its tools; one without any call is."""
    spans = [
        span("server"),
        span("mine", "server"),
        span("tool", "mine"),
        span("theirs", "server"),
        span("their-tool", "theirs"),
        span("below-their-tool", "their-tool"),
        span("beside", "server"),
    ]
    tree = build_tree([call("c", "mine")], spans, others=[call("x", "theirs"), call("y", "server")])
    assert {node.span_id for node in tree.nodes} == {"server", "mine", "tool", "c", "beside"}
    assert tree.sums.calls == 1


def test_not_reported_is_not_zero() -> None:
    """A sum is None where no call reports the number, and 0 where one reports zero."""
    tree = build_tree([call("a", usage=Usage()), call("b", "a", usage=Usage(output_tokens=0, source="provider"))])
    sums = tree.sums
    assert (sums.input_tokens, sums.output_tokens, sums.without_usage) == (None, 0, 1)
    assert tree.nodes[1].sums.without_usage == 0


def test_json_names_each_node_and_its_parent() -> None:
    """The form that ``--json`` prints: flat, with positions, so that no depth breaks a reader."""
    values = json.loads(build_tree([call("a", id="x", run_id="r"), call("b", "a", at=1)]).to_json())
    assert [node["parent"] for node in values["nodes"]] == [None, 0]
    assert values["nodes"][0] | {"sums": 0} == {
        "index": 0, "parent": None, "depth": 0, "kind": "call", "name": "chat gpt-5", "trace_id": TRACE, "span_id": "a",
        "missing_parent": None, "is_cycle": False, "record_id": "x", "provider": "openai", "run_id": "r",
        "step_id": None, "agent_id": None, "error_type": None, "status": "ok",
        "started_at": "2026-01-31T12:00:00.000000000Z", "duration_ns": 1_000_000, "sums": 0,
    }  # fmt: skip
    assert values["sums"]["calls"] == 2


_ids = st.none() | st.sampled_from(["a", "b", "c", "d", "e", "f", ""])
_counts = st.none() | st.integers(0, 2**62)
_usages = st.builds(Usage, **dict.fromkeys(TOKENS, _counts), source=st.sampled_from(["provider", "partial", "none"]))
_calls = st.builds(
    call,
    _ids,
    _ids,
    st.integers(0, 3),
    trace_id=st.sampled_from([TRACE, OTHER_TRACE, None]),
    status=st.sampled_from(["ok", "error", "incomplete", "cancelled"]),
    duration_ns=st.integers(0, 2**62),
    usage=_usages,
)
_spans = st.builds(
    span, st.sampled_from("abcdef"), _ids, st.integers(0, 3), trace_id=st.sampled_from([TRACE, OTHER_TRACE])
)


@patient
@given(calls=st.lists(_calls, max_size=12), spans=st.lists(_spans, max_size=6), others=st.lists(_calls, max_size=3))
def test_each_call_is_counted_once(
    calls: list[ProviderTrace], spans: list[SpanRecord], others: list[ProviderTrace]
) -> None:
    """For all ids that there can be: each record is one node, and each sum is the plain sum over the nodes below."""
    tree = build_tree(calls, spans, others=others)
    assert sorted(record.id for record in tree.calls) == sorted(record.id for record in calls)
    assert_sums(tree.sums, calls)
    for node in tree.nodes:
        assert_sums(node.sums, [below.record for below in _subtree(tree, node) if below.record is not None])
        assert node.parent is None or node.index in tree.nodes[node.parent].children
        assert node.parent is None or node.index > node.parent
    assert [node.index for node in tree.nodes] == list(range(len(tree.nodes)))


def _subtree(tree: Tree, root: Node) -> list[Node]:
    nodes, waiting = [], [root]
    while waiting:
        nodes.append(waiting.pop())
        waiting += tree.children(nodes[-1])
    return nodes


def assert_sums(sums: Any, calls: Sequence[ProviderTrace]) -> None:
    assert sums.calls == len(calls)
    assert sums.failures == sum(record.status in FAILED for record in calls)
    assert sums.without_usage == sum(record.usage.source == "none" for record in calls)
    assert sums.duration_ns == sum(record.duration_ns for record in calls)
    for name in TOKENS:
        values = [value for record in calls if (value := getattr(record.usage, name)) is not None]
        assert getattr(sums, name) == (sum(values) if values else None)
