"""How records look in a terminal: pure functions from ``ProviderTrace`` to what rich can print.

What was not reported is ``-``, never 0. Payloads are other people's text: it is printed as text, without markup, and
control characters in it are made visible instead of being obeyed by the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ..conversation import Turn, request_turns, response_turns
from ..cost import Cost
from ..estimate import ESTIMATED_INPUT, ESTIMATED_OUTPUT
from ..printable import printable, printable_lines
from ..query.snippets import Snippet
from ..semconv import CAUSED_BY
from ..trace import ProviderTrace
from ..usage import Usage
from ..usage_notes import SOURCE_NOTES, usage_note
from .output import symbol
from .zone import clock_time

__all__ = [
    "SHORT_ID",
    "call",
    "clean",
    "clean_lines",
    "count",
    "counts_of",
    "failure_of",
    "milliseconds",
    "model_of",
    "money",
    "snippet_text",
    "status_of",
    "terminal",
    "timing",
    "usage",
]

#: columns of what is printed to no terminal
_PLAIN_WIDTH: Final = 120
#: so many characters of an id (a UUIDv7) distinguish calls of different milliseconds
SHORT_ID: Final = 18
_BAR: Final = 40
_LEAST_BAR: Final = 4
_CAUSE_WIDTH: Final = 80
_ESTIMATES: Final = frozenset({ESTIMATED_INPUT, ESTIMATED_OUTPUT})

_STATUS: Final = {
    "ok": "green",
    "error": "bold red",
    "cancelled": "yellow",
    "closed_early": "yellow",
    "incomplete": "magenta",
}
_ROLE: Final = {"system": "blue", "user": "cyan", "assistant": "green", "tool": "magenta"}


def terminal(minimum_width: int = 0) -> Console:
    """Where to print; ``minimum_width`` columns at least: a line that wraps is better than numbers cut off."""
    console = Console()
    return Console(width=max(console.width if console.is_terminal else _PLAIN_WIDTH, minimum_width))


def call(
    record: ProviderTrace, *, longest: int | None = None, full_tools: bool = False, cost: Cost | None = None
) -> RenderableType:
    """A call; ``longest`` cuts each turn to so many characters, ``full_tools`` shows the definitions of tools."""
    failure = _error(record)
    response = [turn for turn in response_turns(record.response_json) if not (failure and _is_odd(turn))]
    request = _turns(request_turns(record.request_json, full_tools=full_tools), longest)
    answered = _turns(response, longest)
    if record.request_json is None and record.response_json is None:
        request = [clean(f"The payload was not stored (content: {record.content}).", "dim italic")]
    if answered:
        answered = [Rule(style="dim"), *answered]
    price = [] if cost is None else [_price_line(cost)]
    numbers = usage(record.usage, usage_note(record)), *price, timing(record)
    return Group(_heading(record), *_facts(record), Text(), *request, *answered, *failure, Text(), *numbers)


def usage(used: Usage, note: str | None = None) -> RenderableType:
    """The tokens as numbers and bars: what came from the cache and what was thinking are parts of the whole."""
    widest = max(used.input_tokens or 0, used.output_tokens or 0, 1)
    table = Table.grid(padding=(0, 2))
    for is_bar in (False, False, True, False):
        table.add_column(no_wrap=not is_bar, overflow="fold")
    cached = _share(used.cache_read_tokens, used.input_tokens), "cyan"
    cache_write = _share(used.cache_write_tokens, used.input_tokens), "yellow"
    thought = _share(used.reasoning_tokens, used.output_tokens), "magenta"
    counts = counts_of(used)
    table.add_row("input", counts[0], _Bar(_share(used.input_tokens, widest), "blue", (cached, cache_write)),
                  Text.assemble("cached ", (count(used.cache_read_tokens), "cyan"),
                                "  written ", (count(used.cache_write_tokens), "yellow")))  # fmt: skip
    table.add_row("output", counts[3], _Bar(_share(used.output_tokens, widest), "green", (thought,)),
                  Text.assemble("reasoning ", (count(used.reasoning_tokens), "magenta")))  # fmt: skip
    note = note or SOURCE_NOTES.get(used.source)
    details = "  ".join(f"{name} {value:,}" for name, value in used.details.items() if value and name not in _ESTIMATES)
    if not _ESTIMATES.isdisjoint(used.details):
        note = f"~ is an estimate of llmspan; {note}" if note else "~ is an estimate of llmspan"
    return Group(table, *([clean(note, "dim italic")] if note else []), *([clean(details, "dim")] if details else []))


def snippet_text(snippet: Snippet) -> Text:
    """Where a call contains the text that was searched for: ``request: ... the weather in ...``."""
    before, match, after = (printable(piece) for piece in (snippet.before, snippet.match, snippet.after))
    return Text.assemble((f"{snippet.part}: ", "dim"), before, (match, "bold"), after)


def money(amount: Decimal, currency: str) -> str:
    """An amount to the millionth: ``$0.005575``, or with its currency behind it."""
    return f"${amount:,.6f}" if currency == "USD" else f"{amount:,.6f} {currency}"


def _price_line(cost: Cost) -> Text:
    where = ", ".join(filter(None, [cost.price, cost.version]))
    if cost.amount is None or cost.currency is None:
        return clean(f"cost not known: {cost.reason}" + (f" ({where})" if where else ""), "dim")
    return Text.assemble("cost ", (money(cost.amount, cost.currency), "bold"), clean(f"  {where}", "dim"))


def timing(record: ProviderTrace) -> Text:
    """When, how long, how many chunks."""
    parts = [clock_time(record.started), f"{milliseconds(record.duration_ns)} ms"]
    if record.time_to_first_chunk_ns is not None:
        parts.append(f"first chunk after {milliseconds(record.time_to_first_chunk_ns)} ms")
    if record.chunk_count is not None:
        parts.append(f"{record.chunk_count:,} chunks")
    if (record.attempts or 1) > 1:
        parts.append(f"{record.attempts} attempts")
    return Text("  ".join(parts), "dim")


def count(value: int | None) -> str:
    """A number with thousands separated; ``-`` if there is none."""
    return "-" if value is None else f"{value:,}"


def milliseconds(nanoseconds: int | None) -> str:
    """A duration in milliseconds, with a decimal where it matters."""
    if nanoseconds is None:
        return "-"
    value = nanoseconds / 1_000_000
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def clean(value: object, style: str = "") -> Text:
    """Text from outside on one line: no markup, and no control characters for the terminal to act upon."""
    return Text(printable(value), style)


def clean_lines(value: object, style: str = "") -> Text:
    """As :func:`clean`, with the line breaks of a message or a payload."""
    return Text(printable_lines(value), style)


def counts_of(used: Usage) -> tuple[str, ...]:
    """Tokens: input, cached, written, output, reasoning."""
    return (
        _count_or_estimate(used, used.input_tokens, ESTIMATED_INPUT),
        count(used.cache_read_tokens),
        count(used.cache_write_tokens),
        _count_or_estimate(used, used.output_tokens, ESTIMATED_OUTPUT),
        count(used.reasoning_tokens),
    )


def _count_or_estimate(used: Usage, value: int | None, name: str) -> str:
    """A number as reported, else its estimate with ``~`` before it."""
    estimate = used.details.get(name)
    return f"~{estimate:,}" if value is None and estimate is not None else count(value)


def model_of(record: ProviderTrace) -> Text:
    """The model that answered, else the one that was asked for."""
    return clean(record.response_model or record.request_model or "-", "bold")


def status_of(record: ProviderTrace) -> Text:
    """The status in its colour."""
    return clean(record.status, _STATUS.get(record.status, ""))


def _heading(record: ProviderTrace) -> Rule:
    title = [clean(f"{record.provider} {record.operation}"), model_of(record), status_of(record)]
    return Rule(Text("  ").join(title), style="dim")


def _facts(record: ProviderTrace) -> list[Text]:
    asked_for = record.request_model if record.response_model not in (None, record.request_model) else None
    rows: list[dict[str, Any]] = [
        {"id": record.id, "api": record.api, "asked for": asked_for, "stream": "yes" if record.stream else None},
        {
            "step": record.step_id,
            "run": record.run_id,
            "agent": record.agent_id,
            "conversation": record.conversation_id,
            "user": record.user_id,
            "org": record.org_id,
            "tags": ", ".join(record.agent_tags),
            "source": record.source,
        },
        {"response": record.response_id, "request": record.request_id, "trace": record.trace_id},
        {
            "finish": ", ".join(str(r) for r in record.finish_reasons if r),
            "tier": record.service_tier,
            "sdk": record.sdk,
        },
    ]
    lines = ("  ".join(f"{name} {value}" for name, value in row.items() if value) for row in rows)
    return [clean(text, "dim") for text in lines if text]


def _is_odd(turn: Turn) -> bool:
    """Whether a turn is a body of no known shape: with an error, it is the error's."""
    return turn.kind == "note" and not turn.label


