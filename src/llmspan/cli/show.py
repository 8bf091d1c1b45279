"""``llmspan show``: one call, as a conversation with its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from . import options
from .output import echo
from .zone import utc_option

if TYPE_CHECKING:
    from ..reader import Reader
    from ..trace import ProviderTrace

__all__ = ["show"]

_LONGEST = 4_000


@click.command()
@click.argument("record_id", metavar="[ID]", required=False)
@click.option("--last", is_flag=True, help="The newest call; also without any argument.")
@click.option("--step-id", metavar="STEP", help="All calls of a step, the oldest first.")
@click.option("--full", is_flag=True, help="Do not cut long texts; show the definitions of tools.")
@utc_option
@options.as_json
@options.store
def show(
    *,
    record_id: str | None,
    last: bool,
    step_id: str | None,
    full: bool,
    as_json: bool,
    backend: str | None,
    db: str | None,
) -> None:
    """Show a call: the last, by ID or by step."""
    if sum((record_id is not None, last, step_id is not None)) > 1:
        raise click.UsageError("give one of ID, --last and --step-id")
    with options.open_reader(backend, db) as reader:
        traces = _wanted(reader, record_id, step_id)
    if as_json:
        for trace in traces:
            echo(trace.to_json_line())
        return
    _print(traces, full=full)


def _wanted(reader: Reader, record_id: str | None, step_id: str | None) -> Sequence[ProviderTrace]:
    where = f"{reader.backend.name} ({reader.backend.location})"
    if record_id is not None:
        matches = reader.find(record_id)
        short = "; give at least 8 characters of the id" if len(record_id) < 8 else ""
        return _found([matches], f"no call {record_id!r} in {where}{short}")
    if step_id is not None:
        return _found(reader.list_by_step_id(step_id), f"no call of step {step_id!r} in {where}")
    newest = reader.list(limit=1).traces
    return _found([reader.get(trace.id) for trace in newest], f"no calls in {where} yet; start one with `llmspan run`")


def _found(traces: Sequence[ProviderTrace | None], otherwise: str) -> Sequence[ProviderTrace]:
    records = [trace for trace in traces if trace is not None]
    if not records:
        raise click.ClickException(otherwise)
    return records


def _print(traces: Sequence[ProviderTrace], *, full: bool) -> None:
    from .render import call, terminal

    console = terminal()
    for trace in traces:
        console.print(call(trace, longest=None if full else _LONGEST, full_tools=full))
