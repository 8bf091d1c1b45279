"""Uses of the public names that type checkers must accept. Checked by ``test_api.py``, never run."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import assert_type

import llmspan


def set_up() -> None:
    llmspan.instrument()
    llmspan.instrument(backends="sqlite,postgres", sqlite_path="x.db", exit_timeout=3, summary=True)
    llmspan.instrument(backends=["sqlite"], sqlite_path=Path("x.db"), clickhouse_ttl=None, redact=lambda value: value)
    llmspan.instrument(providers=("openai",), capture_payloads="metadata", include_usage=["api.example.com"])
    llmspan.instrument(content="metadata", spool_full="drop_new", anthropic_native="both", source="older names")
    assert_type(llmspan.flush(), bool)
    llmspan.uninstrument()
    llmspan.shutdown()


def arguments() -> llmspan.SettingsArguments:
    return {"backends": "memory", "queue_max_items": "1000"}


def read(status: llmspan.RecordStatus) -> None:
    with llmspan.Reader.from_env(sqlite_path="x.db") as reader:
        page = reader.list(llmspan.Filters(status=status), limit=3)
        assert_type(page, llmspan.Page)
        assert_type(reader.get(record_id="id"), llmspan.ProviderTrace | None)
        assert_type(reader.stats(["provider"]), Sequence[llmspan.StatsRow])
        assert_type(reader.stats(["tag", "week"], measures=True, fill=True)[0].failure_rate, float | None)
        assert_type(reader.costs(["model"]), Mapping[tuple[str | None, ...], llmspan.Bill])
        assert_type(reader.snippets(page.traces, llmspan.Filters()), Mapping[str, llmspan.Snippet])
        for record in page.traces:
            assert_type(llmspan.cost_of(record), llmspan.Cost)
            assert_type(reader.cost_of(record).amount, Decimal | None)
            assert_type(record.usage.input_tokens, int | None)


def tree() -> None:
    with llmspan.Reader.from_env() as reader:
        run = reader.tree(run_id="run-1", limit=3)
        assert_type(run, llmspan.Tree)
        assert_type(run.roots, list[llmspan.Node])
        assert_type(run.sums.input_tokens, int | None)


def query() -> None:
    filters = llmspan.Filters.parse("status:error", "tokens>1000", now=0, zone=UTC)
    assert_type(filters, llmspan.Filters)
    assert_type(filters.matches(llmspan.ProviderTrace.from_json("{}")), bool)
    llmspan.Filters(model="gpt-5", tag=llmspan.OneOf(("beta",)), conditions=filters.conditions)


def annotate() -> None:
    assert_type(llmspan.annotate(record_id="call", score=1, comment="good", source="ann", backends="sqlite"), str)
    assert_type(llmspan.annotate(trace_id="0" * 32, name="label", value="poor", sqlite_path="x.db"), str)
    assert_type(llmspan.remove_annotation("id"), bool)
    with llmspan.Reader.from_env() as reader:
        (one,) = reader.annotations(record_id="call", trace_id=None)
        assert_type(one.value, float | str | None)
        assert_type(reader.annotations_of(reader.list().traces, limit=5), Sequence[llmspan.Annotation])


async def annotate_async() -> None:
    assert_type(await llmspan.annotate_async(record_id="call", value=True), str)


def delete() -> None:
    assert_type(llmspan.delete(llmspan.Filters(user_id="ann")), dict[str, int])
    llmspan.delete(llmspan.Filters(until=0), thorough=False, progress=print, backends="sqlite", sqlite_path="x.db")


async def delete_async() -> None:
    assert_type(await llmspan.delete_async(llmspan.Filters(id=llmspan.OneOf(("a", "b")))), dict[str, int])
    async with llmspan.AsyncReader.from_env() as reader:
        assert_type(await reader.count(llmspan.Filters()), int)


async def read_async() -> None:
    async with llmspan.AsyncReader.from_env(**arguments()) as reader:
        assert_type(await reader.get("id"), llmspan.ProviderTrace | None)
    assert_type(await llmspan.record_async(provider="x", usage={"input_tokens": 1}), str)
    assert_type(await llmspan.create(provider="x"), str)


def export() -> None:
    llmspan.SQLiteSpanExporter(sqlite_path="x.db", sqlite_retention_days=30, sqlite_max_bytes="4GiB")
    llmspan.PostgresSpanExporter(postgres_dsn="host=db")
    with llmspan.context(step_id="step", attributes={"tenant": "acme"}):
        assert_type(llmspan.record(provider="x"), str)