def _turns(turns: list[Turn], longest: int | None) -> list[RenderableType]:
    return [
        renderable
        for turn in turns
        for renderable in (_label(turn), Padding(_body(turn, longest), (0, 0, 0, 2), expand=False))
    ]


def _label(turn: Turn) -> Text:
    label = clean(turn.role, f"bold {_ROLE.get(turn.role, 'white')}")
    if turn.kind != "text":
        label.append(f" {turn.kind}", "dim")
    if turn.label:
        label.append_text(clean(f" {turn.label}", "bold" if turn.kind in ("call", "tool") else "dim"))
    return label


def _body(turn: Turn, longest: int | None) -> Text:
    visible = turn.text if longest is None else turn.text[:longest]
    text = clean_lines(visible, {"thinking": "dim italic", "note": "dim"}.get(turn.kind, ""))
    if len(visible) < len(turn.text):
        text.append(f"\n... {len(turn.text) - len(visible):,} more characters (--full)", "dim")
    return text


def _error(record: ProviderTrace) -> list[RenderableType]:
    if record.error_type is None and record.error_message is None:
        return []
    status = f"HTTP {record.http_status} " if record.http_status else ""
    head = clean(f"{status}{record.error_type or ''}", "bold red")
    return [Text(), head, Padding(clean_lines(record.error_message or "", "red"), (0, 0, 0, 2), expand=False)]


