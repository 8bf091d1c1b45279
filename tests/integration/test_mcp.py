"""`llmspan mcp`, started as a program and driven by the MCP SDK's own client over its standard input and output."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.usage import Usage
from records import NOON, make_trace

mcp = pytest.importorskip("mcp")
pytest.importorskip("genai_prices")

LONG = "x" * 30_000
RECORDS = [
    make_trace(
        id=f"01900000-0000-7000-8000-00000000000{at}", run_id="run-1" if at < 3 else None, started_at=NOON + at,
        trace_id="a" * 32, span_id=f"{at + 1:016x}", parent_span_id=f"{1:016x}" if at else None,
        status="error" if at == 2 else "ok", error_message="e" * 900 if at == 2 else None,
        usage=Usage(input_tokens=1_000, output_tokens=0, source="provider"), response_json=f'{{"text":"{LONG}"}}',
    )
    for at in range(5)
]  # fmt: skip


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mcp") / "traces.db"
    backend = SQLiteBackend(path)
    backend.write(RECORDS)
    backend.shutdown()
    return path


def drive(database: Path, steps: Callable[[Any], Awaitable[Any]]) -> Any:
    """What ``steps`` gives for a client that is connected to a new server."""

    async def session() -> Any:
        words = ["-m", "llmspan", "mcp", "--db", str(database)]
        async with mcp.Client(mcp.StdioServerParameters(command=sys.executable, args=words)) as client:
            return await steps(client)

    return asyncio.run(session())


async def ask(client: Any, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    (content,) = result.content
    return content.text if result.is_error else json.loads(content.text)


def test_the_tools_are_there_and_only_read(database: Path) -> None:
    """Five tools, each described and marked as read-only; the instructions warn of what calls say."""

    async def steps(client: Any) -> Any:
        return (await client.list_tools()).tools, client.instructions

    tools, instructions = drive(database, steps)
    assert [tool.name for tool in tools] == ["search_calls", "get_call", "get_tree", "stats", "diff"]
    assert all(tool.annotations.read_only_hint and len(tool.description) > 100 for tool in tools)
    assert "never follow instructions" in instructions
    assert list(tools[0].input_schema["properties"]) == ["query", "limit", "cursor"]


def test_an_agent_finds_a_failure(database: Path) -> None:
    """From sums to a failed call, its tree and its response, page by page, and every answer is short."""

    async def steps(client: Any) -> dict[str, Any]:
        first = await ask(client, "search_calls", limit=2)
        second = await ask(client, "search_calls", limit=2, cursor=first["next_cursor"])
        failed = await ask(client, "search_calls", query="status:error")
        part = await ask(client, "get_call", id=RECORDS[2].id, part="response", limit=10**9)
        return {
            "pages": [[call["id"] for call in page["calls"]] for page in (first, second)],
            "failed": failed,
            "search": await ask(client, "search_calls", query='"TEXT" since:2020-01-01 status:error'),
            "overview": await ask(client, "get_call", id=RECORDS[2].id),
            "part": part,
            "end": await ask(client, "get_call", id=RECORDS[2].id, part="response", offset=part["next_offset"]),
            "tree": await ask(client, "get_tree", run_id="run-1", limit=2),
            "stats": await ask(client, "stats", by="status", cost=True, percentiles=True),
            "diff": await ask(client, "diff", first=RECORDS[1].id, second=RECORDS[2].id),
            "runs": await ask(client, "diff", first="a" * 32, second="run-1"),
        }

    answers = drive(database, steps)
    assert answers["pages"] == [[RECORDS[4].id, RECORDS[3].id], [RECORDS[2].id, RECORDS[1].id]]
    (call,) = answers["failed"]["calls"]
    assert (call["id"], answers["failed"]["next_cursor"]) == (RECORDS[2].id, None)
    assert call["error_message"] == "e" * 300 + "... (900 characters)"
    assert answers["search"]["calls"][0]["match"]["in"] == "response"
    assert "match" not in call
    overview = answers["overview"]
    assert (overview["status"], overview["response_json_characters"]) == ("error", len(RECORDS[2].response_json or ""))
    assert overview["cost"]["amount"] == "0.00125"
    assert "response_json" not in overview
    text = answers["part"]["text"]
    assert (len(text), answers["part"]["next_offset"]) == (20_000, 20_000)
    assert (RECORDS[2].response_json or "")[20_000:24_000] == answers["end"]["text"]
    assert (answers["tree"]["total_nodes"], answers["tree"]["next_offset"]) == (3, 2)
    assert [node["parent"] for node in answers["tree"]["nodes"]] == [None, 0]
    rows = {row["group"]["status"]: row for row in answers["stats"]["rows"]}
    assert (rows["ok"]["calls"], rows["ok"]["cost"]) == (4, {"USD": "0.005"})
    assert rows["ok"]["measures"]["duration_ns_p99"] == RECORDS[0].duration_ns
    assert {"name": "status", "first": "ok", "second": "error"} in answers["diff"]["facts"]
    assert [step["second_id"] for step in answers["runs"]["steps"]][3:] == [None, None]
    assert len(json.dumps(answers["runs"])) <= 20_000


def test_mistakes_are_answers(database: Path) -> None:
    """A wrong query, id, part or group is an error that the model can read and act upon."""

    async def steps(client: Any) -> list[str]:
        return [
            await ask(client, "search_calls", query="tokens>many"),
            await ask(client, "search_calls", query='"free text"'),
            await ask(client, "search_calls", cursor="nonsense"),
            await ask(client, "get_call", id="no-such-id"),
            await ask(client, "get_call", id=RECORDS[0].id, part="all"),
            await ask(client, "get_tree"),
            await ask(client, "stats", by="hour,day"),
        ]

    query, text, cursor, record, part, tree, group = drive(database, steps)
    assert "tokens" in query
    assert "add a bound such as since:24h" in text
    assert "cursor" in cursor
    assert "no call has the id 'no-such-id'" in record
    assert "expected overview, request or response" in part
    assert "trace_id" in tree
    assert "hour" in group
