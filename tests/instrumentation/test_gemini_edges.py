"""Where google-genai's calls meet something else: streams left to the loop, tools that call, attempts, other spans."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import httpx2
import pytest
import wrapt
from google import genai
from google.genai import _api_client, models, types
from opentelemetry import trace
from opentelemetry.trace import SpanKind

import llmspan
from gemini_outcomes import MineError, settle
from gemini_server import (
    EVENTS,
    KEY,
    SDK_WARNINGS,
    WAYS,
    Answer,
    GeminiServer,
    Way,
    client_for,
    event,
    gemini_server,
    part,
)
from gemini_surfaces import GEMINI
from llmspan.instrumentation.google_genai import attempts
from watching import Watch, watching

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)
UNAVAILABLE = {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}
#: what a tool asks
NESTED = {"model": "nested-model", "contents": "which one?"}
TURN = {
    "candidates": [{
        "content": {"parts": [{"functionCall": {"name": "weather", "args": {"city": "P"}}}], "role": "model"},
        "finishReason": "STOP", "index": 0,
    }],
}  # fmt: skip
LAST = part("sunny", "STOP")


@pytest.fixture(scope="module")
def running() -> Iterator[GeminiServer]:
    with gemini_server() as server:
        yield server


@pytest.fixture
def server(running: GeminiServer) -> GeminiServer:
    running.reset()
    return running


# -- streams that are left early ---------------------------------------------------------------------------------------


async def breaks(stream: Any) -> None:
    async for _ in stream:
        break


async def closes(stream: Any) -> None:
    await anext(stream)
    await stream.aclose()


async def throws(stream: Any) -> None:
    await anext(stream)
    with pytest.raises(MineError):
        await stream.athrow(MineError("mine"))


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("leave", [breaks, closes, throws])
def test_a_stream_that_was_left_is_collected_in_silence(
    leave: Callable[[Any], Any], way: Way, server: GeminiServer, watch: Watch
) -> None:
    """The loop's exception handler hears nothing when a stream that was left early is garbage collected."""
    server.answers(Answer(EVENTS[:2], end="waits"))
    heard: list[Any] = []

    async def ask(client: Any) -> None:
        await leave(await client.models.generate_content_stream(**GEMINI))

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, about: heard.append(about))
        client = client_for(server, way).aio
        await asyncio.create_task(ask(client))
        for _ in range(3):  # a generator, the task that closes it, and what that held
            await settle()
            gc.collect()
        server.released.set()
        await client.aclose()

    asyncio.run(main())
    gc.collect()
    assert heard == []
    record, _ = watch.only()
    assert record.attempts == 1


# -- tools that make calls ---------------------------------------------------------------------------------------------


def answer_with_tool() -> Callable[[Any], Answer]:
    """Two turns of function calling; what the tool asks is answered on its own."""
    turns = [TURN, LAST]

    def answer(request: Any) -> Answer:
        body = LAST if NESTED["model"] in request.path else turns.pop(0)
        return Answer([event(body)]) if "streamGenerateContent" in request.path else Answer.json(body)

    return answer


