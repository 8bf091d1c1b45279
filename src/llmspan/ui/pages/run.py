"""A trace, a run or a conversation: its calls as a tree, and beside it when each of them ran."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from ...annotation import Annotation, value_text
from ...bills import tree_json
from ...cost import available
from ...query.tree import Node, Tree
from ...reader import Reader
from ..costs import cost_text, total_text
from ..note_forms import TRACE_NOTES, NoteForm, obstacle_of
from ..rendering import query_string, render, store_of, term

__all__ = ["run", "run_json"]

#: which id an address has, by the first segment of its path
KINDS: Final = {"trace": "trace_id", "run": "run_id", "conversation": "conversation_id"}
LIMIT: Final = 2_000
_DEEPEST_INDENT: Final = 24
#: notes on the page, and links to traces that can be annotated
_MOST_NOTES: Final = 20
_MOST_TRACES: Final = 10


@dataclass(frozen=True, slots=True)
class Row:
    """A node with its place in the tree and in time; ``x`` and ``width`` are thousandths of the run."""

    node: Node
    indent: int
    x: int
    width: int
    cost: str


@dataclass(frozen=True, slots=True)
class Notes:
    """Notes of a run's calls and traces, and a form for each of its traces."""

    notes: Sequence[Annotation]
    forms: Sequence[NoteForm]


async def run(request: Request) -> Response:
    """The page of a trace, a run or a conversation."""
    kind, value = _asked(request)

    def load(reader: Reader) -> tuple[Tree, Notes]:
        tree = _tree(reader, kind, value)
        return tree, _notes(request, reader, kind, value, tree)

    tree, notes = await store_of(request).run(load)
    if not tree.nodes:
        text = f"There is no {kind} {value!r} in this store."
        return render(request, "problem.html", {"title": f"No such {kind}", "text": text, "remedy": None}, status=404)
    # in a thread: two thousand prices and rows take a second, in which other pages are to be answered
    return await asyncio.to_thread(
        lambda: render(
            request, "run.html", {"kind": kind, "value": value, "notes": notes, **_values(kind, value, tree)}
        )
    )


async def run_json(request: Request) -> Response:
    """The tree as ``llmspan show --run-id ... --json`` prints it."""
    kind, value = _asked(request)

    def load(reader: Reader) -> str:
        tree = _tree(reader, kind, value)
        return tree_json(tree, reader.cost_of if available(reader.own_prices) else None)

    return Response(f"{await store_of(request).run(load)}\n", media_type="application/json")


def _asked(request: Request) -> tuple[str, str]:
    """Which kind of id the address has, and the id."""
    return request.url.path.removeprefix("/json").split("/")[1], request.path_params["id"]


def _tree(reader: Reader, kind: str, value: str) -> Tree:
    ids: Mapping[str, str] = {KINDS[kind]: value}
    return reader.tree(limit=LIMIT, **ids)


def _notes(request: Request, reader: Reader, kind: str, value: str, tree: Tree) -> Notes:
    """Notes of the calls and of their traces; the form is for the trace, if there is one only."""
    annotations = reader.annotations_of(tree.calls, limit=_MOST_NOTES)
    trace_ids = list(dict.fromkeys(record.trace_id for record in tree.calls if record.trace_id))
    obstacle = obstacle_of(request, reader)
    forms = [NoteForm(TRACE_NOTES, name, kind, value, obstacle) for name in trace_ids[:_MOST_TRACES]]
    return Notes(annotations, forms)


def _values(kind: str, value: str, tree: Tree) -> dict[str, Any]:
    return {
        "tree": tree,
        "rows": list(_rows(tree)),
        "elapsed": tree.ended_at - tree.started_at,
        "total_cost": total_text(tree.calls),
        "selection": term(KINDS[kind], value),
        "calls_address": f"/{query_string(q=term(KINDS[kind], value))}",
        "note": _note(tree),
        "value_text": value_text,
    }


def _rows(tree: Tree) -> Iterable[Row]:
    start, length = tree.started_at, max(tree.ended_at - tree.started_at, 1)
    for node in tree.nodes:
        # a node's own times: those of the tree take in what is below it, which may have begun before and ended later
        own = node.record.started_at if node.record else node.started_at
        x = 1000 * (own - start) // length
        width = max(1000 * node.duration_ns // length, 3)
        cost = "" if node.record is None else cost_text(node.record)
        yield Row(node, min(node.depth, _DEEPEST_INDENT) * 16, min(x, 997), min(width, 1000 - min(x, 997)), cost)


def _note(tree: Tree) -> str | None:
    """Why the tree may be flatter than the program was."""
    if tree.omitted:
        return f"{tree.omitted:,} older calls are left out."
    if not tree.has_spans:
        return "This store keeps no spans: agents and tools between the calls are not shown."
    if all(node.span is None for node in tree.nodes):
        return "No spans between these calls were stored; LLMSPAN_SPANS says which ones are."
    return None
