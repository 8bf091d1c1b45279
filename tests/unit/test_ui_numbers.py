"""The pages' numbers are those of ``stats --json``, ``show --json`` and ``diff --json`` for the same filter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main
from llmspan.ui.formats import count, duration, short_count
from llmspan.usage import Usage
from records import make_trace, this_day
from viewer import Viewer, viewing

TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Viewer, Path]]:
    """Calls with and without usage, zeros, failures, two models and two runs; a viewer and the file."""
    path = tmp_path_factory.mktemp("numbers") / "traces.db"
    usages = (
        Usage(input_tokens=12_345, output_tokens=10, cache_read_tokens=1000, cache_write_tokens=7, source="provider"),
        Usage(input_tokens=0, output_tokens=0, reasoning_tokens=0, source="provider"),
        Usage(),
    )
    backend = SQLiteBackend(path)
    backend.write(
        [
            make_trace(
                id=f"call-{index}", started_at=this_day() + index, response_model=f"model-{index % 2}",
                usage=usages[index % 3], status="error" if index % 4 == 3 else "ok", run_id=f"run-{index % 2}",
                duration_ns=10**9 * (index + 1), time_to_first_chunk_ns=10**8 * index if index else None,
            )
            for index in range(12)
        ]
    )  # fmt: skip
    with viewing(backend) as viewer:
        yield viewer, path
    backend.shutdown()


def printed(path: Path, *arguments: str) -> list[Any]:
    options = [] if arguments[0] == "export" else ["--json"]
    result = CliRunner().invoke(main, [*arguments, *options, "--db", str(path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def cells(page: str, row: str) -> list[str]:
    """The texts of the cells of the rows that ``row`` finds."""
    return [unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in re.findall(row, page, re.DOTALL)]


@pytest.mark.parametrize("query", ["", "status:error", "model:model-1 tokens>0"])
def test_usage(store: tuple[Viewer, Path], query: str) -> None:
    """Each group has its row, and the sums are those of all; also as JSON, with latencies."""
    viewer, path = store
    page = viewer.ask(f"/usage?by=model&q={quote(query)}").text
    groups = printed(path, "stats", "--by", "model", *(("--where", query) if query else ()))
    rows = re.findall(r"<tr data-id.*?</tr>", page, re.DOTALL)
    shown = {cells(row, r"<th.*?</th>")[0]: cells(row, r"<td.*?</td>")[:7] for row in rows}
    keys = ("calls", "failures", *TOKENS)
    assert shown == {group["model"]: [count(group[key]) for key in keys] for group in groups}
    sums = dict(zip(cells(page, r"<dt>.*?</dt>"), cells(page, r"<dd>.*?</dd>"), strict=True))
    assert sums["Calls"] == count(sum(group["calls"] for group in groups))
    as_json = json.loads(viewer.ask(f"/usage.json?by=model&q={quote(query)}").text)["groups"]
    assert [{key: row[key] for key in keys} for row in as_json] == [{key: row[key] for key in keys} for row in groups]


@pytest.mark.parametrize("query", ["run:run-0", "status:error", "tokens>0"])
def test_calls(store: tuple[Viewer, Path], query: str) -> None:
    """The list has the calls of ``export`` and, as the first, that of ``show``, with their tokens and times."""
    viewer, path = store
    records = printed(path, "export", "--where", query)
    answer = json.loads(viewer.ask(f"/calls.json?q={quote(query)}").text)
    (newest,) = printed(path, "show", "--where", query)
    assert answer["calls"][0]["id"] == newest["id"]
    by_id = {record["id"]: record for record in records}
    assert sorted(by_id) == sorted(record["id"] for record in answer["calls"])
    for record in answer["calls"]:
        assert {key: record[key] for key in (*TOKENS, "duration_ns", "status")} == {
            key: by_id[record["id"]][key] for key in (*TOKENS, "duration_ns", "status")
        }
    page = viewer.ask(f"/?q={quote(query)}").text
    totals = cells(page, r'<span class="totals">.*?</span>')
    dash = "–"  # noqa: RUF001 - the dash of the page
    assert totals == [
        f"{short_count(r['input_tokens'])} → {short_count(r['output_tokens'])}".replace("None", dash)
        for r in answer["calls"]
    ]


def test_call_and_run(store: tuple[Viewer, Path]) -> None:
    """A call's page and a run's page have the numbers of ``show``, to the last token; their JSON is the same text."""
    viewer, path = store
    for at in range(3):
        (record,) = printed(path, "show", f"call-{at}")
        assert json.loads(viewer.ask(f"/json/call/call-{at}").text) == record
        side = viewer.ask(f"/call/call-{at}").text.split('class="facts"')[1]
        assert cells(side, r'<td class="number">.*?</td>')[:5] == [count(record[key]) for key in TOKENS]
    (tree,) = printed(path, "show", "--run-id", "run-1")
    assert json.loads(viewer.ask("/json/run/run-1").text) == tree
    page = viewer.ask("/run/run-1").text
    sums = dict(zip(cells(page, r"<dt>.*?</dt>"), cells(page, r"<dd>.*?</dd>"), strict=True))
    keys = {"Calls": "calls", "Failed": "failures", "Input": "input_tokens", "Cached": "cache_read_tokens",
            "Output": "output_tokens", "Reasoning": "reasoning_tokens"}  # fmt: skip
    assert {name: sums[name] for name in keys} == {name: count(tree["sums"][key]) for name, key in keys.items()}
    durations = cells(page, r'<td class="number">.*?</td>')[2::3]
    assert durations == [duration(node["duration_ns"]) for node in tree["nodes"]]


def test_diff(store: tuple[Viewer, Path]) -> None:
    viewer, path = store
    for first, second in (("call-0", "call-1"), ("run-0", "run-1")):
        (comparison,) = printed(path, "diff", first, second)
        answer = json.loads(viewer.ask(f"/diff.json?a={first}&b={second}").text)
        answer.pop("kind", None)
        comparison.pop("kind", None)
        assert answer == comparison
