"""``llmspan show --trace-id``, ``--run-id``, ``--conversation-id``: a tree that fits, and says what is not in it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main
from llmspan.cli.tree import print_tree, shortened
from llmspan.query.tree import Tree, build_tree
from llmspan.usage import Usage
from records import patient
from stores import shutting_down
from unit.test_tree import TRACE, call, span

MS = 1_000_000


def printed(tree: Tree, width: int | None = None) -> list[str]:
    """The lines in a terminal of so many columns, or in a pipe."""
    stream = io.StringIO()
    console = Console(file=stream, width=width or 120, force_terminal=width is not None, color_system=None)
    print_tree(console, tree, "run r")
    return stream.getvalue().splitlines()


def example() -> Tree:
    spans = [
        span("server", name="POST /ask", duration_ns=100 * MS),
        span("agent", "server", at=10 * MS, name="invoke_agent", duration_ns=90 * MS),
        span("tool", "agent", at=40 * MS, name="execute_tool weather", duration_ns=20 * MS),
    ]
    calls = [
        call("c1", "agent", at=10 * MS, duration_ns=30 * MS),
        call("c2", "agent", at=60 * MS, duration_ns=40 * MS, status="error"),
    ]
    return build_tree(calls, spans)


@pytest.mark.parametrize("width", [80, 120])
def test_a_run_is_drawn(width: int) -> None:
    """Names with their levels, bars that begin one after the other, sums, and the failure up to the root."""
    head, tokens, names, *lines = printed(example(), width)
    assert head.startswith("run r  2 calls, 1 failed  100 ms from 2026-01-31")
    assert tokens == "tokens: input 20 (cached -, written -)  output 10 (reasoning -)"
    assert names.split() == ["ms", "in", "out", "status"]
    assert [line.split("  ")[0].rstrip(" █━") for line in lines] == [
        "POST /ask",
        "└─ invoke_agent",
        "",
        "",
        "",
    ]
    assert [line.strip(" │").split(" ")[0:3] for line in lines[2:]] == [
        ["├─", "chat", "gpt-5"],
        ["├─", "execute_tool", "weather"],
        ["└─", "chat", "gpt-5"],
    ]
    bars = [min(line.find(block) for block in "█━" if block in line) for line in lines]
    assert bars == sorted(bars)
    assert [line.split()[-2:] for line in lines] == [
        ["1", "failed"], ["1", "failed"], ["5", "ok"], [lines[3].split()[-2], "20"], ["5", "error"],
    ]  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 81, 120, 200])
def test_every_line_fits(width: int) -> None:
    """However deep the tree, long the names and large the numbers."""
    usage = Usage(input_tokens=2**62, output_tokens=2**62, source="provider")
    deep = [call(f"{at}", f"{at - 1}" if at else None, at=at, usage=usage, duration_ns=2**60) for at in range(40)]
    wide = [call(f"w{at}", "0", at=at, response_model="モデル名" * 30, status="closed_early") for at in range(3)]
    lines = printed(build_tree([*deep, *wide]), width)
    assert max(map(cell_len, lines[2:])) <= max(width, 80)
    assert any("+39 chat gpt-5" in line for line in lines)


def test_a_pipe_gets_whole_names_and_numbers() -> None:
    """Nothing is cut where nobody counts columns."""
    usage = Usage(input_tokens=1_234_567_890_123, source="provider")
    lines = printed(build_tree([call("a", response_model="m" * 200, usage=usage)]))
    assert "m" * 200 in lines[3]
    assert "1,234,567,890,123" in lines[3]


def test_the_output_says_what_is_missing() -> None:
    """Calls that are left out, parents that are not stored, and why; a tree that is whole says nothing."""
    calls = [call("a", "gone"), call("b", "gone", at=1), call("c", "c", at=2)]
    text = " ".join(printed(build_tree(calls, omitted=5)))
    assert "The newest 3 calls are here, 5 older ones are not (--limit)." in text
    assert "2 roots were made below a span that is not stored" in text
    assert "this store keeps calls and no spans between them" in text
    assert "its own ancestor" in text
    assert "LLMSPAN_SPANS" in " ".join(printed(build_tree(calls, has_spans=True)))
    assert len(printed(example())) == 8


def test_ascii_where_the_output_has_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines are drawn with characters that the output can encode."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    text = "\n".join(printed(example()))
    assert text.isascii()
    assert "`- invoke_agent" in text


def test_a_name_cannot_steer_the_terminal() -> None:
    """Escapes in a model or in a span's name are shown, not obeyed."""
    tree = build_tree([call("c", "a", response_model="x\x1b[2J")], [span("a", name="y\n\x1b]0;t\x07")])
    text = "\n".join(printed(tree, 120))
    assert "\x1b" not in text
    assert "x\\x1b[2J" in text


@patient
@given(value=st.none() | st.integers(0, 2**63), width=st.integers(5, 12))
def test_numbers_fit(value: int | None, width: int) -> None:
    """In the column's width, down to five characters."""
    assert len(shortened(value, width)) <= width


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with shutting_down(SQLiteBackend(tmp_path / "x.db")) as backend:
        backend.write([call("a", run_id="r", conversation_id="k"), call("b", "a", at=1, run_id="r")])
    return tmp_path / "x.db"


def show(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["show", "--db", str(path), *arguments], catch_exceptions=False)


def test_the_command(path: Path) -> None:
    """By each of the three ids, as lines and as JSON."""
    result = show(path, "--run-id", "r")
    assert (result.exit_code, result.output.splitlines()[0].split("  ")[:2]) == (0, ["run r", "2 calls"])
    assert show(path, "--conversation-id", "k").output.startswith("conversation k  1 call ")
    values = json.loads(show(path, "--trace-id", TRACE, "--json").output)
    assert [node["depth"] for node in values["nodes"]] == [0, 1]
    assert json.loads(show(path, "--trace-id", TRACE, "--json", "--limit", "1").output)["omitted"] == 1


def test_wrong_use(path: Path) -> None:
    """An id that is nowhere is an error with exit 1, two ids are wrong usage."""
    result = show(path, "--run-id", "nope")
    assert result.exit_code == 1
    assert "no call of run 'nope'" in " ".join(result.stderr.replace("│", " ").split())
    assert show(path, "--run-id", "r", "--last").exit_code == 2
    assert show(path, "--run-id", "r", "--trace-id", TRACE).exit_code == 2
