"""The lines of ``tail`` and ``demo``: aligned, within the terminal, with every number whole and every time plain."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from llmspan.cli.listing import Listing
from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from records import DAY, NOON, full_trace, make_trace

LONG = "accounts/fireworks/models/llama-v3p1-405b-instruct-and-more"


def listed(traces: Sequence[ProviderTrace], width: int | None = None) -> list[str]:
    """The lines in a terminal of so many columns, or in a pipe."""
    stream = io.StringIO()
    console = Console(file=stream, width=width or 120, force_terminal=width is not None, color_system=None)
    Listing(console).print_all(traces)
    return stream.getvalue().splitlines()


def test_what_is_not_known_is_a_dash() -> None:
    """None is a dash and zero is a zero."""
    _, unknown, zero = listed([make_trace(usage=Usage()), make_trace(usage=Usage(input_tokens=0, source="provider"))])
    assert unknown.split()[-8:] == ["-", "-", "-", "-", "-", "1.0", "-", unknown.split()[-1]]
    assert zero.split()[-8:-3] == ["0", "-", "-", "-", "-"]


@pytest.mark.parametrize("width", [80, 81, 99, 100, 120, 132, 160, 250])
def test_columns_are_aligned_and_fit(width: int) -> None:
    """Whatever is in the calls, each line fits and ends under its head."""
    usage = Usage(input_tokens=1_123_456, cache_read_tokens=1_000_000, output_tokens=9, source="provider")
    calls = [
        make_trace(usage=usage, duration_ns=123_456_789_000),
        make_trace(response_model=LONG, provider="azure.ai.openai", status="closed_early"),
        make_trace(response_model="モデル名" * 12, status="error", error_type="x" * 300),
        make_trace(usage=Usage(input_tokens=2**62, cache_read_tokens=10**12, output_tokens=10**9, source="provider")),
        make_trace(duration_ns=9_000_000_000_000),
    ]
    lines = listed(calls, width)
    assert all(cell_len(line) <= width for line in lines)
    head = lines[1]
    rows = [line for line in lines[2:] if not line.startswith(" ")]
    assert len(rows) == len(calls)
    for name in ("in", "out", "ms"):
        end = head.index(f" {name} ") + 1 + len(name)
        assert all(_cells(row, end - 1).strip() and not _cells(row, end).strip() for row in rows)
    assert {line[len(line) - len(line.lstrip()) :] for line in lines if line.startswith(" ")} == {
        "x" * (width - 10) + "…" if width < 309 else "x" * 300
    }


def _cells(line: str, at: int) -> str:
    """The character in a column of the terminal."""
    position = 0
    for character in line:
        if position >= at:
            return character
        position += cell_len(character)
    return " "


@given(
    counts=st.lists(st.none() | st.integers(0, 2**63 - 1), min_size=5, max_size=5),
    duration=st.integers(0, 2**63 - 1),
    estimate=st.integers(0, 2**63 - 1),
)
def test_any_number_fits(counts: list[int | None], duration: int, estimate: int) -> None:
    """A number that is too long is written in a larger unit, and never cut."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    usage = Usage(**dict(zip(names, counts, strict=True)), details={"estimated_output_tokens": estimate})
    for width in (80, 120):
        line = listed([make_trace(usage=usage, duration_ns=duration)], width)[-1]
        assert len(line) <= width
        assert "…" not in line


def test_shorter_numbers_are_rounded() -> None:
    """The unit of tokens is a thousand times larger, that of durations is the second."""
    usage = Usage(input_tokens=1_234_567_890, output_tokens=12_345_678, source="provider")
    line = listed([make_trace(usage=usage, duration_ns=1_234_567_000_000)], 80)[-1]
    assert " 1,235M 12,346k 1,235 s " in line


def test_a_pipe_gets_everything() -> None:
    """Where it is no terminal, a call is one line with all columns, uncut, and its error at the end."""
    failed = full_trace(response_model=LONG, started_at=NOON)
    head, line = listed([failed])
    assert head.split()[2:] == [
        "status", "provider", "operation", "model", "in", "cached", "written", "out", "reasoning", "ms", "ttft", "id",
        "error",
    ]  # fmt: skip
    assert LONG in line
    assert line.startswith("2026-01-31 ")
    assert failed.error_type in line.split()


def test_each_day_has_a_line_of_its_own_in_a_terminal() -> None:
    """The date stands once above the calls of a day, with the offset of all its times."""
    calls = [make_trace(started_at=NOON + by) for by in (0, 1, DAY)]
    lines = listed(calls, 80)
    assert [line[:10] for line in lines if line.startswith("2026-")] == ["2026-01-31", "2026-02-01"]
    assert [at for at, line in enumerate(lines) if line.startswith("time ")] == [1]


def test_a_record_cannot_steer_the_terminal() -> None:
    """Escape sequences are made visible, in each column."""
    bad = "\x1b]0;x\x07\r\n"
    trace = replace(full_trace(), provider=bad, operation=bad, response_model=bad, error_type=bad, id=bad)
    for width in (None, 80, 300):
        lines = listed([trace], width)
        assert len(lines) == (2 if width is None else 4)
        assert not set("".join(lines)) & set("\x1b\x9b\x07\r")
