"""Every block of SQL in docs/postgres.md does what the page says."""

from __future__ import annotations

import re
import time
import uuid

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from integration.programs import ROOT
from llmspan.backends.postgres import PostgresBackend
from llmspan.cost import cost_of
from llmspan.reader import Reader
from llmspan.usage import Usage
from records import full_trace, make_trace
from stores import shutting_down
from stores.postgres import execute, new_schema

PAGE = (ROOT / "docs" / "postgres.md").read_text()
ROLES, QUESTIONS = (
    re.findall(r"^```sql\n(.*?)^```$", part, re.MULTILINE | re.DOTALL) for part in PAGE.split("## Questions")
)
NOW = time.time_ns()
LISTED = {"provider": "anthropic", "service_tier": "standard"}


@pytest.fixture(scope="module")
def dsn() -> str:
    """A store with a few records of today."""
    dsn = new_schema()
    model = {"request_model": "claude-opus-5", "response_model": None, "stream": True, "time_to_first_chunk_ns": 10**8}
    usage = Usage(
        input_tokens=1_000_000, output_tokens=100_000, cache_read_tokens=400_000, cache_write_tokens=100_000,
        details={"cache_write_5m_tokens": 60_000, "cache_write_1h_tokens": 40_000}, source="provider",
    )  # fmt: skip
    with shutting_down(PostgresBackend(dsn)) as backend:
        backend.write(
            [
                full_trace(started_at=NOW, status="ok", usage=usage, duration_ns=11 * 10**8, **LISTED, **model),
                full_trace(started_at=NOW + 1, usage=usage, duration_ns=10**9, **LISTED, **model),
                full_trace(started_at=NOW + 2, usage=usage, **LISTED | model | {"service_tier": "batch"}),
                make_trace(started_at=NOW, usage=Usage(), stream=True, provider="anthropic"),
            ]
        )
    return dsn


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
def test_questions_have_answers(dsn, question):
    """Each query runs as it stands, and finds something in a store that holds something to be found."""
    assert execute(dsn, question)


def test_the_cost(dsn):
    """The query for cost says what `cost_of` says of the same calls, and leaves out those of other tiers."""
    pytest.importorskip("genai_prices")
    (question,) = [one for one in QUESTIONS if "usd" in one]
    ((_, model, calls, usd),) = execute(dsn, question)
    assert (model, calls) == ("claude-opus-5", 2)
    assert float(usd) == 2 * (0.5 * 5 + 0.4 * 0.5 + 0.06 * 6.25 + 0.04 * 10 + 0.1 * 25)
    with shutting_down(PostgresBackend(dsn)) as backend:
        records = [record for record in Reader(backend).iterate() if record.service_tier == "standard"]
    assert float(usd) == float(sum(cost_of(record).amount or 0 for record in records))


def test_the_speed(dsn):
    """The query for speed divides what came after the first chunk by the time that it took."""
    (question,) = [one for one in QUESTIONS if "tokens_per_second" in one]
    found = {model: (first, speed) for _, model, _, first, speed in execute(dsn, question)}
    assert found["claude-opus-5"] == ([100.0] * 3, 100_000.0)


def test_the_hit_ratio(dsn):
    """The query for cache hits leaves out calls that report none."""
    (question,) = [one for one in QUESTIONS if "hit_ratio" in one]
    assert [(model, calls, float(ratio)) for model, calls, ratio in execute(dsn, question)] == [
        ("claude-opus-5", 3, 0.4)
    ]


def test_the_roles_are_enough(dsn):
    """With the rights that the page lists, a writer writes and keeps days, and a reader reads."""
    schema = execute(dsn, "SELECT current_schema()")[0][0]
    mark = uuid.uuid4().hex[:8]
    text = re.sub(
        r"llmspan_(writer|reader)", rf"\1_{mark}", "".join(ROLES).replace("SCHEMA public", f"SCHEMA {schema}")
    )
    try:
        execute(dsn, text)
    except psycopg.errors.InsufficientPrivilege as error:
        pytest.skip(f"the user of LLMSPAN_TEST_POSTGRES_DSN may not make roles: {error}")
    old, new = make_trace(started_at=NOW - 10 * 86_400_000_000_000), make_trace(started_at=NOW)
    try:
        with (
            shutting_down(as_role(dsn, f"writer_{mark}", retention_days=5)) as writer,
            shutting_down(as_role(dsn, f"reader_{mark}")) as reader,
        ):
            with shutting_down(PostgresBackend(dsn)) as owner:
                owner.write([old])
            writer.write([new])
            reader.open()
            assert reader.get(new.id) == new
            assert reader.get(old.id) is None
    finally:
        for role in (f"writer_{mark}", f"reader_{mark}"):
            execute(dsn, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def as_role(dsn: str, name: str, **options) -> PostgresBackend:
    return PostgresBackend(make_conninfo(dsn, user=name, password="choose one"), **options)
