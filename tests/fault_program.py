"""A program that comes by every hook of ours there is, for ``test_faults`` to break them under it."""

from __future__ import annotations

import asyncio
import functools
import gc
import gzip
import inspect
import itertools
import json
import threading
from typing import Any

import httpx2
from anthropic import beta_tool
from openai._base_client import SyncAPIClient
from opentelemetry.sdk.trace import TracerProvider
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

import llmspan
from gemini_outcomes import ENDINGS, Caller
from gemini_server import JSON_HEADERS, WAYS, Answer, GeminiServer, gemini_server
from gemini_server import client_for as google_client
from replay import Pieces, client_for
from streams import ALL, CHAT, MESSAGES, RESPONSES, Api

SSE = {"content-type": "text/event-stream"}
GZIP = {"content-encoding": "gzip"}
BATCH = {
    "id": "msgbatch_1", "type": "message_batch", "processing_status": "ended", "created_at": "2026-11-01T00:00:00Z",
    "ended_at": "2026-11-01T00:10:00Z", "expires_at": "2026-11-02T00:00:00Z", "results_url": "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results",
    "request_counts": {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0},
}  # fmt: skip
RESULT = {"custom_id": "a", "result": {"type": "succeeded", "message": MESSAGES.body}}
USES_TOOL = [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}]


#: more than is submitted at once
INLINED = {"inlinedResponses": [{"response": {"responseId": "r" * 300_000}}, {"response": {"responseId": "r"}}]}


class Odd:
    """A value that no JSON has."""


def respond(api: Api, request: httpx2.Request) -> httpx2.Response:
    """What the provider answers: an error, a body, or a stream; with usage if it is asked for, and compressed."""
    body = json.loads(request.content)
    if body["model"] == "refused":
        return httpx2.Response(400, json={"error": {"message": "no"}})
    if not body.get("stream"):
        return httpx2.Response(200, json=api.body)
    events = [piece for piece in api.stream if b'"choices": []' not in piece or body.get("stream_options")]
    data = gzip.compress(b"".join(events))
    pieces = [data[: len(data) // 2], data[len(data) // 2 :]]
    return httpx2.Response(200, headers={**SSE, **GZIP}, stream=Pieces(pieces))


def _refuse(_: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("connection refused")


#: how the calls of :func:`gemini_program` end
GEMINI_ENDS = ("HTTP 429 twice, then an answer", "stream: read to the end", "stream: HTTP 429", "stream: close")


def program() -> list[Any]:
    """Calls of all kinds, and everything that a caller sees of them. Each hook of ours is come by."""
    seen: list[Any] = []
    for api in ALL:
        mock = httpx2.MockTransport(functools.partial(respond, api))
        with llmspan.context(llm_config={("a", "b"): Odd()}):
            client = client_for(api.provider, mock)
        create = api.method(client)
        with create(**api.arguments, stream=True) as stream:
            seen += [event.to_dict() for event in stream]
        seen.append(create(**api.arguments).to_dict())
        try:
            create(**{**api.arguments, "model": "refused", "metadata": {"user_id": "u"}})
        except Exception as error:
            seen += [type(error), str(error)]
        try:
            api.method(client_for(api.provider, httpx2.MockTransport(_refuse)))(**api.arguments)
        except Exception as error:
            seen += [type(error), str(error), str(error.__cause__)]
        dropped = create(**api.arguments, stream=True)
        seen.append(next(dropped).to_dict())
        del dropped
        asyncio.run(_read_async(api, mock, seen))
    for others in (uploads, results_of_a_batch, runs_tools, talks_by_websocket):
        seen.append(others())
    seen += goes_past_request()
    seen += under_a_span_that_ends_first()
    seen.append(hands_over_a_compacted_conversation())
    gc.collect()
    return seen


def gemini_program() -> list[Any]:
    """Calls of Google's SDK over each of its HTTP libraries, and everything that a caller sees of them."""
    seen: list[Any] = []
    with gemini_server() as server:
        for ending, way in itertools.product(ENDINGS, WAYS):
            if ending.name in GEMINI_ENDS and ending.exists(way):
                server.reset()
                server.answers(*ending.answers)
                caller = Caller(server, way, ending.attempts)
                ending.drive(caller)
                seen += [caller.events, caller.kinds, type(caller.error)]
        server.reset()
        seen += [_parsed(server, body) for body in (b"{}", b"{oops}")]
        server.answers(Answer.json({"name": "batches/1", "metadata": {"output": {"inlinedResponses": INLINED}}}))
        seen.append(google_client(server).batches.get(name="batches/1"))
    return seen


def _parsed(server: GeminiServer, body: bytes) -> list[Any]:
    """What the SDK makes of a body, or raises, when the request is over."""
    server.answers(Answer([body], headers=JSON_HEADERS))
    client, seen = google_client(server), []
    for create in (client.models.generate_content, client.interactions.create):
        contents = {"contents": "hi"} if create == client.models.generate_content else {"input": "hi"}
        try:
            seen.append(type(create(model="m", **contents)))
        except Exception as error:
            seen.append(type(error))
    return seen


async def _read_async(api: Api, mock: httpx2.MockTransport, seen: list[Any]) -> None:
    stream = await api.method(client_for(api.provider, mock, is_async=True))(**api.arguments, stream=True)
    seen += [event.to_dict() async for event in stream]


def uploads() -> Any:
    """A file, and what was heard in it."""
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"text": "hello"}))
    client = client_for("openai", mock)
    return client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF")).to_dict()


