"""Own prices: they win over the price data, cover what they name, and a wrong file is named with what is right."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import llmspan
from llmspan.backends.memory import MemoryBackend
from llmspan.cost import available, cost_of, own_prices
from llmspan.errors import SettingsError
from llmspan.own_prices import OwnPrices
from llmspan.reader import Reader
from llmspan.usage import Usage
from records import NOON, make_trace

FILE = """
[[price]]
provider = "openai"
model = "gpt-5*"
currency = "EUR"
valid_from = 2026-01-01
valid_until = 2030-01-01T00:00:00Z
input = 1.0
cache_read = 0.1
output = 8

[[price]]
provider = "openai"
model = "llama*"
host = "*.example.com"
per_request = 0.002

[[price]]
provider = "*"
model = "big"
above_input_tokens = 1000
input = 2
output = 4

[[price]]
provider = "*"
model = "big"
input = 1
output = 2
cache_write = 1.25
cache_write_1h = 2
"""


def usage(count: int = 1_000, output: int = 100, **fields: Any) -> Usage:
    return Usage(input_tokens=count, output_tokens=output, source="provider", **fields)


@pytest.fixture
def own(tmp_path: Path) -> OwnPrices:
    path = tmp_path / "prices.toml"
    path.write_text(FILE)
    return OwnPrices.read(path)


def test_own_prices_win_over_the_data(own: OwnPrices) -> None:
    """700 fresh at 1 EUR, 300 cached at 0.1, 100 out at 8 per million; the cost says which price and which file."""
    cost = cost_of(make_trace(usage=usage(cache_read_tokens=300)), own)
    assert (cost.amount, cost.currency, cost.price) == (Decimal("0.00153"), "EUR", "price 1: openai gpt-5*")
    assert cost.version.startswith("prices.toml (sha256 ")


def test_a_price_covers_its_dates_only(own: OwnPrices) -> None:
    """Before `valid_from`, the data counts again."""
    early = make_trace(usage=usage(), started_at=1_750_000_000 * 10**9)
    assert cost_of(early, own).currency == "USD"
    assert cost_of(early, own).price == "openai gpt-5"


def test_a_price_by_request_needs_no_usage(own: OwnPrices) -> None:
    """A self-hosted model at its host costs what a request costs, whatever it reported; elsewhere it has no price."""
    at_home = make_trace(request_model="Llama-3", server_address="gpu1.example.com", usage=Usage())
    assert cost_of(at_home, own).amount == Decimal("0.002")
    assert cost_of(make_trace(request_model="llama-3", server_address="example.org"), own).amount is None


@pytest.mark.parametrize(("count", "amount"), [(1_000, "0.0012"), (1_001, "0.002402")])
def test_the_size_of_the_context(own: OwnPrices, count: int, amount: str) -> None:
    """The first price that covers a call counts: beyond 1,000 tokens of input the dearer one."""
    assert cost_of(make_trace(provider="vllm", request_model="big", usage=usage(count)), own).amount == Decimal(amount)


def test_cache_writes_by_their_lifetime(own: OwnPrices) -> None:
    """600 fresh at 1, 300 for five minutes at 1.25, 100 for an hour at 2, 100 out at 2."""
    used = usage(cache_write_tokens=400, details={"cache_write_5m_tokens": 300, "cache_write_1h_tokens": 100})
    assert cost_of(make_trace(provider="x", request_model="big", usage=used), own).amount == Decimal("0.001375")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"usage": usage(cache_read_tokens=1)}, "no own price for cache_read"),
        ({"usage": usage(cache_write_tokens=2_000)}, "the usage contradicts itself"),
        ({"usage": Usage()}, "no usage"),
        ({"usage": Usage(input_tokens=1, source="partial")}, "partial usage"),
        ({"usage": usage(), "service_tier": "flex"}, "unknown model"),
        ({"usage": usage(raw={"speed": "fast"})}, "speed fast"),
    ],
)
def test_what_an_own_price_lacks_is_not_guessed(own: OwnPrices, fields: dict[str, Any], reason: str) -> None:
    """A count without a price, and a tier or a speed that the price does not name, have a reason."""
    pytest.importorskip("genai_prices")
    cost = cost_of(make_trace(**{"provider": "x_ai", "request_model": "big", **fields}), own)
    assert (cost.amount, cost.reason) == (None, reason)


def test_json_and_toml_say_the_same(tmp_path: Path) -> None:
    """A JSON file has the same keys, dates as text and numbers without rounding."""
    path = tmp_path / "prices.json"
    row = {"provider": "a", "model": "m", "valid_from": "2026-01-01", "input": 0.1, "service_tier": "batch"}
    path.write_text(json.dumps({"price": [row]}))
    (price,) = OwnPrices.read(path).prices
    assert (price.input, price.valid_from, price.service_tier) == (Decimal("0.1"), 1_767_225_600 * 10**9, "batch")


ROW = 'provider = "a"\nmodel = "m"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a list of tables [[price]]"),
        ("[[prices]]\n", "expected a list of tables [[price]]"),
        ("x = ", "it is no TOML"),
        ("[[price]]\nmodel = 'm'\ninput = 1", "price 1: provider is missing"),
        (f"[[price]]\n{ROW}input = 1\n[[price]]\n{ROW}inputs = 1", "price 2: no key is called 'inputs'; there are"),
        (f"[[price]]\n{ROW}input = -1", "price 1: input is -1; expected a number such as 1.25"),
        (f"[[price]]\n{ROW}input = nan", "price 1: input is NaN; expected a number"),
        (f"[[price]]\n{ROW}input = '1'", "price 1: input is '1'; expected a number"),
        (f"[[price]]\n{ROW}input = true", "price 1: input is True; expected a number"),
        (f"[[price]]\n{ROW}", "price 1: it costs nothing; give input"),
        (f"[[price]]\n{ROW}input = 1\ncurrency = 'euro'", "price 1: currency is 'euro'; expected a text such as"),
        (f"[[price]]\n{ROW}input = 1\nvalid_from = 'soon'", "price 1: valid_from is soon; expected a date such as"),
        (f"[[price]]\n{ROW}input = 1\nvalid_from = 2026-01-31T12:00:00", "such as 2026-01-31, or a time with"),
        (f"[[price]]\n{ROW}input = 1\nvalid_from = 2026-02-01\nvalid_until = 2026-01-01", "valid_until must be after"),
        (f"[[price]]\n{ROW}input = 1\nabove_input_tokens = 1.5", "above_input_tokens is 1.5; expected a whole number"),
        ("price = [1]", "price 1 is 1; expected a table with keys of provider, model"),
    ],
)  # fmt: skip
def test_a_wrong_file_says_what_is_right(tmp_path: Path, text: str, message: str) -> None:
    """The error names the file, the price, the key and what would be right."""
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        OwnPrices.read(path)
    assert str(raised.value).startswith(f"LLMSPAN_PRICES={path}: ")
    assert message in str(raised.value)


def test_the_setting_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`LLMSPAN_PRICES` counts for `cost_of`, a reader's `prices` for that reader, and a changed file is read again."""
    path = tmp_path / "prices.toml"
    path.write_text(f"[[price]]\n{ROW}per_request = 1")
    monkeypatch.setenv("LLMSPAN_PRICES", str(path))
    record = make_trace(provider="a", request_model="m", started_at=NOON)
    assert llmspan.cost_of(record).amount == 1
    path.write_text(f"[[price]]\n{ROW}per_request = 22")
    os.utime(path, ns=(0, 0))
    assert llmspan.cost_of(record).amount == 22
    monkeypatch.delenv("LLMSPAN_PRICES")
    assert own_prices() == OwnPrices()
    with Reader.from_env(backends="memory", prices=path) as reader:
        assert isinstance(reader.backend, MemoryBackend)
        reader.backend.write([record])
        assert reader.cost_of(record).amount == 22
        (bill,) = reader.costs().values()
        assert (bill.amounts, bill.priced) == ({"USD": 22}, 1)
    with pytest.raises(SettingsError, match="it cannot be read: No such file"):
        own_prices(tmp_path / "absent.toml")


def test_own_prices_need_no_price_data(own: OwnPrices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without genai-prices, own prices count and all other calls have the reason."""
    monkeypatch.setattr("llmspan.cost._has_price_data", lambda: False)
    assert available(own)
    assert not available(OwnPrices())
    assert cost_of(make_trace(usage=usage()), own).currency == "EUR"
    assert "genai-prices is not installed" in cost_of(make_trace(request_model="other"), own).reason
