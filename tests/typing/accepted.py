"""Uses of the public names that type checkers must accept. Checked by ``test_api.py``, never run."""

from collections.abc import Sequence
from pathlib import Path
from typing import assert_type

import llmspan


def set_up() -> None:
    llmspan.instrument()
    llmspan.instrument(backends="sqlite,postgres", sqlite_path="x.db", exit_timeout=3, summary=True)
    llmspan.instrument(backends=["sqlite"], sqlite_path=Path("x.db"), clickhouse_ttl=None, redact=lambda value: value)
    llmspan.instrument(providers=("openai",), content="metadata", include_usage=["api.example.com"])
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
        for record in page.traces:
            assert_type(record.usage.input_tokens, int | None)


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