def results_of_a_batch() -> Any:
    """The results of a batch, compressed."""

    def respond(request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.endswith("results"):
            return httpx2.Response(200, json=BATCH)
        headers = {"content-type": "application/x-jsonl", **GZIP}
        return httpx2.Response(200, headers=headers, stream=Pieces([gzip.compress(json.dumps(RESULT).encode())]))

    batches = client_for("anthropic", httpx2.MockTransport(respond)).messages.batches
    return [batches.retrieve("msgbatch_1").to_dict(), [one.to_dict() for one in batches.results("msgbatch_1")]]


@beta_tool
def look() -> str:
    """Look around."""
    return "blue"


def runs_tools() -> Any:
    """A tool runner, on clients that trace themselves and that do not."""
    seen: list[Any] = []
    for tracing in ({"tracer_provider": TracerProvider(shutdown_on_exit=False), "propagation": False}, False):
        replies = [{**MESSAGES.body, "stop_reason": "tool_use", "content": USES_TOOL}, MESSAGES.body]
        mock = httpx2.MockTransport(lambda _, replies=replies: httpx2.Response(200, json=replies.pop(0)))
        client = client_for("anthropic", mock, open_telemetry=tracing)
        seen.append(client.beta.messages.tool_runner(**MESSAGES.arguments, tools=[look]).until_done().to_dict())
        client = client_for("anthropic", httpx2.MockTransport(lambda _: httpx2.Response(400)), open_telemetry=tracing)
        try:
            client.beta.messages.tool_runner(**MESSAGES.arguments, tools=[look]).until_done()
        except Exception as error:
            seen.append(type(error))
    return seen


def talks_by_websocket() -> Any:
    """A response over a WebSocket, whose server then hangs up."""
    seen: list[Any] = []
    with serve(_answer_once, "127.0.0.1", 0) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{listening.socket.getsockname()[1]}/v1"
        with client_for("openai", httpx2.MockTransport(_unexpected), base_url=url).responses.connect() as connection:
            reader = connection._connection.recv_events_thread
            connection.response.create(**RESPONSES.arguments)
            try:
                while True:
                    seen.append(connection.recv().to_dict())
            except ConnectionClosed as error:
                seen.append(type(error))
            try:
                connection.response.create(**RESPONSES.arguments)
            except ConnectionClosed as error:
                seen.append(type(error))
        listening.shutdown()
        thread.join()
    reader.join()  # it lets go of the socket last
    return seen


def goes_past_request() -> list[Any]:
    """A client whose ``request`` is the SDK's own function, which somebody saved before it was instrumented."""
    seen: list[Any] = []
    answers = {
        "read": functools.partial(respond, CHAT),
        "refused": functools.partial(respond, CHAT),
        "garbled": lambda _: httpx2.Response(200, headers={"content-type": "application/json"}, content=b"{"),
        "lost": _refuse,
        "not waited for": lambda _: httpx2.Response(500),
        "not signed": lambda _: httpx2.Response(200),
    }
    for model, answer in answers.items():
        client = client_for("openai", httpx2.MockTransport(answer), max_retries=1)
        client.request = functools.partial(inspect.unwrap(SyncAPIClient.request), client)
        client._calculate_retry_timeout = _stop if model == "not waited for" else lambda *_: 0
        if model == "not signed":
            client._prepare_request = _stop
        try:
            result = client.chat.completions.create(**{**CHAT.arguments, "model": model}, stream=model == "read")
            seen += [event.to_dict() for event in result]
        except Exception as error:
            seen += [type(error), str(error)]
    return seen


def under_a_span_that_ends_first() -> list[Any]:
    """A stream that is read when the span that somebody else had opened for the call has ended."""
    client = client_for("openai", httpx2.MockTransport(functools.partial(respond, RESPONSES)))
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("framework")
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5-mini"}
    with tracer.start_as_current_span("chat gpt-5-mini", attributes=attributes):
        stream = client.responses.create(**RESPONSES.arguments, stream=True)
    return [event.to_dict() for event in stream]


def hands_over_a_compacted_conversation() -> Any:
    """A request whose first item stands for what was said before."""
    client = client_for("openai", httpx2.MockTransport(functools.partial(respond, RESPONSES)))
    compacted = {"type": "compaction", "encrypted_content": "x"}
    return client.responses.create(**{**RESPONSES.arguments, "input": [compacted]}).to_dict()


def _stop(*_: Any) -> None:
    raise RuntimeError("stop")


def _answer_once(socket: ServerConnection) -> None:
    socket.recv()
    for event in RESPONSES.stream:
        socket.send(event.decode().partition("data: ")[2])


def _unexpected(request: httpx2.Request) -> httpx2.Response:
    raise AssertionError(f"an HTTP request to {request.url}")