@pytest.mark.parametrize("nested", ["generate_content", "generate_content_stream"])
def test_a_call_of_a_tool_is_of_the_tool(nested: str, server: GeminiServer, watch: Watch) -> None:
    """A tool that runs while a stream is read calls in its own span and step, not where the stream was asked for."""
    tracer = watch.tracer_provider.get_tracer("app")
    client = client_for(server)
    server.answer = answer_with_tool()

    def weather(city: str) -> str:
        """The weather of a city."""
        with tracer.start_as_current_span("tool"), llmspan.context(step_id="tool-step"):
            result = getattr(client.models, nested)(**NESTED)
            return str([chunk.text for chunk in result] if nested.endswith("_stream") else result.text)

    config = types.GenerateContentConfig(tools=[weather])
    with tracer.start_as_current_span("asks"), llmspan.context(step_id="ask-step"):
        stream = client.models.generate_content_stream(**GEMINI, config=config)
    list(stream)
    check_tool_call(watch)


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("is_async", [True, False], ids=["coroutine", "thread"])
def test_an_async_call_of_a_tool_is_of_the_tool(is_async: bool, way: Way, server: GeminiServer, watch: Watch) -> None:
    """The same in an async stream, of a tool that is a coroutine function, or runs in a thread of the SDK's."""
    tracer = watch.tracer_provider.get_tracer("app")
    client = client_for(server, way)
    server.answer = answer_with_tool()

    async def ask_in_task(city: str) -> str:
        """The weather of a city."""
        with tracer.start_as_current_span("tool"), llmspan.context(step_id="tool-step"):
            return str((await client.aio.models.generate_content(**NESTED)).text)

    def ask_in_thread(city: str) -> str:
        """The weather of a city."""
        with tracer.start_as_current_span("tool"), llmspan.context(step_id="tool-step"):
            return str(client.models.generate_content(**NESTED).text)

    weather = ask_in_task if is_async else ask_in_thread
    weather.__name__ = "weather"

    async def main() -> None:
        config = types.GenerateContentConfig(tools=[weather])
        with tracer.start_as_current_span("asks"), llmspan.context(step_id="ask-step"):
            stream = await client.aio.models.generate_content_stream(**GEMINI, config=config)
        async for _ in stream:
            pass
        await client.aio.aclose()

    asyncio.run(main())
    check_tool_call(watch)


def check_tool_call(watch: Watch) -> None:
    """The tool's call is below the tool's span and of its step; the turns are where the stream was asked for."""
    named = {span.name: f"{span.context.span_id:016x}" for span in watch.spans}
    found = sorted((record.request_model, record.step_id, record.parent_span_id) for record in watch.records)
    turn = GEMINI["model"], "ask-step", named["asks"]
    assert found == [turn, turn, (NESTED["model"], "tool-step", named["tool"])]


# -- attempts ----------------------------------------------------------------------------------------------------------


class Unavailable:
    """A transport, sync or async: the first attempt is answered with 503, the connection of the second is refused."""

    def __init__(self) -> None:
        self.requests = 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests += 1
        if self.requests > 1:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(503, json=UNAVAILABLE)

    def client(self) -> genai.Client:
        transport = httpx2.MockTransport(self)
        options = types.HttpOptions(
            httpx_client=httpx2.Client(transport=transport),
            httpx_async_client=httpx2.AsyncClient(transport=transport),
            retry_options=types.HttpRetryOptions(attempts=2, initial_delay=0.001, max_delay=0.002),
        )
        return genai.Client(api_key=KEY, http_options=options)


def ask(client: genai.Client, method: str) -> None:
    result = getattr(client.models, method)(**GEMINI)
    if method.endswith("_stream"):
        list(result)


def ask_async(client: genai.Client, method: str) -> None:
    async def main() -> None:
        async with client.aio as owner:
            result = await getattr(owner.models, method)(**GEMINI)
            if method.endswith("_stream"):
                async for _ in result:
                    pass

    asyncio.run(main())


@pytest.mark.parametrize("perform", [ask, ask_async])
@pytest.mark.parametrize("method", ["generate_content", "generate_content_stream"])
def test_a_refused_connection_after_a_bad_status(
    method: str, perform: Callable[[genai.Client, str], None], watch: Watch
) -> None:
    """The record is of the last attempt, which has no response: nothing of the earlier one's is left in it."""
    unavailable = Unavailable()
    client = unavailable.client()
    with pytest.raises(httpx2.ConnectError):
        perform(client, method)
    assert unavailable.requests == 2
    record, span = watch.only()
    assert (record.status, record.error_type, record.attempts) == ("error", "httpx2.ConnectError", 2)
    assert "refused" in (record.error_message or "")
    assert (record.http_status, record.response_json) == (None, None)
    assert "http.response.status_code" not in (span.attributes or {})


