"""What differs between two calls, and between two runs step by step. Pure: nothing here asks a store.

A step of one run is compared with the step of the other in the same place; what has no counterpart is there on one side
only. Long texts are cut before they are compared, and the lines of a comparison have a limit, which it says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any, Final, Literal

from ..conversation import Turn, request_turns, response_turns
from ..cost import Cost, plain_amount
from ..trace import ProviderTrace
from .tree import TOKENS, Node, Tree

__all__ = [
    "CallComparison",
    "Change",
    "Line",
    "Number",
    "RunComparison",
    "compare_calls",
    "compare_runs",
    "paired_steps",
]

#: characters of one turn, or of one value, that are compared
_LONGEST: Final = 20_000
#: lines of one turn that are compared
_MOST_LINES: Final = 500
#: pairs of lines of which each is tried
_MOST_PAIRS: Final = 40_000
#: turns of one request that are compared
_MOST_TURNS: Final = 1_000
#: members of a request that are its conversation
_CONVERSATION: Final = frozenset({
    "messages", "input", "prompt", "system", "instructions", "contents", "systemInstruction", "system_instruction",
    "tools",
})  # fmt: skip
_FACTS: Final = (
    "provider", "operation", "request_model", "response_model", "status", "finish_reasons", "error_type",
    "error_message", "http_status", "service_tier", "stream", "attempts",
)  # fmt: skip

CostOf = Callable[[ProviderTrace], Cost | None]


@dataclass(frozen=True, slots=True)
class Change:
    """A value that differs; None where it is not there. Lists and objects are JSON text."""

    name: str
    first: str | None
    second: str | None


@dataclass(frozen=True, slots=True)
class Number:
    """A count, a duration in nanoseconds, or an amount in the currency of ``unit``; None is not reported."""

    name: str
    first: int | Decimal | None
    second: int | Decimal | None
    unit: str = ""

    @property
    def difference(self) -> int | Decimal | None:
        """The second less the first; None unless both are there."""
        return None if self.first is None or self.second is None else self.second - self.first


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a conversation: ``-`` of the first call, ``+`` of the second; ``@`` says who spoke and how."""

    sign: Literal["-", "+", " ", "@"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallComparison:
    """Two calls; or one call, where a step of a run has no counterpart."""

    first_id: str | None
    second_id: str | None
    name: str
    facts: Sequence[Change] = ()
    parameters: Sequence[Change] = ()
    tools: Sequence[Change] = ()
    messages: Sequence[Line] = ()
    answer: Sequence[Line] = ()
    numbers: Sequence[Number] = ()
    #: turns of the request that are the same
    same_messages: int = 0
    #: lines that are not here, as there are too many
    omitted_lines: int = 0
    #: why the conversation is not compared; empty if it is
    note: str = ""

    @property
    def is_same(self) -> bool:
        """Whether nothing but numbers differs."""
        is_pair = self.first_id is not None and self.second_id is not None
        return is_pair and not (self.facts or self.parameters or self.tools or self.messages or self.answer)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON has it; amounts are texts."""
        values = asdict(self) | {"kind": "call", "is_same": self.is_same}
        return values | {"numbers": _numbers_dict(self.numbers)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """Two traces, runs or conversations."""

    first: str
    second: str
    steps: Sequence[CallComparison]
    numbers: Sequence[Number]
    #: steps that are not here, as there are too many
    omitted_steps: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON has it; amounts are texts."""
        return {
            "kind": "run", "first": self.first, "second": self.second, "numbers": _numbers_dict(self.numbers),
            "steps": [step.to_dict() for step in self.steps], "omitted_steps": self.omitted_steps,
        }  # fmt: skip


def compare_calls(
    first: ProviderTrace | None, second: ProviderTrace | None, cost_of: CostOf, *, most_lines: int = 200
) -> CallComparison:
    """Compare two calls with their payloads; one of them may be missing."""
    numbers = _call_numbers(first, second, cost_of)
    present = first or second
    name = "" if present is None else _call_name(present)
    if first is None or second is None:
        return CallComparison(first_id=first and first.id, second_id=second and second.id, name=name, numbers=numbers)
    facts = _changes({key: _fact(first, key) for key in _FACTS}, {key: _fact(second, key) for key in _FACTS})
    if note := _missing_payload(first, second):
        return CallComparison(
            first_id=first.id, second_id=second.id, name=name, facts=facts, numbers=numbers, note=note
        )
    messages, same = _turn_lines(_turns(first, request_turns), _turns(second, request_turns), most_lines)
    answer, _ = _turn_lines(_turns(first, response_turns), _turns(second, response_turns), most_lines)
    bodies = _body(first), _body(second)
    return CallComparison(
        first_id=first.id,
        second_id=second.id,
        name=name,
        facts=facts,
        parameters=_changes(*map(_parameters, bodies)),
        tools=_changes(*map(_tools, bodies)),
        messages=messages[:most_lines],
        answer=answer[:most_lines],
        numbers=numbers,
        same_messages=same,
        omitted_lines=max(len(messages) - most_lines, 0) + max(len(answer) - most_lines, 0),
    )


def paired_steps(first: Tree, second: Tree) -> list[tuple[ProviderTrace | None, ProviderTrace | None]]:
    """The calls of two runs, each beside the one in its place, in the order of time.

    Calls of the same step (``step_id``) belong together; others by what they are and below which span they were made.
    """
    calls = [[node for node in tree.nodes if node.record is not None] for tree in (first, second)]
    for nodes in calls:
        nodes.sort(key=lambda node: (node.started_at, node.index))
    steps = {node.record.step_id for node in calls[0] if node.record} & {
        node.record.step_id for node in calls[1] if node.record
    }
    keys = [
        [_step_key(tree, node, steps) for node in nodes] for tree, nodes in zip((first, second), calls, strict=True)
    ]
    records = [[node.record for node in nodes] for nodes in calls]
    pairs: list[tuple[ProviderTrace | None, ProviderTrace | None]] = []
    for _, low, high, from_, to in SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_opcodes():
        pairs += zip_longest(records[0][low:high], records[1][from_:to])
    return pairs


def compare_runs(
    names: tuple[str, str], trees: tuple[Tree, Tree], steps: Sequence[CallComparison], cost_of: CostOf, *, omitted: int
) -> RunComparison:
    """The comparison of two runs whose steps have been compared."""
    sums = [tree.sums for tree in trees]
    numbers = [_number(name, *(getattr(one, name) for one in sums)) for name in ("calls", "failures", *TOKENS)]
    numbers += _cost_numbers(*(_total(tree, cost_of) for tree in trees))
    numbers.append(_number("elapsed_ns", *(tree.ended_at - tree.started_at for tree in trees)))
    return RunComparison(first=names[0], second=names[1], steps=steps, numbers=numbers, omitted_steps=omitted)


# -- numbers


def _call_numbers(first: ProviderTrace | None, second: ProviderTrace | None, cost_of: CostOf) -> list[Number]:
    sides = (first, second)
    numbers = [_number(name, *(side and getattr(side.usage, name) for side in sides)) for name in TOKENS]
    numbers += _cost_numbers(*({} if side is None else _amounts([cost_of(side)]) for side in sides))
    for name in ("duration_ns", "time_to_first_chunk_ns"):
        numbers.append(_number(name, *(side and getattr(side, name) for side in sides)))
    return numbers


def _number(name: str, first: int | None, second: int | None) -> Number:
    return Number(name, first, second)


def _total(tree: Tree, cost_of: CostOf) -> Mapping[str, Decimal]:
    return _amounts(cost_of(node.record) for node in tree.nodes if node.record is not None)


def _amounts(costs: Iterable[Cost | None]) -> Mapping[str, Decimal]:
    """The sums by currency; nothing if one of the prices is not known: it would be no sum."""
    sums: dict[str, Decimal] = {}
    for cost in costs:
        if cost is None or cost.amount is None or cost.currency is None:
            return {}
        sums[cost.currency] = sums.get(cost.currency, Decimal(0)) + cost.amount
    return sums


def _cost_numbers(first: Mapping[str, Decimal], second: Mapping[str, Decimal]) -> list[Number]:
    currencies = dict.fromkeys((*first, *second))
    return [Number("cost", first.get(currency), second.get(currency), currency) for currency in currencies]


def _numbers_dict(numbers: Iterable[Number]) -> list[dict[str, Any]]:
    def plain(value: int | Decimal | None) -> int | str | None:
        return plain_amount(value) if isinstance(value, Decimal) else value

    return [
        {
            "name": number.name, "unit": number.unit or None, "first": plain(number.first),
            "second": plain(number.second), "difference": plain(number.difference),
        }
        for number in numbers
    ]  # fmt: skip


# -- values


def _call_name(record: ProviderTrace) -> str:
    return f"{record.operation} {record.response_model or record.request_model or ''}".strip()


def _fact(record: ProviderTrace, key: str) -> Any:
    value = getattr(record, key)
    return list(value) if isinstance(value, tuple) else value


def _changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Change]:
    """The members that differ, in their order; empty lists and nulls are not there."""
    names = dict.fromkeys((*first, *second))
    texts = ((name, _text(first.get(name)), _text(second.get(name))) for name in names)
    return [Change(name, _cut_value(before), _cut_value(after)) for name, before, after in texts if before != after]


