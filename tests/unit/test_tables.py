"""Records as tables: typed columns with nulls, the same for Arrow, pandas and polars, batch by batch."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

import llmspan
from llmspan.backends.memory import MemoryBackend
from llmspan.errors import SettingsError
from llmspan.query.tables import COLUMNS, DEFAULT_COLUMNS, check_columns
from llmspan.reader import AsyncReader, Reader
from llmspan.trace import KEYS
from llmspan.usage import Usage
from records import NOON, full_trace, make_trace

pa = pytest.importorskip("pyarrow")

FULL = full_trace(attributes={"tenant": "acme", "n": 3, "none": None, "list": [1, "ü"]}, started_at=NOON + 1)
PLAIN = make_trace(started_at=NOON, usage=Usage(input_tokens=0, output_tokens=2**62, source="provider"))


@pytest.fixture
def reader() -> Reader:
    backend = MemoryBackend()
    backend.write([PLAIN, FULL])
    return Reader(backend)


def test_every_key_has_a_column() -> None:
    """Nothing of a record is left out of the columns that there are."""
    assert set(KEYS) <= COLUMNS.keys()
    assert set(DEFAULT_COLUMNS) == COLUMNS.keys() - {
        "duration_ns", "time_to_first_chunk_ns", "request_json", "response_json", "cost_amount", "cost_currency",
        "cost_reason", "cost_version",
    }  # fmt: skip


def test_types_of_columns(reader: Reader) -> None:
    """Timestamps have a zone, durations are seconds, counts are integers, attributes are a map and tags a list."""
    schema = reader.to_arrow(payload=True).schema
    assert schema.names == [*DEFAULT_COLUMNS, "request_json", "response_json"]
    types = {
        "started_at": pa.timestamp("ns", tz="UTC"), "duration_seconds": pa.float64(), "input_tokens": pa.int64(),
        "attributes": pa.map_(pa.string(), pa.string()), "agent_tags": pa.list_(pa.string()), "stream": pa.bool_(),
        "usage_details": pa.map_(pa.string(), pa.int64()), "llm_config": pa.string(), "request_json": pa.string(),
    }  # fmt: skip
    assert {name: schema.field(name).type for name in types} == types


def test_values_are_those_of_the_record(reader: Reader) -> None:
    """Newest first; null is what was not reported, zero stays zero, values of attributes are text or JSON."""
    full, plain = reader.to_arrow(payload=True).read_all().to_pylist()
    assert (full["id"], plain["id"]) == (FULL.id, PLAIN.id)
    assert dict(full["attributes"]) == {"tenant": "acme", "n": "3", "none": None, "list": '[1,"ü"]'}
    assert (full["agent_tags"], dict(full["usage_details"])) == (list(FULL.agent_tags), dict(FULL.usage.details))
    assert (plain["input_tokens"], plain["output_tokens"], plain["reasoning_tokens"]) == (0, 2**62, None)
    assert (plain["model"], plain["response_model"], plain["duration_seconds"]) == ("gpt-5", None, 0.001)
    assert full["request_json"] == FULL.request_json
    (start, _) = reader.to_arrow(columns=["started_at"]).read_all().column(0).cast(pa.int64()).to_pylist()
    assert start == NOON + 1


def test_chosen_columns_in_their_order(reader: Reader) -> None:
    """Only the named columns, payloads and costs among them; a wrong name says which there are."""
    pytest.importorskip("genai_prices")
    table = reader.to_arrow(llmspan.Filters(id=PLAIN.id), columns=["cost_amount", "duration_ns", "id"]).read_all()
    assert table.to_pylist() == [
        {"cost_amount": Decimal(2**62) * 10 / 10**6, "duration_ns": PLAIN.duration_ns, "id": PLAIN.id}
    ]
    with pytest.raises(SettingsError, match="no column is called 'tokens'; there are id, trace_id"):
        reader.to_arrow(columns=["tokens"])
    with pytest.raises(SettingsError, match="'id' is named twice"):
        check_columns(["id", "id"])
    with pytest.raises(SettingsError, match="no column is named"):
        check_columns([])


def test_what_no_column_can_hold(reader: Reader) -> None:
    """A number beyond 64 bits is null and a lone surrogate is replaced; neither stops the table."""
    odd = make_trace(started_at=NOON + 2, usage=Usage(details={"x_tokens": 2**70, "y_tokens": 1}))
    odd = llmspan.ProviderTrace.from_dict({**odd.to_dict(), "attributes": {"a": "\ud800"}})

    class Odd:
        own_prices = reader.own_prices

        def list(self, *_: object, **__: object) -> llmspan.Page:
            return llmspan.Page([odd])

    (row,) = Reader.to_arrow(Odd()).read_all().to_pylist()  # type: ignore[arg-type]
    assert (dict(row["usage_details"]), dict(row["attributes"])) == ({"x_tokens": None, "y_tokens": 1}, {"a": "?"})


def test_a_page_is_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are read while they are consumed, so memory holds one page; an empty store has the columns."""
    monkeypatch.setattr("llmspan.table_reading._PAGE", 2)
    backend = MemoryBackend()
    backend.write([make_trace(started_at=NOON + at) for at in range(5)])
    stream = Reader(backend).to_arrow(columns=["started_at"])
    assert next(stream).num_rows == 2
    backend.delete(llmspan.Filters())
    assert [batch.num_rows for batch in stream] == [0]
    assert Reader(MemoryBackend()).to_arrow().read_all().num_rows == 0