def test_an_attempt_that_aiohttp_repeats_is_counted(
    server: GeminiServer, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without retry options the SDK repeats, once and by itself, what aiohttp could not send."""
    failures: list[Exception] = [aiohttp.ServerDisconnectedError()]
    send = aiohttp.ClientSession.request

    async def request(session: Any, **arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return await send(session, **arguments)

    monkeypatch.setattr(aiohttp.ClientSession, "request", request)
    monkeypatch.setattr(_api_client.random, "randint", lambda *_: -1)  # what it waits for is a second more
    server.answers(Answer.json(part("Hello", "STOP")))
    ask_async(client_for(server, "aiohttp"), "generate_content")
    record, _ = watch.only()
    assert (record.status, record.attempts, len(server.requests)) == ("ok", 2, 1)


@pytest.mark.parametrize("way", WAYS)
def test_a_response_that_is_no_json_is_an_error(way: Way, server: GeminiServer, watch: Watch) -> None:
    """The SDK raises when it parses the response, which it does when the request is over."""
    server.answers(Answer([b"<html>"], headers={"Content-Type": "application/json"}))
    with pytest.raises(ValueError, match="Expecting value"):
        (ask if way == "sync" else ask_async)(client_for(server, way), "generate_content")
    record, _ = watch.only()
    assert (record.status, record.error_type, record.http_status) == ("error", "json.decoder.JSONDecodeError", 200)


UNREADABLE = [b"<html>", b"{oops}", b'{"candidates": [', b"[1,2"]


@pytest.mark.parametrize("body", [*UNREADABLE, b"12"])
@pytest.mark.parametrize("way", WAYS)
def test_the_error_is_the_one_that_the_caller_gets(body: bytes, way: Way, server: GeminiServer, watch: Watch) -> None:
    """Whatever the body begins with: a cut one, or a number, which has no members."""
    server.answers(Answer([body], headers={"Content-Type": "application/json"}))
    with pytest.raises((ValueError, TypeError)) as raised:
        (ask if way == "sync" else ask_async)(client_for(server, way), "generate_content")
    record, span = watch.only()
    assert (record.status, record.http_status, record.error_message) == ("error", 200, str(raised.value))
    assert (record.error_type or "").rpartition(".")[2] == type(raised.value).__name__
    assert span.status.status_code is trace.StatusCode.ERROR


@pytest.mark.parametrize("kind", ["application/json", "text/html"])
@pytest.mark.parametrize("body", UNREADABLE)
@pytest.mark.parametrize("is_async", [False, True])
def test_an_interaction_that_cannot_be_parsed_is_an_error(
    is_async: bool, body: bytes, kind: str, server: GeminiServer, watch: Watch
) -> None:
    """Its client raises once the request is over: the call ends with that exception, and once."""
    server.answers(Answer([body], headers={"Content-Type": kind}))
    client = client_for(server)

    async def ask_for_one() -> None:
        async with client.aio as owner:
            await owner.interactions.create(model="m", input="hi")

    with pytest.raises(Exception) as raised:  # noqa: PT011 - its class is compared below
        asyncio.run(ask_for_one()) if is_async else client.interactions.create(model="m", input="hi")
    record, span = watch.only()
    assert (record.status, record.http_status) == ("error", 200)
    assert (record.error_type or "").rpartition(".")[2] == type(raised.value).__name__
    assert span.status.status_code is trace.StatusCode.ERROR


def test_an_interaction_that_nobody_parses_is_recorded(server: GeminiServer, watch: Watch) -> None:
    """With the raw response the program may parse it later, or never: the call ends with its bytes."""
    server.answers(Answer([b"<html>"], headers={"Content-Type": "application/json"}))
    client_for(server).interactions.with_raw_response.create(model="m", input="hi")
    record, _ = watch.only()
    assert (record.operation, record.http_status) == ("generate_content", 200)


# -- the official instrumentation's span -------------------------------------------------------------------------------


class Theirs(wrapt.ObjectProxy):  # pyright: ignore[reportMissingTypeArgument]
    """A stream as the official instrumentation wraps it: its span is current while an event is read, and only then."""

    def __init__(self, stream: Any, span: Any) -> None:
        super().__init__(stream)
        self._self_span = span

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        with trace.use_span(self._self_span):
            try:
                return self._self_keep(next(self.__wrapped__))
            except StopIteration:
                self._self_span.end()
                raise

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        with trace.use_span(self._self_span):
            try:
                return self._self_keep(await anext(self.__wrapped__))
            except StopAsyncIteration:
                self._self_span.end()
                raise

    def _self_keep(self, chunk: Any) -> Any:
        self._self_span.set_attribute("gen_ai.usage.input_tokens", chunk.usage_metadata.prompt_token_count)
        return chunk


class Official:
    """The official instrumentation, as far as streams go; ``tracer`` may be set after it has patched the SDK."""

    def __init__(self) -> None:
        self.tracer: Any = None

    def span(self, model: str) -> Any:
        attributes = {"gen_ai.operation.name": "generate_content", "gen_ai.request.model": model}
        return self.tracer.start_span(f"generate_content {model}", kind=SpanKind.CLIENT, attributes=attributes)

    def patch(self, patches: pytest.MonkeyPatch) -> None:
        sync, asynchronous = models.Models.generate_content_stream, models.AsyncModels.generate_content_stream

        def generate_content_stream(owner: Any, **arguments: Any) -> Any:
            span = self.span(arguments["model"])
            with trace.use_span(span):
                return Theirs(sync(owner, **arguments), span)

        async def generate_content_stream_async(owner: Any, **arguments: Any) -> Any:
            span = self.span(arguments["model"])
            with trace.use_span(span):
                return Theirs(await asynchronous(owner, **arguments), span)

        patches.setattr(models.Models, "generate_content_stream", generate_content_stream)
        patches.setattr(models.AsyncModels, "generate_content_stream", generate_content_stream_async)


def read_stream(server: GeminiServer, way: Way) -> int:
    """How many events a stream has."""

    async def main() -> int:
        async with client_for(server, way).aio as client:
            return len([chunk async for chunk in await client.models.generate_content_stream(**GEMINI)])

    if way == "sync":
        return len(list(client_for(server).models.generate_content_stream(**GEMINI)))
    return asyncio.run(main())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
def test_a_span_that_is_current_at_each_read_is_the_call_s(
    is_first: bool, way: Way, server: GeminiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One span has the usage, whichever instrumentation has patched the SDK first."""
    official = Official()
    if is_first:
        official.patch(monkeypatch)
    with watching() as watch, monkeypatch.context() as patches:
        if not is_first:
            official.patch(patches)
        official.tracer = watch.tracer_provider.get_tracer("official")
        with watch.tracer_provider.get_tracer("app").start_as_current_span("asks"):
            assert read_stream(server, way) == len(EVENTS)
        spans = {span.name: span for span in watch.spans}
        (record,) = watch.records
    assert sorted(spans) == ["asks", f"generate_content {GEMINI['model']}"]
    (with_usage,) = [span for span in spans.values() if "gen_ai.usage.input_tokens" in (span.attributes or {})]
    assert with_usage.instrumentation_scope.name == "official"
    assert record.span_id == f"{with_usage.context.span_id:016x}"
    assert record.parent_span_id == f"{spans['asks'].context.span_id:016x}"


def test_ctrl_c_while_a_body_is_looked_at_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDK would raise is found on the caller's thread: an interrupt there is not taken for it."""

    def interrupted(body: bytes) -> object:
        raise KeyboardInterrupt

    assert isinstance(attempts.parse_error(b"{oops}"), ValueError)
    assert isinstance(attempts.parse_error(b"12"), TypeError)
    monkeypatch.setattr(attempts.json, "loads", interrupted)
    with pytest.raises(KeyboardInterrupt):
        attempts.parse_error(b"{oops}")
