"""How records look in a terminal: pure functions from ``ProviderTrace`` to what rich can print.

What was not reported is ``-``, never 0. Payloads are other people's text: it is printed as text, without markup, and
control characters in it are made visible instead of being obeyed by the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ..estimate import ESTIMATED_INPUT, ESTIMATED_OUTPUT
from ..printable import printable, printable_lines
from ..semconv import CAUSED_BY
from ..trace import ProviderTrace
from ..usage import Usage
from .conversation import Turn, request_turns, response_turns
from .output import symbol
from .usage_notes import SOURCE_NOTES, usage_note
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
    "status_of",
    "terminal",
    "timing",
    "usage",
]

#: columns of what is printed to no terminal
_PLAIN_WIDTH: Final = 120
#: so many characters of an id (a UUIDv7) tell a call from all others but in the same millisecond
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


def call(trace: ProviderTrace, *, longest: int | None = None, full_tools: bool = False) -> RenderableType:
    """A call; ``longest`` cuts each turn to so many characters, ``full_tools`` shows the definitions of tools."""
    failure = _error(trace)
    response = [turn for turn in response_turns(trace.response_json) if not (failure and _is_odd(turn))]
    request = _turns(request_turns(trace.request_json, full_tools=full_tools), longest)
    answered = _turns(response, longest)
    if trace.request_json is None and trace.response_json is None:
        request = [clean(f"The payload was not stored (content: {trace.content}).", "dim italic")]
    if answered:
        answered = [Rule(style="dim"), *answered]
    numbers = usage(trace.usage, usage_note(trace)), timing(trace)
    return Group(_heading(trace), *_facts(trace), Text(), *request, *answered, *failure, Text(), *numbers)


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


def timing(trace: ProviderTrace) -> Text:
    """When, how long, how many chunks."""
    parts = [clock_time(trace.started), f"{milliseconds(trace.duration_ns)} ms"]
    if trace.time_to_first_chunk_ns is not None:
        parts.append(f"first chunk after {milliseconds(trace.time_to_first_chunk_ns)} ms")
    if trace.chunk_count is not None:
        parts.append(f"{trace.chunk_count:,} chunks")
    if (trace.attempts or 1) > 1:
        parts.append(f"{trace.attempts} attempts")
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


def model_of(trace: ProviderTrace) -> Text:
    """The model that answered, else the one that was asked for."""
    return clean(trace.response_model or trace.request_model or "-", "bold")


def status_of(trace: ProviderTrace) -> Text:
    """The status in its colour."""
    return clean(trace.status, _STATUS.get(trace.status, ""))


def _heading(trace: ProviderTrace) -> Rule:
    title = [clean(f"{trace.provider} {trace.operation}"), model_of(trace), status_of(trace)]
    return Rule(Text("  ").join(title), style="dim")


def _facts(trace: ProviderTrace) -> list[Text]:
    asked_for = trace.request_model if trace.response_model not in (None, trace.request_model) else None
    rows: list[dict[str, Any]] = [
        {"id": trace.id, "api": trace.api, "asked for": asked_for, "stream": "yes" if trace.stream else None},
        {
            "step": trace.step_id,
            "run": trace.run_id,
            "agent": trace.agent_id,
            "conversation": trace.conversation_id,
            "user": trace.user_id,
            "org": trace.org_id,
            "tags": ", ".join(trace.agent_tags),
            "source": trace.source,
        },
        {"response": trace.response_id, "request": trace.request_id, "trace": trace.trace_id},
        {"finish": ", ".join(str(r) for r in trace.finish_reasons if r), "tier": trace.service_tier, "sdk": trace.sdk},
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


def _error(trace: ProviderTrace) -> list[RenderableType]:
    if trace.error_type is None and trace.error_message is None:
        return []
    status = f"HTTP {trace.http_status} " if trace.http_status else ""
    head = clean(f"{status}{trace.error_type or ''}", "bold red")
    return [Text(), head, Padding(clean_lines(trace.error_message or "", "red"), (0, 0, 0, 2), expand=False)]


def failure_of(trace: ProviderTrace) -> Text | None:
    """Why a call failed, on one line; None if it did not."""
    return clean(f"{trace.error_type}{_cause(trace)}", "red") if trace.error_type else None


def _cause(trace: ProviderTrace) -> str:
    """Why a connection failed, in few words: the innermost exception that says something."""
    value = trace.error_json.get(CAUSED_BY) if isinstance(trace.error_json, dict) else None
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
