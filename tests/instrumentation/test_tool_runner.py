"""A tool runner: one parent span without usage, a span and a record per turn."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from anthropic import beta_async_tool, beta_tool
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan

from replay import Pieces, client_for
from streams import MESSAGES, json, sse
from watching import Watch

ASKS = {
    **MESSAGES.body, "stop_reason": "tool_use",
    "content": [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"what": "sky"}}],
}  # fmt: skip
ARGUMENTS = MESSAGES.arguments
natives = pytest.mark.parametrize("native", [True, False], ids=["native", "ours"])


@beta_tool
def look(what: str) -> str:
    """Look at something.

    Args:
        what: at what
    """
    return f"{what}: blue"


@beta_async_tool
async def look_async(what: str) -> str:
    """Look at something.

    Args:
        what: at what
    """
    return f"{what}: blue"


look_async.name = "look"


def server() -> httpx2.MockTransport:
    replies = [ASKS, MESSAGES.body]
    return httpx2.MockTransport(lambda _: httpx2.Response(200, json=replies.pop(0)))


def failing() -> httpx2.MockTransport:
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
    replies = [httpx2.Response(200, json=ASKS), httpx2.Response(400, json=error)]
    return httpx2.MockTransport(lambda _: replies.pop(0))


def tracing(watch: Watch, native: bool) -> Any:
    return {"tracer_provider": watch.tracer_provider} if native else False


def check(watch: Watch, native: bool, turns: int = 2) -> ReadableSpan:
    chats = [span for span in watch.spans if span.name.startswith("chat")]
    (parent,) = [span for span in watch.spans if (span.attributes or {}).get("gen_ai.operation.name") == "invoke_agent"]
    assert parent.name == ("anthropic.messages.tool_runner" if native else "invoke_agent")
    assert len(chats) == len(watch.records) == turns
    assert {span.parent.span_id for span in chats if span.parent} == {parent.context.span_id}
    assert not any(name.startswith("gen_ai.usage.") for name in parent.attributes or {})
    assert [record.operation for record in watch.records] == ["chat"] * turns
    assert not trace.get_current_span().get_span_context().is_valid
    return parent


@natives
@pytest.mark.peer_fault("S5")
def test_turns(native: bool, watch: Watch) -> None:
    """Two turns are two calls under one parent: the SDK's own where it traces, ours where it does not."""
    client = client_for("anthropic", server(), open_telemetry=tracing(watch, native))
    runner = client.beta.messages.tool_runner(**ARGUMENTS, tools=[look])
    for _ in runner:
        assert not trace.get_current_span().get_span_context().is_valid  # the application's code is not inside
    check(watch, native)
    assert [record.usage.output_tokens for record in watch.records] == [250, 250]


@pytest.mark.anyio
@natives
async def test_turns_async(native: bool, watch: Watch) -> None:
    """The same, async."""
    client = client_for("anthropic", server(), is_async=True, open_telemetry=tracing(watch, native))
    async for _ in client.beta.messages.tool_runner(**ARGUMENTS, tools=[look_async]):
        assert not trace.get_current_span().get_span_context().is_valid
    check(watch, native)


def test_streamed_turns(watch: Watch) -> None:
    """Turns that stream are calls alike."""
    block: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**ASKS, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0,
         "delta": {"type": "input_json_delta", "partial_json": '{"what": "sky"}'}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]  # fmt: skip
    bodies = [b"".join(map(sse, events)), b"".join(MESSAGES.stream)]
    headers = {"content-type": "text/event-stream"}
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, stream=Pieces([bodies.pop(0)])))
    client = client_for("anthropic", mock, open_telemetry=False)
    for stream in client.beta.messages.tool_runner(**ARGUMENTS, tools=[look], stream=True):
        for _ in stream:
            pass
    check(watch, native=False)
    assert [record.usage.output_tokens for record in watch.records] == [9, 250]


def test_a_failed_turn(watch: Watch) -> None:
    """The exception is the caller's, and the parent says that the loop failed."""
    client = client_for("anthropic", failing(), open_telemetry=False)
    with pytest.raises(Exception, match="no"):
        client.beta.messages.tool_runner(**ARGUMENTS, tools=[look]).until_done()
    parent = check(watch, native=False)
    assert parent.status.status_code is trace.StatusCode.ERROR
    assert (parent.attributes or {})["error.type"] == watch.records[-1].error_type
    assert watch.records[-1].status == "error"


def test_a_loop_that_is_left(watch: Watch) -> None:
    """Stopping after one turn ends the parent, without an error."""
    client = client_for("anthropic", server(), open_telemetry=False)
    runner = client.beta.messages.tool_runner(**ARGUMENTS, tools=[look])
    next(runner)
    runner.close()
    parent = check(watch, native=False, turns=1)
    assert parent.status.status_code is trace.StatusCode.UNSET


def test_a_loop_that_never_runs(watch: Watch) -> None:
    """A runner that nobody iterates opens nothing."""
    client = client_for("anthropic", server(), open_telemetry=False)
    client.beta.messages.tool_runner(**ARGUMENTS, tools=[look])
    assert (watch.spans, watch.records) == ([], [])


def test_the_request_has_the_tools_answer(watch: Watch) -> None:
    """The second turn's request holds what the tool said."""
    client = client_for("anthropic", server(), open_telemetry=False)
    client.beta.messages.tool_runner(**ARGUMENTS, tools=[look]).until_done()
    assert "sky: blue" in json.dumps(json.loads(watch.records[1].request_json or ""))
