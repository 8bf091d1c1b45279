"""The verdict on one cell: each HTTP call has one record and one span with usage, at its place in the trace.

What carries usage is found by the attribute names of every dialect that the peers write. The span of an agent, a
workflow or a tool may carry the sum of its calls; it stands for no call, and is not counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from standin import Answered

#: (input tokens, output tokens) as the dialects name them
USAGE_NAMES = (
    ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"),
    ("llm.token_count.prompt", "llm.token_count.completion"),
    ("gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens"),
)
#: Langfuse writes one JSON object
LANGFUSE_USAGE = "langfuse.observation.usage_details"
#: attribute -> its values on spans around calls
AROUND = {
    "gen_ai.operation.name": {"invoke_agent", "create_agent", "execute_tool", "invoke_workflow", "plan"},
    "openinference.span.kind": {"AGENT", "CHAIN", "TOOL"},
}


@dataclass(frozen=True)
class Cell:
    """What was counted in one cell, what is wrong with it, and what is worth knowing but not wrong."""

    calls: int
    records: int
    spans: int
    #: the instrumentation scopes of the spans with usage
    scopes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def judge(
    root: Any,
    spans: Sequence[Any],
    records: Sequence[Any],
    calls: Sequence[Answered],
    *,
    logs_usage: bool = False,
) -> Cell:
    """Compare what was made of a cell's calls below the span ``root`` (a ``SpanContext``) with the calls.

    ``logs_usage``: the peer's span of a stream ends before the stream begins, and a log of the peer's, which is a span
    beside it, carries the usage.
    """
    records = [record for record in records if record.operation != "count_tokens"]
    with_usage = [span for span in spans if carries_usage(span)]
    beside = _logs(spans, with_usage) if logs_usage else {}
    faults = [
        *_records(records, calls),
        *_spans([*with_usage, *beside.values()], records),
        *_places(root, spans, with_usage, records),
    ]
    if len(with_usage) != len(calls):
        names = ", ".join(f"{span.name} ({span.instrumentation_scope.name})" for span in with_usage)
        faults.insert(0, f"{len(with_usage)} spans with usage for {len(calls)} calls: {names or 'none'}")
    if not calls:
        faults.insert(0, "no call reached the provider")
    scopes = sorted({span.instrumentation_scope.name for span in with_usage})
    return Cell(len(calls), len(records), len(with_usage), scopes, faults, list(_remarks(with_usage, records)))


def carries_usage(span: Any) -> bool:
    """Whether a backend that sums usage would count this span as a call."""
    attributes = span.attributes or {}
    if any(attributes.get(name) in values for name, values in AROUND.items()):
        return False
    return any(usage != (None, None) for usage in usages(attributes))


def usages(attributes: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """The token counts on a span, once for each dialect that it speaks."""
    for names in USAGE_NAMES:
        if any(name in attributes for name in names):
            yield attributes.get(names[0]), attributes.get(names[1])
    if LANGFUSE_USAGE in attributes:
        details = json.loads(attributes[LANGFUSE_USAGE])
        yield (
            _first(details, "input", "prompt_tokens", "input_tokens"),
            _first(details, "output", "completion_tokens", "output_tokens"),
        )


def _first(details: Mapping[str, Any], *names: str) -> Any:
    return next((details[name] for name in names if name in details), None)


def _logs(spans: Sequence[Any], with_usage: Sequence[Any]) -> dict[int, Any]:
    """For each span with usage, the span of the call that it is a log of: one before it, beside it, of its scope."""
    found: dict[int, Any] = {}
    for log in with_usage:
        for span in spans:
            if (
                _are_siblings(span, log)
                and span not in with_usage
                and span not in found.values()
                and log.context.span_id not in found
            ):
                found[log.context.span_id] = span
    return found


def _are_siblings(one: Any, other: Any) -> bool:
    """By id: the parent of a log may have gone through a carrier, and then counts as remote."""
    parents = [span.parent and span.parent.span_id for span in (one, other)]
    return parents[0] == parents[1] and one.instrumentation_scope.name == other.instrumentation_scope.name


def _records(records: Sequence[Any], calls: Sequence[Answered]) -> Iterator[str]:
    if len(records) != len(calls):
        yield f"{len(records)} records for {len(calls)} calls"
        return
    stored = sorted(_facts(r.response_id, r.usage.input_tokens, r.usage.output_tokens) for r in records)
    answered = sorted(_facts(c.response_id, c.input_tokens, c.output_tokens) for c in calls)
    if stored != answered:
        yield f"records {stored} for calls {answered}"
    yield from (f"a record is {record.status}" for record in records if record.status != "ok")


def _facts(*values: Any) -> tuple[str, ...]:
    return tuple(str(value) for value in values)


def _spans(with_usage: Sequence[Any], records: Sequence[Any]) -> Iterator[str]:
    ids = {f"{span.context.span_id:016x}": span for span in with_usage}
    taken = [record.span_id for record in records]
    if len(set(taken)) != len(taken):
        yield "two records have one span"
    for record in records:
        span = ids.get(record.span_id or "")
        if span is None:
            yield f"a record names span {record.span_id}, which carries no usage"
        elif f"{span.context.trace_id:032x}" != record.trace_id:
            yield f"a record names trace {record.trace_id}, which is not its span's"


def _places(root: Any, spans: Sequence[Any], with_usage: Sequence[Any], records: Sequence[Any]) -> Iterator[str]:
    by_id = {span.context.span_id: span for span in spans}
    agents = {span.context.span_id for span in spans if is_agent(span)}
    counted = {span.context.span_id for span in with_usage}
    parents = {record.span_id: record.parent_span_id for record in records}
    for span in with_usage:
        above = list(_ancestors(span, by_id))
        if root.span_id not in above:
            yield f"{span.name} is not below the span of the program"
        if counted.intersection(above):
            yield f"{span.name} is below another span with usage"
        if agents and agents.isdisjoint(above):
            yield f"{span.name} is not below the agent's span"
        own = f"{span.context.span_id:016x}"
        if own in parents and parents[own] != (f"{span.parent.span_id:016x}" if span.parent else None):
            yield f"the record of {span.name} names another parent than its span"


def is_agent(span: Any) -> bool:
    """Whether a span is that of an agent."""
    attributes = span.attributes or {}
    return attributes.get("gen_ai.operation.name") == "invoke_agent" or (
        attributes.get("openinference.span.kind") == "AGENT"
    )


def _ancestors(span: Any, by_id: Mapping[int, Any]) -> Iterator[int]:
    while span is not None and span.parent is not None:
        yield span.parent.span_id
        span = by_id.get(span.parent.span_id)


def _remarks(with_usage: Sequence[Any], records: Sequence[Any]) -> Iterator[str]:
    """Numbers of a peer that differ from the provider's: what a peer has written is not overwritten."""
    stored = {record.span_id: (record.usage.input_tokens, record.usage.output_tokens) for record in records}
    for span in with_usage:
        usage = stored.get(f"{span.context.span_id:016x}")
        for found in usages(span.attributes):
            if usage is not None and found != usage:
                yield f"{span.instrumentation_scope.name} says {found}, the provider {usage}"