def test_pandas(reader: Reader) -> None:
    """Integers stay whole beside nulls, times have a zone, maps are dictionaries."""
    pd = pytest.importorskip("pandas")
    frame = reader.to_pandas()
    assert frame["started_at"].iloc[0] == pd.Timestamp("2026-01-31 12:00:00.000000001", tz="UTC")
    assert (frame["output_tokens"].iloc[1], str(frame["output_tokens"].dtype)) == (2**62, "Int64")
    assert frame["reasoning_tokens"].isna().tolist() == [False, True]
    assert frame["attributes"].iloc[0]["tenant"] == "acme"
    assert frame.groupby("provider")["input_tokens"].sum().tolist() == [FULL.usage.input_tokens]


def test_polars(reader: Reader) -> None:
    """The same table in polars."""
    pl = pytest.importorskip("polars")
    frame = reader.to_polars(columns=["started_at", "input_tokens", "agent_tags"])
    assert frame.schema["started_at"] == pl.Datetime("ns", "UTC")
    assert frame["input_tokens"].to_list() == [FULL.usage.input_tokens, 0]
    assert frame["agent_tags"].to_list() == [list(FULL.agent_tags), []]


def test_the_asynchronous_reader(tmp_path: Path) -> None:
    """The same, in threads: a table, its batches, and data frames."""

    async def read() -> tuple[int, int, int, int]:
        async with AsyncReader.from_env(backends="sqlite", sqlite_path=tmp_path / "a.db") as reader:
            reader._reader.backend.write([PLAIN, FULL])
            table = await reader.to_arrow(columns=["id"])
            batches = [batch.num_rows async for batch in reader.iterate_arrow(columns=["id"])]
            return table.num_rows, sum(batches), len(await reader.to_pandas()), len(await reader.to_polars())

    assert asyncio.run(read()) == (2, 2, 2, 2)


@pytest.mark.parametrize(
    ("method", "module", "message"),
    [
        ("to_arrow", "pyarrow", r"tables need pyarrow; pip install \"llmspan\[frame\]\""),
        ("to_pandas", "pandas", r"this needs pandas; pip install \"llmspan\[frame\]\" pandas"),
        ("to_polars", "polars", r"this needs polars; pip install \"llmspan\[frame\]\" polars"),
    ],
)
def test_what_is_not_installed_is_named(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, method: str, module: str, message: str
) -> None:
    """The error says what to install."""
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(SettingsError, match=message):
        getattr(reader, method)()


def test_notebooks_show_text_as_text() -> None:
    """Foreign text is escaped in the tables of records, pages and sums; a payload is closed until it is opened."""
    evil = "<script>alert(1)</script>\x1b"
    record = make_trace(request_model=evil, request_json=f'{{"a":"{evil[:-1]}"}}', agent_tags=(evil,))
    page = llmspan.Page([record])
    row = llmspan.StatsRow(
        group={"model": evil}, calls=1_234, failures=0, without_usage=0, input_tokens=None, output_tokens=0,
        cache_read_tokens=None, cache_write_tokens=None, reasoning_tokens=None,
    )  # fmt: skip
    for shown in (record._repr_html_(), page._repr_html_(), row._repr_html_()):
        assert "<script" not in shown
        assert "\x1b" not in shown
        assert "&lt;script&gt;" in shown
    assert "<details><summary>request_json</summary><pre>" in record._repr_html_()
    assert [cell in row._repr_html_() for cell in ("<td>1,234</td>", "<td>-</td>", "<td>0</td>")] == [True] * 3


def test_the_repr_of_a_record_is_short() -> None:
    """It names the call and has no payload."""
    record = make_trace(id="some-id", request_json='{"secret":"x"}')
    assert repr(record) == (
        "ProviderTrace(id='some-id', provider='openai', operation='chat', model='gpt-5', status='ok',"
        " started=2026-01-31T12:00:00.000000000Z, input_tokens=10, output_tokens=5, ...)"
    )
    assert dt.datetime.fromisoformat("2026-01-31T12:00:00Z").timestamp() * 10**9 == NOON
