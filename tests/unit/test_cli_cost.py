"""What the commands say of costs: of a call, of lines, of groups and of exported records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.bills import tree_bills
from llmspan.cli import main
from llmspan.cost import cost_of
from llmspan.reader import Reader
from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from records import NOON, make_trace

genai_prices = pytest.importorskip("genai_prices")

CHAT = make_trace(usage=Usage(input_tokens=1_000, output_tokens=500, source="provider"))
OWN = make_trace(provider="vllm", request_model="ours", started_at=NOON + 1, usage=Usage())
ODD = make_trace(request_model="odd\x1b", started_at=NOON + 2)
PRICES = """
[[price]]
provider = "vllm"
model = "ours"
currency = "EUR"
per_request = 0.25
"""


@pytest.fixture(autouse=True)
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with three calls, one of which has an own price."""
    path = tmp_path / "some.db"
    backend = SQLiteBackend(path)
    backend.write([CHAT, OWN, ODD])
    backend.shutdown()
    (tmp_path / "prices.toml").write_text(PRICES)
    monkeypatch.setenv("LLMSPAN_PRICES", str(tmp_path / "prices.toml"))
    monkeypatch.setenv("LLMSPAN_SQLITE_PATH", str(path))
    return str(path)


def call(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False, prog_name="llmspan")


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_show_says_what_a_call_cost() -> None:
    """The amount, the price and its version; the reason where there is none; nothing with `--no-cost`."""
    assert f"cost $0.006250  openai gpt-5, genai-prices {genai_prices.__version__}" in call("show", CHAT.id).output
    assert "cost 0.250000 EUR  price 1: vllm ours, prices.toml (sha256 " in call("show", OWN.id).output
    assert "cost not known: unknown model (genai-prices" in call("show", ODD.id).output
    assert "cost" not in call("show", CHAT.id, "--no-cost").output


def test_tail_has_a_column_for_it() -> None:
    """With `--cost` lines have the amount, `-` where it is not known; without it they have no such column."""
    output = call("tail", "--once", "--cost").output
    assert [word in output for word in (" cost ", "$0.006250", "0.250000 EUR")] == [True] * 3
    assert "cost" not in call("tail", "--once").output
    costs = [line["cost"] for line in lines(call("tail", "--once", "--cost", "--json"))]
    assert [(cost["amount"], cost["currency"], cost["reason"]) for cost in costs] == [
        ("0.00625", "USD", None), ("0.25", "EUR", None), (None, None, "unknown model"),
    ]  # fmt: skip


def test_exported_records_stay_records() -> None:
    """With `--cost` a line has the cost as its last key; it can be read as a record; without, lines are as before."""
    exported = call("export", "--cost").stdout.splitlines()
    assert [ProviderTrace.from_json(line) for line in exported] == [ODD, OWN, CHAT]
    assert list(json.loads(exported[0]))[-1] == "cost"
    assert json.loads(exported[2])["cost"] == {
        "amount": "0.00625", "currency": "USD", "reason": None, "price": "openai gpt-5",
        "version": f"genai-prices {genai_prices.__version__}",
    }  # fmt: skip
    assert call("export").stdout.splitlines() == [record.to_json_line() for record in (ODD, OWN, CHAT)]


def test_stats_keep_currencies_apart() -> None:
    """Each currency has a column and a sum of its own; the versions of all prices stand below."""
    (row,) = lines(call("stats", "--by", "", "--cost", "--json"))
    assert (row["cost_usd"], row["cost"]) == ("0.00625", {"EUR": "0.25", "USD": "0.00625"})
    assert row["without_price"] == {"unknown model": 1}
    output = call("stats", "--cost").output
    assert [word in output for word in ("cost USD", "cost EUR", "prices of prices.toml (sha256 ")] == [True] * 3


@pytest.mark.parametrize("command", ["show", "tail --once --cost", "stats --cost", "export --cost"])
def test_a_wrong_file_of_prices_is_an_error(tmp_path: Path, command: str) -> None:
    """The file is named, with exit code 2."""
    (tmp_path / "prices.toml").write_text("[[price]]\nmodle = 1")
    result = call(*command.split())
    assert result.exit_code == 2
    assert "prices.toml: price 1: no key is called 'modle'" in result.output


def test_without_any_prices_cost_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--cost` says what to install or to set; `show` only leaves the cost out."""
    monkeypatch.setattr("llmspan.cost._has_price_data", lambda: False)
    monkeypatch.delenv("LLMSPAN_PRICES")
    for command in ("tail", "stats", "export"):
        result = call(command, "--cost")
        assert (result.exit_code, "(LLMSPAN_PRICES)" in result.output) == (2, True)
    assert "cost" not in call("show", CHAT.id).output


def test_a_tree_says_what_its_calls_cost(db: str) -> None:
    """The head of a tree has the sum by currency and why calls have no price; each call is counted once."""
    backend = SQLiteBackend(Path(db))
    backend.write([
        make_trace(id=f"run-{at}", run_id="r", usage=CHAT.usage, provider=one.provider, request_model=one.request_model)
        for at, one in enumerate((CHAT, CHAT, OWN, ODD))
    ])  # fmt: skip
    tree = Reader(backend).tree(run_id="r")
    bills = tree_bills(tree, cost_of)
    backend.shutdown()
    assert sum(bills[root.index].priced for root in tree.roots) == 3
    shown = call("show", "--run-id", "r").output
    assert "cost: $0.012500 + 0.250000 EUR  (1 without a price: unknown model)" in shown.replace("\n", " ")
    assert "cost" not in call("show", "--run-id", "r", "--no-cost").output
