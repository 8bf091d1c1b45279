"""Defects of ours in the hooks of single surfaces: the caller gets what he would have got, and one place is counted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from anthropic import beta_tool
from websockets.sync.server import ServerConnection, serve

import surface_calls
import surfaces
from llmspan import _guard
from llmspan.instrumentation import anthropic
from llmspan.instrumentation.stainless import batch, hooks, tool_runner, websocket
from replay import Pieces, client_for
from streams import MESSAGES, RESPONSES
from watching import Watch, watching

BATCH = {
    "id": "msgbatch_1", "processing_status": "ended", "created_at": "2026-11-01T00:00:00Z",
    "ended_at": "2026-11-01T00:10:00Z",
    "results_url": "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results",
}  # fmt: skip
RESULT = {"custom_id": "a", "result": {"type": "succeeded", "message": MESSAGES.body}}
ASKS = {
    **MESSAGES.body, "stop_reason": "tool_use",
    "content": [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}],
}  # fmt: skip


pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK's own


def explode(*_: Any, **__: Any) -> Any:
    raise RuntimeError("ours")


def upload() -> Any:
    (surface,) = [row for row in surfaces.OPENAI if row.name == "audio.translations.create"]
    seen: list[httpx2.Request] = []
    with client_for("openai", surface_calls.server(surface, seen)) as client:
        surface_calls.call(surface, "plain", client)
    return len(seen)


def results() -> Any:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/results"):
            return httpx2.Response(200, stream=Pieces([json.dumps(RESULT).encode()]))
        return httpx2.Response(200, json=BATCH)

    with client_for("anthropic", httpx2.MockTransport(answer)) as client:
        return [result.custom_id for result in client.messages.batches.results("msgbatch_1")]


@beta_tool
def look() -> str:
    """Look at something."""
    return "blue"


def runner(*replies: Any) -> Any:
    given = list(replies or (ASKS, MESSAGES.body))
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200 if given[0] else 400, json=given.pop(0)))
    client = client_for("anthropic", mock, open_telemetry=False)
    try:
        done = client.beta.messages.tool_runner(**MESSAGES.arguments, tools=[look]).until_done()
    except Exception as error:
        return type(error).__name__
    return done.id


def failing_runner() -> Any:
    return runner(ASKS, {})


def answer(connection: ServerConnection) -> None:
    for _ in connection:
        for event in RESPONSES.stream:
            connection.send(event.decode().partition("data: ")[2].strip())


def socket() -> Any:
    with serve(answer, "127.0.0.1", 0) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{listening.socket.getsockname()[1]}/v1"
        with openai.OpenAI(api_key="k", base_url=url) as client, client.responses.connect() as connection:
            connection.response.create(model="m", input="hi")
            kinds = [connection.recv().type]
            while kinds[-1] != "response.completed":
                kinds.append(connection.recv().type)
        listening.shutdown()
        thread.join()
    return kinds


#: (what raises, what the caller does, the place that is counted)
FAULTS: list[tuple[Any, str, Callable[[], Any], str]] = [
    (hooks, "Upload", upload, "request.upload"),
    (anthropic, "BatchResults", results, "request.begun"),
    (batch.BatchTimes, "remember", results, "request.passed"),
    (batch, "decoder", results, "batch.decoding"),
    (batch, "read_result", results, "batch.take"),
    (tool_runner, "_client_without_tracing", runner, "tool_runner.client"),
    (tool_runner, "_start", runner, "tool_runner.start"),
    (tool_runner, "_end_with_error", failing_runner, "tool_runner.fail"),
    (websocket, "_attach", socket, "socket.attach"),
    (websocket._Connection, "on_send", socket, "socket.sending"),
    (websocket._Connection, "on_message", socket, "socket.received"),
    (websocket._Connection, "on_close", socket, "socket.closed"),
]


def counted(watch: Watch) -> dict[str, int]:
    """What failed, once everything has been recorded that can be."""
    assert all(record.id for record in watch.records)
    found = _guard.failures()
    _guard.reset_error_counts()
    return found


@pytest.mark.parametrize(("owner", "name", "action", "place"), FAULTS, ids=[fault[3] for fault in FAULTS])
def test_the_caller_gets_what_he_would_have_got(
    owner: Any, name: str, action: Callable[[], Any], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same result as without us; the place is counted, and no other."""
    bare = action()
    monkeypatch.setattr(owner, name, explode)
    with watching() as watch:
        assert action() == bare
        assert counted(watch).keys() == {place}