def _text(value: Any) -> str | None:
    if value is None or value == []:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _cut_value(text: str | None) -> str | None:
    return None if text is None else _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def _body(record: ProviderTrace) -> Mapping[str, Any]:
    try:
        body = json.loads(record.request_json or "null")
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _parameters(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in body.items() if name not in _CONVERSATION}


def _tools(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The definitions of the tools by their names."""
    tools = body.get("tools")
    definitions: dict[str, Any] = {}
    for position, tool in enumerate(tools if isinstance(tools, list) else []):
        inner = tool.get("function", tool) if isinstance(tool, dict) else {}
        name = inner.get("name") or inner.get("type") if isinstance(inner, dict) else None
        label = str(name or f"tool {position + 1}")
        definitions[label if label not in definitions else f"{label} ({position + 1})"] = tool
    return definitions


# -- conversations


def _missing_payload(first: ProviderTrace, second: ProviderTrace) -> str:
    missing = [record.id for record in (first, second) if record.request_json is None and record.response_json is None]
    return f"the payload of {' and of '.join(missing)} was not stored" if missing else ""


def _turns(record: ProviderTrace, read: Callable[[str | None], list[Turn]]) -> list[Turn]:
    text = record.request_json if read is request_turns else record.response_json
    return [turn for turn in read(text) if turn.label != "tools"]


def _turn_lines(first: Sequence[Turn], second: Sequence[Turn], most_lines: int) -> tuple[list[Line], int]:
    """The lines of the turns that differ, and how many turns do not.

    Turns are compared line by line until there are twice the lines that anybody sees; the others stand there as a
    whole, so that two long conversations take no minutes.
    """
    lines: list[Line] = []
    same = 0
    turns = first[:_MOST_TURNS], second[:_MOST_TURNS]
    for tag, low, high, from_, to in SequenceMatcher(None, *turns, autojunk=False).get_opcodes():
        if tag == "equal":
            same += high - low
            continue
        for old, new in zip_longest(first[low:high], second[from_:to]):
            if len(lines) < 2 * most_lines:
                lines += _lines_of(old, new)
            else:
                lines += [*_whole("-", old), *_whole("+", new)]
    if first[_MOST_TURNS:] != second[_MOST_TURNS:]:
        lines.insert(0, Line(" ", f"... differs behind the first {_MOST_TURNS:,} messages, which are compared"))
    return lines, same


def _lines_of(old: Turn | None, new: Turn | None) -> list[Line]:
    if old is None or new is None or (old.role, old.kind, old.label) != (new.role, new.kind, new.label):
        return [*_whole("-", old), *_whole("+", new)]
    before, after = (_cut(turn.text).splitlines()[:_MOST_LINES] for turn in (old, new))
    lines = [_heading(" ", old)]
    # a line that is there again and again would be tried beside each of the others
    has_many_pairs = len(before) * len(after) > _MOST_PAIRS
    for tag, low, high, from_, to in SequenceMatcher(None, before, after, autojunk=has_many_pairs).get_opcodes():
        if tag == "equal":
            lines += [Line(" ", text) for text in before[low:high][:1]]
            lines += [Line(" ", f"... {high - low - 1} more lines that are the same")] if high - low > 1 else []
        else:
            lines += [Line("-", text) for text in before[low:high]] + [Line("+", text) for text in after[from_:to]]
    is_cut = any(len(turn.text) > _LONGEST or len(turn.text.splitlines()) > _MOST_LINES for turn in (old, new))
    if is_cut:
        lines.append(Line(" ", f"... the rest is not compared ({len(old.text)}, {len(new.text)} characters)"))
    elif all(line.sign in " @" for line in lines):  # line breaks, or another part of the turns
        lines.append(Line(" ", f"... differs in its line breaks ({len(old.text)}, {len(new.text)} characters)"))
    return lines


def _whole(sign: Literal["-", "+"], turn: Turn | None) -> list[Line]:
    if turn is None:
        return []
    texts = _cut(turn.text).splitlines()
    remainder = [Line(sign, f"... {len(texts) - _MOST_LINES} more lines")] if len(texts) > _MOST_LINES else []
    return [_heading(sign, turn), *(Line(sign, text) for text in texts[:_MOST_LINES]), *remainder]


def _heading(sign: str, turn: Turn) -> Line:
    kind = "" if turn.kind == "text" else f" {turn.kind}"
    return Line("@", f"{sign} {turn.role}{kind} {turn.label}".rstrip())


def _step_key(tree: Tree, node: Node, steps: set[str | None]) -> tuple[str, ...]:
    record = node.record
    if record is not None and record.step_id is not None and record.step_id in steps:
        return ("step", record.step_id)
    parent = "" if node.parent is None else tree.nodes[node.parent].name
    return ("call", parent, "" if record is None else record.operation)
