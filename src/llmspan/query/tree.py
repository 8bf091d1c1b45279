"""Calls as a tree: each record below the span that was current when the call was made, with sums at every node.

Pure: from records, and spans if there are any, to a :class:`Tree`. Each call is counted exactly once, whatever its ids
say; nothing recurses, so that Python's stack does not limit the depth. A parent that is not there leaves a root with a
mark.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .. import _json
from ..span_record import SpanRecord
from ..trace import FAILED, ProviderTrace, _format_time

__all__ = ["EMPTY_TREE", "TOKENS", "Node", "Sums", "Tree", "build_tree"]

#: the kinds of tokens that are summed up
TOKENS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")

_Key = tuple[str, str]


@dataclass(slots=True, kw_only=True)
class Sums:
    """Sums over calls. Tokens are None if no call reports them: not reported is not zero."""

    calls: int = 0
    #: calls that ended with ``error`` or ``incomplete``
    failures: int = 0
    #: calls that report no usage
    without_usage: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    #: the durations of the calls added up: more than the time that passed where calls overlap
    duration_ns: int = 0

    def add_call(self, record: ProviderTrace) -> None:
        """Count one call."""
        self.calls += 1
        self.failures += record.status in FAILED
        self.without_usage += record.usage.source == "none"
        self.duration_ns += record.duration_ns
        for name in TOKENS:
            self._add_tokens(name, getattr(record.usage, name))

    def add(self, other: Sums) -> None:
        """Count the calls of ``other``."""
        for name in ("calls", "failures", "without_usage", "duration_ns"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in TOKENS:
            self._add_tokens(name, getattr(other, name))

    def _add_tokens(self, name: str, value: int | None) -> None:
        if value is not None:
            setattr(self, name, (getattr(self, name) or 0) + value)

    def to_dict(self) -> dict[str, int | None]:
        """The sums by name."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """A call, a span, or a call with the span that was stored of it."""

    #: the call; None for a span between calls
    record: ProviderTrace | None = None
    span: SpanRecord | None = None
    #: the position in :attr:`Tree.nodes` of this node and of its parent, and how many nodes are above it
    index: int = 0
    parent: int | None = None
    depth: int = 0
    #: the positions of its children, the earliest first
    children: list[int] = field(default_factory=list[int])
    #: the span id of a parent that is in no store that was read: the node is a root for want of it
    missing_parent: str | None = None
    #: whether it is its own ancestor by what the ids say: the node is a root to end that
    is_cycle: bool = False
    #: the node's own call and those below it
    sums: Sums = field(default_factory=Sums)
    #: when the first of them began and the last of them ended, nanoseconds since the epoch
    started_at: int = 0
    ended_at: int = 0

    @property
    def name(self) -> str:
        """The span's name as the conventions have it: ``chat gpt-5``, ``execute_tool weather``."""
        if self.record is None:
            return self.span.name if self.span is not None else ""
        model = self.record.response_model or self.record.request_model
        return f"{self.record.operation} {model}" if model else self.record.operation

    @property
    def trace_id(self) -> str | None:
        """The trace, None for a call that was in none."""
        return self._source.trace_id

    @property
    def span_id(self) -> str | None:
        """The span's id, None for a call without a span."""
        return self._source.span_id

    @property
    def status(self) -> str:
        """A call's status; of a span ``error``, ``ok``, or nothing, as nobody set it."""
        if self.record is not None:
            return self.record.status
        return {"Error": "error", "Ok": "ok"}.get(self.span.status_code if self.span else "", "")

    @property
    def duration_ns(self) -> int:
        """How long the call or the span itself took."""
        return self._source.duration_ns

    @property
    def _source(self) -> ProviderTrace | SpanRecord:
        source = self.record or self.span
        if source is None:
            raise ValueError("a node has a record, a span, or both")
        return source

    def to_dict(self) -> dict[str, Any]:
        """The node with plain values; the record is named by its id."""
        record = self.record
        return {
            "index": self.index, "parent": self.parent, "depth": self.depth,
            "kind": "span" if record is None else "call", "name": self.name,
            "trace_id": self.trace_id, "span_id": self.span_id,
            "missing_parent": self.missing_parent, "is_cycle": self.is_cycle,
            "record_id": record and record.id, "provider": record and record.provider,
            "run_id": record and record.run_id, "step_id": record and record.step_id,
            "agent_id": record and record.agent_id, "error_type": record and record.error_type,
            "status": self.status or None,
            "started_at": _format_time(self._source.started_at), "duration_ns": self.duration_ns,
            "sums": self.sums.to_dict(),
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Node {self.index} {self.name!r} depth={self.depth} calls={self.sums.calls}>"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tree:
    """The calls that were asked for, with the spans between them; of several roots if there are several."""

    #: each node before its children, roots and children in the order of their start
    nodes: Sequence[Node]
    #: sums over all calls
    sums: Sums
    #: how many calls were left out, as there are more than the limit; the tree has the newest
    omitted: int = 0
    #: whether the store that was read can keep spans
    has_spans: bool = False

    @property
    def roots(self) -> list[Node]:
        """The nodes without a parent."""
        return [node for node in self.nodes if node.parent is None]

    @property
    def calls(self) -> list[ProviderTrace]:
        """The records, without payloads, in the order of the nodes."""
        return [node.record for node in self.nodes if node.record is not None]

    @property
    def started_at(self) -> int:
        """When the first node began, nanoseconds since the epoch; 0 without nodes."""
        return min((node.started_at for node in self.nodes), default=0)

    @property
    def ended_at(self) -> int:
        """When the last node ended, nanoseconds since the epoch; 0 without nodes."""
        return max((node.ended_at for node in self.nodes), default=0)

    def children(self, node: Node) -> list[Node]:
        """The nodes directly below ``node``."""
        return [self.nodes[index] for index in node.children]

    def to_json(self, costs: Sequence[Mapping[str, Any]] | None = None) -> str:
        """One JSON object: the sums, and the nodes as a flat list with the position of each one's parent.

        Args:
            costs: what is added to the sums of the tree, and behind it to those of each node in their order.
        """
        sums: dict[str, Any] = dict(self.sums.to_dict())
        nodes = [node.to_dict() for node in self.nodes]
        if costs is not None:
            sums |= costs[0]
            for node, cost in zip(nodes, costs[1:], strict=True):
                node["sums"] |= cost
        return _json.dumps(
            {"sums": sums, "elapsed_ns": self.ended_at - self.started_at, "omitted": self.omitted, "nodes": nodes}
        )

    def __repr__(self) -> str:
        return f"<Tree of {self.sums.calls} calls in {len(self.nodes)} nodes, {len(self.roots)} roots>"


#: the tree of a store that has none of our tables
EMPTY_TREE: Final = Tree(nodes=(), sums=Sums())


def build_tree(
    records: Iterable[ProviderTrace],
    spans: Iterable[SpanRecord] = (),
    *,
    others: Iterable[ProviderTrace] = (),
    omitted: int = 0,
    has_spans: bool = False,
) -> Tree:
    """The tree of ``records``.

    ``others`` are further records of the same traces that are not asked for, as of another run: they are no nodes, and
    spans with calls of theirs below them and none of ``records`` are left out.
    """
    nodes, by_key = _make_nodes(records, spans)
    parents = _find_parents(nodes, by_key)
    if foreign := [record for record in others if record.trace_id is not None]:
        nodes = _without_foreign_spans(nodes, parents, by_key, foreign)
    ordered = _in_order(nodes, parents)
    _sum_up(ordered)
    total = Sums()
    for node in ordered:
        if node.parent is None:
            total.add(node.sums)
    return Tree(nodes=ordered, sums=total, omitted=omitted, has_spans=has_spans)


def _make_nodes(records: Iterable[ProviderTrace], spans: Iterable[SpanRecord]) -> tuple[list[Node], dict[_Key, Node]]:
    """All nodes, the earliest first, and which of them others may name as their parent."""
    by_key: dict[_Key, Node] = {}
    nodes: list[Node] = []
    calls = {record.id: record for record in records}
    for record in sorted(calls.values(), key=lambda record: (record.started_at, record.id)):
        node = Node(record=record)
        nodes.append(node)
        if record.trace_id and record.span_id:  # of several calls with one span the earliest stands for it
            by_key.setdefault((record.trace_id, record.span_id), node)
    for span in spans:
        key = span.trace_id, span.span_id
        if key not in by_key:
            by_key[key] = Node(span=span)
            nodes.append(by_key[key])
        elif by_key[key].span is None:
            by_key[key].span = span
    for node in nodes:
        node.started_at = node._source.started_at
        node.ended_at = node.started_at + node.duration_ns
    nodes.sort(key=_by_start)
    return nodes, by_key


def _by_start(node: Node) -> tuple[int, int, str]:
    """By time, of one moment the longest first: a parent may begin with its child."""
    return node.started_at, -node.duration_ns, node.record.id if node.record else node.span_id or ""


def _find_parents(nodes: Sequence[Node], by_key: dict[_Key, Node]) -> dict[int, Node]:
    """The parent of each node that has one, by the node's ``id()``; the others are marked if theirs is missing."""
    parents: dict[int, Node] = {}
    for node in nodes:
        name = _parent_span_id(node)
        if name is None or node.trace_id is None:
            continue
        parent = by_key.get((node.trace_id, name))
        if parent is None:
            node.missing_parent = name
        elif parent is node:
            node.is_cycle = True
        else:
            parents[id(node)] = parent
    _break_cycles(nodes, parents)
    return parents


def _parent_span_id(node: Node) -> str | None:
    ids = (source.parent_span_id for source in (node.record, node.span) if source is not None)
    return next((value for value in ids if value), None)


def _break_cycles(nodes: Sequence[Node], parents: dict[int, Node]) -> None:
    """Make the earliest node of each cycle a root."""
    reaches_root: set[int] = set()
    # Each walk ends at a root, at a node of an earlier walk, or at a node of its own path: that is a cycle.
    for start in nodes:
        path: list[Node] = []
        seen: set[int] = set()
        node: Node | None = start
        while node is not None and id(node) not in reaches_root:
            if id(node) in seen:
                members = path[next(at for at, member in enumerate(path) if member is node) :]
                first = min(members, key=_by_start)
                first.is_cycle = True
                del parents[id(first)]
                break
            seen.add(id(node))
            path.append(node)
            node = parents.get(id(node))
        reaches_root |= seen


def _without_foreign_spans(
    nodes: Sequence[Node], parents: dict[int, Node], by_key: dict[_Key, Node], others: Sequence[ProviderTrace]
) -> list[Node]:
    """The nodes without spans that lead to calls of ``others`` only, and without what is below such spans."""
    own = _with_ancestors((node for node in nodes if node.record is not None), parents)
    ids = (
        (other.trace_id or "", span_id or "") for other in others for span_id in (other.span_id, other.parent_span_id)
    )
    foreign = _with_ancestors((by_key[key] for key in ids if key in by_key), parents) - own
    decided = dict.fromkeys(own, False) | dict.fromkeys(foreign, True)
    for start in nodes:  # what leads to no call at all is decided by the nearest node above it that does
        path: list[Node] = []
        node: Node | None = start
        while node is not None and id(node) not in decided:
            path.append(node)
            node = parents.get(id(node))
        is_foreign = node is not None and decided[id(node)]
        decided |= {id(member): is_foreign for member in path}
    return [node for node in nodes if not decided[id(node)]]


def _with_ancestors(nodes: Iterable[Node], parents: dict[int, Node]) -> set[int]:
    """The ``id()`` of all ``nodes`` and of their ancestors."""
    found: set[int] = set()
    for start in nodes:
        node: Node | None = start
        while node is not None and id(node) not in found:
            found.add(id(node))
            node = parents.get(id(node))
    return found


def _in_order(nodes: Sequence[Node], parents: dict[int, Node]) -> list[Node]:
    """The nodes with their positions, each before its children."""
    below: dict[int, list[Node]] = defaultdict(list)
    waiting: list[tuple[Node, Node | None]] = []
    for node in nodes:
        parent = parents.get(id(node))
        if parent is None:
            waiting.append((node, None))
        else:
            below[id(parent)].append(node)
    # The last of the list is taken next: roots and children are put there in reverse, so that the earliest is next.
    waiting.reverse()
    ordered: list[Node] = []
    while waiting:
        node, parent = waiting.pop()
        node.index = len(ordered)
        ordered.append(node)
        if parent is not None:
            node.parent = parent.index
            node.depth = parent.depth + 1
            parent.children.append(node.index)
        waiting.extend((child, node) for child in reversed(below[id(node)]))
    return ordered


def _sum_up(ordered: Sequence[Node]) -> None:
    """The sums of each node, from its own call and its children, which come after it."""
    # Children come after their parents, so that backwards each node is complete before it is added to its parent.
    for node in reversed(ordered):
        if node.record is not None:
            node.sums.add_call(node.record)
        if node.parent is not None:
            parent = ordered[node.parent]
            parent.sums.add(node.sums)
            parent.started_at = min(parent.started_at, node.started_at)
            parent.ended_at = max(parent.ended_at, node.ended_at)
