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
from collections.abc import Callable, Iterable
from typing import Any

import httpx2
from anthropic import beta_tool
from openai._base_client import SyncAPIClient
from opentelemetry.sdk.trace import TracerProvider
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

import llmspan
from gemini_outcomes import ENDINGS, Caller, Ending
from gemini_server import JSON_HEADERS, WAYS, Answer, GeminiServer, Way, gemini_server
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


#: how calls of Google's SDK end
GEMINI_ENDS = ("HTTP 429 twice, then an answer", "stream: read to the end", "stream: HTTP 429", "stream: close")


def reads_a_stream(api: Api) -> list[Any]:
    """A stream to its end; what the client is told about its calls is no JSON."""
    with llmspan.context(llm_config={("a", "b"): Odd()}):
        client = _client(api)
    with api.method(client)(**api.arguments, stream=True) as stream:
        return [event.to_dict() for event in stream]


def reads_a_response(api: Api) -> list[Any]:
    """A call without a stream."""
    return [api.method(_client(api))(**api.arguments).to_dict()]


def is_refused(api: Api) -> list[Any]:
    """A call that the provider answers by an error."""
    try:
        return [api.method(_client(api))(**{**api.arguments, "model": "refused", "metadata": {"user_id": "u"}})]
    except Exception as error:
        return [type(error), str(error)]


def reaches_nobody(api: Api) -> list[Any]:
    """A call without a connection."""
    try:
        return [api.method(client_for(api.provider, httpx2.MockTransport(_refuse)))(**api.arguments)]
    except Exception as error:
        return [type(error), str(error), str(error.__cause__)]


def drops_a_stream(api: Api) -> list[Any]:
    """A stream that is not read to its end."""
    dropped = api.method(_client(api))(**api.arguments, stream=True)
    return [next(dropped).to_dict()]


def reads_a_stream_asynchronously(api: Api) -> list[Any]:
    """An async stream to its end."""

    async def read() -> list[Any]:
        stream = await api.method(_client(api, is_async=True))(**api.arguments, stream=True)
        return [event.to_dict() async for event in stream]

    return asyncio.run(read())


def _client(api: Api, *, is_async: bool = False) -> Any:
    return client_for(api.provider, httpx2.MockTransport(functools.partial(respond, api)), is_async=is_async)


def calls_google(ending: Ending, way: Way) -> list[Any]:
    """A call of Google's SDK over one of its HTTP libraries, with one of the ways to end."""
    with gemini_server() as server:
        server.answers(*ending.answers)
        caller = Caller(server, way, ending.attempts)
        ending.drive(caller)
        return [caller.events, caller.kinds, type(caller.error)]


def reads_what_google_says() -> list[Any]:
    """A body that its SDK understands, and one that it does not."""
    with gemini_server() as server:
        return [_parsed(server, body) for body in (b"{}", b"{oops}")]


def fetches_a_batch_of_google() -> list[Any]:
    """A batch with its results in it."""
    with gemini_server() as server:
        server.answers(Answer.json({"name": "batches/1", "metadata": {"output": {"inlinedResponses": INLINED}}}))
        return [google_client(server).batches.get(name="batches/1")]


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


def uploads() -> list[Any]:
    """A file, and what was heard in it."""
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"text": "hello"}))
    client = client_for("openai", mock)
    return [client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF")).to_dict()]


def results_of_a_batch() -> list[Any]:
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


def runs_tools() -> list[Any]:
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


def talks_by_websocket() -> list[Any]:
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


def hands_over_a_compacted_conversation() -> list[Any]:
    """A request whose first item stands for what was said before."""
    client = client_for("openai", httpx2.MockTransport(functools.partial(respond, RESPONSES)))
    compacted = {"type": "compaction", "encrypted_content": "x"}
    return [client.responses.create(**{**RESPONSES.arguments, "input": [compacted]}).to_dict()]


#: what a caller does with each API
KINDS = (
    reads_a_stream, reads_a_response, is_refused, reaches_nobody, drops_a_stream, reads_a_stream_asynchronously,
)  # fmt: skip
#: of Google's SDK, which few places are come by under alone
GOOGLE_SCENES: dict[str, Callable[[], list[Any]]] = {
    **{
        f"{ending.name}, {way}": functools.partial(calls_google, ending, way)
        for ending, way in itertools.product(ENDINGS, WAYS)
        if ending.name in GEMINI_ENDS and ending.exists(way)
    },
    **{scene.__name__: scene for scene in (reads_what_google_says, fetches_a_batch_of_google)},
}
#: the parts of the program: each hook of ours is come by in one of them
SCENES: dict[str, Callable[[], list[Any]]] = {
    **{f"{kind.__name__} of {api.name}": functools.partial(kind, api) for api in ALL for kind in KINDS},
    **{
        scene.__name__: scene
        for scene in (
            uploads, results_of_a_batch, runs_tools, talks_by_websocket, goes_past_request,
            under_a_span_that_ends_first, hands_over_a_compacted_conversation,
        )
    },
    **GOOGLE_SCENES,
}  # fmt: skip


def program(names: Iterable[str] = SCENES) -> list[Any]:
    """Calls of all kinds, or of some, and everything that a caller sees of them."""
    seen = list(itertools.chain.from_iterable(SCENES[name]() for name in names))
    gc.collect()
    return seen


def _stop(*_: Any) -> None:
    raise RuntimeError("stop")


def _answer_once(socket: ServerConnection) -> None:
    socket.recv()
    for event in RESPONSES.stream:
        socket.send(event.decode().partition("data: ")[2])


def _unexpected(request: httpx2.Request) -> httpx2.Response:
    raise AssertionError(f"an HTTP request to {request.url}")
