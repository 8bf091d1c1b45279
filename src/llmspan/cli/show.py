"""``llmspan show``: one call as a conversation with its numbers, or the calls of a run as a tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from . import options
from .output import echo
from .zone import utc_option

if TYPE_CHECKING:
    from ..annotation import Annotation
    from ..backends.base import Filters
    from ..own_prices import OwnPrices
    from ..query.snippets import Snippet
    from ..reader import Reader
    from ..trace import ProviderTrace

__all__ = ["show"]

_LONGEST = 4_000


@click.command()
@click.argument("record_id", metavar="[ID]", required=False)
@click.option("--last", is_flag=True, help="The newest call; also without any argument.")
@click.option("--failed", is_flag=True, help="The newest call that failed: status error or incomplete.")
@options.where_option
@options.all_option
@click.option("--step-id", metavar="STEP", help="All calls of a step, the oldest first.")
@click.option("--trace-id", metavar="ID", help="All calls of a trace, as a tree.")
@click.option("--run-id", metavar="ID", help="All calls of a run, as a tree.")
@click.option("--conversation-id", metavar="ID", help="All calls of a conversation, as a tree.")
@click.option("--limit", type=click.IntRange(1), default=1_000, show_default=True, help="So many calls of a tree.")
@click.option("--cost/--no-cost", default=True, help="What the call cost, if there are prices; shown by default.")
@click.option("--full", is_flag=True, help="Do not cut long texts; show the definitions of tools.")
@utc_option
@options.as_json
@options.store
def show(
    *,
    record_id: str | None,
    last: bool,
    failed: bool,
    where: tuple[str, ...],
    step_id: str | None,
    trace_id: str | None,
    run_id: str | None,
    conversation_id: str | None,
    limit: int,
    cost: bool,
    full: bool,
    as_json: bool,
    backend: str | None,
    db: str | None,
) -> None:
    """Show a call, or a trace, run or conversation as a tree."""
    ids = {"trace_id": trace_id, "run_id": run_id, "conversation_id": conversation_id}
    named = {name: value for name, value in ids.items() if value is not None}
    is_newest = last or failed or bool(where)
    if sum((record_id is not None, is_newest, step_id is not None, *(True for _ in named))) > 1:
        raise click.UsageError(
            "give one of ID, --step-id, --trace-id, --run-id, --conversation-id, or --last, --failed, --where"
        )
    if named:
        _show_tree(named, limit, cost=cost, as_json=as_json, backend=backend, db=db)
        return
    filters = _newest_filters(where, failed=failed)
    with options.open_reader(backend, db) as reader:
        traces = _wanted(reader, record_id, step_id, filters)
        annotations = {
            record.id: reader.annotations(record_id=record.id, trace_id=record.trace_id) for record in traces
        }
        own = reader.own_prices if cost and not as_json else None
        snippets = reader.snippets(traces, filters)
    if as_json:
        from ..annotation import annotated_json_line

        for record in traces:
            echo(annotated_json_line(record, annotations[record.id]))
        return
    _print(traces, annotations, own, snippets, full=full)


def _show_tree(
    ids: dict[str, str], limit: int, *, cost: bool, as_json: bool, backend: str | None, db: str | None
) -> None:
    from ..bills import Bill, tree_bills, tree_json
    from ..cost import available
    from .render import terminal
    from .tree import print_tree

    (key, value), *_ = ids.items()
    kind = key.removesuffix("_id")
    with options.open_reader(backend, db) as reader:
        tree = reader.tree(**ids, limit=limit)
        if not tree.nodes:
            raise click.ClickException(
                f"no call of {kind} {value!r} in {reader.backend.name} ({reader.backend.location})"
            )
        if as_json:
            echo(tree_json(tree, reader.cost_of if cost and available(reader.own_prices) else None))
            return
        bill = Bill()
        if cost and available(reader.own_prices):
            bills = tree_bills(tree, reader.cost_of)
            for root in tree.roots:
                bill.add_bill(bills[root.index])
    print_tree(terminal(80), tree, f"{kind} {value}", bill if bill.priced or bill.unpriced else None)


def _newest_filters(where: tuple[str, ...], *, failed: bool) -> Filters:
    from ..query.conditions import Condition, Equal
    from ..trace import FAILED

    filters = options.filters(None, None, where)
    if not failed:
        return filters
    # beside the choice of --where, which may name one of them
    failures = Condition("status", tuple(Equal(status) for status in FAILED))
    return replace(filters, conditions=(*filters.conditions, failures))


def _wanted(reader: Reader, record_id: str | None, step_id: str | None, filters: Filters) -> Sequence[ProviderTrace]:
    from ..backends.base import Filters

    where = f"{reader.backend.name} ({reader.backend.location})"
    if record_id is not None:
        matches = reader.find(record_id)
        short = "; give at least 8 characters of the id" if len(record_id) < 8 else ""
        return _found([matches], f"no call {record_id!r} in {where}{short}")
    if step_id is not None:
        return _found(reader.list_by_step_id(step_id), f"no call of step {step_id!r} in {where}")
    newest = reader.list(filters, limit=1).traces
    return _found([reader.get(record.id) for record in newest], options.nothing(reader, chosen=filters != Filters()))


def _found(traces: Sequence[ProviderTrace | None], otherwise: str) -> Sequence[ProviderTrace]:
    records = [record for record in traces if record is not None]
    if not records:
        raise click.ClickException(otherwise)
    return records


def _print(
    traces: Sequence[ProviderTrace],
    annotations: Mapping[str, Sequence[Annotation]],
    own: OwnPrices | None,
    snippets: Mapping[str, Snippet],
    *,
    full: bool,
) -> None:
    from ..cost import available, cost_of
    from .annotation_lines import annotation_lines
    from .render import call, snippet_text, terminal

    console = terminal()
    with_cost = own is not None and available(own)
    for record in traces:
        cost = cost_of(record, own) if with_cost else None
        if record.id in snippets:
            console.print(snippet_text(snippets[record.id]))
        console.print(call(record, longest=None if full else _LONGEST, full_tools=full, cost=cost))
        for line in annotation_lines(annotations[record.id]):
            console.print(line)