def failure_of(record: ProviderTrace) -> Text | None:
    """Why a call failed, on one line; None if it did not."""
    return clean(f"{record.error_type}{_cause(record)}", "red") if record.error_type else None


def _cause(record: ProviderTrace) -> str:
    """Why a connection failed, in few words: the innermost exception that says something."""
    value = record.error_json.get(CAUSED_BY) if isinstance(record.error_json, dict) else None
    causes: list[Any] = value if isinstance(value, list) else []
    pairs = [(cause.get("type"), cause.get("message")) for cause in causes if isinstance(cause, dict)]
    messages = [f"{kind}: {message}" for kind, message in pairs if message]
    return f" ({messages[-1][:_CAUSE_WIDTH]})" if messages else ""


def _share(part: int | None, total: int | None) -> float:
    """The share of ``part`` in ``total``; vendors report parts that exceed the total."""
    return min(max(part or 0, 0) / total, 1.0) if total and total > 0 else 0.0


@dataclass(frozen=True, slots=True)
class _Bar:
    """A bar as long as its share of what room there is, whose beginning is drawn as the shares of its parts."""

    share: float
    style: str
    parts: Sequence[tuple[float, str]]

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(_LEAST_BAR, _BAR)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = round(self.share * min(options.max_width, _BAR))
        block = symbol("█", "#")
        bar = Text(no_wrap=True)
        for share, style in self.parts:
            bar.append(block * min(round(share * width), width - len(bar)), style)
        yield bar.append(block * (width - len(bar)), self.style)
